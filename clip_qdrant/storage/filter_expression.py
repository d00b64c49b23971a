"""A filter in one line, for a command line: `year >= 2023 and not kind in [cat, dog]`.

    expression                                     the mapping's operators (see `filters`)
    year == 2023    year != 2023                   eq, ne; = is the same as ==
    year >= 2023    < <= >                         gte, lt, lte, gt
    kind in [cat, "big dog"]    kind not in […]    in, not_in
    path prefix "2024/"                            prefix; so too: substring, text, text_any, phrase
    caption contains "brown bear"                  text
    camera is empty    camera is not empty         is_empty
    camera is null    camera is not null           is_null: a stored null, so seldom what is meant
    tags count >= 2                                count
    location within 5 km of (52.5, 13.4)           near, latitude first; or 300 m
    location within box (north 53, west 13, south 52, east 14)
    objects[label == cat and score >= 0.5]         nested: both hold for one object
    $id in [1, 2]    $has_vector == text           of the point
    a and b    a or b    not a    (a or b)         all, any, not; "not" binds closest, then "and"

Values are numbers, true, false, dates (2024-05-01, 2024-05-01T12:00:00Z) and text, in "quotes", 'quotes' or none where
it is a word. A backslash in quotes takes the next character as it is. A field's name in quotes may be any path, and is
never one of the words above: "is" == 3, "$id" == 3.

    expression = term ("or" term)*         term = factor ("and" factor)*
    factor     = "not" factor | "(" expression ")" | field comparison
"""

from __future__ import annotations

from typing import Any

from clip_qdrant.errors import FilterError
from clip_qdrant.storage.filter_fields import MAX_DEPTH, TEXT_OPERATORS
from clip_qdrant.storage.filter_paths import RESERVED
from clip_qdrant.storage.filter_tokens import Tokens

_SIGNS = {"==": "eq", "=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_TEXTS = {**{name: name for name in TEXT_OPERATORS}, "contains": "text"}
_COUNTS = {sign: name for sign, name in _SIGNS.items() if name != "ne"}
_COMPARISONS = ", ".join([*_SIGNS, "in", "not in", "is empty", "is null", *_TEXTS, "count", "within", "[…]"])
_SIDES = ("north", "west", "south", "east")


def parse(expression: str) -> dict[str, Any]:
    """The mapping (see `filters`) that an expression stands for; {} for an empty one.

    Raises:
        FilterError: it cannot be read; the message says where.
    """
    tokens = Tokens(expression)
    if tokens.peek() is None:
        return {}
    result = _expression(tokens, 0)
    if tokens.peek() is not None:
        raise tokens.error("'and', 'or' or the end")
    return result


def _expression(tokens: Tokens, depth: int) -> dict[str, Any]:
    parts = [_term(tokens, depth)]
    while tokens.take("or"):
        parts.append(_term(tokens, depth))
    return parts[0] if len(parts) == 1 else {"any": parts}


def _term(tokens: Tokens, depth: int) -> dict[str, Any]:
    parts = [_factor(tokens, depth)]
    while tokens.take("and"):
        parts.append(_factor(tokens, depth))
    return parts[0] if len(parts) == 1 else {"all": parts}


def _factor(tokens: Tokens, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise FilterError(f"The filter nests deeper than {MAX_DEPTH} levels. Write it with fewer brackets and 'not's.")
    if tokens.take("not"):
        return {"not": _factor(tokens, depth + 1)}
    if tokens.take("("):
        inner = _expression(tokens, depth + 1)
        tokens.expect(")")
        return inner
    name, quoted = tokens.field()
    if name in (RESERVED if quoted else ("any", "all")):
        name = f'"{name}"'  # a field of that name, not the key of the mapping
    if tokens.take("["):
        inner = _expression(tokens, depth + 1)
        tokens.expect("]")
        return {name: {"nested": inner}}
    return {name: _comparison(tokens)}


def _comparison(tokens: Tokens) -> dict[str, Any]:
    """The operator of a field and its operand."""
    word = tokens.take(*_SIGNS, *_TEXTS, "is", "in", "not", "count", "within")
    if word in _SIGNS:
        return {_SIGNS[word]: tokens.value()}
    if word in _TEXTS:
        return {_TEXTS[word]: tokens.value()}
    if word == "is":
        negated = tokens.take("not") is not None
        return {f"is_{tokens.expect('empty', 'null')}": not negated}
    if word == "count":
        return {"count": {_COUNTS[tokens.expect(*_COUNTS)]: tokens.number()}}
    if word == "within":
        return _place(tokens)
    if word == "not":
        tokens.expect("in")
    elif word is None:
        raise tokens.error(f"a comparison ({_COMPARISONS})")
    return {"not_in" if word == "not" else "in": _list(tokens)}


def _list(tokens: Tokens) -> list[Any]:
    tokens.expect("[")
    values = [tokens.value()]
    while tokens.take(","):
        values.append(tokens.value())
    tokens.expect("]")
    return values


def _place(tokens: Tokens) -> dict[str, Any]:
    if tokens.take("box"):
        tokens.expect("(")
        box: dict[str, float] = {}
        while len(box) < len(_SIDES):
            if box:
                tokens.expect(",")
            side = tokens.expect(*(side for side in _SIDES if side not in box))
            box[side] = tokens.number()
        tokens.expect(")")
        return {"box": box}
    distance = tokens.take_kind("distance")
    if distance is None:
        raise tokens.error("a distance, as in 5 km or 300 m, or 'box'")
    unit = "km" if distance.endswith("km") else "m"
    radius = float(distance.removesuffix(unit))
    tokens.expect("of")
    tokens.expect("(")
    lat = tokens.number()
    tokens.expect(",")
    lon = tokens.number()
    tokens.expect(")")
    return {"near": {"lat": lat, "lon": lon, unit: radius}}
