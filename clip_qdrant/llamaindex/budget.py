"""What a language model is shown of a picture: no more than its budget, with the caption, and a note where it is gone.

    the node given                               comes back as                what the model is shown
    with a picture                               ShownImage, an ImageNode     the picture, "[image bear.jpg]", its text
    its picture missing, broken, over the count  UnshownImage, a TextNode     "[image bear.jpg is missing: …]", its text
    of text                                      itself                       its text

The text comes after the picture: LlamaIndex packs blocks into calls in their order, a call is full when the next
picture no longer fits, and so what stands behind a picture stays with it.
"""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
from PIL import Image

from clip_qdrant.errors import ImageError, ImageNotFoundError
from clip_qdrant.images import describe_source, open_image
from clip_qdrant.llamaindex.nodes import image_of, kind_of
from clip_qdrant.storage.points import IMAGE
from clip_qdrant.storage.vectors_checks import whole_number

if TYPE_CHECKING:
    from llama_index.core.base.llms.types import BaseContentBlock

    from clip_qdrant.types import ImageSource

_FEW_COLOURS = 256
_QUALITIES = (85, 70, 50)
_SMALLEST_BYTES = 2048
"""Room for a JPEG of one pixel, tables and all, so that making a picture smaller comes to an end."""


class ShownImage(ImageNode):
    """A picture node as a model is shown it: `image` has the resized picture, all else is the node's own."""

    image: str | None = Field(default=None, repr=False)

    def get_content_blocks(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> list[BaseContentBlock]:
        """The picture, and behind it its name and text; LlamaIndex's own node leaves the caption out."""
        text = f"[image {_name(self)}]\n{self.get_content(metadata_mode=metadata_mode)}"
        return [self.image_block(), TextBlock(text=text.rstrip())]

    def image_block(self) -> ImageBlock:
        """The resized picture alone."""
        return ImageBlock(image=base64.b64decode(self.image or ""), image_mimetype=self.image_mimetype)


class UnshownImage(TextNode):
    """What stands for a picture that is not shown: a text that says why, with the node's caption and places."""

    image_path: str | None = None
    image_url: str | None = None


class ImageBudget(BaseNodePostprocessor):
    """Makes pictures fit what a model takes, and captions visible: give it last to an engine with `multimodal=True`.

    A picture is scaled down, never up, laid over white, and encoded anew, so that its EXIF (with the place it was taken
    at) is not sent: as PNG where it has few colours and fits so, as JPEG otherwise. The nodes given are not changed;
    those that come back keep id, score, metadata and paths.

    A picture that is missing, broken, or over the count is a note in the context, and no exception. URLs are not opened
    unless asked. A node's audio and video are left out where it also has a picture.

    Args:
        max_side: the longer side, in pixels.
        max_bytes: of one encoded picture; base64, in which it travels, makes it a third longer. At least 2,048.
        max_images: how many pictures are shown of one answer; the first ones are.
        allow_url: open http(s) URLs, on public addresses only.

    Raises:
        ConfigError: a limit too small to show anything.
    """

    max_side: int = Field(default=1024, description="The longer side of a picture, in pixels.")
    max_bytes: int = Field(default=2**20, description="Of one encoded picture.")
    max_images: int = Field(default=10, description="How many pictures are shown of one answer.")
    allow_url: bool = Field(default=False, description="Open http(s) URLs, on public addresses only.")

    def __init__(
        self,
        max_side: int = 1024,
        max_bytes: int = 2**20,
        max_images: int = 10,
        *,
        allow_url: bool = False,
        **kwargs: Any,
    ) -> None:
        limits = {"max_side": (max_side, 1), "max_bytes": (max_bytes, _SMALLEST_BYTES), "max_images": (max_images, 1)}
        for name, (value, least) in limits.items():
            whole_number(name, value, least)
        fields: dict[str, Any] = {name: value for name, (value, _) in limits.items()} | {"allow_url": allow_url}
        super().__init__(**fields, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises this component by."""
        return "ImageBudget"

    def encode(self, source: ImageSource) -> tuple[bytes, str]:
        """A picture within the budget: its bytes, and their MIME type.

        Raises:
            ImageError: it cannot be opened.
        """
        # A JPEG is decoded at twice min_side or more, so at our side or more: 12 megapixels take 0.10 s, not 0.25.
        image = open_image(source, min_side=(self.max_side + 1) // 2, allow_url=self.allow_url)
        image.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
        if image.getcolors(_FEW_COLOURS) is not None:
            encoded = _encoded(image, "PNG", optimize=True)
            if len(encoded) <= self.max_bytes:
                return encoded, "image/png"
        while True:
            for quality in _QUALITIES:
                encoded = _encoded(image, "JPEG", quality=quality)
                if len(encoded) <= self.max_bytes:
                    return encoded, "image/jpeg"
            image = image.reduce(2)

    def show(self, node: BaseNode, source: ImageSource) -> ShownImage:
        """A node with another picture than its own, as a model is shown it.

        Raises:
            ImageError: the picture cannot be opened.
        """
        encoded, mimetype = self.encode(source)
        return ShownImage(
            **_common(node), image=base64.b64encode(encoded).decode(), image_mimetype=mimetype, **_places(node)
        )

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        del query_bundle
        shown, results = 0, list[NodeWithScore]()
        for node in nodes:
            result = self._fitted(node.node, room=shown < self.max_images)
            shown += isinstance(result, ShownImage)
            results.append(NodeWithScore(node=result, score=node.score))
        return results

    def _fitted(self, node: BaseNode, *, room: bool) -> BaseNode:
        if kind_of(node) != IMAGE:
            return node
        if not room:
            return _unshown(node, f"is left out: there is room for {self.max_images}")
        try:
            source = image_of(node)
            if source is None:
                return _unshown(node, "is missing: only its text was stored")
            return self.show(node, source)
        except ImageNotFoundError as error:
            return _unshown(node, f"is missing: {error.reason}")
        except ImageError as error:
            return _unshown(node, f"cannot be shown: {error.reason}")


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _unshown(node: BaseNode, why: str) -> UnshownImage:
    places = _places(node)
    common = _common(node)
    name = _name(UnshownImage(**common, **places))
    return UnshownImage(**(common | {"text": f"[image {name} {why}]\n{common['text']}".rstrip()}), **places)


def _common(node: BaseNode) -> dict[str, Any]:
    """What every node has, and the text."""
    own = {name: getattr(node, name) for name in BaseNode.model_fields}
    template = {"text_template": node.text_template} if hasattr(node, "text_template") else {}
    return {**own, **template, "text": node.get_content(metadata_mode=MetadataMode.NONE)}


def _places(node: BaseNode) -> dict[str, Any]:
    """Where a node's picture is kept, for people; a data URI is no place."""
    resource = getattr(node, "image_resource", None)
    path = resource.path if resource is not None else getattr(node, "image_path", None)
    url = resource.url if resource is not None else getattr(node, "image_url", None)
    places = {"image_path": path, "image_url": url}
    return {name: str(place) for name, place in places.items() if place and not str(place).startswith("data:")}


def _name(node: ShownImage | UnshownImage) -> str:
    """What to call a picture in a prompt: the file's name, else its URL without the query, else the node's id."""
    place = node.image_path or node.image_url
    if not place:
        return node.node_id
    return describe_source(place) if "://" in place else PurePath(place).name
