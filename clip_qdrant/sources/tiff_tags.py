"""The few tags wanted of an EXIF block, read without Pillow's EXIF parser.

Pillow's parser warns about what it cannot read, and `warnings.catch_warnings` is not safe in threads. What is wanted
here are a dozen texts and numbers out of three directories, and a block that is broken simply has fewer of them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection
from typing import IO, TypeAlias

Value: TypeAlias = str | list[float]
"""A tag's text, or its numbers; a rational without a denominator is NaN."""

Tags: TypeAlias = dict[int, Value]

_LONGEST = 1000
"""Bytes of a value; a longer one is nothing that is wanted here, and not read."""
_NUMBERS = {1: "B", 3: "H", 4: "L", 13: "L", 5: "LL", 10: "ll"}
_TEXTS = (2, 129)


class TagReader:
    """Directories of tags in a TIFF structure: a TIFF file, or the EXIF block of another format.

    Args:
        file: seekable, where the structure begins at 0; it stays open.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        start = self._read(0, 8)
        self._endian = {b"II*\0": "<", b"MM\0*": ">"}.get(start[:4], "")
        self.first = struct.unpack(self._endian + "L", start[4:])[0] if self._endian and len(start) == 8 else 0
        """Where the first directory is; 0 where there is none."""

    def directory(self, offset: float, wanted: Collection[int]) -> Tags:
        """Of the directory there what is wanted of it; what is broken or cut short is left out."""
        if not offset >= 8:  # nor when it is NaN
            return {}
        at = int(offset)
        count = self._read(at, 2)
        if len(count) < 2:
            return {}
        entries = self._read(at + 2, 12 * struct.unpack(self._endian + "H", count)[0])
        tags: Tags = {}
        for tag, kind, length, place in struct.iter_unpack(self._endian + "HHL4s", entries[: len(entries) // 12 * 12]):
            if tag in wanted and (value := self._value(kind, length, place)) is not None:
                tags[tag] = value
        return tags

    def _value(self, kind: int, length: int, place: bytes) -> Value | None:
        form = self._endian + _NUMBERS.get(kind, "B")
        size = length * struct.calcsize(form)
        if not 0 < size <= _LONGEST or (kind not in _NUMBERS and kind not in _TEXTS):
            return None
        # A value of up to four bytes stands in the entry itself, a longer one where the entry says.
        data = place[:size] if size <= 4 else self._read(struct.unpack(self._endian + "L", place)[0], size)
        if len(data) < size:
            return None
        if kind in _TEXTS:
            return _text(data)
        numbers = struct.iter_unpack(form, data)
        return [_ratio(*number) if len(number) == 2 else number[0] for number in numbers]

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan


def _text(data: bytes) -> str:
    """Up to the first NUL, on one line; the standard says ASCII, and cameras write UTF-8 and Latin-1."""
    data = data.partition(b"\0")[0]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
