"""Questions about pictures: about those that a question retrieves, and about one that is given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle
from llama_index.core.settings import Settings

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.sources import kind_of
from clip_qdrant.llamaindex.budget import ImageBudget
from clip_qdrant.llamaindex.engines import with_pictures
from clip_qdrant.llamaindex.queries import picture_of

if TYPE_CHECKING:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.response.schema import RESPONSE_TYPE
    from llama_index.core.llms import LLM
    from llama_index.core.postprocessor.types import BaseNodePostprocessor

    from clip_qdrant.types import ImageSource


def multimodal_query_engine(
    retriever: BaseRetriever,
    llm: LLM | None = None,
    *,
    budget: ImageBudget | None = None,
    node_postprocessors: Sequence[BaseNodePostprocessor] = (),
    **kwargs: Any,
) -> RetrieverQueryEngine:
    """A query engine whose model sees the pictures that a question retrieves, each with its caption.

    Its answers' `source_nodes` have the pictures' paths and scores.

    Args:
        retriever: any that finds nodes, a `ClipRetriever` for one.
        llm: a chat model that takes pictures; None: `Settings.llm`.
        budget: how large and how many the pictures may be.
        node_postprocessors: what else to do with the nodes, before; a `ClipReranker`, a `NearDuplicateFilter`.
        **kwargs: what `RetrieverQueryEngine.from_args` takes: `streaming`, `response_mode`, …

    Raises:
        ConfigError: a response mode, a template or a synthesizer that shows no pictures.
    """
    model = llm or Settings.llm
    given = {**kwargs, "multimodal": True, "node_postprocessors": [*node_postprocessors, budget or ImageBudget()]}
    return RetrieverQueryEngine.from_args(retriever, llm=model, **with_pictures(model, given))


class VisualQueryEngine(BaseQueryEngine):
    """Answers questions about one given picture, which is the answer's only source.

    A question that comes as a `QueryBundle` with a picture of its own is about that. A picture that cannot be opened
    is an error here, since the caller has given it.

    Example:
        `VisualQueryEngine("bear.jpg", llm=llm).query("What is the bear doing?")`

    Args:
        image: a path, bytes, a BytesIO, a data URI, a PIL image or an array; None where every question brings its own.
        llm: a chat model that takes pictures; None: `Settings.llm`.
        budget: how large the picture may be; its `allow_url` says whether a URL is opened.
        **kwargs: what `get_response_synthesizer` takes: `streaming`, `chat_content_qa_template`, …

    Raises:
        ConfigError: a response mode or a template that shows no pictures.
    """

    def __init__(
        self,
        image: ImageSource | None = None,
        *,
        llm: LLM | None = None,
        budget: ImageBudget | None = None,
        **kwargs: Any,
    ) -> None:
        self.image = image
        self.budget = budget or ImageBudget()
        model = llm or Settings.llm
        given = with_pictures(model, {**kwargs, "multimodal": True})
        del given["node_postprocessors"]
        self._synthesizer = get_response_synthesizer(llm=model, **given)
        super().__init__(callback_manager=self._synthesizer.callback_manager)

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {"response_synthesizer": self._synthesizer}

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        return self._synthesizer.synthesize(query_bundle, self._nodes(query_bundle))

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        nodes = await asyncio.to_thread(self._nodes, query_bundle)
        return await self._synthesizer.asynthesize(query_bundle, nodes)

    def _nodes(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        asked = picture_of(query_bundle)
        image = self.image if asked is None else asked
        if image is None:
            raise ConfigError(
                "The question is about no picture. Give the engine an image, or the QueryBundle an image_path."
            )
        return [NodeWithScore(node=self.budget.show(_node_of(image), image))]


def _node_of(image: ImageSource) -> ImageNode:
    """A node that says where a picture is, if it is anywhere."""
    if not isinstance(image, (str, PathLike)):
        return ImageNode()
    place = fspath(image)
    if isinstance(image, PathLike) or kind_of(place) == "path":
        return ImageNode(image_path=place)
    return ImageNode(image_url=place)
