"""Icon sets to arrays: find the icon of every concept, draw it once, keep it as uint8 RGBA."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
from concepts import Concept, plain_key
from font import FONT, draw_glyphs
from numpy.typing import NDArray
from PIL import Image

TRAIN_STYLES = ("noto", "twemoji", "fluent-emoji-flat", "fluent-emoji")
# These draw only some of the concepts.
MORE_STYLES = ("noto-v1", "fluent-emoji-high-contrast", "streamline-emojis", FONT)
UNSEEN_STYLES = ("openmoji", "emojione", "fxemoji")
# Sets without a table of code points, and the set whose table fits because the icon names are the same.
_SAME_NAMES = {"fluent-emoji": "fluent-emoji-flat"}
SIDE = 104


class IconSet:
    """One Iconify set: icon names by code points and by name, and the SVG of a name."""

    def __init__(self, data: Path, style: str) -> None:
        folder = data / "node_modules/@iconify-json"
        self._body = json.loads((folder / style / "icons.json").read_text(encoding="utf-8"))
        table = folder / _SAME_NAMES.get(style, style) / "chars.json"
        chars = json.loads(table.read_text(encoding="utf-8"))
        names = {*self._body["icons"], *self._body.get("aliases", {})}
        self._by_key = {plain_key(code): name for code, name in chars.items() if name in names}
        self._by_slug = {_slug(name): name for name in sorted(names)}

    def find(self, concept: Concept, other_names: tuple[str, ...] = ()) -> str | None:
        """The icon of a concept: by code points where the set has them, else by label or another exact name."""
        if concept.key in self._by_key:
            return self._by_key[concept.key]
        # Where the set names by code points, a shortcode that fits belongs to some other emoji.
        slugs = map(_slug, (concept.label,) if self._by_key else (concept.label, *other_names))
        return next((self._by_slug[slug] for slug in slugs if slug in self._by_slug), None)

    def svg(self, name: str) -> str:
        """The SVG document of an icon; an alias may turn or mirror its parent."""
        icons, aliases = self._body["icons"], self._body.get("aliases", {})
        turns, flips = 0, [False, False]
        while name not in icons:
            alias = aliases[name]
            turns += alias.get("rotate", 0)
            flips = [flips[0] ^ alias.get("hFlip", False), flips[1] ^ alias.get("vFlip", False)]
            name = alias["parent"]
        icon = icons[name]
        width, height = (icon.get(side, self._body.get(side, 16)) for side in ("width", "height"))
        left, top = icon.get("left", 0), icon.get("top", 0)
        body = icon["body"]
        if turns or any(flips):
            middle_x, middle_y = left + width / 2, top + height / 2
            scale = f"scale({-1 if flips[0] else 1} {-1 if flips[1] else 1})"
            move = f"translate({middle_x} {middle_y}) rotate({90 * turns}) {scale} translate({-middle_x} {-middle_y})"
            body = f'<g transform="{move}">{body}</g>'
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{body}</svg>'
        )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("&", "and"))


def other_names(data: Path) -> dict[str, tuple[str, ...]]:
    """Shortcodes by concept key: what the sets without code points may call an icon."""
    folder = data / "node_modules/emojibase-data/en/shortcodes"
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.json")):
        for code, names in json.loads(path.read_text(encoding="utf-8")).items():
            found.setdefault(plain_key(code), []).extend([names] if isinstance(names, str) else names)
    return {key: tuple(dict.fromkeys(names)) for key, names in found.items()}


def draw(svg: str, side: int = SIDE) -> NDArray[np.uint8]:
    """An SVG as (side, side, 4) uint8 RGBA, fitted into the square."""
    import resvg_py

    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, skip_system_fonts=True))))
    canvas = Image.new("RGBA", (side, side))
    picture.thumbnail((side, side))
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(canvas)


def load_art(data: Path, cache: Path, style: str, concepts: list[Concept]) -> dict[str, NDArray[np.uint8]]:
    """The pictures of one style by concept key; drawn once, then read from `cache`.

    The same icon is never given to two concepts: the first one, in order of keys, has it.
    """
    path = cache / f"{style}-{SIDE}.npz"
    if not path.exists():
        drawn = draw_glyphs(data, concepts, SIDE) if style == FONT else _draw_set(data, style, concepts)
        store(path, list(drawn), list(drawn.values()))
    keys, pictures = read(path)
    return dict(zip(keys, pictures, strict=True))


def _draw_set(data: Path, style: str, concepts: list[Concept]) -> dict[str, NDArray[np.uint8]]:
    icons, names = IconSet(data, style), other_names(data)
    taken: dict[str, str] = {}
    for concept in concepts:
        name = icons.find(concept, names.get(concept.key, ()))
        if name is not None:
            taken.setdefault(name, concept.key)
    return {key: draw(icons.svg(name)) for name, key in taken.items()}


def store(path: Path, names: list[str], pictures: list[NDArray[np.uint8]]) -> None:
    """Keep drawn pictures; a kill while writing leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, keys=np.array(names), pictures=np.stack(pictures))
    part.replace(path)


def read(path: Path) -> tuple[list[str], NDArray[np.uint8]]:
    """What `store` kept: names and pictures, uint8 RGBA (n, side, side, 4)."""
    with np.load(path) as stored:
        return stored["keys"].tolist(), stored["pictures"]


def over_white(picture: NDArray[np.uint8]) -> Image.Image:
    """An RGBA array as an RGB picture on white, as the evaluation sees it."""
    image = Image.fromarray(picture)
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
