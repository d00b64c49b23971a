"""Queries: qdrant-client's models to the engine's, point ids resolved to their vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from clip_qdrant.errors import ConfigError, UnsupportedError
from clip_qdrant.storage.edge.collection import EdgeCollection
from clip_qdrant.storage.edge.convert_config import to_edge_enum
from clip_qdrant.storage.edge.convert_filters import to_edge_filter, to_rfc3339
from clip_qdrant.storage.edge.convert_formula import to_edge_formula
from clip_qdrant.storage.edge.convert_points import to_edge_id, to_edge_with_payload, to_edge_with_vectors
from clip_qdrant.storage.edge.errors import engine_errors
from clip_qdrant.storage.edge.native import edge
from clip_qdrant.storage.edge.recommend import average_query

if TYPE_CHECKING:
    from qdrant_client import models

    Lookup = Callable[[str | None, str, int | str], Any]
    """(collection or None for this one, vector name, point id) to the stored vector; raises where there is none."""

MOST_MMR_CANDIDATES = 16384
_RRF_K = 2
_PREFETCH_LIMIT = 10


@dataclass
class _Level:
    """One level of a query: where its vectors come from, and which points it names and so leaves out of its answer."""

    using: str
    lookup_from: models.LookupLocation | None
    limit: int
    named: list[int | str] = field(default_factory=list)


class QueryConverter:
    """Converts the queries on one collection.

    Args:
        collection: what is searched.
        lookup: of the vectors of stored points.
        is_ours: made here of a user's request, which strict mode allowed; not asked again for what we need for it.
    """

    def __init__(self, collection: EdgeCollection, lookup: Lookup, *, is_ours: bool = False) -> None:
        self._collection = collection
        self._is_ours = is_ours
        self._space = collection.space
        self._lookup = lookup

    def request(self, given: models.QueryRequest) -> Any:
        """The engine's request.

        Raises:
            ConfigError: arguments that do not go together.
            InvalidPointError: a vector that the collection cannot be searched with.
            FilterError: a filter that the engine refuses.
            UnsupportedError: a kind of query that the engine does not have.
        """
        limit = 10 if given.limit is None else given.limit
        if limit < 1 or (given.offset or 0) < 0:
            raise ConfigError(f"limit must be at least 1 and offset at least 0, got {limit} and {given.offset}.")
        query, own_filter = self._level(given, limit)
        return edge.QueryRequest(
            limit=limit,
            offset=given.offset or 0,
            query=query,
            prefetches=self._prefetches(given.prefetch),
            with_vector=to_edge_with_vectors(given.with_vector, self._space),
            with_payload=to_edge_with_payload(given.with_payload),
            filter=own_filter,
            score_threshold=given.score_threshold,
            params=self._params(limit, given.params),
        )

    def _prefetches(self, given: Any) -> list[Any]:
        items = given if isinstance(given, list) else [given] if given is not None else []
        return [self._prefetch(item) for item in items]

    def _prefetch(self, given: models.Prefetch) -> Any:
        limit = _PREFETCH_LIMIT if given.limit is None else given.limit
        if limit < 1:
            raise ConfigError(f"prefetch.limit must be at least 1, got {limit}.")
        query, own_filter = self._level(given, limit)
        return edge.Prefetch(
            limit=limit,
            query=query,
            prefetches=self._prefetches(given.prefetch),
            params=self._params(limit, given.params),
            filter=own_filter,
            score_threshold=given.score_threshold,
        )

    def _params(self, limit: int, given: Any) -> Any:
        params = to_search_params(given)
        if not self._is_ours:
            self._collection.rules.check_search(limit, params)
        return None if params is None else _search_params(params)

    def _level(self, given: Any, limit: int) -> tuple[Any, Any]:
        """Query and filter of one level."""
        from qdrant_client import models

        query = given.query
        fuses = isinstance(query, (models.FusionQuery, models.RrfQuery))
        if given.prefetch and query is None:
            raise ConfigError("A query is needed to merge the prefetches. Give one, such as models.FusionQuery.")
        if given.score_threshold is not None and (query is None or isinstance(query, models.OrderByQuery)):
            raise ConfigError("score_threshold needs a query that makes scores. Leave it out, or give a vector.")
        if fuses and given.using:
            raise ConfigError("A fusion merges its prefetches and has no `using`. Name vectors in the prefetches.")
        if fuses and not given.prefetch:
            raise ConfigError("A fusion merges prefetches, and there are none. Give `prefetch`.")
        level = _Level(given.using or "", given.lookup_from, limit)
        converted = None if query is None else self._query(query, level)
        own_filter = _without(given.filter, level.named)
        return converted, to_edge_filter(own_filter) if self._is_ours else self._collection.filter_to_read(own_filter)

    def _query(self, query: Any, level: _Level) -> Any:
        name = type(query).__name__
        convert = getattr(self, f"_{name}", None)
        if convert is None:
            return edge.Query.Nearest(self._vector(query, level), level.using)
        return convert(query, level)

    def _NearestQuery(self, query: models.NearestQuery, level: _Level) -> Any:
        vector = self._vector(query.nearest, level)
        if query.mmr is None:
            return edge.Query.Nearest(vector, level.using)
        if level.using in self._space.sparse:
            raise UnsupportedError("The engine has no MMR on sparse vectors. Use a dense vector, or a Qdrant server.")
        diversity = 0.5 if query.mmr.diversity is None else query.mmr.diversity
        candidates = level.limit if query.mmr.candidates_limit is None else query.mmr.candidates_limit
        if not 0 <= diversity <= 1 or not 0 <= candidates <= MOST_MMR_CANDIDATES:
            raise ConfigError(
                f"mmr needs a diversity in 0 to 1 and candidates_limit in 0 to {MOST_MMR_CANDIDATES}, "
                f"got {diversity} and {candidates}."
            )
        return edge.Mmr(vector, lambda_=1.0 - diversity, candidates_limit=candidates, using=level.using)

    def _RecommendQuery(self, query: models.RecommendQuery, level: _Level) -> Any:
        positive = self._vectors(query.recommend.positive or [], level)
        negative = self._vectors(query.recommend.negative or [], level)
        strategy = "average_vector" if query.recommend.strategy is None else query.recommend.strategy.value
        if strategy == "average_vector":
            return edge.Query.Nearest(average_query(positive, negative, self._space.is_multi(level.using)), level.using)
        if not positive and not negative:
            raise ConfigError("No positive or negative examples given. Give at least one.")
        examples = edge.RecommendQuery(positive, negative)
        if strategy == "best_score":
            return edge.Query.RecommendBestScore(examples, level.using)
        return edge.Query.RecommendSumScores(examples, level.using)

    def _DiscoverQuery(self, query: models.DiscoverQuery, level: _Level) -> Any:
        target = self._vector(query.discover.target, level)
        return edge.Query.Discover(edge.DiscoverQuery(target, self._pairs(query.discover.context, level)), level.using)

    def _ContextQuery(self, query: models.ContextQuery, level: _Level) -> Any:
        pairs = self._pairs(query.context, level)
        if not pairs:
            raise ConfigError("No target or context given. Give at least one pair of examples.")
        return edge.Query.Context(edge.ContextQuery(pairs), level.using)

    def _FusionQuery(self, query: models.FusionQuery, level: _Level) -> Any:
        return edge.Fusion.Rrf(k=_RRF_K) if query.fusion.value == "rrf" else edge.Fusion.Dbsf()

    def _RrfQuery(self, query: models.RrfQuery, level: _Level) -> Any:
        k = _RRF_K if query.rrf.k is None else query.rrf.k
        if k < 1:
            raise ConfigError(f"rrf.k must be at least 1, got {k}.")
        return edge.Fusion.Rrf(k=k, weights=query.rrf.weights)

    def _OrderByQuery(self, query: models.OrderByQuery, level: _Level) -> Any:
        return to_edge_order_by(query.order_by)

    def _SampleQuery(self, query: models.SampleQuery, level: _Level) -> Any:
        return edge.Sample.Random

    def _FormulaQuery(self, query: models.FormulaQuery, level: _Level) -> Any:
        self._collection.rules.check_formula(query.formula)
        return to_edge_formula(query)

    def _RelevanceFeedbackQuery(self, query: models.RelevanceFeedbackQuery, level: _Level) -> Any:
        given = query.relevance_feedback
        weights = given.strategy.naive
        target = self._vector(given.target, level)
        items = [edge.FeedbackItem(self._vector(item.example, level), item.score) for item in given.feedback]
        strategy = edge.NaiveFeedbackStrategy(weights.a, weights.b, weights.c)
        return edge.Query.FeedbackNaive(edge.FeedbackNaiveQuery(target, items, strategy), level.using)

    def _TextQuery(self, query: models.TextQuery, level: _Level) -> Any:
        if not level.using:
            raise ConfigError("A text query needs `using` to name the payload field to search.")
        if isinstance(query.text, str):
            return edge.TextQuery(level.using, query.text)
        scoring = query.text.scoring
        bm25 = None if scoring is None else edge.Bm25Params(scoring.bm25.k, scoring.bm25.b)
        return edge.TextQuery(level.using, query.text.query, bm25)

    def _pairs(self, context: Any, level: _Level) -> list[Any]:
        pairs = context if isinstance(context, list) else [context]
        return [
            edge.ContextPair(self._vector(pair.positive, level), self._vector(pair.negative, level)) for pair in pairs
        ]

    def _vectors(self, examples: Sequence[Any], level: _Level) -> list[Any]:
        return [self._vector(example, level) for example in examples]

    def _vector(self, given: Any, level: _Level) -> Any:
        """A query's vector; a point id becomes that point's vector, and the point is left out of the answer."""
        self._space.check_name(level.using)
        if isinstance(given, (int, str, UUID, np.integer)):
            point_id = to_edge_id(given)
            elsewhere = level.lookup_from
            name = level.using if elsewhere is None or elsewhere.vector is None else elsewhere.vector
            given = self._lookup(None if elsewhere is None else elsewhere.collection, name, point_id)
            if elsewhere is None or elsewhere.collection == self._space.collection:
                level.named.append(point_id)
        return self._space.query_vector(level.using, given)


def to_search_params(given: Any) -> models.SearchParams | None:
    """Search parameters, which may be given as a dict."""
    from qdrant_client import models

    return models.SearchParams(**given) if isinstance(given, dict) else given


def to_edge_order_by(order_by: Any) -> Any:
    """The engine's ordering for a key or a `models.OrderBy`."""
    with engine_errors(f"order_by {order_by!r} is refused", ConfigError):
        if isinstance(order_by, str):
            return edge.OrderBy(order_by)
        direction = None if order_by.direction is None else to_edge_enum(order_by.direction)
        start = order_by.start_from
        return edge.OrderBy(order_by.key, direction, to_rfc3339(start) if isinstance(start, date) else start)


def _without(given: models.Filter | None, ids: Sequence[int | str]) -> models.Filter | None:
    """The filter, and none of these points."""
    from qdrant_client import models

    if not ids:
        return given
    excluded = models.HasIdCondition(has_id=list(ids))
    if given is None:
        return models.Filter(must_not=[excluded])
    present = given.must_not if isinstance(given.must_not, list) else [given.must_not] if given.must_not else []
    return given.model_copy(update={"must_not": [*present, excluded]})


def _search_params(params: models.SearchParams) -> Any:
    from qdrant_client import models

    quantization, acorn, idf = params.quantization, params.acorn, params.idf
    return edge.SearchParams(
        hnsw_ef=params.hnsw_ef,
        exact=bool(params.exact),
        quantization=None
        if quantization is None
        else edge.QuantizationSearchParams(
            ignore=bool(quantization.ignore), rescore=quantization.rescore, oversampling=quantization.oversampling
        ),
        indexed_only=bool(params.indexed_only),
        acorn=None if acorn is None else edge.AcornSearchParams(bool(acorn.enable), acorn.max_selectivity),
        idf=edge.IdfParams(to_edge_filter(idf.corpus)) if isinstance(idf, models.IdfCorpusParams) else None,
    )
