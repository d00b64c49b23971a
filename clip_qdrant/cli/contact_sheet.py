"""Queries and what was found for them, as one picture: the query on the left, pictures with scores on the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from clip_qdrant.errors import ImageError
from clip_qdrant.images import open_image

if TYPE_CHECKING:
    from clip_qdrant.cli.demo import Row

TILE, GAP, LEFT, LINE = 112, 16, 250, 24
_INK, _FAINT, _PAPER = "#202124", "#80868b", "white"


def contact_sheet(rows: Sequence[Row], *, columns: int = 8, footer: str = "") -> Image.Image:
    """An RGB image with a line for each row; hits whose picture cannot be opened leave a gap."""
    height = TILE + LINE + GAP
    size = (LEFT + columns * (TILE + GAP) + GAP, GAP + len(rows) * height + (2 * LINE if footer else 0))
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = GAP + number * height
        _query(sheet, pen, row, top)
        for column, hit in enumerate(row.hits[:columns]):
            left = LEFT + column * (TILE + GAP)
            if hit.source is not None:
                _paste(sheet, Path(hit.source), (left, top), TILE)
            pen.text((left + TILE / 2, top + TILE + 2), f"{hit.score:.2f}", _FAINT, _font(16), anchor="ma")
        if number:
            pen.line((GAP, top - GAP / 2, size[0] - GAP, top - GAP / 2), "#e8eaed")
    if footer:
        pen.text((GAP, size[1] - LINE - GAP / 2), footer, _FAINT, _font(16))
    return sheet


def _query(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    lines = wrap(row.name, width=22)
    if row.picture is None:
        pen.multiline_text((GAP, top + TILE / 2), "\n".join(lines), _INK, _font(20), anchor="lm")
        return
    _paste(sheet, row.picture, (GAP, top), TILE - LINE)
    pen.multiline_text((GAP, top + TILE - LINE + 4), "\n".join(lines), _INK, _font(20))


def _paste(sheet: Image.Image, path: Path, corner: tuple[int, int], side: int) -> None:
    try:
        picture = open_image(path, min_side=side)
    except ImageError:
        return  # moved or changed since it was indexed: the search was not wrong, there is only nothing to show
    picture.thumbnail((side, side))
    sheet.paste(picture, (corner[0] + (side - picture.width) // 2, corner[1] + (side - picture.height) // 2))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
