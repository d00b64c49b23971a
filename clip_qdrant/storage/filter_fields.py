"""What a filter says about one field -> Qdrant conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from clip_qdrant.errors import FilterError
from clip_qdrant.storage.filter_paths import payload_path
from clip_qdrant.storage.filter_values import (
    is_integer,
    is_number,
    shown,
    to_box,
    to_circle,
    to_moment,
    to_point_id,
)

if TYPE_CHECKING:
    from qdrant_client import models

MAX_DEPTH = 30
"""Filters within filters. A server reads JSON to 128 levels, and one of ours is up to four of those."""

TEXT_OPERATORS = ("text", "text_any", "phrase", "prefix", "substring")
_RANGE = ("gt", "gte", "lt", "lte")
_IDENTITY = ("eq", "ne", "in", "not_in")
_OPERATORS = (*_IDENTITY, *_RANGE, *TEXT_OPERATORS, "is_null", "is_empty", "count", "near", "box", "nested")
_LISTS = (list, tuple, set, frozenset)


class Conditions(NamedTuple):
    """What must hold, and what must not."""

    must: list[Any]
    must_not: list[Any]


def field_conditions(field: str, value: Any, build: Callable[[str, Any], models.Filter]) -> Conditions:
    """The conditions that one field's entry stands for.

    Args:
        field: its name, as people write it.
        value: what to compare with, or a mapping of operators.
        build: makes the filter of a field's `nested`.

    Raises:
        FilterError: an operator or a value that cannot be used.
    """
    key = payload_path(field)
    conditions = Conditions([], [])
    operators = _operators(field, value, _OPERATORS)
    limits = {name: limit for name, limit in operators.items() if name in _RANGE}
    if limits:
        conditions.must.append(_range(field, key, limits))
    for name, operand in operators.items():
        if name in _RANGE:
            continue
        negated = name in ("ne", "not_in")
        if name in ("is_null", "is_empty"):
            if not isinstance(operand, bool):
                raise FilterError(f"Field {field!r}: {name} takes true or false, got {shown(operand)}.")
            negated = not operand
        conditions[negated].append(_condition(field, key, name, operand, build))
    return conditions


def point_conditions(key: str, value: Any) -> Conditions:
    """The conditions of `$id` and `$has_vector`, which are about the point, not its payload.

    Raises:
        FilterError: an operator or a value that cannot be used.
    """
    from qdrant_client import models

    conditions = Conditions([], [])
    for name, operand in _operators(key, value, _IDENTITY).items():
        values = _list(key, name, operand) if name in ("in", "not_in") else [operand]
        condition: Any
        if key == "$id":
            condition = models.HasIdCondition(has_id=[to_point_id(value) for value in values])
        else:
            wrong = [value for value in values if not isinstance(value, str)]
            if wrong:
                raise FilterError(f"{key} is compared with {shown(wrong[0])}. It may be the name of a vector: 'image'.")
            condition = _some([models.HasVectorCondition(has_vector=value) for value in values])
        conditions[name in ("ne", "not_in")].append(condition)
    return conditions


def _operators(field: str, value: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    """The operators of an entry, also where it is written without."""
    if value is None and "is_empty" in known:
        return {"is_empty": True}
    if not isinstance(value, Mapping):
        return {"in" if isinstance(value, _LISTS) else "eq": value}
    if not value:
        raise FilterError(f"Field {field!r} has no operator. Use one of {', '.join(known)}.")
    unknown = sorted(str(name) for name in value if name not in known)
    if unknown:
        cure = f"; a field within it is written {f'{field}.{unknown[0]}'!r}" if "nested" in known else ""
        raise FilterError(
            f"Field {field!r} has the unknown operators {shown(unknown)}. Use one of {', '.join(known)}{cure}."
        )
    return value


def _condition(field: str, key: str, name: str, operand: Any, build: Callable[[str, Any], models.Filter]) -> Any:
    from qdrant_client import models

    if name in ("eq", "ne"):
        return _equal(field, key, operand)
    if name in ("in", "not_in"):
        return _one_of(field, key, _list(field, name, operand))
    if name == "is_null":
        return models.IsNullCondition(is_null=models.PayloadField(key=key))
    if name == "is_empty":
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    if name == "nested":
        return models.NestedCondition(nested=models.Nested(key=key, filter=build(field, operand)))
    if name == "count":
        return models.FieldCondition(key=key, values_count=_count(field, operand))
    if name == "near":
        return models.FieldCondition(key=key, geo_radius=to_circle(field, operand))
    if name == "box":
        return models.FieldCondition(key=key, geo_bounding_box=to_box(field, operand))
    return models.FieldCondition(key=key, match=_text(field, name, operand))


def _text(field: str, name: str, operand: Any) -> Any:
    from qdrant_client import models

    if not isinstance(operand, str) or not operand:
        raise FilterError(
            f"Field {field!r}: {name} takes text of at least one character, in quotes, got {shown(operand)}."
        )
    match: dict[str, Callable[..., Any]] = {
        "text": models.MatchText,
        "text_any": models.MatchTextAny,
        "phrase": models.MatchPhrase,
        "prefix": models.MatchPrefix,
        "substring": models.MatchSubstring,
    }
    return match[name](**{name: operand})


def _equal(field: str, key: str, value: Any) -> Any:
    from qdrant_client import models

    if isinstance(value, date):
        moment = to_moment(value)
        return models.FieldCondition(key=key, range=models.DatetimeRange(gte=moment, lte=moment))
    if isinstance(value, (bool, str)) or is_integer(value):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    if isinstance(value, float) and is_number(value):
        return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    cure = ""
    if value is None:
        cure = " For a field that is not there or null, use is_empty."
    elif isinstance(value, Mapping):
        cure = " A list of filters stands under 'any' or 'all'."
    raise FilterError(
        f"Field {field!r} is compared with {shown(value)}. "
        f"It may be text, a finite number (integers of 64 bits), true, false or a date.{cure}"
    )


def _list(field: str, name: str, values: Any) -> list[Any]:
    if not isinstance(values, _LISTS):
        raise FilterError(f"Field {field!r}: {name} takes a list, got {shown(values)}.")
    return list(values)


def _one_of(field: str, key: str, values: list[Any]) -> Any:
    """One condition for all texts and one for all integers, however many; a condition each for the rest."""
    from qdrant_client import models

    groups: list[list[Any]] = [[], []]
    options: list[Any] = []
    for value in values:
        if isinstance(value, str) or is_integer(value):
            groups[is_integer(value)].append(value)
        else:
            options.append(_equal(field, key, value))
    matches = [models.FieldCondition(key=key, match=models.MatchAny(any=group)) for group in groups if group]
    return _some([*matches, *options])


def _some(options: list[Any]) -> Any:
    """At least one of these holds; of none, none."""
    from qdrant_client import models

    if not options:
        return models.HasIdCondition(has_id=[])
    return options[0] if len(options) == 1 else models.Filter(should=options)


def _range(field: str, key: str, limits: Mapping[str, Any]) -> models.FieldCondition:
    from qdrant_client import models

    moments = {name: to_moment(limit) for name, limit in limits.items() if not is_number(limit)}
    if not moments:
        return models.FieldCondition(key=key, range=models.Range(**limits))
    wrong = [limit for name, limit in limits.items() if moments.get(name) is None]
    if wrong:
        raise FilterError(
            f"Field {field!r} has the limit {shown(wrong[0])}. "
            "It may be a finite number or a date (2024-05-01), all of one kind."
        )
    return models.FieldCondition(key=key, range=models.DatetimeRange(**moments))


def _count(field: str, operand: Any) -> models.ValuesCount:
    from qdrant_client import models

    limits = operand if isinstance(operand, Mapping) else {"eq": operand}
    known = set(limits) == {"eq"} or (limits and set(limits) <= set(_RANGE))
    if not known or not all(is_integer(limit) and limit >= 0 for limit in limits.values()):
        raise FilterError(
            f"Field {field!r}: count takes a whole number from 0, or limits of such ({', '.join(_RANGE)}), as in "
            f'{{"gte": 2}}, got {shown(operand)}.'
        )
    if "eq" in limits:
        return models.ValuesCount(gte=limits["eq"], lte=limits["eq"])
    return models.ValuesCount(**limits)
