"""Grouping of scored points by a payload value, which the engine leaves to its caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import models
from qdrant_client.local.payload_value_extractor import value_by_key


def group_points(
    points: Sequence[models.ScoredPoint], group_by: str, limit: int, group_size: int
) -> list[models.PointGroup]:
    """The first `limit` groups in the points' order, each with its first `group_size` points.

    A point with several values is in several groups; one with a value that is neither text nor integer is in none.
    """
    groups: dict[Any, models.PointGroup] = {}
    for point in points:
        for value in _group_values(point.payload or {}, group_by):
            group = groups.setdefault(value, models.PointGroup(id=value, hits=[]))
            if len(group.hits) < group_size:
                group.hits.append(point)
    return list(groups.values())[:limit]


def with_larger_prefetches(prefetch: Any, limit: int) -> Any:
    """The prefetches with a limit that leaves no group out."""
    if prefetch is None:
        return None
    if isinstance(prefetch, list):
        return [with_larger_prefetches(item, limit) for item in prefetch]
    return prefetch.model_copy(update={"limit": limit, "prefetch": with_larger_prefetches(prefetch.prefetch, limit)})


def _group_values(payload: dict[str, Any], group_by: str) -> list[Any]:
    values = value_by_key(payload, group_by) or []
    return list(dict.fromkeys(values)) if all(type(value) in (str, int) for value in values) else []
