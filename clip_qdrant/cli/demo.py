"""The demo: what is asked of the OpenMoji pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clip_qdrant.cli.art import openmoji
from clip_qdrant.cli.contact_sheet import COLUMNS, Row
from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.schema import CollectionSchema

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from clip_qdrant.collection.ingest import IngestReport
    from clip_qdrant.types import Encoder, Hit, Record

COLLECTION = "openmoji"
TEXTS = ("a red apple", "a flower", "a Christmas tree", "broken heart", "the moon")
PICTURES = ("cat face", "red heart")
FILTERED = ("a red fruit", {"group": "food"})
TO_CLASSIFY = "sunflower"
LABELS = ("a flower", "a cat", "a heart", "a car", "a fruit", "a house")
_LOGIT_SCALE = 20.0
"""What cosines are multiplied by where a model does not say."""

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What was indexed, and a row for each question with its answers."""

    report: IngestReport
    rows: Sequence[Row]


def run(client: QdrantClient, encoder: Encoder, *, progress: Progress) -> Shown:
    """Index the pictures and search them.

    Args:
        client: where to keep them.
        encoder: the pocket model.
        progress: makes a bar for so many records.
    """
    records = openmoji()
    schema = CollectionSchema(indexes={"group": "keyword", "version": "float"})
    collection = ClipCollection(client, COLLECTION, encoder, schema=schema)
    with progress(len(records)) as show:
        report = collection.add(records, on_progress=lambda so_far: show(so_far.total))
    return Shown(report, list(_ask(collection, {record.metadata["name"]: record for record in records})))


def _ask(collection: ClipCollection, pictures: dict[str, Record]) -> Iterator[Row]:
    for text in TEXTS:
        yield Row(text, None, _cells(collection.search(text, limit=COLUMNS)), "text")
    for name in PICTURES:
        path = _path(pictures, name)
        hits = collection.search(path, limit=COLUMNS, where={"name": {"ne": name}})
        yield Row(name, path, _cells(hits), "picture, without itself")
    text, where = FILTERED
    hits = collection.search(text, limit=COLUMNS, where=where)
    yield Row(text, None, _cells(hits), f"text, where group == {where['group']!r}")
    path = _path(pictures, TO_CLASSIFY)
    guesses = _classify(collection.encoder, path)
    yield Row(TO_CLASSIFY, path, [(None, label, f"{p:.0%}") for label, p in guesses], "picture, zero-shot labels")


def _cells(hits: Sequence[Hit]) -> list[tuple[Path | None, str, str]]:
    return [(Path(hit.source or ""), hit.metadata["name"], f"{hit.score:.2f}") for hit in hits]


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
