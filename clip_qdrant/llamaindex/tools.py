"""Search as tools for agents, whose answers the model can see.

What calls these tools is a language model, and what it writes may have been put in its mouth by a text it read. So its
arguments open no file but those in the collection and under the given folders, lift no filter, and ask for no more than
there is room for; what is wrong with them comes back as text that the model can read.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.schema import MetadataMode, NodeWithScore
from llama_index.core.tools.tool_spec.base import BaseToolSpec

from clip_qdrant.errors import ClipQdrantError, ConfigError
from clip_qdrant.images import describe_source
from clip_qdrant.llamaindex.budget import ImageBudget, ShownImage
from clip_qdrant.llamaindex.nodes import node_of
from clip_qdrant.storage.points import SOURCE

if TYPE_CHECKING:
    from qdrant_client import models

    from clip_qdrant.collection.clip import ClipCollection
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.types import Hit


class ImageSearchToolSpec(BaseToolSpec):
    """Tools with which an agent searches a collection and sees what it finds.

    Each returns `[TextBlock, ImageBlock, …]`: of every picture its path, id, score and caption as text, and the picture
    itself, within the budget. A picture that is missing is said to be so. LlamaIndex runs them in threads where they
    are called asynchronously.

    Example:
        `FunctionAgent(tools=ImageSearchToolSpec(collection).to_tool_list(), llm=llm)`

    Args:
        collection: what to search.
        where: which points there are for the agent at all; it can narrow them further, and not lift this.
        folders: where a path that the model gives, and that is not in the collection, may lie.
        budget: how large the pictures are, and how many one call may show.

    Raises:
        ConfigError: one folder in the place of several.
        FilterError: `where` cannot be understood.
    """

    spec_functions = ["search_images", "find_similar", "get_image"]  # noqa: RUF012 (LlamaIndex's own attribute)

    def __init__(
        self,
        collection: ClipCollection,
        *,
        where: Where | None = None,
        folders: Iterable[str | PathLike[str]] = (),
        budget: ImageBudget | None = None,
    ) -> None:
        from clip_qdrant.storage.filters import to_filter

        self.collection = collection
        self._where = to_filter(where)
        if isinstance(folders, (str, PathLike)):  # the first letter of an absolute path is the root of all files
            raise ConfigError(f"folders are a list, got {folders!r}. Put it in brackets.")
        self._folders = [Path(folder).resolve() for folder in folders]
        self._budget = budget or ImageBudget()

    def search_images(
        self, query: str, limit: int = 5, where: dict[str, Any] | None = None
    ) -> list[TextBlock | ImageBlock]:
        """Find images by what they show, best first, and look at them.

        Args:
            query (str): what the images should show, in a few words.
            limit (int): how many images at most.
            where (dict): only images whose metadata match, such as {"year": {"gte": 2023}, "tag": ["cat", "dog"]}.
        """
        try:
            if not isinstance(query, str) or not query.strip():
                raise ConfigError("query must be a text that says what the images should show.")
            count, note = self._count(limit)
            hits = self.collection.search(query, limit=count, where=self._narrowed(where))
            return self._answer(f"images for {query!r}", hits, note)
        except ClipQdrantError as error:
            return refusal(error)

    def find_similar(
        self, image: str, limit: int = 5, where: dict[str, Any] | None = None
    ) -> list[TextBlock | ImageBlock]:
        """Find images that look like a given one, best first, and look at them.

        Args:
            image (str): the id or the path of an image, as an earlier answer gave it.
            limit (int): how many images at most.
            where (dict): only images whose metadata match, such as {"year": {"gte": 2023}, "tag": ["cat", "dog"]}.
        """
        try:
            count, note = self._count(limit)
            wanted = self._narrowed(where)
            known = self._stored(image)
            if known is not None:
                hits = self.collection.recommend([known.id], limit=count, where=wanted)
            else:
                hits = self.collection.search(self._allowed(image), limit=count, where=wanted)
            return self._answer(f"images like {image!r}", hits, note)
        except ClipQdrantError as error:
            return refusal(error)

    def get_image(self, image: str) -> list[TextBlock | ImageBlock]:
        """Look at one image, and read its caption and metadata.

        Args:
            image (str): the id or the path of an image, as an earlier answer gave it.
        """
        try:
            known = self._stored(image)
            if known is None:
                raise unknown(image)
            return self._shown([known], scores=False)
        except ClipQdrantError as error:
            return refusal(error)

    def _count(self, limit: Any) -> tuple[int, str]:
        """How many to look for, and what to tell the model if that is not what it asked for."""
        most = self._budget.max_images
        try:
            wanted = int(limit)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"limit must be a whole number from 1 to {most}, got {limit!r}.") from error
        count = min(max(wanted, 1), most)
        return count, "" if count == wanted else f" The limit was {wanted}; it can be 1 to {most}, so it was {count}."

    def _narrowed(self, where: Any) -> models.Filter | None:
        """The agent's filter within ours."""
        if where is not None and not isinstance(where, Mapping):
            raise ConfigError(f"where must be an object such as {{'year': 2024}}, got {where!r}.")
        return narrowed(self._where, where or None)

    def _stored(self, image: Any) -> Hit | None:
        return visible(self.collection, image, self._where)

    def _allowed(self, image: str) -> Path:
        """A file under one of our folders; of what lies elsewhere nothing is told, not even whether it exists."""
        for folder in self._folders:
            try:
                path = (folder / image).resolve()
                if path.is_relative_to(folder) and path.is_file():
                    return path
            except (OSError, ValueError, RuntimeError):  # an impossible name, or links in a loop
                continue
        raise unknown(image)

    def _answer(self, what: str, hits: list[Hit], note: str) -> list[TextBlock | ImageBlock]:
        head = f"Found {len(hits)} {what}, best first.{note}" if hits else f"There are no {what}.{note}"
        return [TextBlock(text=head), *self._shown(hits, scores=True)]

    def _shown(self, hits: list[Hit], *, scores: bool) -> list[TextBlock | ImageBlock]:
        """Each hit as a text that names it, and its picture."""
        blocks = list[TextBlock | ImageBlock]()
        nodes = self._budget.postprocess_nodes([NodeWithScore(node=node_of(hit), score=hit.score) for hit in hits])
        for rank, (hit, node) in enumerate(zip(hits, nodes, strict=True), start=1):
            score = f", score {hit.score:.3f}" if scores else ""
            source = hit.source or getattr(node.node, "image_path", None) or "without a path"
            place = f"{rank}. {source} (id {hit.id}{score})"
            text = node.node.get_content(metadata_mode=MetadataMode.LLM)
            blocks.append(TextBlock(text=f"{place}\n{text}".rstrip()))
            if isinstance(node.node, ShownImage):
                blocks.append(node.node.image_block())
        return blocks


def visible(collection: ClipCollection, image: Any, where: Where | None) -> Hit | None:
    """The point of this id or this source, as a model names it, among those that the model may see; or None.

    Raises:
        ConfigError: it is neither.
    """
    if not isinstance(image, str) or not image:
        raise ConfigError(f"image must be the id or the path of an image, got {image!r}.")
    conditions: list[dict[str, Any]] = [{SOURCE: image}]
    try:
        conditions.append({"$id": str(uuid.UUID(image))})
    except ValueError:
        pass  # no id, and so a path, if it is anything
    return next(iter(collection.vectors.scan(where=narrowed(where, {"any": conditions}))), None)


def narrowed(where: Where | None, further: Where | None) -> models.Filter | None:
    """A filter within another."""
    from qdrant_client import models

    from clip_qdrant.storage.filters import to_filter

    both: list[Any] = [part for part in (to_filter(where), to_filter(further)) if part is not None]
    return models.Filter(must=both) if len(both) > 1 else both[0] if both else None


def unknown(image: str) -> ConfigError:
    """What a model is told of an image that it may not see, whether there is one or not."""
    return ConfigError(f"There is no image {describe_source(image)!r}. Give an id or a path from an earlier answer.")


def refusal(error: ClipQdrantError) -> list[TextBlock | ImageBlock]:
    """An error as an answer that a model can read."""
    return [TextBlock(text=f"That did not work: {error}")]
