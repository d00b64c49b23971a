"""`clip-qdrant audit`: the labels, the pictures of a collection, a table and a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clip_qdrant.cli import output
from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.points import IMAGE, MODALITY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clip_qdrant.models.audit import Audit
    from clip_qdrant.storage.vectors import VectorCollection

_CELL, _MARGIN, _NAME, _BAR = 22, 24, 170, 260
_SHOWN = 40
_INK, _FAINT, _GOOD, _BAD = (20, 20, 20), (110, 110, 110), (90, 130, 190), (200, 70, 60)
_PULLS = 2.0
"""From here on a label is shown in red: it draws twice its share."""


class Seen(NamedTuple):
    """Pictures of a collection.

    Attributes:
        vectors: (n, dim).
        groups: what group each is of, or None for none.
    """

    vectors: NDArray[np.float32]
    groups: list[str | None]


def pictures_of(vectors: VectorCollection, group_field: str | None, limit: int) -> Seen:
    """Some of the pictures of a collection, with a payload field as their group.

    Raises:
        ConfigError: it has no pictures.
    """
    rows: list[NDArray[np.float32]] = []
    groups: list[str | None] = []
    for hit in vectors.scan(where={MODALITY: IMAGE}, with_vectors=True):
        if hit.vector is None or len(rows) == limit:
            continue
        value = hit.payload.get(group_field) if group_field else None
        rows.append(hit.vector)
        groups.append(None if value is None or isinstance(value, (list, dict)) else str(value))
    if not rows:
        raise ConfigError(f"The collection {vectors.name!r} has no pictures to look at.")
    if group_field and not any(group is not None for group in groups):
        raise ConfigError(f"No picture of {vectors.name!r} has a value of {group_field!r} to group by.")
    return Seen(np.stack(rows), groups)


def report(told: Audit, *, as_json: bool) -> None:
    """The tables."""
    if as_json:
        output.document(told.to_dict())
        return
    what = f"{told.pictures:,} pictures" if told.pictures else "the labels themselves"
    output.note(
        f"{len(told.names):,} labels, looked at by {what}; {told.flipped:.0%} hang on the wording of the prompt"
    )
    shared = ["hardly told apart", "", "cosine", "of their pictures"]
    output.table(
        shared,
        [
            [one.one, one.other, f"{one.cosine:.3f}", "" if one.shared is None else f"{one.shared:.1%}"]
            for one in told.confusions
        ],
    )
    output.table(
        ["label", "draws", "pull", "flips"],
        [[one.label, f"{one.drawn:.1%}", f"{one.pull:.2f}", f"{one.flips:.1%}"] for one in told.labels[:_SHOWN]],
    )
    if told.skews:
        output.table(
            ["group", "label", "share", "of all", "deviation"],
            [
                [one.group, one.label, f"{one.share:.1%}", f"{one.expected:.1%}", f"{one.deviation:+.1f}"]
                for one in told.skews
            ],
        )


def plot(told: Audit) -> Image.Image:
    """How like the labels are, as a map, and beside it what each draws; of more than forty the first by pull."""
    shown = [one.label for one in told.labels[:_SHOWN]]
    rows = [told.names.index(label) for label in shown]
    likeness = told.likeness[np.ix_(rows, rows)]
    side = max(5, len(shown)) * _CELL  # so that the headings have room
    width, height = 2 * _MARGIN + _NAME + side + _MARGIN + _BAR, 4 * _MARGIN + side
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    left, top = _MARGIN + _NAME, 2 * _MARGIN
    small = ImageFont.load_default(13)
    draw.text((_MARGIN, _MARGIN // 2), "How like the labels are (darker: more)", _INK, ImageFont.load_default(16))
    draw.text(
        (left + side + _MARGIN, _MARGIN // 2), "What each draws, 1 is its share", _INK, ImageFont.load_default(16)
    )
    low = float(likeness.min())
    span = max(1e-6, 1 - low)
    longest = max((one.pull for one in told.labels), default=1.0) or 1.0
    for row, one in enumerate(told.labels[:_SHOWN]):
        y = top + row * _CELL
        draw.text((left - 6, y + _CELL / 2), _short(one.label), _INK, small, anchor="rm")
        for column in range(len(shown)):
            shade = round(255 * (1 - (float(likeness[row, column]) - low) / span))
            x = left + column * _CELL
            colour: Any = (230, 230, 230) if row == column else (shade, shade, 255 - (255 - shade) // 3)
            draw.rectangle((x, y, x + _CELL - 2, y + _CELL - 2), fill=colour)
        x = left + side + _MARGIN
        length = (_BAR - 60) * one.pull / longest
        draw.rectangle((x, y + 3, x + length, y + _CELL - 5), fill=_BAD if one.pull >= _PULLS else _GOOD)
        draw.text((x + length + 5, y + _CELL / 2), f"{one.pull:.1f}", _FAINT, small, anchor="lm")
    note = f"{told.pictures:,} pictures" if told.pictures else "without pictures: to how many others a label is nearest"
    draw.text((_MARGIN, height - _MARGIN), note, _FAINT, small, anchor="lm")
    return image


def _short(label: str) -> str:
    return label if len(label) <= 22 else f"{label[:21]}…"
