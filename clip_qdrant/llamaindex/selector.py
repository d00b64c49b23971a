"""Routing without a language model: a query goes where what is said, or shown, of a choice is most like it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.retrievers import RouterRetriever

from clip_qdrant.errors import ConfigError, NoChoiceError
from clip_qdrant.llamaindex.embedding import encoder_of
from clip_qdrant.llamaindex.queries import has_picture, vector_of

if TYPE_CHECKING:
    from llama_index.core.llms import LLM
    from llama_index.core.prompts.mixin import PromptDictType
    from llama_index.core.schema import QueryBundle
    from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata
    from numpy.typing import NDArray

    from clip_qdrant.llamaindex.embedding import ClipEmbedding
    from clip_qdrant.llamaindex.queries import Picture
    from clip_qdrant.types import Encoder, Vectors


BACKGROUND: Final = ("something", "a thing", "an object", "anything else", "a text", "a picture", "other things")
"""What every query is a little like."""


class ZeroShotSelector(BaseSelector):
    """Chooses by cosine similarity between a query, of words or a picture, and the choices.

    A choice is as like a query as the most like of its prototypes: its description and its example texts, or its
    example pictures. A picture is compared with pictures where every choice has some; all else is compared with texts,
    so that no two choices are measured by different scales. From the cosine with texts that with "something" and its
    like is taken away: a query that is near to any text is no nearer to a choice for that, and pictures, which lie far
    from all texts, have scores of the size that texts have. The choices are embedded once, a query once. The query
    bundle is only read.

    Args:
        encoder: a `ClipEncoder`, or any other `Encoder`, or a `ClipEmbedding`.
        examples: by a choice's name (a str choice is its own name) what belongs to it: texts (str) and pictures (Path,
            bytes, PIL, …).
        top_k: how many choices at most.
        threshold: a score, the difference of two cosines (between pictures a cosine); choices below it are out.
        margin: with `top_k=1`: the best must be so much better than the next. Else: choices further than that from
            the best are out.
        fallback: the name of the choice that takes what none else should. Without one that is an error.

    Raises:
        ConfigError: a `top_k` below 1, a threshold or margin that is no number.
    """

    def __init__(
        self,
        encoder: Encoder | ClipEmbedding,
        *,
        examples: Mapping[str, Sequence[str | Picture]] | None = None,
        top_k: int = 1,
        threshold: float | None = None,
        margin: float | None = None,
        fallback: str | None = None,
    ) -> None:
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ConfigError(f"top_k must be a whole number of at least 1, got {top_k!r}.")
        for name, value, least in (("threshold", threshold, -1.0), ("margin", margin, 0.0)):
            if value is not None and not (_is_number(value) and least <= value <= 2.0):
                raise ConfigError(f"{name} is a difference of cosines, from {least} to 2, got {value!r}.")
        self._encoder_or_embedding = encoder
        self._examples = {name: tuple(given) for name, given in (examples or {}).items()}
        self._top_k = top_k
        self._threshold = threshold
        self._margin = margin
        self._fallback = fallback
        self._known: dict[tuple[tuple[str, str], ...], _Choices] = {}
        self._lock = Lock()

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        pass

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        """The chosen, best first, each with a reason that has the scores.

        Raises:
            ConfigError: no choices, an example or a fallback for none of them or two of one name, or an empty query.
            NoChoiceError: nothing is chosen, and there is no fallback.
            ImageError: a picture of the query or the examples cannot be opened.
        """
        known = self._choices(choices)
        pictured = has_picture(query) and not query.embedding_strs and known.pictures is not None
        scores = known.scores(vector_of(self._encoder, query), pictured=pictured)
        order = [int(index) for index in np.argsort(-scores, kind="stable")]
        shown = ", ".join(f"{known.names[index]!r} {scores[index]:.3f}" for index in order[:3])
        chosen, trouble = self._chosen(order, scores)
        if trouble is None:
            return SelectorResult(
                selections=[SingleSelection(index=index, reason=f"likeness: {shown}") for index in chosen]
            )
        if self._fallback is None:
            raise NoChoiceError(f"{trouble}: {shown}. Name a fallback, describe the choices more fully, or lower it.")
        index = known.names.index(self._fallback)
        return SelectorResult(selections=[SingleSelection(index=index, reason=f"fallback, as {trouble}: {shown}")])

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return await asyncio.to_thread(self._select, choices, query)

    @property
    def _encoder(self) -> Encoder:
        return encoder_of(self._encoder_or_embedding)

    def _chosen(self, order: list[int], scores: NDArray[np.float32]) -> tuple[list[int], str | None]:
        """The best, or why there is none."""
        best = scores[order[0]]
        if self._threshold is not None and best < self._threshold:
            return [], f"no choice reaches the threshold of {self._threshold}"
        if self._top_k == 1:
            if self._margin is not None and len(order) > 1 and best - scores[order[1]] < self._margin:
                return [], f"the best two are nearer than the margin of {self._margin}"
            return order[:1], None
        allowed = np.ones(len(scores), bool)
        if self._threshold is not None:
            allowed &= scores >= self._threshold
        if self._margin is not None:
            allowed &= scores >= best - self._margin
        return [index for index in order[: self._top_k] if allowed[index]], None

    def _choices(self, choices: Sequence[ToolMetadata]) -> _Choices:
        """The choices embedded: the same ones only once."""
        named = tuple((choice.name or choice.description, choice.description) for choice in choices)
        with self._lock:
            if named not in self._known:
                self._known[named] = self._embedded(named)
            return self._known[named]

    def _embedded(self, named: tuple[tuple[str, str], ...]) -> _Choices:
        names = [name for name, _ in named]
        if not names:
            raise ConfigError("There is nothing to choose from.")
        meant = {*self._examples, *([self._fallback] if self._fallback else [])}
        twice = sorted(name for name in meant if names.count(name) > 1)
        if twice:  # where nothing is said of a name it need not be one's own: LlamaIndex's tools are all named alike
            raise ConfigError(f"Two choices are named {twice[0]!r}. Give each tool a name of its own.")
        unknown = sorted(meant - set(names))
        if unknown:
            raise ConfigError(f"There is no choice {unknown[0]!r}; there is {', '.join(map(repr, names))}.")
        texts: list[list[str]] = [list(BACKGROUND)]
        pictures: list[list[Any]] = []
        for name, description in named:
            own = self._examples.get(name, ())
            texts.append([description, *(example for example in own if isinstance(example, str))])
            pictures.append([example for example in own if not isinstance(example, str)])
        flat_pictures = [picture for own in pictures for picture in own]
        said = self._encoder.embed_texts([text for own in texts for text in own])
        return _Choices(
            names,
            said[: len(BACKGROUND)].mean(axis=0),
            _Prototypes(said[len(BACKGROUND) :], _starts(texts[1:])),
            _Prototypes(self._encoder.embed_images(flat_pictures), _starts(pictures)) if all(pictures) else None,
        )


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


class _Prototypes(NamedTuple):
    """Vectors (n, dim) of all choices in a row, and where each choice's start."""

    vectors: Vectors
    starts: list[int]

    def best(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each choice's highest cosine with a unit vector (dim,)."""
        found: NDArray[np.float32] = np.maximum.reduceat(self.vectors @ query, self.starts)
        return found


class _Choices(NamedTuple):
    """Choices with their prototypes, pictures only where every choice has one; and what any text is like (dim,)."""

    names: list[str]
    background: NDArray[np.float32]
    texts: _Prototypes
    pictures: _Prototypes | None

    def scores(self, query: NDArray[np.float32], *, pictured: bool) -> NDArray[np.float32]:
        """Cosines (n,) by pictures, or by texts how much they are above that with any text."""
        if pictured and self.pictures is not None:
            return self.pictures.best(query)
        return self.texts.best(query) - self.background @ query


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _starts(groups: Sequence[Sequence[Any]]) -> list[int]:
    ends = np.cumsum([len(group) for group in groups])
    return [0, *ends[:-1].tolist()]
