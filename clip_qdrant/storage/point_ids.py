"""The ids that people give for points, in the one spelling that Qdrant has."""

from __future__ import annotations

import operator
import uuid
from numbers import Integral
from typing import Any

_LARGEST = 2**64 - 1
_UUID_DIGITS = 32


def read_point_id(value: Any) -> int | str | None:
    """An unsigned 64-bit integer, or a UUID with hyphens; None for what is neither.

    `Hit.id` has integers as text of digits, and those are taken for them; 32 of them are a UUID.
    """
    if isinstance(value, str) and value.isdecimal() and len(value) < _UUID_DIGITS:
        value = int(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = operator.index(value)  # of numpy's, too
        return number if 0 <= number <= _LARGEST else None
    try:
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(value))
    except (ValueError, TypeError, AttributeError):  # what UUID raises for text that is none, and for what is no text
        return None
