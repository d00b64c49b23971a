"""Recommendation by the average of examples, which the engine leaves to its caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.edge.native import edge


def average_query(positive: Sequence[Any], negative: Sequence[Any], multi: bool) -> Any:
    """The vector to search with: twice the mean of what is liked, minus the mean of what is not.

    Args:
        positive: engine vectors, all dense, all sparse or all multivectors; at least one.
        negative: more of the same kind, or none.
        multi: whether they are multivectors, which are joined rather than averaged.

    Raises:
        ConfigError: nothing is liked.
    """
    if not positive:
        raise ConfigError("Positive list is empty: 'average_vector' needs a positive example. Use 'best_score'.")
    if isinstance(positive[0], edge.SparseVector):
        return _sparse(positive, negative)
    if multi:
        return [row for vectors in positive for row in vectors] + [
            [-value for value in row] for vectors in negative for row in vectors
        ]
    liked = np.mean(np.stack(positive), axis=0)
    return (liked if not negative else liked + liked - np.mean(np.stack(negative), axis=0)).tolist()


def _sparse(positive: Sequence[Any], negative: Sequence[Any]) -> Any:
    mean = _sparse_mean(positive)
    if negative:
        disliked = _sparse_mean(negative)
        mean = {index: 2 * mean.get(index, 0.0) - disliked.get(index, 0.0) for index in {*mean, *disliked}}
    indices = sorted(mean)
    return edge.SparseVector(indices, [mean[index] for index in indices])


def _sparse_mean(vectors: Sequence[Any]) -> dict[int, float]:
    total: dict[int, float] = {}
    for vector in vectors:
        for index, value in zip(vector.indices, vector.values, strict=True):
            total[index] = total.get(index, 0.0) + value / len(vectors)
    return total
