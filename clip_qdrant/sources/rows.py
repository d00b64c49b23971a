"""The rows of a manifest, of whatever format, each with the place where it stands.

    .csv .tsv        a table with a header; of comma, semicolon and tab the delimiter is what the header has most of
    .jsonl .ndjson   an object a line
    .json            a list of objects, or COCO captions: {"images": [...], "annotations": [...]}

Tables and lines are read as they are asked for, whatever their number; a .json is one value, and read as a whole.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from clip_qdrant.errors import ConfigError
from clip_qdrant.sources.metadata import is_text
from clip_qdrant.sources.problems import Problem

TABLES: Final = (".csv", ".tsv")
FORMATS: Final = (".json", ".jsonl", ".ndjson", *TABLES)
MAX_LINE: Final = 1 << 24
"""Characters of a line; a file with a longer one is no manifest."""
_NOT_UTF8 = "it is not UTF-8. Save the manifest as UTF-8"


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        place: the manifest's name, and the line or entry.
        values: what it says, by column; all text where it comes out of a table.
    """

    place: str
    values: dict[str, Any]


def read_rows(manifest: Path) -> Iterator[Row | Problem]:
    """The rows in their order; a row that cannot be read is a Problem, and the next one follows.

    Raises:
        ConfigError: it cannot be read as a manifest at all; with the line where there is one.
    """
    suffix = manifest.suffix.lower()
    if suffix == ".json":
        return _json_rows(manifest)
    if suffix not in FORMATS:
        raise ConfigError(f"The manifest {str(manifest)!r} is of no known format. Name it {', '.join(FORMATS)}.")
    return _text_rows(manifest, suffix)


def _text_rows(manifest: Path, suffix: str) -> Iterator[Row | Problem]:
    # What is not UTF-8 becomes surrogates, which is_text finds, so that it costs one row and not the file.
    try:
        with open(manifest, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = _lines(file, manifest)
            yield from _table_rows(lines, manifest) if suffix in TABLES else _line_rows(lines, manifest)
    except OSError as error:
        raise _unreadable(manifest, error) from error


def _lines(file: TextIO, manifest: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise ConfigError(f"{_line(manifest, number)} has more than {MAX_LINE:,} characters: this is no manifest.")
        yield line


def _line_rows(lines: Iterator[str], manifest: Path) -> Iterator[Row | Problem]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _line_row(line, _line(manifest, number))


def _line_row(line: str, place: str) -> Row | Problem:
    if not is_text(line):
        return Problem(place, _NOT_UTF8)
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Problem(place, f"it is not JSON: {error}")
    return _object_row(values, place)


def _object_row(values: Any, place: str) -> Row | Problem:
    if not isinstance(values, dict):
        return Problem(place, f"it is a JSON {type(values).__name__}, not an object")
    return Row(place, values)


def _table_rows(lines: Iterator[str], manifest: Path) -> Iterator[Row | Problem]:
    header = next(lines, "")
    columns, delimiter = _header(header, manifest)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        place = _line(manifest, reader.line_num + 2)
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(place, f"it is not CSV: {error}")
            continue
        if not all(map(is_text, cells)):
            yield Problem(place, _NOT_UTF8)
        elif cells and len(cells) != len(columns):
            yield Problem(place, f"it has {len(cells)} cells, and the header has {len(columns)} columns")
        elif cells:
            yield Row(place, dict(zip(columns, cells, strict=True)))


def _header(line: str, manifest: Path) -> tuple[list[str], str]:
    delimiter = max(",;\t", key=line.count)
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise ConfigError(f"The header of {str(manifest)!r} is not CSV: {error}.") from error
    columns = [name.strip() for name in cells]
    if not any(columns) or not is_text(line) or "\0" in line:
        raise ConfigError(f"{str(manifest)!r} has no header of column names, as UTF-8, in its first line.")
    double = sorted({name for name in columns if columns.count(name) > 1})
    if double:
        raise ConfigError(f"The header of {str(manifest)!r} has columns of the same name: {double}. Rename them.")
    return columns, delimiter


def _json_rows(manifest: Path) -> Iterator[Row | Problem]:
    try:
        content = json.loads(manifest.read_bytes())
    except OSError as error:
        raise _unreadable(manifest, error) from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{_line(manifest, error.lineno)} is not JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The manifest {str(manifest)!r} is not JSON: {error}.") from error
    if isinstance(content, list):
        return (_object_row(item, f"{manifest.name}, entry {number}") for number, item in enumerate(content, start=1))
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return _coco_rows(manifest, content["images"], content.get("annotations", []))
    raise ConfigError(
        f"The manifest {str(manifest)!r} is neither a list of objects nor COCO captions "
        '({"images": [...], "annotations": [...]}).'
    )


def _coco_rows(manifest: Path, images: list[Any], annotations: Any) -> Iterator[Row | Problem]:
    if not isinstance(annotations, list):
        raise ConfigError(f"The 'annotations' of {str(manifest)!r} are a {type(annotations).__name__}, not a list.")
    captions: dict[Any, list[Any]] = {}
    for annotation in annotations:
        if isinstance(annotation, dict) and isinstance(annotation.get("image_id"), (int, str)):
            captions.setdefault(annotation["image_id"], []).append(annotation.get("caption"))
    return _captioned(manifest, images, captions)


def _captioned(manifest: Path, images: list[Any], captions: dict[Any, list[Any]]) -> Iterator[Row | Problem]:
    for number, image in enumerate(images, start=1):
        row = _object_row(image, f"{manifest.name}, image {number}")
        if isinstance(row, Row):
            id = row.values.get("id")
            found = captions.pop(id, []) if isinstance(id, (int, str)) else []
            row = Row(row.place, row.values | {"captions": [text for text in found if text is not None]})
        yield row
    if captions:
        yield Problem(
            manifest.name, f"it has captions of {len(captions)} images that it does not list: {list(captions)[:3]}, …"
        )


def _line(manifest: Path, number: int) -> str:
    return f"{manifest.name}, line {number}"


def _unreadable(manifest: Path, error: OSError) -> ConfigError:
    return ConfigError(f"The manifest {str(manifest)!r} cannot be read: {error.strerror}. Check the path.")
