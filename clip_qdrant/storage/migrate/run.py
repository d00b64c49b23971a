"""Copying collections page by page, and verifying what was copied."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import CollectionMismatchError, CollectionNotFoundError, ConfigError, UnsupportedError
from clip_qdrant.storage.migrate import definition
from clip_qdrant.storage.migrate.contents import exact_text, same_payload, same_vectors, weight
from clip_qdrant.storage.migrate.report import CollectionReport, MigrationProgress, MigrationReport

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

logger = logging.getLogger(__name__)

PAGE_POINTS = 1_000
"""Points a page at most, unless told otherwise."""

PAGE_BYTES = 8_000_000
"""About what a page is as JSON at most; a server takes 32 MB a request. One point may be more."""

_FIRST_PAGE = 32
_EXAMPLES = 5


def migrate(
    source: QdrantClient,
    target: QdrantClient,
    collections: Sequence[str] | None = None,
    *,
    batch_size: int = PAGE_POINTS,
    overwrite: bool = False,
    on_progress: Callable[[MigrationProgress], None] | None = None,
) -> MigrationReport:
    """Copy collections with all their points, payload indexes, parameters and aliases, and verify the copies.

    What is in the target already is not written again, so that after an interruption, of whatever kind, the same call
    goes on from there; nothing is noted anywhere. Nothing is ever deleted: points that only the target has are kept and
    counted, and so are, unless `overwrite`, those that have another content under the same id.

    The points are those that the source has when their page is read. What is written to it meanwhile may or may not be
    copied; the verification compares with what the source has then, and reports what is missing, and the same call
    copies that. For an exact copy let nothing write to the source.

    Memory is that of a few pages of `PAGE_BYTES`, whatever the collection (but a source in local mode is in memory as a
    whole). Aliases are made last, once the collection is verified, so that they never lead to half a copy.

    Args:
        source: the client to read from.
        target: the client to write to.
        collections: their names; None is all that the source has.
        batch_size: points a page at most; fewer where they are large or strict mode allows fewer.
        overwrite: replace what the target has under the id of a source's point.
        on_progress: called after each page. What it raises ends the migration, as an interruption does.

    Returns:
        What became of each collection. See `MigrationReport.verified`: a copy that is not verified raises no error.

    Raises:
        CollectionNotFoundError: the source has no such collection.
        CollectionMismatchError: the target has another collection of that name; nothing was written.
        ConfigError: source and target are the same, or an argument cannot be used.
        InvalidPointError: the target cannot store a point; says which and why.
        UnsupportedError: shard keys of the user's, which a server would need to be told.
    """
    if _place(source) == _place(target):
        raise ConfigError("Source and target are the same. Give another target.")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}.")
    names = _names(source, collections)
    for name in names:
        _check(source, target, name)
    tell = on_progress or (lambda progress: None)
    return MigrationReport(tuple(_Migration(source, target, name, batch_size, overwrite, tell).run() for name in names))


@dataclass
class _Migration:
    """Of one collection."""

    source: QdrantClient
    target: QdrantClient
    name: str
    batch_size: int
    overwrite: bool
    tell: Callable[[MigrationProgress], None]

    def run(self) -> CollectionReport:
        start = perf_counter()
        definition.create(self.source, self.target, self.name)
        info, target_info = self.source.get_collection(self.name), self.target.get_collection(self.name)
        self.rules = definition.vector_rules(info)
        self.page = definition.largest_page(self.batch_size, info, target_info)
        self.total = self.source.count(self.name, exact=True).count
        copied, already_there = self._copy()
        self._flush()
        report = self._verify(copied, already_there, start)
        logger.info("Migrated %r: %d points, verified: %s", self.name, report.points, report.verified)
        return report

    def _copy(self) -> tuple[int, int]:
        copied = already_there = done = 0
        for records in _pages(self.source, self.name, self.page):
            present = self._present(records)
            same = {record.id for record in records if record.id in present and self._same(record, present[record.id])}
            to_write = [record for record in records if record.id not in (same if self.overwrite else present)]
            for chunk in _chunks(to_write):
                self.target.upsert(self.name, [_point(record) for record in chunk], wait=True)
            copied, already_there, done = copied + len(to_write), already_there + len(same), done + len(records)
            self.tell(MigrationProgress(self.name, "copy", done, self.total))
        return copied, already_there

    def _verify(self, copied: int, already_there: int, start: float) -> CollectionReport:
        checksum, points, missing, differing = hashlib.sha256(), 0, 0, 0
        wrong: list[Any] = []
        for records in _pages(self.source, self.name, self.page):
            present = self._present(records)
            for record in records:
                checksum.update(exact_text(record)[0].encode() + b"\n")
                there = record.id in present
                if there and self._same(record, present[record.id]):
                    continue
                missing, differing = missing + (not there), differing + there
                wrong = [*wrong, record.id][:_EXAMPLES]
            points += len(records)
            self.tell(MigrationProgress(self.name, "verify", points, self.total))
        report = CollectionReport(
            collection=self.name,
            points=points,
            copied=copied,
            already_there=already_there,
            missing=missing,
            differing=differing,
            extra=self.target.count(self.name, exact=True).count - (points - missing),
            source_count=self.source.count(self.name, exact=True).count,
            checksum=checksum.hexdigest(),
            examples=tuple(wrong),
            left_out=(),
            seconds=0.0,
        )
        if report.verified:
            definition.create_aliases(self.source, self.target, self.name)
        left_out = tuple(definition.left_out(self.source, self.target, self.name))
        return replace(report, left_out=left_out, seconds=perf_counter() - start)

    def _present(self, records: Sequence[models.Record]) -> dict[Any, models.Record]:
        ids = [record.id for record in records]
        found = self.target.retrieve(self.name, ids, with_payload=True, with_vectors=True)
        return {record.id: record for record in found}

    def _same(self, record: models.Record, other: models.Record) -> bool:
        return same_payload(record, other) and same_vectors(record, other, self.rules)

    def _flush(self) -> None:
        from clip_qdrant.storage.edge.client import EmbeddedQdrantClient

        if isinstance(self.target, EmbeddedQdrantClient):
            self.target.flush(self.name)


def _place(client: QdrantClient) -> object:
    """Where a client's data is: a folder, a server, or the client itself."""
    engine: Any = client._client
    folder = getattr(engine, "folder", None) or (getattr(engine, "persistent", False) and engine.location)
    if folder:
        return Path(folder).resolve()
    return getattr(engine, "rest_uri", None) or id(engine)


def _names(source: QdrantClient, collections: Sequence[str] | None) -> list[str]:
    if isinstance(collections, str):
        raise ConfigError(f"collections must be a list of names, got {collections!r}. Write [{collections!r}].")
    present = sorted(collection.name for collection in source.get_collections().collections)
    names = present if collections is None else list(dict.fromkeys(collections))
    for name in names:
        if name not in present:
            known = ", ".join(map(repr, present)) or "none"
            raise CollectionNotFoundError(
                f"The source has no collection {name!r}; it has {known}. An alias goes with its collection."
            )
    return names


def _check(source: QdrantClient, target: QdrantClient, name: str) -> None:
    """Refuse what cannot be copied, before anything of any collection is."""
    info = source.get_collection(name)
    if definition.is_custom_sharded(info) and _is_server(target):
        raise UnsupportedError(
            f"Collection {name!r} is sharded by keys of its own. Copy it with snapshots, or migrate it to a folder."
        )
    aliases = {alias.alias_name: alias.collection_name for alias in target.get_aliases().aliases}
    if name in aliases:
        raise CollectionMismatchError(
            f"{name!r} is an alias of {aliases[name]!r} in the target, and a collection in the source. "
            "Nothing was written. Delete that alias, or use another target."
        )
    if target.collection_exists(name):
        definition.check_same_shape(name, info, target.get_collection(name))


def _is_server(client: QdrantClient) -> bool:
    return hasattr(client._client, "rest_uri")


def _pages(client: QdrantClient, name: str, most: int) -> Iterator[list[models.Record]]:
    """All points in the order of their ids, in pages that grow as far as their points' size allows."""
    size, offset = min(most, _FIRST_PAGE), None
    while True:
        records, offset = client.scroll(name, limit=size, offset=offset, with_payload=True, with_vectors=True)
        if records:
            yield records
        if offset is None:
            return
        size = max(1, min(most, 2 * size, PAGE_BYTES * len(records) // sum(map(weight, records))))


def _chunks(records: Sequence[models.Record]) -> Iterator[list[models.Record]]:
    """What one request may bring; a page may be more, where its points are larger than those of the page before."""
    chunk: list[models.Record] = []
    filled = 0
    for record in records:
        size = weight(record)
        if chunk and filled + size > PAGE_BYTES:
            yield chunk
            chunk, filled = [], 0
        chunk.append(record)
        filled += size
    if chunk:
        yield chunk


def _point(record: models.Record) -> models.PointStruct:
    from qdrant_client import models

    vector = {} if record.vector is None else record.vector
    # Not validated: that takes long for hundreds of numbers, and they come from where they were.
    return models.PointStruct.model_construct(id=record.id, vector=vector, payload=record.payload or {})
