"""Icon sets with names: more things, more words and more ways of drawing than emoji have."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from art import SIDE, draw, read, store
from concepts import Concept
from numpy.typing import NDArray

COLOURED = (
    *("flat-color-icons", "streamline-emojis", "streamline-ultimate-color", "streamline-freehand-color"),
    *("streamline-plump-color", "streamline-cyber-color", "streamline-kameleon-color", "streamline-flex-color"),
    *("streamline-stickies-color", "meteocons", "icon-park"),
)
PLAIN = ("game-icons", "mdi", "tabler", "ph", "lucide", "healthicons")
_STYLE_WORDS = {
    *("outline", "filled", "fill", "bold", "duotone", "thin", "light", "linear", "broken", "rounded", "sharp", "flat"),
    *("duo", "negative", "alt", "variant", "simple", "one", "two", "three", "four"),
}
# Brands, letters and what only programs have: no thing that a picture shows.
_UNWANTED = {"brand", "logo", "alpha", "ab", "numeric", "letter", "language", "npm", "abstract"}
_EMPTY_WORDS = {"with", "of", "the", "and", "a", "in", "on", "face", "button", "man", "woman", "person", "men", "women"}
_VARIANTS = re.compile(r"(-(bold|thin|light|fill|filled|negative|24px|sharp|rounded|off))+$")


@dataclass(frozen=True)
class Icons:
    """Drawn icons and their names.

    Attributes:
        names: as people would say them.
        pictures: uint8 RGBA (n, side, side, 4).
    """

    names: list[str]
    pictures: NDArray[np.uint8]


def load_icons(data: Path, cache: Path, held_out: list[Concept]) -> Icons:
    """The icons of all sets, but none that could show a concept that is held out.

    Args:
        data: the folder npm installed into.
        cache: where drawn icons are kept.
        held_out: an icon is left out if its name has all the telling words of the label, or of the base concept, of
            one of these.
    """
    labels = {text for concept in held_out for text in (concept.label, concept.base)}
    forbidden = [words for text in sorted(labels) if (words := _telling(text))]
    names: list[str] = []
    pictures = []
    for style in (*COLOURED, *PLAIN):
        path = cache / f"icons-{style}-{SIDE}.npz"
        if not path.exists():
            drawn = _draw_set(data / "node_modules/@iconify-json" / style / "icons.json")
            store(path, [name for name, _ in drawn], [picture for _, picture in drawn])
        found, art = read(path)
        kept = [i for i, name in enumerate(found) if not any(_shows(name, words) for words in forbidden)]
        names += [found[i] for i in kept]
        pictures.append(art[kept])
    return Icons(names, np.concatenate(pictures))


def said_name(icon: str) -> str | None:
    """What an icon's name says without what it says of style; None where it names nothing to see."""
    words = [word for word in icon.split("-") if not re.search(r"\d", word)]
    while words and words[-1] in _STYLE_WORDS:
        words.pop()
    if not words or len(words) > 5 or _UNWANTED & set(words) or all(len(word) < 3 for word in words):
        return None
    return " ".join(words)


def _draw_set(path: Path) -> list[tuple[str, NDArray[np.uint8]]]:
    """Up to two drawings of every name."""
    body = json.loads(path.read_text(encoding="utf-8"))
    seen: dict[str, int] = {}
    drawn = []
    for icon, shape in sorted(body["icons"].items()):
        name = said_name(icon)
        if name is None or shape.get("hidden") or _VARIANTS.search(icon) or seen.get(name, 0) == 2:
            continue
        seen[name] = seen.get(name, 0) + 1
        width, height = (shape.get(side, body.get(side, 16)) for side in ("width", "height"))
        box = f"{shape.get('left', 0)} {shape.get('top', 0)} {width} {height}"
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width}" height="{height}" viewBox="{box}">{shape["body"]}</svg>'
        )
        drawn.append((name, draw(svg)))
    return drawn


def _shows(name: str, telling: list[frozenset[str]]) -> bool:
    """Whether a name has one of the forms of every telling word."""
    said = frozenset().union(*map(_forms, re.findall(r"[a-z]+", name.lower())))
    return all(forms & said for forms in telling)


def _telling(label: str) -> list[frozenset[str]]:
    return [_forms(word) for word in re.findall(r"[a-z]+", label) if word not in _EMPTY_WORDS]


def _forms(word: str) -> frozenset[str]:
    """A word and what may be its singular."""
    return frozenset({word, *(word.removesuffix(end) for end in ("s", "es") if len(word) > 3)})
