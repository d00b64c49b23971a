"""LlamaIndex's `MetadataFilters` -> Qdrant `Filter`.

    operator                  takes                          holds where
    EQ, CONTAINS              text, number, bool, date       the field is equal, or one value of its list is
    NE                        the same                       it is not: also where the field is not there
    IN, ANY                   a list of these                the field, or one value of its list, is one of them;
                                                             of an empty list none
    NIN                       a list of these                none is: also where the field is not there
    ALL                       a list of these                each of them is there; of an empty list: the field has one
    GT, GTE, LT, LTE          number, date, ISO 8601 text    a number or a moment in the range
    TEXT_MATCH                text                           text that has this in it, case-sensitive
    TEXT_MATCH_INSENSITIVE    text                           text that has all of these words, in any order and case
    IS_EMPTY                  anything, not looked at        not there, null, [] or ""

AND, OR and NOT (of several: none of them holds) nest in each other; a group without filters asks nothing. IN and NIN
also take text with commas, as the stock class does; "" is an empty list. An integer finds integers only: give 5.0 for a
field of floats, which finds 5 too. A key is the path of a field, as in `clip_qdrant.storage.filters`, which also says
what index serves which filter: TEXT_MATCH and EQ a keyword index, TEXT_MATCH_INSENSITIVE a text index.

LlamaIndex's own `MetadataFilter` refuses true, false and dates. The one here takes them, and goes wherever the other
does. Any filter may also be a mapping or an expression of `clip_qdrant.storage.filters`, or Qdrant's own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilters
from llama_index.core.vector_stores import MetadataFilter as CoreMetadataFilter

from clip_qdrant.errors import FilterError
from clip_qdrant.storage.filter_paths import RESERVED
from clip_qdrant.storage.filter_values import is_integer, is_number, shown, to_moment
from clip_qdrant.storage.filters import to_filter

if TYPE_CHECKING:
    from qdrant_client import models

    from clip_qdrant.storage.filters import Where


class MetadataFilter(CoreMetadataFilter):
    """LlamaIndex's `MetadataFilter`, whose value may also be true, false, a date or a datetime."""

    value: Any

    @classmethod
    def from_dict(cls, filter_dict: dict[str, Any]) -> MetadataFilter:
        """A filter of its key, value and operator."""
        return cls.model_validate(filter_dict)


def to_qdrant_filter(filters: MetadataFilters | Where | None) -> models.Filter | None:
    """A Qdrant filter for what was asked, or None where nothing was.

    Raises:
        FilterError: a value that its operator does not take; the message names the key, the operator and the value.
    """
    if not isinstance(filters, MetadataFilters):
        return to_filter(filters)
    return to_filter(_group(filters))


def holds_always(wanted: models.Filter | None) -> bool:
    """Whether a filter leaves nothing out, whatever is stored: none at all, or such as "is none of []"."""
    return wanted is None or _truth(wanted) is True


def _truth(condition: Any) -> bool | None:
    """What a condition is for every point, or None where that depends on the point."""
    from qdrant_client import models

    if isinstance(condition, models.HasIdCondition):
        return None if condition.has_id else False
    if isinstance(condition, models.FieldCondition):
        return False if isinstance(condition.match, models.MatchAny) and not condition.match.any else None
    if not isinstance(condition, models.Filter):
        return None
    truths = _truths(condition.must) + [None if each is None else not each for each in _truths(condition.must_not)]
    if condition.should:
        truths.append(_at_least(1, _truths(condition.should)))
    if condition.min_should:
        truths.append(_at_least(condition.min_should.min_count, _truths(condition.min_should.conditions)))
    return _at_least(len(truths), truths)


def _truths(conditions: Any) -> list[bool | None]:
    """Of several conditions, of one without a list, or of none."""
    return [_truth(each) for each in (conditions if isinstance(conditions, list) else [conditions]) if each is not None]


def _at_least(number: int, truths: list[bool | None]) -> bool | None:
    if truths.count(True) >= number:
        return True
    return False if len(truths) - truths.count(False) < number else None


def _group(filters: MetadataFilters) -> dict[str, Any] | None:
    """A group as a mapping of `storage.filters`, or None where it asks nothing."""
    parts = [
        part
        for each in filters.filters
        if (part := _group(each) if isinstance(each, MetadataFilters) else _filter(each)) is not None
    ]
    if not parts:
        return None
    condition = FilterCondition.AND if filters.condition is None else filters.condition
    if condition == FilterCondition.NOT:
        return {"not": _joined("any", parts)}
    return _joined("any" if condition == FilterCondition.OR else "all", parts)


def _joined(key: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Several filters as one, and no deeper than need be: what nests is limited."""
    flat = [inner for part in parts for inner in (part[key] if part.keys() == {key} else [part])]
    return flat[0] if len(flat) == 1 else {key: flat}


def _filter(given: CoreMetadataFilter) -> dict[str, Any]:
    name = FilterOperator(given.operator).name  # of a filter by `model_construct` it may be text
    operator = _OPERATORS[name]
    if not operator.takes(given.value):
        cure = " For a field that is not there or null, use IS_EMPTY." if given.value is None else ""
        raise FilterError(f"Filter on {given.key!r}: {name} takes {operator.allowed}, got {shown(given.value)}.{cure}")
    # A field may be called as one of the words of a mapping.
    key = f'"{given.key}"' if given.key in RESERVED or given.key.startswith("$") else given.key
    return operator.means(key, given.value)


def _is_value(value: Any) -> bool:
    return isinstance(value, (str, bool, date)) or is_integer(value) or (isinstance(value, float) and is_number(value))


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(map(_is_value, value))


def _is_list_or_text(value: Any) -> bool:
    return isinstance(value, str) or _is_list(value)


def _is_limit(value: Any) -> bool:
    return is_number(value) or to_moment(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _listed(value: Any) -> list[Any]:
    return [each for each in value.split(",") if value] if isinstance(value, str) else list(value)


def _all_values(key: str, values: Any) -> dict[str, Any]:
    return _joined("all", [{key: {"eq": value}} for value in values]) if values else {"not": {key: None}}


class _Operator(NamedTuple):
    """What a filter operator takes, and the mapping that it means."""

    takes: Callable[[Any], bool]
    allowed: str
    means: Callable[[str, Any], dict[str, Any]]


_VALUE = "text, a finite number (integers of 64 bits), true, false or a date"
_LIST = "a list of text, finite numbers, true, false or dates"
_LIMIT = "a finite number, a date or ISO 8601 text such as '2024-05-01'"


def _limit(name: str) -> _Operator:
    return _Operator(_is_limit, _LIMIT, lambda key, value: {key: {name: value}})


_OPERATORS = {
    "EQ": _Operator(_is_value, _VALUE, lambda key, value: {key: {"eq": value}}),
    "NE": _Operator(_is_value, _VALUE, lambda key, value: {key: {"ne": value}}),
    "CONTAINS": _Operator(_is_value, _VALUE, lambda key, value: {key: {"eq": value}}),
    "IN": _Operator(_is_list_or_text, _LIST, lambda key, value: {key: {"in": _listed(value)}}),
    "NIN": _Operator(_is_list_or_text, _LIST, lambda key, value: {key: {"not_in": _listed(value)}}),
    "ANY": _Operator(_is_list, _LIST, lambda key, value: {key: {"in": list(value)}}),
    "ALL": _Operator(_is_list, _LIST, _all_values),
    "GT": _limit("gt"),
    "GTE": _limit("gte"),
    "LT": _limit("lt"),
    "LTE": _limit("lte"),
    "TEXT_MATCH": _Operator(_is_text, "text of at least one character", lambda key, value: {key: {"substring": value}}),
    "TEXT_MATCH_INSENSITIVE": _Operator(
        _is_text, "text of at least one character", lambda key, value: {key: {"text": value}}
    ),
    "IS_EMPTY": _Operator(
        lambda value: True, "anything", lambda key, value: {"any": [{key: None}, {key: {"eq": "", "count": 1}}]}
    ),
}
