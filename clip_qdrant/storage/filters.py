"""What people write -> Qdrant `Filter`.

A mapping says which points are wanted; all of its entries must hold:

    {"year": {"gte": 2023, "lt": 2025}}     a range; dates as date, datetime or RFC 3339 text
    {"category": "cat"}                     equal
    {"category": ["cat", "dog"]}            one of these
    {"category": {"ne": "cat"}}             not equal, or not there at all; also {"not_in": [...]}
    {"caption": {"text": "brown bear"}}     has these words
    {"camera": None}                        not there, or null; {"camera": {"is_null": False}} for there
    {"any": [{...}, {...}]}                 at least one holds; also "all": [...] and "not": {...}

An expression (`filter_expression.parse`) says the same in a line: `year >= 2023 and category in ["cat", "dog"]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from clip_qdrant.errors import FilterError

if TYPE_CHECKING:
    from qdrant_client import models

    Where: TypeAlias = Mapping[str, Any] | str | models.Filter
    """A mapping, an expression, or a Qdrant filter."""

_RANGE = ("gt", "gte", "lt", "lte")
_OPERATORS = ("eq", "ne", "in", "not_in", *_RANGE, "text", "is_null")
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")


def to_filter(where: Where | None) -> models.Filter | None:
    """A Qdrant filter for what was asked, or None where nothing was.

    Raises:
        FilterError: an operator or a value that cannot be used; the message names the field and what it may be.
    """
    from qdrant_client import models

    if where is None or isinstance(where, models.Filter):
        return where
    if isinstance(where, str):
        from clip_qdrant.storage.filter_expression import parse

        where = parse(where)
    if not isinstance(where, Mapping):
        raise FilterError(f"A filter is a mapping, an expression or a Qdrant Filter, got {where!r}.")
    return _all_of(where) if where else None


def _all_of(where: Any) -> models.Filter:
    from qdrant_client import models

    if not isinstance(where, Mapping) or not where:
        raise FilterError(f"A filter within a filter is a mapping with at least one entry, got {where!r}.")
    must: list[Any] = []
    must_not: list[Any] = []
    for key, value in where.items():
        if key == "not":
            must_not.append(_all_of(value))
        elif key in ("any", "all"):
            parts: list[Any] = [_all_of(part) for part in _filters(key, value)]
            must.append(models.Filter(should=parts) if key == "any" else models.Filter(must=parts))
        elif not isinstance(key, str) or not key:
            raise FilterError(f"The name of a field is text, got {key!r}.")
        else:
            _add_field(key, value, must, must_not)
    return models.Filter(must=must or None, must_not=must_not or None)


def _filters(key: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise FilterError(f"{key!r} takes a list of filters with at least one in it, got {value!r}.")
    return value


def _add_field(field: str, value: Any, must: list[Any], must_not: list[Any]) -> None:
    """Add the conditions that one field's entry stands for."""
    if value is None:
        operators: Mapping[str, Any] = {"is_null": True}
    elif isinstance(value, Mapping):
        operators = value
    else:
        operators = {"in" if isinstance(value, (list, tuple, set, frozenset)) else "eq": value}
    unknown = sorted(str(name) for name in operators if name not in _OPERATORS)
    if unknown or not operators:
        raise FilterError(
            f"Field {field!r} has the unknown operators {unknown}. Use one of {', '.join(_OPERATORS)}."
            if unknown
            else f"Field {field!r} has no operator. Use one of {', '.join(_OPERATORS)}."
        )
    limits = {name: limit for name, limit in operators.items() if name in _RANGE}
    if limits:
        must.append(_range(field, limits))
    for name, operand in operators.items():
        if name in _RANGE:
            continue
        if name == "is_null" and not isinstance(operand, bool):
            raise FilterError(f"Field {field!r}: is_null takes true or false, got {operand!r}.")
        negated = name in ("ne", "not_in") or (name == "is_null" and not operand)
        (must_not if negated else must).append(_condition(field, name, operand))


def _condition(field: str, name: str, operand: Any) -> Any:
    from qdrant_client import models

    if name in ("eq", "ne"):
        return _equal(field, operand)
    if name in ("in", "not_in"):
        return _one_of(field, name, operand)
    if name == "is_null":
        # Qdrant's is_empty holds for a missing field, a null and an empty list.
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
    if not isinstance(operand, str) or not operand:
        raise FilterError(f"Field {field!r}: text takes words, got {operand!r}.")
    return models.FieldCondition(key=field, match=models.MatchText(text=operand))


def _equal(field: str, value: Any) -> Any:
    from qdrant_client import models

    if isinstance(value, (date, datetime)):
        return models.FieldCondition(key=field, range=models.DatetimeRange(gte=_moment(value), lte=_moment(value)))
    if isinstance(value, (bool, int, str)):
        return models.FieldCondition(key=field, match=models.MatchValue(value=value))
    if isinstance(value, float) and value == value:
        return models.FieldCondition(key=field, range=models.Range(gte=value, lte=value))
    raise FilterError(f"Field {field!r} is compared with {value!r}. It may be text, a number, true, false or a date.")


def _one_of(field: str, name: str, values: Any) -> Any:
    from qdrant_client import models

    if not isinstance(values, (list, tuple, set, frozenset)):
        raise FilterError(f"Field {field!r}: {name} takes a list, got {values!r}.")
    if not values:
        return models.HasIdCondition(has_id=[])  # one of nothing: no point
    if all(isinstance(value, str) for value in values) or all(type(value) is int for value in values):
        return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))
    return models.Filter(should=[_equal(field, value) for value in values])


def _range(field: str, limits: Mapping[str, Any]) -> models.FieldCondition:
    from qdrant_client import models

    moments = {name: _moment(limit) for name, limit in limits.items() if not _is_number(limit)}
    if not moments:
        return models.FieldCondition(key=field, range=models.Range(**limits))
    wrong = [limit for name, limit in limits.items() if moments.get(name) is None]
    if wrong:
        raise FilterError(
            f"Field {field!r} has the limit {wrong[0]!r}. It may be a number or a date (2024-05-01), all of one kind."
        )
    return models.FieldCondition(key=field, range=models.DatetimeRange(**moments))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _moment(value: Any) -> datetime | None:
    """A date or time as a moment (UTC where it names no zone), or None for what is neither."""
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
