"""`qdrant_client.models.Filter` to the engine's, condition by condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.errors import FilterError, InvalidPointError
from clip_qdrant.storage.edge.convert_points import to_edge_id
from clip_qdrant.storage.edge.errors import engine_errors
from clip_qdrant.storage.edge.native import edge

if TYPE_CHECKING:
    from qdrant_client import models


def to_edge_filter(given: models.Filter | None) -> Any:
    """The engine's filter.

    Raises:
        FilterError: a condition that the engine does not know, or refuses.
    """
    if given is None:
        return None
    with engine_errors("The filter is refused", FilterError):
        return _filter(given)


def to_rfc3339(moment: datetime | date) -> str:
    """A moment as the engine reads it; without a time zone it is UTC, a date is its midnight."""
    return _moment(moment).isoformat()


def _moment(given: datetime | date) -> datetime:
    moment = given if isinstance(given, datetime) else datetime.combine(given, time.min)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def _filter(given: Any) -> Any:
    from qdrant_client import models

    if not isinstance(given, models.Filter):
        raise FilterError(f"A filter must be a models.Filter, got {type(given).__name__}.")
    at_least = given.min_should
    if at_least is not None and at_least.min_count < 1:
        raise FilterError(f"min_should.min_count must be at least 1, got {at_least.min_count}.")
    return edge.Filter(
        must=_clause(given.must),
        should=_clause(given.should),
        must_not=_clause(given.must_not),
        min_should=None if at_least is None else edge.MinShould(_clause(at_least.conditions), at_least.min_count),
    )


def _clause(clause: Any) -> list[Any] | None:
    if clause is None:
        return None
    return [to_edge_condition(condition) for condition in (clause if isinstance(clause, list) else [clause])]


def to_edge_condition(condition: Any) -> Any:
    """The engine's condition of a filter.

    Raises:
        FilterError: not a condition.
    """
    name = type(condition).__name__
    if name not in _CONDITIONS:
        raise FilterError(f"{name} is not a condition. Use one of {', '.join(sorted(_CONDITIONS))}.")
    return _CONDITIONS[name](condition)


def _slice(condition: models.SliceCondition) -> Any:
    total, index = condition.slice.total, condition.slice.index
    if not 0 <= index < total:
        raise FilterError(f"slice.index must be in 0 to {total - 1}, got {index}.")
    return edge.SliceCondition(total, index)


def _has_id(condition: models.HasIdCondition) -> Any:
    try:
        return edge.HasIdCondition({to_edge_id(point_id) for point_id in condition.has_id})
    except InvalidPointError as error:
        raise FilterError(f"has_id: {error}") from error


def _field(condition: models.FieldCondition) -> Any:
    tests = {name: getattr(condition, name) for name in (*_TESTS, "is_empty", "is_null")}
    given = {name: test for name, test in tests.items() if test is not None}
    if not given:
        raise FilterError(f"The condition on {condition.key!r} tests nothing. Give it one of {', '.join(tests)}.")
    return edge.FieldCondition(
        condition.key, **{name: _TESTS[name](test) if name in _TESTS else test for name, test in given.items()}
    )


def _match(match: Any) -> Any:
    (field,) = type(match).model_fields
    value = getattr(match, field)
    if isinstance(value, bool):
        value = np.bool_(value)  # the engine would read Python's as the integers 0 and 1, and match those
    return getattr(edge, type(match).__name__)(**{field.rstrip("_"): value})


def _range(bounds: Any) -> Any:
    from qdrant_client import models

    values = {bound: getattr(bounds, bound) for bound in ("gte", "gt", "lte", "lt")}
    given = {bound: value for bound, value in values.items() if value is not None}
    if isinstance(bounds, models.DatetimeRange):
        moments = _tightest({bound: _moment(value) for bound, value in given.items()})
        return edge.RangeDateTime(**{bound: moment.isoformat() for bound, moment in moments.items()})
    return edge.RangeFloat(**_tightest(given))


def _tightest(bounds: dict[str, Any]) -> dict[str, Any]:
    """One bound a side: of two the engine's indexes heed only the exclusive one."""
    if "gt" in bounds and "gte" in bounds:
        del bounds["gte" if bounds["gt"] >= bounds["gte"] else "gt"]
    if "lt" in bounds and "lte" in bounds:
        del bounds["lte" if bounds["lt"] <= bounds["lte"] else "lt"]
    return bounds


def to_edge_geo_point(point: models.GeoPoint) -> Any:
    """The engine's point on earth."""
    return edge.GeoPoint(point.lon, point.lat)


def _line(line: models.GeoLineString) -> list[Any]:
    return [to_edge_geo_point(point) for point in line.points]


def _polygon(polygon: models.GeoPolygon) -> Any:
    return edge.GeoPolygon(_line(polygon.exterior), [_line(interior) for interior in polygon.interiors or []])


def _box(box: models.GeoBoundingBox) -> Any:
    return edge.GeoBoundingBox(to_edge_geo_point(box.top_left), to_edge_geo_point(box.bottom_right))


def _values_count(count: models.ValuesCount) -> Any:
    return edge.ValuesCount(lt=count.lt, gt=count.gt, lte=count.lte, gte=count.gte)


_TESTS: Mapping[str, Callable[[Any], Any]] = {
    "match": _match,
    "range": _range,
    "geo_bounding_box": _box,
    "geo_radius": lambda circle: edge.GeoRadius(to_edge_geo_point(circle.center), circle.radius),
    "geo_polygon": _polygon,
    "values_count": _values_count,
}

_CONDITIONS: Mapping[str, Callable[[Any], Any]] = {
    "FieldCondition": _field,
    "IsEmptyCondition": lambda condition: edge.IsEmptyCondition(condition.is_empty.key),
    "IsNullCondition": lambda condition: edge.IsNullCondition(condition.is_null.key),
    "HasIdCondition": _has_id,
    "HasVectorCondition": lambda condition: edge.HasVectorCondition(condition.has_vector),
    "SliceCondition": _slice,
    "NestedCondition": lambda nested: edge.NestedCondition(nested.nested.key, _filter(nested.nested.filter)),
    "Filter": _filter,
}
