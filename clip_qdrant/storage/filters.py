"""What people write -> Qdrant `Filter`.

A mapping says which points are wanted; all of its entries must hold:

    {"year": {"gte": 2023}, "category": ["cat", "dog"], "path": {"prefix": "2024/"}, "camera": None}

    operator        holds where                                            payload index (`CollectionSchema.indexes`)
    "cat", eq       equal; text, integer, float, true, false or a date     keyword, integer, float, bool, datetime
    ["cat"], in     equal to one of these; of none where the list is empty the same
    ne, not_in      the opposite, so also where the field is not there     the same
    gt gte lt lte   a number or a moment in a range                        integer, float; datetime
    prefix          text that begins so, case-sensitive                    prefix (a keyword index with prefix=True)
    substring       text that has this in it, case-sensitive               keyword
    text            text that has all of these words, in any order         text
    text_any        text that has at least one of these words              text
    phrase          text that has these words next to one another          text, with phrase_matching=True
    near            {"lat": 52.5, "lon": 13.4, "km": 5} or "m": closer     geo
    box             {"north": 53, "west": 13, "south": 52, "east": 14}     geo
    nested          a filter that one object of a list fulfils alone       of the fields within: objects[].label
    count           a number, or limits, of the values in a list           of the field, any kind
    None, is_empty  not there, null or []; False: a value, if only [None]  of the field, any kind
    is_null         null, or a list with a null in it; not where the       of the field, any kind
                    field is not there. False: the opposite

    key             the entry holds where
    "not": {…}      the filter does not hold
    "any": [{…}]    at least one of the filters holds
    "all": [{…}]    all of them do: for two conditions on one field
    "$id"           the point's id is this (eq), one of these (in), or not (ne, not_in)
    "$has_vector"   the point has the vector of this name; the same operators

A field that is a list holds an operator where one of its values does; `ne`, `not_in` and "not" hold where none does.
Two operators of one field may be held by two of its values, the limits of a range by one only.

Fields are named by their path: `exif.camera`, `objects[].label`, `objects[0].label`. A name that is one of the keys
above, or has a dot or a bracket, stands in double quotes: {'"any"': 3}, {'exif."f.number"': 2.8}.

Integers match integers only: give 1.0, or a range, for a field of floats. A date is its midnight, in UTC where no zone
is given, so a whole day is {"gte": date(2024, 5, 1), "lt": date(2024, 5, 2)}; text that looks like a date is one in a
range, and text in `eq`. Words are compared without case, and end where letters and digits do, unless a text index says
otherwise. A filter without an index reads every payload, and finds the same; only an index of another kind than the
values, or a text index without phrase_matching, hides them.

An expression (`filter_expression`) says the same in a line: `year >= 2023 and category in [cat, dog]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from clip_qdrant.errors import FilterError
from clip_qdrant.storage.filter_expression import parse
from clip_qdrant.storage.filter_fields import MAX_DEPTH, field_conditions, point_conditions
from clip_qdrant.storage.filter_values import shown

if TYPE_CHECKING:
    from qdrant_client import models

    Where: TypeAlias = Mapping[str, Any] | str | models.Filter
    """A mapping, an expression, or a Qdrant filter."""


def to_filter(where: Where | None) -> models.Filter | None:
    """A Qdrant filter for what was asked, or None where nothing was.

    Raises:
        FilterError: an operator or a value that cannot be used; the message names the field and what it may be.
    """
    from qdrant_client import models

    if where is None:
        return None
    if isinstance(where, models.Filter):
        return where if any(clause for _, clause in where) else None
    if isinstance(where, str):
        where = parse(where)
    if not isinstance(where, Mapping):
        raise FilterError(f"A filter is a mapping, an expression or a Qdrant Filter, got {shown(where)}.")
    return _all_of(where, "", 0, None) if where else None


def _all_of(where: Any, place: str, depth: int, nested: str | None) -> models.Filter:
    """The filter of a mapping.

    Args:
        where: the mapping.
        place: what it stands under, for messages.
        depth: of filters around it.
        nested: the field whose objects it is about.
    """
    from qdrant_client import models

    if depth > MAX_DEPTH:
        raise FilterError(
            f"The filter nests deeper than {MAX_DEPTH} levels. Make it flatter: 'any', 'all' and 'in' take long lists."
        )
    if not isinstance(where, Mapping) or not where:
        raise FilterError(f"{place} must be a mapping with at least one entry, got {shown(where)}.")
    must: list[Any] = []
    must_not: list[Any] = []
    for key, value in where.items():
        if key == "not":
            must_not.append(_part(_all_of(value, "The filter of 'not'", depth + 1, nested)))
        elif key in ("any", "all"):
            parts = [_part(_all_of(part, f"A filter in {key!r}", depth + 1, nested)) for part in _filters(key, value)]
            must.append(models.Filter(should=parts) if key == "any" else models.Filter(must=parts))
        else:
            conditions = _entry(key, value, depth, nested)
            must += conditions[0]
            must_not += conditions[1]
    return models.Filter(must=must or None, must_not=must_not or None)


def _part(part: models.Filter) -> Any:
    """A filter within a filter: where it is but one condition, that condition."""
    return part.must[0] if isinstance(part.must, list) and len(part.must) == 1 and not part.must_not else part


def _filters(key: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise FilterError(f"{key!r} takes a list of filters with at least one in it, got {shown(value)}.")
    return value


def _entry(key: Any, value: Any, depth: int, nested: str | None) -> tuple[list[Any], list[Any]]:
    if not isinstance(key, str) or not key:
        raise FilterError(f"The name of a field is text of at least one character, got {shown(key)}.")
    if key in ("$id", "$has_vector"):
        if nested is not None:
            raise FilterError(f"{key} is about a point, not about an object in {nested!r}. Move it out of 'nested'.")
        return point_conditions(key, value)
    return field_conditions(
        key, value, lambda field, inner: _all_of(inner, f"Field {field!r}: the filter of nested", depth + 1, field)
    )
