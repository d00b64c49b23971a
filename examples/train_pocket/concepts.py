"""What there is to learn: emoji concepts, the split by base concept, and the captions of a concept."""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

HELD_OUT_SHARE = 0.10
TEMPLATES = ("a picture of {}", "an emoji of {}", "a {}", "{} icon", "the {}", "photo of a {}")
SPLIT_SALT = "pocket-1"

# Words that tell members of one base concept apart, and never two base concepts.
_GENDERS = {
    *("man", "men", "woman", "women", "person", "people", "boy", "girl", "child", "adult", "and", "the"),
    *("man's", "men's", "woman's", "women's"),
}
_DIRECTIONS = {"up", "down", "left", "right", "leftwards", "rightwards", "upwards", "downwards", "facing", "pointing"}
_COLOURS = {
    *("red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey", "pink"),
    *("light", "dark", "small", "medium", "large"),
}
_COLOURED = {"heart", "circle", "square", "diamond", "book"}

# Families whose members share no word pattern: the first pattern found in a label names its base concept.
_FAMILIES = {
    r"o'clock$|-thirty$": "clock face",
    r"^keycap": "keycap",
    r"^family\b": "family",
    r"^kiss\b(?! mark)": "couple kissing",
    r"^couple with heart": "couple with heart",
    r"\bclaus\b": "claus",
    r"^(prince|princess|person with crown)$": "royalty",
    r"^mer(maid|man|person)$": "merperson",
    r"^(old|older) (man|woman|person)$": "older",
    r"^(boy|girl|child|man|woman|person|adult)$": "person",
    r"\bmoon\b(?! cake| viewing)": "moon",
    r"^globe showing": "globe",
    r"mailbox": "mailbox",
    r"^(up|down|left|right)(-\w+)? arrow\b": "direction arrow",
    r"^speaker (low|medium|high) volume$": "speaker",
    r"index pointing": "index pointing",
    r"^(\d\w\w) place medal$": "place medal",
    r"^input \w+": "input",
    r"^thumbs (up|down)$": "thumbs",
}


@dataclass(frozen=True)
class Concept:
    """One emoji: what it is called, what else is said of it, and the base concept that decides its split.

    Attributes:
        key: the code points in hexadecimal without variation selectors, "1f34e".
        label: the CLDR short name in lower case; the only text a search is evaluated with.
        tags: single words and short phrases that people type for it.
        base: the base concept; a man, a woman and a person running share one.
    """

    key: str
    label: str
    tags: tuple[str, ...]
    base: str

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word that is said of the concept, in its label or its tags."""
        return frozenset(" ".join((self.label, *self.tags)).split())

    @property
    def held_out(self) -> bool:
        """Whether the base concept is kept out of training, in every style."""
        return is_held_out(self.base)


def base_concept(label: str) -> str:
    """The base concept of a label: gender, direction and the colour of a plain shape are taken away."""
    text = label.lower().replace("\u2019", "'")
    for pattern, base in _FAMILIES.items():
        if re.search(pattern, text):
            return base
    words = re.findall(r"[\w'!.-]+", text)
    dropped = _GENDERS | _DIRECTIONS
    if words and words[-1] in _COLOURED:
        dropped = dropped | _COLOURS
    kept = [re.sub(r"^(left|right)-facing$", "", word) for word in words if word not in dropped]
    return " ".join(word for word in kept if word) or text


def is_held_out(base: str) -> bool:
    """Whether a base concept is held out: decided by a hash, so neither order nor the other concepts matter."""
    digest = hashlib.sha256(f"{SPLIT_SALT}:{base}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT_SHARE


def plain_key(hexcode: str) -> str:
    """A hexcode without the variation selector, which some icon sets write and others do not."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def load_concepts(data: Path) -> list[Concept]:
    """Every emoji of emojibase that has a group (no components, no skin-tone variants), ordered by key.

    Args:
        data: the folder npm installed into; holds `node_modules/emojibase-data`.
    """
    entries = json.loads((data / "node_modules/emojibase-data/en/data.json").read_text(encoding="utf-8"))
    concepts = []
    for entry in entries:
        if "group" not in entry or entry["group"] == 2:
            continue
        label = entry["label"].lower()
        tags = tuple(dict.fromkeys(tag.lower() for tag in entry.get("tags", []) if tag.lower() != label))
        concepts.append(Concept(plain_key(entry["hexcode"]), label, tags, base_concept(label)))
    return sorted(concepts, key=lambda concept: concept.key)


class Caption(NamedTuple):
    """One text for a concept.

    Attributes:
        text: the text.
        said: the words it says when it does not name the concept; they may be true of other concepts as well.
    """

    text: str
    said: frozenset[str] = frozenset()

    def fits(self, concept: Concept) -> bool:
        """Whether the text, not being a name, is true of a concept."""
        return bool(self.said) and self.said <= concept.words


def caption(concept: Concept, rng: random.Random) -> Caption:
    """One text for a concept: more often than not the label, otherwise its tags and simple templates."""
    draw = rng.random()
    label, tags = concept.label, list(concept.tags)
    if draw < 0.52 or not tags:
        return Caption(label)
    if draw < 0.60:
        return Caption(rng.choice(TEMPLATES).format(label))
    if draw < 0.70:
        return Caption(f"{label}, {rng.choice(tags)}")
    if draw < 0.76:
        kept = [word for word in label.split() if rng.random() < 0.75]
        return Caption(" ".join(kept), frozenset(kept)) if kept else Caption(label)
    picked = rng.sample(tags, min(len(tags), rng.choice((1, 1, 2, 2, 3))))
    return Caption(rng.choice(("{}", "{}", "a {}")).format(" ".join(picked)), frozenset(" ".join(picked).split()))
