"""One picture of many answers: a row a query, the query on the left, what was found on the right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from clip_qdrant.errors import ConfigError

COLUMNS = 8
CELL, MARGIN, HEAD, LINE = 150, 16, 300, 24
"""In pixels: the side of an answer, the space around the rows, the width of the query, the height of a line."""
_ROW = CELL + LINE + MARGIN
_INK, _FAINT, _RULE = (20, 20, 20), (110, 110, 110), (215, 215, 215)


@dataclass(frozen=True, slots=True)
class Row:
    """A query and its answers.

    Attributes:
        title: the query in words.
        picture: the query as a picture, or None for a text.
        cells: the answers: a picture each (or None, for a label), what it is, and its score as text.
        note: how it was asked, in a few words.
    """

    title: str
    picture: Path | None
    cells: Sequence[tuple[Path | None, str, str]]
    note: str = ""


def size_of(rows: int) -> tuple[int, int]:
    """Width and height in pixels of a sheet with so many rows."""
    return 2 * MARGIN + HEAD + COLUMNS * CELL, 3 * MARGIN + rows * _ROW + 2 * LINE


def draw_sheet(rows: Sequence[Row], heading: str, footer: str) -> Image.Image:
    """The sheet; of each row's answers the first eight."""
    width, height = size_of(len(rows))
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), heading, _INK, ImageFont.load_default(20))
    draw.text((MARGIN, height - MARGIN - LINE / 2), footer, _FAINT, ImageFont.load_default(13), anchor="lm")
    for number, row in enumerate(rows):
        top = 2 * MARGIN + LINE + number * _ROW
        draw.line((MARGIN, top - MARGIN // 2, width - MARGIN, top - MARGIN // 2), _RULE)
        _draw_head(sheet, draw, row, top)
        for place, cell in enumerate(row.cells[:COLUMNS]):
            _draw_cell(sheet, draw, cell, MARGIN + HEAD + place * CELL, top)
    return sheet


def check_place(path: Path) -> None:
    """See to it that a file can be written there, before the work is done that it shall show.

    Raises:
        ConfigError: it is a folder, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise ConfigError(f"{str(path)!r} is a folder. Name the file for the sheet: {str(path / 'sheet.png')!r}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write {str(path)!r}: {error}.") from error
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"Cannot write {str(path)!r}: its folder may not be written to.")


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a PNG file, whole or not at all.

    Raises:
        ConfigError: as `check_place`.
    """
    check_place(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        sheet.save(unfinished, "PNG")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _draw_head(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    left, lines = MARGIN, wrap(row.title, 24)
    if row.picture is not None:
        _paste(sheet, row.picture, left, top, CELL)
        left, lines = left + CELL, wrap(row.title, 11)
    for number, line in enumerate(lines):
        draw.text((left, top + CELL / 3 + number * LINE), line, _INK, ImageFont.load_default(20))
    if row.note:
        draw.text((MARGIN, top + CELL + LINE / 2), row.note, _FAINT, ImageFont.load_default(14), anchor="lm")


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: tuple[Path | None, str, str], left: int, top: int
) -> None:
    path, name, score = cell
    middle = left + CELL / 2
    if path is not None:
        _paste(sheet, path, left, top, CELL)
        draw.text((middle, top + CELL + LINE / 2), score, _FAINT, ImageFont.load_default(15), anchor="mm")
        return
    draw.text((middle, top + CELL / 2 - LINE), name, _INK, ImageFont.load_default(18), anchor="mm")
    draw.text((middle, top + CELL / 2 + LINE / 2), score, _INK, ImageFont.load_default(26), anchor="mm")


def _paste(sheet: Image.Image, path: Path, left: int, top: int, side: int) -> None:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((side - MARGIN, side - MARGIN))
    sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
