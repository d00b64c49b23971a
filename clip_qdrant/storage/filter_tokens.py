"""The words, numbers and signs of a filter expression."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

from clip_qdrant.errors import FilterError
from clip_qdrant.storage.filter_values import read_moment, shown

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<uuid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?![\w-])
      | (?P<date>\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?)(?![\w-])
      | (?P<distance>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\s*k?m)(?!\w)
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<sign>==|!=|>=|<=|=|>|<|\(|\)|\[|\]|,)
      | (?P<word>in(?=\[)|(?:[^\W\d]|\$)(?:[\w./:-]|\[\d*\])*)
    )""",
    re.VERBOSE | re.DOTALL,
)
KEYWORDS = ("and", "or", "not", "in", "is", "null", "contains")


class Tokens:
    """The tokens of an expression, as (kind, text) pairs, and a place among them.

    Raises:
        FilterError: a part of the expression is no token; the message says where.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._starts: list[int] = []
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        position, end = 0, len(expression.rstrip())
        while position < end:
            match = _TOKEN.match(expression, position)
            if match is None or match.lastgroup is None:
                raise FilterError(
                    f"The filter {shown(expression)} cannot be read from {shown(expression[position:].strip())} on. "
                    'Write for example: year >= 2023 and category in ["cat", "dog"]'
                )
            self._starts.append(match.start(match.lastgroup))
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    def peek(self) -> tuple[str, str] | None:
        """The next token, or None at the end."""
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self, *wanted: str) -> str | None:
        """The next token, if it is one of these signs or words."""
        token = self.peek()
        if token is None or token[0] not in ("sign", "word") or token[1] not in wanted:
            return None
        self._at += 1
        return token[1]

    def take_kind(self, *kinds: str) -> str | None:
        """The next token, if it is of one of these kinds."""
        token = self.peek()
        if token is None or token[0] not in kinds:
            return None
        self._at += 1
        return token[1]

    def expect(self, *wanted: str) -> str:
        """The next token, which must be one of these signs or words."""
        found = self.take(*wanted)
        if found is None:
            raise self.error(" or ".join(map(repr, wanted)))
        return found

    def field(self) -> tuple[str, bool]:
        """The name of a field, and whether it stood in quotes."""
        token = self.peek()
        if token is None or token[0] not in ("word", "text") or token[1] in KEYWORDS:
            raise self.error("the name of a field")
        self._at += 1
        return (_unquote(token[1]), True) if token[0] == "text" else (token[1], False)

    def value(self) -> Any:
        """A text, number, truth or date."""
        token = self.peek()
        if token is None or token[0] in ("sign", "distance") or (token[0] == "word" and token[1] in KEYWORDS):
            raise self.error("a value")
        kind, text = token
        if kind == "number":
            return self.number()
        if kind == "date":
            return self._date(text)
        self._at += 1
        return _unquote(text) if kind == "text" else {"true": True, "false": False}.get(text, text)

    def number(self) -> int | float:
        """A number."""
        token = self.peek()
        whole = token is not None and not re.search(r"[.eE]", token[1])
        if token is None or token[0] != "number" or (whole and len(token[1]) > 20):
            raise self.error("a number (integers of 64 bits)")
        self._at += 1
        return int(token[1]) if whole else float(token[1])

    def _date(self, text: str) -> date | datetime:
        moment = read_moment(text)
        if moment is None:
            raise self.error("a date of the calendar, as in 2024-05-01 or 2024-05-01T12:00:00Z,")
        self._at += 1
        return moment

    def error(self, wanted: str) -> FilterError:
        """What to raise where the next token should be something else."""
        rest = self.expression[self._starts[self._at] :] if self._at < len(self._starts) else ""
        found = shown(rest) if rest else "its end"
        return FilterError(f"The filter {shown(self.expression)} needs {wanted} where it has {found}.")


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
