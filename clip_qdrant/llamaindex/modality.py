"""A selector by what a question wants: pictures, passages, a new picture, or an answer about one picture."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection

from clip_qdrant.errors import ConfigError, NoChoiceError
from clip_qdrant.llamaindex.embedding import encoder_of
from clip_qdrant.llamaindex.queries import has_picture
from clip_qdrant.models.modality import MODALITIES, ModalityRouter

if TYPE_CHECKING:
    from llama_index.core.prompts.mixin import PromptDictType
    from llama_index.core.schema import QueryBundle
    from llama_index.core.tools import ToolMetadata

    from clip_qdrant.llamaindex.embedding import ClipEmbedding
    from clip_qdrant.types import Encoder


class ModalitySelector(BaseSelector):
    """Chooses among tools that are named "pictures", "passages", "generation" and "answer", or some of these.

    In LlamaIndex's RouterRetriever and RouterQueryEngine, without a language model.

    Args:
        encoder: a `ClipEncoder`, any other `Encoder`, or a `ClipEmbedding`.
        **options: of `ModalityRouter`: examples, margin, fallback.
    """

    def __init__(self, encoder: Encoder | ClipEmbedding, **options: Any) -> None:
        self._router = ModalityRouter(encoder_of(encoder), **options)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        pass

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        """The tool for what the question wants most, among those that there are.

        Raises:
            ConfigError: a tool of another name, or an empty question.
            NoChoiceError: the question is not clear, and there is no tool for the fallback.
        """
        names = [choice.name or "" for choice in choices]
        unknown = sorted(set(names) - set(MODALITIES))
        if unknown or not names:
            raise ConfigError(
                f"Tools to choose by modality are named {', '.join(map(repr, MODALITIES))}, got {unknown or names}."
            )
        routed = self._router.route(query.query_str, has_picture=has_picture(query))
        order = [routed.modality, *sorted(routed.scores, key=lambda name: -routed.scores[name])]
        chosen = next((name for name in order if name in names), None)
        shown = ", ".join(f"{name!r} {score:.3f}" for name, score in routed.scores.items())
        if chosen is None or not (routed.certain or routed.modality in names):
            raise NoChoiceError(f"The question is not clear ({shown}), and there is no tool {routed.modality!r}.")
        reason = f"wants {chosen}: {shown}" if routed.certain else f"fallback, as it is not clear: {shown}"
        return SelectorResult(selections=[SingleSelection(index=names.index(chosen), reason=reason)])

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return await asyncio.to_thread(self._select, choices, query)
