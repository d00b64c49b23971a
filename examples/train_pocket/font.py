"""The emoji of a font without colours, drawn as black line art: one more style of the same concepts."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from concepts import Concept
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONT = "noto-emoji-font"
_FOLDER = "node_modules/@fontsource/noto-emoji/files"


def draw_glyphs(data: Path, concepts: list[Concept], side: int) -> dict[str, NDArray[np.uint8]]:
    """The pictures by concept key of what is one code point, uint8 RGBA (side, side, 4).

    Args:
        data: the folder npm installed into; holds `@fontsource/noto-emoji`, in files of a few code points each.
        concepts: what to draw; what the font does not have is left out.
        side: in pixels.
    """
    from fontTools.ttLib import TTFont

    single = {int(concept.key, 16): concept.key for concept in concepts if re.fullmatch(r"[0-9a-f]+", concept.key)}
    drawn = {}
    for path in sorted((data / _FOLDER).glob("*-400-normal.woff")):
        font = TTFont(path)
        known = set(font.getBestCmap()) & set(single)
        if known:
            font.flavor = None
            plain = io.BytesIO()
            font.save(plain)
            drawing = ImageFont.truetype(io.BytesIO(plain.getvalue()), 4 * side)
            drawn |= {single[point]: _draw(drawing, chr(point), side) for point in sorted(known)}
    return drawn


def _draw(font: ImageFont.FreeTypeFont, text: str, side: int) -> NDArray[np.uint8]:
    left, top, right, bottom = font.getbbox(text)
    width, height = right - left, bottom - top
    size = max(width, height, 1)
    ink = Image.new("L", (size, size))
    ImageDraw.Draw(ink).text(((size - width) // 2 - left, (size - height) // 2 - top), text, font=font, fill=255)
    alpha = np.asarray(ink.resize((side, side), Image.Resampling.LANCZOS))
    return np.dstack([np.zeros((side, side, 3), dtype=np.uint8), alpha])
