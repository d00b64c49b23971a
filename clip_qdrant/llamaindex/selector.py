"""Routing without a language model: a query goes where what is said, or shown, of a choice is most like it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.tools import ToolMetadata

from clip_qdrant.errors import ConfigError, NoChoiceError
from clip_qdrant.llamaindex.embedding import encoder_of
from clip_qdrant.llamaindex.queries import bundle_of, has_picture, vector_of
from clip_qdrant.models.zero_shot_answers import checked_kind
from clip_qdrant.models.zero_shot_calibration import FEWEST, fit_limit

if TYPE_CHECKING:
    from llama_index.core.prompts.mixin import PromptDictType
    from llama_index.core.schema import QueryBundle
    from numpy.typing import NDArray

    from clip_qdrant.llamaindex.embedding import ClipEmbedding
    from clip_qdrant.llamaindex.queries import Picture, QueryLike
    from clip_qdrant.models.zero_shot_answers import Kind
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
        threshold: a score, the difference of two cosines (between pictures a cosine); choices below it are out. One for
            all queries, or {"text": …, "image": …} for those with words and those that are a picture alone, whose
            scores are of different sizes; `calibrate` finds both.
        margin: with `top_k=1`: the best must be so much better than the next. Else: choices further than that from
            the best are out. One for all queries, or for each kind, as `threshold`.
        fallback: the name of the choice that takes what none else should. Without one that is an error.

    Raises:
        ConfigError: a `top_k` below 1, a threshold or margin that is no number, or of another kind of query; one
            example where many belong.
    """

    def __init__(
        self,
        encoder: Encoder | ClipEmbedding,
        *,
        examples: Mapping[str, Sequence[str | Picture]] | None = None,
        top_k: int = 1,
        threshold: float | Mapping[Kind, float] | None = None,
        margin: float | Mapping[Kind, float] | None = None,
        fallback: str | None = None,
    ) -> None:
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ConfigError(f"top_k must be a whole number of at least 1, got {top_k!r}.")
        self._encoder_or_embedding = encoder
        self._examples = {name: _many(f"The examples of {name!r}", own) for name, own in (examples or {}).items()}
        self._top_k = top_k
        self._threshold = _by_kind("threshold", threshold, -1.0)
        self._margin = _by_kind("margin", margin, 0.0)
        self._fallback = fallback
        self._known: dict[tuple[tuple[str, str], ...], _Choices] = {}
        self._lock = Lock()

    @property
    def threshold(self) -> dict[Kind, float]:
        """The threshold of each kind of query that has one; what `threshold` takes, for another selector or router."""
        return dict(self._threshold)

    def calibrate(
        self,
        choices: Sequence[str | ToolMetadata],
        queries: Sequence[QueryLike],
        others: Sequence[QueryLike],
        *,
        precision: float | None = None,
    ) -> ZeroShotSelector:
        """This selector with thresholds found on queries of your own, for texts and pictures apart.

        Args:
            choices: as they will be selected from.
            queries: that belong to one of them. A kind of which there is none here nor in `others` keeps its threshold.
            others: that belong to none; of each kind at least one, and with those of `queries` at least 10. What is
                most like the fallback goes there anyway, and is not counted.
            precision: the share of what is not sent to the fallback that is to belong to a choice; None for the
                threshold that tells the two lists apart best.

        Raises:
            ConfigError: too few queries of a kind, a precision that no threshold reaches, or as `select`.
            ImageError: a picture that cannot be opened.
        """
        if precision is not None and not 0 < precision <= 1:
            raise ConfigError(f"precision must be above 0 and at most 1, got {precision!r}.")
        known = self._choices(
            [one if isinstance(one, ToolMetadata) else ToolMetadata(description=one) for one in choices]
        )
        best: dict[Kind, list[tuple[float, bool]]] = {}
        for given, belongs in ((queries, True), (others, False)):
            for query in map(bundle_of, _many("Queries", given)):
                scores = self._scores(known, query)
                if known.names[int(scores.argmax())] != self._fallback:
                    best.setdefault(_kind_of(query), []).append((float(scores.max()), belongs))
        if not best:
            raise ConfigError("There are no queries to find a threshold by. Give some that belong, and some others.")
        besides = f", without those most like {self._fallback!r}" if self._fallback else ""
        found = dict(self._threshold)
        for kind, some in best.items():
            reached, good = map(np.array, zip(*some, strict=True))
            if len(some) < FEWEST or good.all() or not good.any():
                raise ConfigError(
                    f"A threshold takes at least {FEWEST} queries of a kind, some that belong and some others, got "
                    f"{good.sum()} and {(~good).sum()} of {kind}{besides}. Give more."
                )
            found[kind] = fit_limit(reached, good, precision)
        other = copy.copy(self)
        other._threshold = found
        return other

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
        scores = self._scores(known, query)
        order = [int(index) for index in np.argsort(-scores, kind="stable")]
        shown = ", ".join(f"{known.names[index]!r} {scores[index]:.3f}" for index in order[:3])
        chosen, trouble = self._chosen(order, scores, _kind_of(query))
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

    def _scores(self, known: _Choices, query: QueryBundle) -> NDArray[np.float32]:
        pictured = _kind_of(query) == "image" and known.pictures is not None
        return known.scores(vector_of(self._encoder, query), pictured=pictured)

    def _chosen(self, order: list[int], scores: NDArray[np.float32], kind: Kind) -> tuple[list[int], str | None]:
        """The best, or why there is none."""
        best, threshold, margin = scores[order[0]], self._threshold.get(kind), self._margin.get(kind)
        if threshold is not None and best < threshold:
            return [], f"no choice reaches the threshold of {threshold:.3g}"
        if self._top_k == 1:
            if margin is not None and len(order) > 1 and best - scores[order[1]] < margin:
                return [], f"the best two are nearer than the margin of {margin:.3g}"
            return order[:1], None
        allowed = np.ones(len(scores), bool)
        if threshold is not None:
            allowed &= scores >= threshold
        if margin is not None:
            allowed &= scores >= best - margin
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


def _kind_of(query: QueryBundle) -> Kind:
    """A query with words is a text, with a picture too; a picture alone is an image."""
    return "text" if any(map(str.strip, query.embedding_strs)) or not has_picture(query) else "image"


def _by_kind(name: str, given: float | Mapping[Kind, float] | None, least: float) -> dict[Kind, float]:
    if given is None:
        return {}
    found: dict[Kind, float] = dict(given) if isinstance(given, Mapping) else {"text": given, "image": given}
    for kind, value in found.items():
        checked_kind(kind)
        if not (_is_number(value) and least <= value <= 2.0):
            raise ConfigError(f"{name} is a difference of cosines, from {least} to 2, got {value!r}.")
    return found


def _many(what: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, (list, tuple)):
        raise ConfigError(f"{what} must be a list, got {type(given).__name__}. Put one in brackets.")
    return tuple(given)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _starts(groups: Sequence[Sequence[Any]]) -> list[int]:
    ends = np.cumsum([len(group) for group in groups])
    return [0, *ends[:-1].tolist()]
