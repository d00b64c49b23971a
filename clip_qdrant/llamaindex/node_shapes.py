"""Where LlamaIndex's node classes keep a picture, copies of nodes that are fit to be stored, and tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.schema import BaseNode, Document, ImageNode, IndexNode, MediaResource, Node, TextNode

from clip_qdrant.images.sources import kind_of as kind_of_source
from clip_qdrant.storage.points import TAGS

_RESOURCES = ("text_resource", "image_resource", "audio_resource", "video_resource")


def picture_of(node: BaseNode) -> tuple[str | bytes | None, str | None]:
    """A picture's base64, and its path or URL, as the node has them; of several the first counts, as in LlamaIndex."""
    if isinstance(node, ImageNode):
        return node.image, node.image_path or node.image_url
    resource: MediaResource | None = getattr(node, "image_resource", None)
    if resource is None:
        return None, None
    return resource.data, str(resource.path or resource.url or "")


def is_data(place: str | None) -> bool:
    """Whether what stands in the place of a path or URL is the picture itself, as a data URI."""
    return bool(place) and kind_of_source(str(place)) == "data"


def slim(node: BaseNode) -> BaseNode:
    """A copy without base64 and vectors, in a class that LlamaIndex reads back from a payload."""
    if isinstance(node, Document):
        return undocumented(node)
    without: dict[str, Any] = {"embedding": None}
    if isinstance(node, ImageNode):
        without |= {"image": None, "text_embedding": None}
        without |= {name: None for name in ("image_path", "image_url") if is_data(getattr(node, name))}
    elif isinstance(node, Node):
        without |= {name: _slim_resource(getattr(node, name)) for name in _RESOURCES}
    elif isinstance(node, IndexNode) and isinstance(node.obj, BaseNode):
        without |= {"obj": slim(node.obj)}
    return node.model_copy(update=without)


def undocumented(document: Document) -> TextNode:
    """A document as the ImageNode or TextNode that it is, without base64 and vectors."""
    own: dict[str, Any] = {name: getattr(document, name) for name in BaseNode.model_fields if name != "embedding"}
    own |= {"text": document.text, "text_template": document.text_template}
    resource = document.image_resource
    if resource is None:
        return TextNode(**own)
    url = str(resource.url) if resource.url and not is_data(str(resource.url)) else None
    path = str(resource.path) if resource.path else None
    return ImageNode(**own, image_path=path, image_url=url, image_mimetype=resource.mimetype)


def tagged(node: BaseNode, tags: Mapping[str, Any]) -> BaseNode:
    """A node with tags (`storage.tags`) in its metadata. They are not embedded: its vector was made without them."""
    if not tags:
        return node
    node.metadata = {**node.metadata, **tags}
    node.excluded_embed_metadata_keys = list(dict.fromkeys([*node.excluded_embed_metadata_keys, *tags]))
    node.excluded_llm_metadata_keys = list(dict.fromkeys([*node.excluded_llm_metadata_keys, TAGS]))
    return node


def untagged(node: BaseNode, tags: Mapping[str, Any]) -> BaseNode:
    """A copy without what `tagged` put into it, for the tags of a point live beside what is stored of its node."""
    if not tags:
        return node
    excluded = ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")
    kept: dict[str, Any] = {name: [key for key in getattr(node, name) if key not in tags] for name in excluded}
    return node.model_copy(
        update={**kept, "metadata": {key: value for key, value in node.metadata.items() if key not in tags}}
    )


def _slim_resource(resource: MediaResource | None) -> MediaResource | None:
    if resource is None:
        return None
    url = None if resource.url and is_data(str(resource.url)) else resource.url
    return resource.model_copy(update={"embeddings": None, "url": url})
