"""Captions and metadata in a file beside the picture.

Of `bear.jpg` they are, and count in this order:

    bear.jpg.json   bear.jpg.txt   bear.json   bear.txt

A .txt is the caption, as UTF-8. A .json is an object with the caption under `caption`, `captions`, `text` or
`description`, a text or a list of texts; its other keys are metadata (see `to_metadata`; a nested value is left out).
The first file that has a caption gives it, and of metadata the first that has the key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clip_qdrant.errors import ImageError
from clip_qdrant.images.sources import open_encoded
from clip_qdrant.sources.metadata import split_captions, to_metadata, with_captions
from clip_qdrant.sources.problems import OnProblem, Problem, log_problem

MAX_BYTES: Final = 1 << 20
"""Of a sidecar: no caption is longer, and a text file of that name that is has another purpose."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What stands beside a picture: its caption, or None, and metadata."""

    text: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def read_sidecars(
    picture: Path, *, names: Collection[str] | None = None, on_problem: OnProblem = log_problem
) -> Sidecar:
    """What the files beside a picture say of it.

    A file that cannot be used (too large, not UTF-8, not a JSON object, a caption that is no text) is handed to
    `on_problem` and left out: the picture is a record without it.

    Args:
        picture: the picture's path.
        names: the files of its folder, where they are known already.
        on_problem: called with each file that cannot be used.
    """
    captions: list[str] = []
    metadata: dict[str, Any] = {}
    for name in _candidates(picture.name):
        if name not in names if names is not None else not os.path.lexists(picture.with_name(name)):
            continue
        try:
            found, values = _read(picture.with_name(name))
        except _UnusableSidecar as error:
            on_problem(Problem(str(picture.with_name(name)), f"{error}. The picture goes in without it."))
            continue
        captions = captions or found
        metadata = values | metadata
    return Sidecar(*with_captions(metadata, captions))


class _UnusableSidecar(Exception):
    """The reason why, for a `Problem`."""


def _candidates(name: str) -> list[str]:
    stem = os.path.splitext(name)[0]
    return [f"{name}.json", f"{name}.txt", f"{stem}.json", f"{stem}.txt"]


def _read(path: Path) -> tuple[list[str], dict[str, Any]]:
    text = _text(path)
    if path.suffix == ".json":
        return _parse(text)
    # Labels of a detector (class and box, in numbers) bear the same name; a caption has a letter.
    return ([text.strip()] if any(character.isalpha() for character in text) else []), {}


def _text(path: Path) -> str:
    try:
        with open_encoded(path) as file:
            data = file.read(MAX_BYTES + 1)
    except ImageError as error:
        raise _UnusableSidecar(error.reason) from error
    except OSError as error:
        raise _UnusableSidecar(f"reading it failed: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise _UnusableSidecar(f"it has more than {MAX_BYTES:,} bytes, which is no caption")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnusableSidecar(f"it is not UTF-8 at byte {error.start:,}. Save it as UTF-8") from error


def _parse(text: str) -> tuple[list[str], dict[str, Any]]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _UnusableSidecar(f"it is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise _UnusableSidecar(f'it is a JSON {type(values).__name__}, not an object such as {{"caption": "a bear"}}')
    try:
        captions, rest = split_captions(values)
    except ValueError as error:
        raise _UnusableSidecar(str(error)) from error
    return captions, to_metadata(rest)
