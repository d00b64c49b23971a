"""What can be asked of a collection -> Qdrant's queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.filters import to_filter
from clip_qdrant.storage.points import Leg
from clip_qdrant.storage.vectors_checks import is_finite, whole_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import models

    from clip_qdrant.storage.filters import Where
    from clip_qdrant.storage.vectors_checks import Space

    QueryVector: TypeAlias = NDArray[np.float32] | Mapping[Leg, NDArray[np.float32]]
    """A vector (dim,); or one for each kind of stored vectors, to be fused."""

LEGS: tuple[Leg, ...] = get_args(Leg)

_CANDIDATES_FACTOR = 4
_MOST_MMR_CANDIDATES = 16_384

_TIE_BREAKS: Mapping[Leg, float] = {"image": 1.0, "text": 1 - 1e-4}
"""The first of either ranking score the same, and so on down; the engine gives equals in another order each time, so
that a page would repeat some of the page before. A hair's weight puts the picture first."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the answers of several kinds of vectors become one.

    "rrf" is reciprocal rank fusion: a point scores the sum of 1 / (k - 1 + rank / weight), rank 1 being the best
    (Cormack, Clarke and Büttcher, 2009). "dbsf" adds up scores, each scaled by the mean and deviation of its kind.

    Attributes:
        method: "rrf" or "dbsf".
        weights: of each kind, 1 where not given: {"text": 0.5}; for "rrf".
        k: the larger, the less the first few ranks stand out; None is Qdrant's, 2; for "rrf".
        candidates: how many points of each kind enter, for both or each: {"image": 100}; by default four times as
            many as are asked for. Give a number where answers are read in pages, else each page fuses more points.

    Raises:
        ConfigError: an unknown method or kind, a weight that is not positive, `weights` or `k` with "dbsf".
    """

    method: Literal["rrf", "dbsf"] = "rrf"
    weights: Mapping[Leg, float] = field(default_factory=dict)
    k: int | None = None
    candidates: int | Mapping[Leg, int] | None = None

    def __post_init__(self) -> None:
        if self.method not in ("rrf", "dbsf"):
            raise ConfigError(f"A fusion's method must be 'rrf' or 'dbsf', got {self.method!r}.")
        if self.method == "dbsf" and (self.weights or self.k is not None):
            raise ConfigError("weights and k are of method='rrf'; 'dbsf' has neither. Leave them out.")
        _check_legs(self.weights)
        if not all(is_finite(weight) and weight > 0 for weight in self.weights.values()):
            raise ConfigError(f"The weights of a fusion are positive numbers, got {dict(self.weights)!r}.")
        if self.k is not None:
            whole_number("k", self.k, 1)
        if isinstance(self.candidates, Mapping):
            _check_legs(self.candidates)
        for count in self.candidates.values() if isinstance(self.candidates, Mapping) else [self.candidates]:
            if count is not None:
                whole_number("candidates", count, 1)

    def query(self, legs: Sequence[Leg]) -> models.FusionQuery | models.RrfQuery:
        """Qdrant's query that merges prefetches of these legs."""
        from qdrant_client import models

        if self.method == "dbsf":
            return models.FusionQuery(fusion=models.Fusion.DBSF)
        weights = [float(self.weights.get(leg, 1.0)) * _TIE_BREAKS[leg] for leg in legs]
        return models.RrfQuery(rrf=models.Rrf(k=None if self.k is None else int(self.k), weights=weights))

    def candidates_of(self, leg: Leg, wanted: int) -> int:
        """How many points of a leg enter where so many are wanted in the end."""
        given = self.candidates.get(leg) if isinstance(self.candidates, Mapping) else self.candidates
        return _CANDIDATES_FACTOR * wanted if given is None else int(given)


Using: TypeAlias = Literal["image", "text", "both"] | Fusion
"""Which vectors a search compares with: of the pictures, of the texts, or both, fused; "both" is `Fusion()`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What all searches have in common.

    Attributes:
        limit: how many at most.
        offset: how many of the best to pass over: the second page of ten has offset=10.
        where: which points to search among.
        using: which vectors to compare with.
        min_score: leave out what scores lower; a cosine.
        diversity: from 0 (only likeness counts) to 1 (only that the answers are unlike each other): maximal marginal
            relevance (Carbonell and Goldstein, 1998). None is a plain search.
        with_vectors: return the vectors too.

    Raises:
        ConfigError: a number out of bounds, or options that do not go together.
    """

    limit: int = 10
    offset: int = 0
    where: Where | None = None
    using: Using = "image"
    min_score: float | None = None
    diversity: float | None = None
    with_vectors: bool = False

    @property
    def leg(self) -> Leg | None:
        """The one kind of vectors to compare with, or None for several."""
        return None if isinstance(self.using, Fusion) or self.using == "both" else self.using

    def __post_init__(self) -> None:
        whole_number("limit", self.limit, 1)
        whole_number("offset", self.offset, 0)
        if not isinstance(self.using, Fusion) and self.using not in (*LEGS, "both"):
            raise ConfigError(f"using must be 'image', 'text' or 'both', or a Fusion, got {self.using!r}.")
        if self.min_score is not None and self.leg is None:
            raise ConfigError("min_score compares cosines, which a search with using='both' does not have.")
        if self.min_score is not None and not is_finite(self.min_score):
            raise ConfigError(f"min_score must be a number, got {self.min_score!r}.")
        if self.diversity is not None and self.leg is None:
            raise ConfigError(
                "diversity compares the answers with each other by one kind of vector, but using='both' has two, which "
                "not every point has. Use 'image' or 'text'."
            )
        if self.diversity is not None and not (is_finite(self.diversity) and 0 <= self.diversity <= 1):
            raise ConfigError(f"diversity must be from 0 to 1, got {self.diversity!r}.")


class QueryBuilder:
    """Makes Qdrant's requests for one collection.

    Args:
        space: its vectors.
        params: how to search them.
    """

    def __init__(self, space: Space, params: models.SearchParams | None) -> None:
        self._space = space
        self._params = params

    def nearest(self, vector: QueryVector, options: SearchOptions) -> models.QueryRequest:
        """What is near to a vector, or to one of each kind."""
        from qdrant_client import models

        if options.leg is None:
            return self._fused(vector, options)
        if isinstance(vector, Mapping):
            raise ConfigError(
                f"Vectors by kind are fused: use using='both' or a Fusion with them, not {options.using!r}."
            )
        query: Any = self._space.query(options.leg, vector)
        if options.diversity is not None:
            candidates = min(_MOST_MMR_CANDIDATES, _CANDIDATES_FACTOR * (options.limit + options.offset))
            mmr = models.Mmr(diversity=float(options.diversity), candidates_limit=candidates)
            query = models.NearestQuery(nearest=query, mmr=mmr)
        return self.request(query, options)

    def request(
        self, query: Any, options: SearchOptions, prefetch: list[models.Prefetch] | None = None
    ) -> models.QueryRequest:
        """A query of Qdrant's with all that was asked around it."""
        from qdrant_client import models

        return models.QueryRequest(
            query=query,
            prefetch=prefetch,
            using=options.leg,
            filter=None if prefetch else to_filter(options.where),
            params=None if prefetch else self._params,
            score_threshold=None if options.min_score is None else float(options.min_score),
            limit=int(options.limit),
            offset=int(options.offset) or None,
            with_payload=True,
            with_vector=options.with_vectors,
        )

    def _fused(self, vector: QueryVector, options: SearchOptions) -> models.QueryRequest:
        from qdrant_client import models

        fusion = options.using if isinstance(options.using, Fusion) else Fusion()
        by_leg: Mapping[Leg, Any] = vector if isinstance(vector, Mapping) else dict.fromkeys(LEGS, vector)
        _check_legs(by_leg)
        if not by_leg:
            raise ConfigError("There is no vector to search with. Give one for 'image', for 'text', or both.")
        wanted = to_filter(options.where)
        legs = [
            models.Prefetch(
                query=self._space.query(leg, own),
                using=leg,
                filter=wanted,
                params=self._params,
                limit=fusion.candidates_of(leg, options.limit + options.offset),
            )
            for leg, own in by_leg.items()
        ]
        return self.request(fusion.query(list(by_leg)), options, legs)


def _check_legs(given: Mapping[Leg, Any]) -> None:
    unknown = sorted(str(leg) for leg in given if leg not in LEGS)
    if unknown:
        raise ConfigError(f"There are 'image' and 'text' vectors, but none for {unknown}.")
