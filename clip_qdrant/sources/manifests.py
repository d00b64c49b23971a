"""The pictures that a manifest lists, with its captions, as records."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.sources.metadata import CAPTION_KEYS, split_captions, to_metadata, with_captions
from clip_qdrant.sources.paths import ImageFolder
from clip_qdrant.sources.pictures import picture_record
from clip_qdrant.sources.problems import OnProblem, Problem, log_problem
from clip_qdrant.sources.rows import TABLES, Row, read_rows
from clip_qdrant.types import Record

IMAGE_COLUMNS = ("image", "image_path", "file", "file_name", "filename", "file_path", "path")
"""Where a picture's path is looked for: the first of these columns that there is."""

_LOOKED_AT = 100
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)\.\d+([eE][+-]?\d+)?", re.ASCII)
_TRUTH = {"true": True, "True": True, "false": False, "False": False}


def records_from(
    manifest: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    scope: str = "",
    exif: bool = True,
    typed: bool = True,
    allow_outside: bool = False,
    on_problem: OnProblem = log_problem,
) -> Iterator[Record]:
    """The pictures of a manifest, in its order; CSV and JSONL are read row by row, however many there are.

    A manifest is a .csv or .tsv table, .jsonl lines, or a .json of a list of objects or of COCO captions (see `rows`).
    One column is the path of the picture, one its caption, or in JSON a list of captions; all others are metadata (see
    `to_metadata`), beside what the file says itself, and before it. Of several captions, and of rows that follow each
    other with the same picture, the first is the record's text and all are in its metadata as `captions`.

    A picture that is not there is a record too: the one who opens it says so.

    Args:
        manifest: the file.
        images: the folder that its paths start from; the manifest's own if not given.
        image_column: where the path stands; the first of `IMAGE_COLUMNS` if not given.
        caption_column: where the caption stands; if not given, the first of `CAPTION_KEYS` that holds anything.
        scope: of the records (see `Record`).
        exif: open each picture for what it says of itself (see `read_exif`).
        typed: read a table's cells as numbers (12, -3.5), and as true or false; 007, 1e5 and 2024-01-31 stay text. A
            column of codes that may look like numbers is better read without. JSON has types of its own.
        allow_outside: take paths that lead out of the folder (../, or absolute), too: only for manifests you trust.
        on_problem: called with each row that cannot be used, which is left out; logs a warning if not given.

    Raises:
        ConfigError: it cannot be read as a manifest, or lacks a column; the message names those that there are. Raised
            at the call where the first hundred rows show it; a JSONL or a table that breaks off later raises there.
    """
    path = Path(manifest).expanduser().absolute()
    root = path.parent if images is None else Path(images).expanduser().absolute()
    if not root.is_dir():
        raise ConfigError(f"There is no folder {str(root)!r} with the images of {str(manifest)!r}. Check the path.")
    rows = read_rows(path)
    first = list(islice(rows, _LOOKED_AT))
    there = list(dict.fromkeys(name for row in first if isinstance(row, Row) for name in row.values))
    columns = _Columns(
        image=_find(path, IMAGE_COLUMNS if image_column is None else (image_column,), there, "image_column"),
        captions=CAPTION_KEYS if caption_column is None else (caption_column,),
        typed=typed and path.suffix.lower() in TABLES,
    )
    if caption_column is not None:
        _find(path, (caption_column,), there, "caption_column")
    entries = _entries(chain(first, rows), columns, ImageFolder(root, allow_outside), on_problem)
    together = groupby(entries, key=lambda entry: entry.path)
    return (_record(path, list(same), root, scope, exif) for path, same in together)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column is what, and whether cells are read as numbers."""

    image: str
    captions: tuple[str, ...]
    typed: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one row says."""

    path: Path
    captions: list[str]
    metadata: dict[str, Any]


def _find(manifest: Path, wanted: tuple[str, ...], there: list[str], argument: str) -> str:
    """The first of the wanted columns that is there; any, where there is no row to tell."""
    found = next((name for name in wanted if name in there), None if there else wanted[0])
    if found is None:
        raise ConfigError(
            f"The manifest {str(manifest)!r} has no column {' or '.join(map(repr, wanted))}. It has {there}. "
            f"Name the right one as {argument}."
        )
    return found


def _entries(
    rows: Iterable[Row | Problem], columns: _Columns, folder: ImageFolder, on_problem: OnProblem
) -> Iterator[_Entry]:
    for row in rows:
        if isinstance(row, Problem):
            on_problem(row)
            continue
        try:
            yield _entry(row.values, columns, folder)
        except ValueError as error:
            on_problem(Problem(row.place, f"{error}. The row is left out."))


def _entry(values: dict[str, Any], columns: _Columns, folder: ImageFolder) -> _Entry:
    if columns.image not in values:
        raise ValueError(f"it has no {columns.image!r}, only {list(values)}")
    path = folder.path_of(values[columns.image])
    captions, rest = split_captions({key: values[key] for key in values if key != columns.image}, columns.captions)
    if columns.typed:
        rest = {key: _typed(cell) for key, cell in rest.items()}
    return _Entry(path, captions, to_metadata(rest))


def _record(path: Path, entries: list[_Entry], root: Path, scope: str, exif: bool) -> Record:
    captions = [caption for entry in entries for caption in entry.captions]
    metadata = {key: value for entry in reversed(entries) for key, value in entry.metadata.items()}
    text, written = with_captions(metadata, captions)
    return picture_record(path, root, scope=scope, exif=exif, text=text, written=written)


def _typed(cell: str) -> str | int | float | bool:
    cell = cell.strip()
    if _INTEGER.fullmatch(cell) and -(2**63) <= int(cell) < 2**63:
        return int(cell)
    if _DECIMAL.fullmatch(cell):
        return float(cell)
    return _TRUTH.get(cell, cell)
