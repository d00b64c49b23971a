"""LlamaIndex's routers by likeness, in one line and without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.retrievers import RouterRetriever

from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.selector import ZeroShotSelector

if TYPE_CHECKING:
    from llama_index.core.llms import LLM
    from llama_index.core.tools import QueryEngineTool, RetrieverTool

    from clip_qdrant.llamaindex.embedding import ClipEmbedding
    from clip_qdrant.types import Encoder


class ZeroShotRouter:
    """LlamaIndex's routers with a `ZeroShotSelector`, and without a language model.

    Example: `ZeroShotRouter.of_retrievers(tools, encoder, threshold=0.2, fallback="notes").retrieve("a red car")`.
    """

    @staticmethod
    def of_retrievers(
        tools: Sequence[RetrieverTool], encoder: Encoder | ClipEmbedding, **options: Any
    ) -> RouterRetriever:
        """A router of retrievers; with `top_k` above 1 it returns what all the chosen find.

        Args:
            tools: the retrievers, each with a name and a description.
            encoder: as `ZeroShotSelector`, as are the options.
            **options: examples, top_k, threshold, margin, fallback.
        """
        return RouterRetriever(ZeroShotSelector(encoder, **options), list(tools), llm=MockLLM())

    @staticmethod
    def of_query_engines(
        tools: Sequence[QueryEngineTool], encoder: Encoder | ClipEmbedding, *, llm: LLM | None = None, **options: Any
    ) -> RouterQueryEngine:
        """A router of query engines.

        Args:
            tools: the query engines, each with a name and a description.
            encoder: as `ZeroShotSelector`, as are the options.
            llm: makes one answer of several; needed with `top_k` above 1 only.
            **options: examples, top_k, threshold, margin, fallback.

        Raises:
            ConfigError: several answers, and no model to make one of them.
        """
        selector = ZeroShotSelector(encoder, **options)
        if llm is None and options.get("top_k", 1) > 1:
            raise ConfigError("With top_k above 1 several answers have to become one: give llm, or use of_retrievers.")
        return RouterQueryEngine(selector, list(tools), llm=llm or MockLLM())
