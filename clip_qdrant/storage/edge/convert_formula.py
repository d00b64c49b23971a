"""Score formulas: qdrant-client's expressions to the engine's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.edge.convert_filters import to_edge_condition, to_edge_geo_point
from clip_qdrant.storage.edge.convert_points import to_edge_payload
from clip_qdrant.storage.edge.errors import engine_errors
from clip_qdrant.storage.edge.native import edge

if TYPE_CHECKING:
    from qdrant_client import models

    Converter = Callable[[Any], Any]


def to_edge_formula(query: models.FormulaQuery) -> Any:
    """The engine's formula.

    Raises:
        ConfigError: an expression that the engine does not know, or refuses.
        FilterError: a condition that it refuses.
    """
    with engine_errors("The formula is refused", ConfigError):
        return edge.Formula(_expression(query.formula), to_edge_payload(query.defaults, "Formula defaults"))


def _expression(given: Any) -> Any:
    if isinstance(given, str):
        return edge.Expression.Variable(given)
    if isinstance(given, (int, float)):
        return edge.Expression.Constant(float(given))
    convert = _EXPRESSIONS.get(type(given).__name__)
    return edge.Expression.Condition(to_edge_condition(given)) if convert is None else convert(given)


def _of_one(make: Converter, field: str) -> Converter:
    return lambda given: make(_expression(getattr(given, field)))


def _of_many(make: Converter, field: str) -> Converter:
    return lambda given: make([_expression(part) for part in getattr(given, field)])


def _divide(given: models.DivExpression) -> Any:
    parts = given.div
    return edge.Expression.Div(_expression(parts.left), _expression(parts.right), parts.by_zero_default)


def _power(given: models.PowExpression) -> Any:
    return edge.Expression.Pow(_expression(given.pow.base), _expression(given.pow.exponent))


def _distance(given: models.GeoDistance) -> Any:
    parts = given.geo_distance
    return edge.Expression.GeoDistance(to_edge_geo_point(parts.origin), parts.to)


def _decay(kind: str, field: str) -> Converter:
    def convert(given: Any) -> Any:
        parts = getattr(given, field)
        target = None if parts.target is None else _expression(parts.target)
        return edge.Expression.Decay(
            getattr(edge.DecayKind, kind), _expression(parts.x), target, parts.midpoint, parts.scale
        )

    return convert


_EXPRESSIONS: Mapping[str, Converter] = {
    "GeoDistance": _distance,
    "DatetimeExpression": lambda given: edge.Expression.Datetime(given.datetime),
    "DatetimeKeyExpression": lambda given: edge.Expression.DatetimeKey(given.datetime_key),
    "MultExpression": _of_many(edge.Expression.Mult, "mult"),
    "SumExpression": _of_many(edge.Expression.Sum, "sum"),
    "MaxExpression": _of_many(edge.Expression.Max, "max"),
    "MinExpression": _of_many(edge.Expression.Min, "min"),
    "NegExpression": _of_one(edge.Expression.Neg, "neg"),
    "AbsExpression": _of_one(edge.Expression.Abs, "abs"),
    "DivExpression": _divide,
    "SqrtExpression": _of_one(edge.Expression.Sqrt, "sqrt"),
    "PowExpression": _power,
    "ExpExpression": _of_one(edge.Expression.Exp, "exp"),
    "Log10Expression": _of_one(edge.Expression.Log10, "log10"),
    "LnExpression": _of_one(edge.Expression.Ln, "ln"),
    "AcoshExpression": _of_one(edge.Expression.Acosh, "acosh"),
    "LinDecayExpression": _decay("Lin", "lin_decay"),
    "ExpDecayExpression": _decay("Exp", "exp_decay"),
    "GaussDecayExpression": _decay("Gauss", "gauss_decay"),
}
