"""The demo: what is asked of the OpenMoji pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clip_qdrant.cli.art import openmoji
from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from clip_qdrant.collection.ingest import IngestReport
    from clip_qdrant.types import Encoder, Hit, Record

COLLECTION = "openmoji"
TEXTS = ("a red apple", "a flower", "a Christmas tree", "broken heart", "the moon")
PICTURES = ("cat face", "red heart")
FILTERED = ("a vehicle with wheels", {"group": "transport and map symbols"})
TO_CLASSIFY = "sunflower"
LABELS = ("a flower", "a cat", "a heart", "a car", "a fruit", "a house")
_PER_QUERY = 8
_LOGIT_SCALE = 20.0
"""What cosines are multiplied by where a model does not say."""

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Row:
    """A query, its picture if it is one, and what was found."""

    name: str
    picture: Path | None
    hits: Sequence[Hit]


@dataclass(frozen=True, slots=True)
class Shown:
    """All that the demo has to show; `classified` is a name, and labels with probabilities."""

    report: IngestReport
    rows: Sequence[Row]
    classified: tuple[str, Sequence[tuple[str, float]]]


def run(client: QdrantClient, encoder: Encoder, *, progress: Progress, limit: int | None = None) -> Shown:
    """Index the pictures and search them.

    Args:
        client: where to keep them.
        encoder: the pocket model.
        progress: makes a bar for so many records.
        limit: how many pictures at most; None for all.
    """
    records = openmoji(limit)
    pictures = {record.metadata["name"]: record for record in records}
    collection = ClipCollection(client, COLLECTION, encoder, indexes={"group": "keyword", "version": "float"})
    with progress(len(records)) as show:
        report = collection.add(records, on_progress=lambda so_far: show(so_far.total))
    rows = [Row(text, None, collection.search(text, limit=_PER_QUERY)) for text in TEXTS]
    for name in PICTURES:
        path = _path(pictures, name)
        rows.append(Row(f"like {name!r}", path, collection.search(path, limit=_PER_QUERY)))
    text, where = FILTERED
    rows.append(Row(f"{text}, {where['group']} only", None, collection.search(text, where=where, limit=_PER_QUERY)))
    return Shown(report, rows, (TO_CLASSIFY, _classify(encoder, _path(pictures, TO_CLASSIFY))))


def _classify(encoder: Encoder, picture: Path) -> list[tuple[str, float]]:
    """Labels with probabilities, the likeliest first: the softmax of the scaled cosines."""
    (image,) = encoder.embed_images([picture])
    cosines = encoder.embed_texts(LABELS) @ image
    logits = (getattr(encoder, "logit_scale", None) or _LOGIT_SCALE) * cosines.astype(np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    return sorted(zip(LABELS, map(float, probabilities), strict=True), key=lambda guess: -guess[1])


def _path(pictures: dict[str, Record], name: str) -> Path:
    if name not in pictures:
        raise ConfigError(f"The pictures have no {name!r}; the package 'emoji' names it otherwise. Upgrade it.")
    return Path(str(pictures[name].image))
