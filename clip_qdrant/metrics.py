"""How good is a ranking? One judge for training, evaluation and calibration, on numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def ranks(similarity: ArrayLike, relevant: ArrayLike) -> NDArray[np.int64]:
    """The rank of the best relevant item of each query, 0 for the top.

    Ties count against the query: an item that scores the same as the relevant one is taken to stand before it, so
    that a model which gives everything the same score is not called perfect.

    Args:
        similarity: scores, shape (queries, items); higher is better.
        relevant: boolean, same shape; each query needs at least one relevant item.

    Returns:
        int64, shape (queries,).

    Raises:
        ConfigError: shapes differ, a score is NaN, or a query has nothing relevant.
    """
    scores = np.asarray(similarity, dtype=np.float64)
    wanted = np.asarray(relevant, dtype=bool)
    if scores.ndim != 2 or scores.shape != wanted.shape:
        raise ConfigError(
            f"similarity and relevant must be two matrices of one shape, got {scores.shape} and {wanted.shape}"
        )
    if np.isnan(scores).any():
        raise ConfigError("similarity has NaN; a ranking needs numbers")
    if not wanted.any(axis=1).all():
        raise ConfigError(f"query {int(np.argmin(wanted.any(axis=1)))} has no relevant item; leave it out")
    best = np.where(wanted, scores, -np.inf).max(axis=1, keepdims=True)
    before: NDArray[np.int64] = ((scores >= best) & ~wanted).sum(axis=1, dtype=np.int64)
    return before


def recall_at_k(similarity: ArrayLike, relevant: ArrayLike, k: int) -> float:
    """The share of queries whose best relevant item is among the first k (arguments as for `ranks`)."""
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k!r}")
    return float((ranks(similarity, relevant) < k).mean())


def mean_reciprocal_rank(similarity: ArrayLike, relevant: ArrayLike) -> float:
    """The mean of 1 / (1 + rank) (arguments as for `ranks`)."""
    return float((1.0 / (1.0 + ranks(similarity, relevant))).mean())
