"""The answers of the image and the text vectors -> one list.

A text's cosine with texts lies far above its cosine with pictures, so that the two cannot be sorted together. Ranks
can; and so can calibrated scores: by how many standard deviations an answer lies above what the same query scores with
vectors of that kind drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.storage.points import Leg
    from clip_qdrant.storage.vectors import VectorCollection
    from clip_qdrant.types import Hit

SAMPLE = 512
"""How many vectors of each kind chance is told by."""
RRF_K = 2
"""As Qdrant's."""
_LEAST_DEVIATION = 0.01
"""Of a handful of vectors the deviation says nothing; below this the scores are taken to differ by that much."""


def by_rank(found: Mapping[Leg, Sequence[Hit]]) -> list[Hit]:
    """Reciprocal rank fusion: a point scores the sum over its ranks, 1 being the best, of 1 / (1 + rank).

    The best of either kind score the same, 0.5; of equals the pictures come first. (Cormack, Clarke and Büttcher, 2009)
    """
    return _summed(found, lambda leg, rank, hit: 1 / (RRF_K - 1 + rank), combine=float.__add__)


def by_calibration(found: Mapping[Leg, Sequence[Hit]], chance: Mapping[Leg, tuple[float, float]]) -> list[Hit]:
    """Sorted by standard scores; a point that both kinds found has the better of its two.

    Args:
        found: the answers by kind, scored by cosine.
        chance: mean and deviation of the query's cosines with vectors of each kind (see `Chance`).
    """

    def standard(leg: Leg, rank: int, hit: Hit) -> float:
        mean, deviation = chance[leg]
        return (hit.score - mean) / deviation

    return _summed(found, standard, combine=max)


class Chance:
    """What a query scores with vectors drawn at random. They are drawn once for each kind, when first asked for.

    Args:
        vectors: the collection to draw from.
        size: how many of each kind.
    """

    def __init__(self, vectors: VectorCollection, size: int = SAMPLE) -> None:
        self._vectors = vectors
        self._size = size
        self._drawn: dict[Leg, NDArray[np.float32]] = {}

    def of(self, query: NDArray[np.float32], leg: Leg) -> tuple[float, float]:
        """Mean and standard deviation of a unit vector's (dim,) cosines with stored vectors of a kind."""
        if leg not in self._drawn:
            self._drawn[leg] = self._vectors.sample(self._size, using=leg)
        drawn = self._drawn[leg]
        if not len(drawn):
            return 0.0, 1.0
        cosines = drawn @ query
        return float(cosines.mean()), max(float(cosines.std()), _LEAST_DEVIATION)


def _summed(
    found: Mapping[Leg, Sequence[Hit]],
    score: Callable[[Leg, int, Hit], float],
    combine: Callable[[float, float], float],
) -> list[Hit]:
    hits: dict[str, Hit] = {}
    scores: dict[str, float] = {}
    for leg in sorted(found):  # "image" before "text", and so among equals
        for rank, hit in enumerate(found[leg], 1):
            own = score(leg, rank, hit)
            scores[hit.id] = combine(scores[hit.id], own) if hit.id in scores else own
            hits.setdefault(hit.id, hit)
    ordered = sorted(hits, key=scores.__getitem__, reverse=True)
    return [replace(hits[id], score=scores[id]) for id in ordered]
