"""records -> decode -> encode -> upsert; what is there already is not encoded again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ImageError, InvalidPointError
from clip_qdrant.images import content_hash, decode_ahead
from clip_qdrant.storage.points import CAPTION, CONTENT_HASH, IMAGE, TEXT, payload_of, point_id, point_of, text_hash
from clip_qdrant.storage.tags import with_tags

if TYPE_CHECKING:
    from PIL.Image import Image
    from qdrant_client import models

    from clip_qdrant.storage.vectors import VectorCollection
    from clip_qdrant.types import Encoder, Record

_MIN_BATCH = 64


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that could not be indexed, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of the records.

    Attributes:
        embedded: went through the model.
        copied: had the content of another point (a copy, a rename), whose vectors they got.
        updated: had the same content as before and other metadata.
        unchanged: were there already, just so.
        failed: could not be opened or written, with reasons.
        seconds: that it took.
    """

    embedded: int = 0
    copied: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: tuple[Failure, ...] = ()
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """How many records were looked at."""
        return self.embedded + self.copied + self.updated + self.unchanged + len(self.failed)


@dataclass(slots=True, eq=False)
class _Item:
    """A record on its way; two are the same only if they are one, since images cannot be compared."""

    record: Record
    id: str
    hash: str
    payload: dict[str, Any]
    vectors: dict[str, Any] = field(default_factory=dict)


def ingest(
    vectors: VectorCollection,
    encoder: Encoder,
    records: Iterable[Record],
    on_progress: Callable[[IngestReport], object] | None = None,
) -> IngestReport:
    """Index records (see `ClipCollection.add`)."""
    start, report = perf_counter(), IngestReport()
    for batch in _batches(records, max(_MIN_BATCH, encoder.batch_size)):
        report = _ingest_batch(vectors, encoder, batch, report)
        report = replace(report, seconds=perf_counter() - start)
        if on_progress is not None:
            on_progress(report)
    return report


def _ingest_batch(
    vectors: VectorCollection, encoder: Encoder, batch: list[Record], report: IngestReport
) -> IngestReport:
    items, failed = _identify(batch)
    stored = {str(point.id): point.payload or {} for point in vectors.retrieve([item.id for item in items])}
    for item in items:
        if _same_content(item, stored.get(item.id)):  # what was said of another content does not hold of this one
            item.payload = with_tags(item.payload, stored[item.id])
    unchanged = [item for item in items if stored.get(item.id) == item.payload]
    updated = [item for item in items if item not in unchanged and _same_content(item, stored.get(item.id))]
    for item in updated:
        vectors.set_payload(item.id, item.payload)
    rest = [item for item in items if item not in unchanged and item not in updated]
    known = vectors.with_content({item.hash for item in rest})
    copied = [item for item in rest if _copy_vectors(item, known.get(item.hash))]
    new, broken = _embed(encoder, [item for item in rest if not item.vectors])
    vectors.upsert([point_of(item.record, item.hash, item.vectors) for item in [*copied, *new]])
    return replace(
        report,
        embedded=report.embedded + len(new),
        copied=report.copied + len(copied),
        updated=report.updated + len(updated),
        unchanged=report.unchanged + len(unchanged),
        failed=(*report.failed, *failed, *broken),
    )


def _identify(batch: list[Record]) -> tuple[list[_Item], list[Failure]]:
    """Give records their ids and content hashes; of two with one id the later counts."""
    items: dict[str, _Item] = {}
    failed: list[Failure] = []
    with ThreadPoolExecutor(thread_name_prefix="hash") as pool:
        for record, found in zip(batch, pool.map(_hash, batch), strict=True):
            if isinstance(found, ImageError):
                failed.append(Failure(record.source, found.reason))
                continue
            try:
                item = _Item(record, point_id(record), found, payload_of(record, found))
            except InvalidPointError as error:
                failed.append(Failure(record.source, str(error)))
                continue
            items[item.id] = item
    return list(items.values()), failed


def _hash(record: Record) -> str | ImageError:
    if record.image is None:
        return text_hash(record.text or "")
    try:
        return content_hash(record.image)
    except ImageError as error:
        return error


def _same_content(item: _Item, payload: dict[str, Any] | None) -> bool:
    return payload is not None and (payload.get(CONTENT_HASH), payload.get(CAPTION)) == (item.hash, item.record.text)


def _copy_vectors(item: _Item, point: models.ScoredPoint | None) -> bool:
    if point is None or not isinstance(point.vector, dict) or not _same_content(item, point.payload):
        return False
    item.vectors = dict(point.vector)
    return True


def _embed(encoder: Encoder, items: list[_Item]) -> tuple[list[_Item], list[Failure]]:
    """Embed pictures and texts, and leave out what cannot be opened."""
    failed: list[Failure] = []
    pictured = [item for item in items if item.record.image is not None]
    good: list[_Item] = []

    def decoded() -> Iterator[Image]:
        images = decode_ahead((item.record.image for item in pictured if item.record.image is not None),
                              min_side=encoder.image_side)  # fmt: skip
        for item, image in zip(pictured, images, strict=True):
            if isinstance(image, ImageError):
                failed.append(Failure(item.record.source, image.reason))
            else:
                good.append(item)
                yield image

    # Decoded here rather than in the encoder, so that one broken picture costs one record and not a batch.
    image_vectors = encoder.embed_images(decoded())
    for item, vector in zip(good, image_vectors, strict=True):
        item.vectors[IMAGE] = vector
    kept = [*good, *(item for item in items if item.record.image is None)]
    captioned = [item for item in kept if item.record.text]
    for item, vector in zip(
        captioned, encoder.embed_texts([item.record.text or "" for item in captioned]), strict=True
    ):
        item.vectors[TEXT] = vector
    empty = [item for item in kept if not item.vectors]
    failed.extend(Failure(item.record.source, "it has neither an image nor a text") for item in empty)
    return [item for item in kept if item.vectors], failed


def _batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(islice(iterator, size)):
        yield batch
