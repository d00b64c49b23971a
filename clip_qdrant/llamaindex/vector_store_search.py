"""A `VectorStoreQuery` -> Qdrant's requests, one a kind of vectors, and their answers -> one ranking.

A kind without an answer leaves the scores of the other as they are: in a collection of pictures alone a search is a
plain one, by cosine. Several answers are fused by rank, for a picture's cosines and a text's lie apart, and BM25 is on
another scale. A point then scores the sum of 1 / (1 + rank / weight), rank 1 being the best: reciprocal rank fusion
(Cormack, Clarke and Büttcher, 2009), with the constant and the weights of Qdrant's. `alpha` weighs the dense vectors
2 alpha and the words 2 (1 - alpha).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.vector_stores.types import VectorStoreQueryMode as Mode

from clip_qdrant.errors import ConfigError, InvalidPointError
from clip_qdrant.storage.vectors_checks import whole_number

if TYPE_CHECKING:
    from llama_index.core.vector_stores import VectorStoreQuery
    from qdrant_client import models

    from clip_qdrant.llamaindex.vector_store_layout import Layout, Legs
    from clip_qdrant.llamaindex.vector_store_points import SparseEncoder

_MODES = (Mode.DEFAULT, Mode.MMR, Mode.HYBRID, Mode.SPARSE, Mode.TEXT_SEARCH)
_WORDS_ALONE = (Mode.SPARSE, Mode.TEXT_SEARCH)
_CANDIDATES_FACTOR = 4
_MOST_MMR_CANDIDATES = 16_384
_OPTIONS = ("qdrant_filters", "where", "search_params", "using", "mmr_threshold", "mmr_prefetch_factor",
            "mmr_prefetch_k")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Search:
    """What to ask Qdrant, all at once.

    Attributes:
        requests: one for each kind of vectors.
        weights: of each in a fusion.
        limit: how many points in the end.
        dense: how many of the first requests are of dense vectors.
        alpha: what was asked for, for a fusion of the caller's.
    """

    requests: list[models.QueryRequest]
    weights: list[float]
    limit: int
    dense: int
    alpha: float

    def split(
        self, answers: Sequence[Sequence[models.ScoredPoint]]
    ) -> tuple[list[models.ScoredPoint], list[models.ScoredPoint]]:
        """The answers of the dense vectors as one, and those of the words."""
        dense = replace(self, weights=self.weights[: self.dense])
        return dense.fused(answers[: self.dense]), list(answers[self.dense])

    def fused(self, answers: Sequence[Sequence[models.ScoredPoint]]) -> list[models.ScoredPoint]:
        """The best of all answers, best first."""
        given = [(weight, points) for weight, points in zip(self.weights, answers, strict=True) if points]
        if len(given) < 2:
            return list(given[0][1][: self.limit]) if given else []
        scores: dict[Any, float] = {}
        found: dict[Any, models.ScoredPoint] = {}
        for weight, points in given:
            for rank, point in enumerate(points, start=1):
                scores[point.id] = scores.get(point.id, 0.0) + 1 / (1 + rank / weight)
                found.setdefault(point.id, point)
        best = sorted(scores, key=lambda id: -scores[id])[: self.limit]  # stable: of equals the picture comes first
        return [found[id].model_copy(update={"score": scores[id]}) for id in best]


def plan(
    query: VectorStoreQuery,
    layout: Layout,
    wanted: models.Filter | None,
    using: Legs,
    words: SparseEncoder | None,
    options: Mapping[str, Any],
) -> Search:
    """The requests that a query stands for.

    Args:
        query: of LlamaIndex.
        layout: of the collection.
        wanted: which points to search among.
        using: which dense vectors to compare with.
        words: makes the sparse vector of a text, or None where none is known.
        options: of the call (`check_options`).

    Raises:
        InvalidPointError: the query has no embedding, or one that is zero or has a NaN.
        CollectionMismatchError: the embedding is of another dimension than the collection's.
        ConfigError: a mode that there is not, no text for the words, or a number out of bounds.
    """
    mode = _checked_mode(query.mode)
    limit = whole_number("similarity_top_k", query.similarity_top_k, 1)
    alpha = _share("alpha", query.alpha) if mode == Mode.HYBRID else float(mode not in _WORDS_ALONE)
    scale = 2 if mode == Mode.HYBRID else 1
    dense = _dense(query, layout, wanted, using, options) if alpha > 0 else []
    sparse = _sparse(query, layout, wanted, words) if alpha < 1 else []
    if mode == Mode.HYBRID:
        limit = whole_number("hybrid_top_k", query.hybrid_top_k or limit, 1)
    elif mode in _WORDS_ALONE:
        limit = whole_number("sparse_top_k", query.sparse_top_k or limit, 1)
    return Search(
        requests=[*dense, *sparse],
        weights=[scale * alpha] * len(dense) + [scale * (1 - alpha)] * len(sparse),
        limit=limit,
        dense=len(dense),
        alpha=alpha,
    )


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse an option of `query` that there is not.

    Raises:
        ConfigError: it names the option and those that there are.
    """
    unknown = sorted(options.keys() - set(_OPTIONS))
    if unknown:
        raise ConfigError(f"query has no option {unknown[0]!r}. It has {', '.join(_OPTIONS)}.")
    if options.get("using", "both") not in ("image", "text", "both"):
        raise ConfigError(f"using must be 'image', 'text' or 'both', got {options['using']!r}.")


def _checked_mode(mode: Any) -> Mode:
    if mode not in _MODES:
        name = getattr(mode, "value", mode)
        raise ConfigError(f"There is no query mode {name!r} here. There is {', '.join(each.value for each in _MODES)}.")
    return Mode(mode)


def _dense(
    query: VectorStoreQuery,
    layout: Layout,
    wanted: models.Filter | None,
    using: Legs,
    options: Mapping[str, Any],
) -> list[models.QueryRequest]:
    """One request for each kind of dense vectors."""
    from qdrant_client import models

    if query.query_embedding is None:
        raise InvalidPointError(
            f"A query of mode {Mode(query.mode).value!r} needs a query_embedding, got None. "
            "Embed its text or its picture, or search words alone with mode 'text_search'."
        )
    names, limit = layout.searched(using), int(query.similarity_top_k)
    if len(names) > 1 and query.mode == Mode.DEFAULT:
        limit *= _CANDIDATES_FACTOR  # of two kinds a point may be the best of both and the first of neither
    params = _search_params(options.get("search_params")) or layout.params
    requests = []
    for name in names:
        vector: Any = layout.space.query(name, query.query_embedding)
        if query.mode == Mode.MMR:
            vector = models.NearestQuery(nearest=vector, mmr=_mmr(query, options))
        requests.append(_request(vector, name, limit, wanted, params))
    return requests


def _sparse(
    query: VectorStoreQuery, layout: Layout, wanted: models.Filter | None, words: SparseEncoder | None
) -> list[models.QueryRequest]:
    """The request for the words; none where the text has none."""
    from qdrant_client import models

    place, mode = f"Collection {layout.space.collection!r}", Mode(query.mode).value
    if layout.sparse is None:
        raise ConfigError(
            f"{place} has no sparse vectors, so mode {mode!r} cannot search its words. "
            "Make one with enable_hybrid=True, and add the nodes to it."
        )
    if words is None:
        raise ConfigError(
            f"{place} has the sparse vector {layout.sparse!r} of another encoder. Give the store that encoder as "
            "sparse_doc_fn and sparse_query_fn, or use mode 'default'."
        )
    if not isinstance(query.query_str, str):
        raise ConfigError(f"Mode {mode!r} searches words: the query needs a query_str, got {query.query_str!r}.")
    limit = whole_number("sparse_top_k", query.sparse_top_k or query.similarity_top_k, 1)
    (indices,), (values,) = words([query.query_str])
    vector = models.SparseVector(indices=list(indices), values=list(values))
    return [_request(vector, layout.sparse, limit, wanted, None)] if vector.indices else []


def _request(query: Any, name: str, limit: int, wanted: models.Filter | None, params: Any) -> models.QueryRequest:
    from qdrant_client import models

    return models.QueryRequest(
        query=query,
        using=name or None,
        limit=limit,
        filter=wanted,
        params=params,
        with_payload=True,
    )


def _search_params(given: Any) -> models.SearchParams | None:
    """Qdrant's search parameters, which may be given as a mapping."""
    from qdrant_client import models

    if given is None or given == {}:
        return None
    if isinstance(given, models.SearchParams):
        return given
    try:
        return models.SearchParams.model_validate(dict(given))
    except (TypeError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise ConfigError(
            f"search_params are Qdrant's SearchParams, or a mapping of its fields "
            f"({', '.join(models.SearchParams.model_fields)}), got {given!r}."
        ) from error


def _mmr(query: VectorStoreQuery, options: Mapping[str, Any]) -> models.Mmr:
    """Maximal marginal relevance; LlamaIndex's threshold is 1 for likeness alone, Qdrant's diversity 0."""
    from qdrant_client import models

    given = options.get("mmr_threshold") if query.mmr_threshold is None else query.mmr_threshold
    threshold = _share("mmr_threshold", given)
    factor = whole_number("mmr_prefetch_factor", options.get("mmr_prefetch_factor", _CANDIDATES_FACTOR), 1)
    candidates = whole_number("mmr_prefetch_k", options.get("mmr_prefetch_k", factor * query.similarity_top_k), 1)
    return models.Mmr(diversity=1 - threshold, candidates_limit=min(candidates, _MOST_MMR_CANDIDATES))


def _share(name: str, value: float | None) -> float:
    """A number from 0 to 1; a half where none is given."""
    if value is None:
        return 0.5
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1:
        raise ConfigError(f"{name} must be from 0 to 1, got {value!r}.")
    return float(value)
