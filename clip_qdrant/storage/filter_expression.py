"""A filter in one line, for a command line: `year >= 2023 and not kind in ["cat", "dog"]`.

expression = term ("or" term)*         term = factor ("and" factor)*
factor     = "not" factor | "(" expression ")" | comparison
comparison = field ("==" | "=" | "!=" | ">" | ">=" | "<" | "<=" | "contains") value
           | field ["not"] "in" "[" value ("," value)* "]"
           | field "is" ["not"] "null"
value      = number | true | false | 2024-05-01 | 2024-05-01T12:00:00Z | "text" | 'text' | word
"""

from __future__ import annotations

import re
from typing import Any

from clip_qdrant.errors import FilterError

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<date>\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?)(?![\w-])
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<sign>==|!=|>=|<=|=|>|<|\(|\)|\[|\]|,)
      | (?P<word>[^\W\d](?:[\w./:-]|\[\])*)
    )""",
    re.VERBOSE,
)
_COMPARISONS = {"==": "eq", "=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte", "contains": "text"}
_KEYWORDS = ("and", "or", "not", "in", "is", "null", "contains")
_DEPTH = 50


def parse(expression: str) -> dict[str, Any]:
    """The mapping (see `filters`) that an expression stands for; {} for an empty one.

    Raises:
        FilterError: it cannot be read; the message says where.
    """
    tokens = _Tokens(expression)
    if tokens.peek() is None:
        return {}
    result = _expression(tokens, 0)
    if tokens.peek() is not None:
        raise tokens.error("'and', 'or' or the end")
    return result


class _Tokens:
    """The tokens of an expression, as (kind, text) pairs, and a place among them."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.starts: list[int] = []
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        position, end = 0, len(expression.rstrip())
        while position < end:
            match = _TOKEN.match(expression, position)
            if match is None or match.lastgroup is None:
                raise FilterError(
                    f"The filter {expression!r} cannot be read from {expression[position:].strip()!r} on. "
                    'Write for example: year >= 2023 and category in ["cat", "dog"]'
                )
            self.starts.append(match.start(match.lastgroup))
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    def peek(self) -> tuple[str, str] | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, *wanted: str) -> str | None:
        """The next token, if it is one of these signs or words."""
        token = self.peek()
        if token is None or token[0] not in ("sign", "word") or token[1] not in wanted:
            return None
        self.at += 1
        return token[1]

    def expect(self, sign: str) -> None:
        if self.take(sign) is None:
            raise self.error(repr(sign))

    def error(self, wanted: str) -> FilterError:
        rest = self.expression[self.starts[self.at] :] if self.at < len(self.starts) else ""
        found = f"{rest!r}" if rest else "its end"
        return FilterError(f"The filter {self.expression!r} needs {wanted} where it has {found}.")


def _expression(tokens: _Tokens, depth: int) -> dict[str, Any]:
    parts = [_term(tokens, depth)]
    while tokens.take("or"):
        parts.append(_term(tokens, depth))
    return parts[0] if len(parts) == 1 else {"any": parts}


def _term(tokens: _Tokens, depth: int) -> dict[str, Any]:
    parts = [_factor(tokens, depth)]
    while tokens.take("and"):
        parts.append(_factor(tokens, depth))
    return parts[0] if len(parts) == 1 else {"all": parts}


def _factor(tokens: _Tokens, depth: int) -> dict[str, Any]:
    if depth > _DEPTH:
        raise FilterError(f"The filter nests deeper than {_DEPTH} levels. Write it as a mapping.")
    if tokens.take("not"):
        return {"not": _factor(tokens, depth + 1)}
    if tokens.take("("):
        inner = _expression(tokens, depth + 1)
        tokens.expect(")")
        return inner
    return _comparison(tokens)


def _comparison(tokens: _Tokens) -> dict[str, Any]:
    token = tokens.peek()
    if token is None or token[0] not in ("word", "text") or token[1] in _KEYWORDS:
        raise tokens.error("the name of a field")
    tokens.at += 1
    field = _unquote(token[1]) if token[0] == "text" else token[1]
    sign = tokens.take(*_COMPARISONS)
    if sign is not None:
        return {field: {_COMPARISONS[sign]: _value(tokens)}}
    if tokens.take("is"):
        negated = tokens.take("not") is not None
        tokens.expect("null")
        return {field: {"is_null": not negated}}
    negated = tokens.take("not") is not None
    if tokens.take("in") is None:
        raise tokens.error("a comparison (==, !=, <, <=, >, >=, in, contains, is null)")
    tokens.expect("[")
    values = [_value(tokens)]
    while tokens.take(","):
        values.append(_value(tokens))
    tokens.expect("]")
    return {field: {"not_in" if negated else "in": values}}


def _value(tokens: _Tokens) -> Any:
    token = tokens.peek()
    if token is None or token[0] == "sign" or (token[0] == "word" and token[1] in _KEYWORDS):
        raise tokens.error("a value")
    tokens.at += 1
    kind, text = token
    if kind == "number":
        return float(text) if re.search(r"[.eE]", text) else int(text)
    if kind == "text":
        return _unquote(text)
    return {"true": True, "false": False}.get(text, text)


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
