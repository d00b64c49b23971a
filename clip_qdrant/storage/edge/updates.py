"""Updates of points, checked. Each `prepare…` checks all of an update and returns what then writes it.

Points are written in batches small enough not to stall other threads: the engine holds the interpreter's lock.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from qdrant_client import models

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.edge.collection import EdgeCollection
from clip_qdrant.storage.edge.convert_config import to_edge_enum
from clip_qdrant.storage.edge.convert_points import (
    from_edge_id,
    materialize,
    to_edge_id,
    to_edge_payload,
    to_edge_point_vectors,
    to_edge_points,
)
from clip_qdrant.storage.edge.errors import PointNotFoundError, engine_errors
from clip_qdrant.storage.edge.native import edge

WRITE_BATCH = 500
"""Points in one call of the engine: some 10 ms at 512 dimensions."""

Operation = edge.UpdateOperation
Write = Callable[[], None]
"""A checked update, to be run under the shard's lock."""


def prepare_upsert(target: EdgeCollection, points: Any, update_filter: Any = None, mode: Any = None) -> Write:
    """Insert or replace points."""
    structs = materialize(points)
    if not structs:
        raise ConfigError("Empty update request: there are no points to upsert.")
    target.rules.check_upsert([point.vector for point in structs], target.shard.count)
    converted = to_edge_points(target.space, structs)
    condition = target.filter_to_update(update_filter)
    edge_mode = None if mode is None else to_edge_enum(models.UpdateMode(mode))

    def write() -> None:
        for batch in batched(converted, WRITE_BATCH):
            target.shard.write(Operation.upsert_points(batch, condition, edge_mode))

    return write


def prepare_update_vectors(target: EdgeCollection, points: Sequence[Any], update_filter: Any = None) -> Write:
    """Replace named vectors."""
    if not points:
        raise ConfigError("Empty update request: there are no points to update.")
    converted = to_edge_point_vectors(target.space, points)
    condition = target.filter_to_update(update_filter)

    def write() -> None:
        for ids in _existing(target, list(converted)):
            target.shard.write(Operation.update_vectors([converted[point_id] for point_id in ids], condition))

    return write


def prepare_delete_vectors(target: EdgeCollection, vectors: Sequence[str], points: Any) -> Write:
    """Remove named vectors."""
    if not vectors:
        raise ConfigError("Empty update request: there are no vector names to delete.")
    for name in vectors:
        target.space.check_name(name)
    names = list(vectors)
    return _on_selected(
        target,
        points,
        lambda ids: Operation.delete_vectors(ids, names),
        lambda condition: Operation.delete_vectors_by_filter(condition, names),
    )


def prepare_delete(target: EdgeCollection, points: Any) -> Write:
    """Remove points."""
    selected = _select(target, points)
    if not isinstance(selected, list):
        return lambda: target.shard.write(Operation.delete_points_by_filter(selected))
    return lambda: target.shard.write(Operation.delete_points(selected))


def prepare_set_payload(target: EdgeCollection, payload: Any, points: Any, key: str | None = None) -> Write:
    """Merge a payload."""
    above = 0 if key is None else 1 + key.count(".") + key.count("[")
    plain = to_edge_payload(payload, "set_payload", above)
    with engine_errors(f"The key {key!r} is refused", ConfigError):
        Operation.set_payload([], plain, key)
    return _on_selected(
        target,
        points,
        lambda ids: Operation.set_payload(ids, plain, key),
        lambda condition: Operation.set_payload_by_filter(condition, plain, key),
    )


def prepare_overwrite_payload(target: EdgeCollection, payload: Any, points: Any) -> Write:
    """Replace payloads."""
    plain = to_edge_payload(payload, "overwrite_payload")
    return _on_selected(
        target,
        points,
        lambda ids: Operation.overwrite_payload(ids, plain),
        lambda condition: Operation.overwrite_payload_by_filter(condition, plain),
    )


def prepare_delete_payload(target: EdgeCollection, keys: Sequence[str], points: Any) -> Write:
    """Remove payload keys."""
    names = list(keys)
    with engine_errors(f"The keys {names!r} are refused", ConfigError):
        Operation.delete_payload([], names)
    return _on_selected(
        target,
        points,
        lambda ids: Operation.delete_payload(ids, names),
        lambda condition: Operation.delete_payload_by_filter(condition, names),
    )


def prepare_clear_payload(target: EdgeCollection, points: Any) -> Write:
    """Remove payloads."""
    return _on_selected(target, points, Operation.clear_payload, Operation.clear_payload_by_filter)


def prepare_batch(target: EdgeCollection, operations: Sequence[Any]) -> Write:
    """Several updates, in their order."""
    writes = [_prepare(target, operation) for operation in operations]

    def write() -> None:
        for each in writes:
            each()

    return write


def _prepare(target: EdgeCollection, given: Any) -> Write:
    """One operation of a batch, checked."""
    if isinstance(given, models.UpsertOperation):
        upsert = given.upsert
        points = upsert.batch if isinstance(upsert, models.PointsBatch) else upsert.points
        return prepare_upsert(target, points, upsert.update_filter, upsert.update_mode)
    if isinstance(given, models.DeleteOperation):
        return prepare_delete(target, given.delete)
    if isinstance(given, models.SetPayloadOperation):
        values = given.set_payload
        return prepare_set_payload(target, values.payload, _batch_selector(values), values.key)
    if isinstance(given, models.OverwritePayloadOperation):
        values = given.overwrite_payload
        return prepare_overwrite_payload(target, values.payload, _batch_selector(values))
    if isinstance(given, models.DeletePayloadOperation):
        return prepare_delete_payload(target, given.delete_payload.keys, _batch_selector(given.delete_payload))
    if isinstance(given, models.ClearPayloadOperation):
        return prepare_clear_payload(target, given.clear_payload)
    if isinstance(given, models.UpdateVectorsOperation):
        return prepare_update_vectors(target, given.update_vectors.points, given.update_vectors.update_filter)
    if isinstance(given, models.DeleteVectorsOperation):
        return prepare_delete_vectors(target, given.delete_vectors.vector, _batch_selector(given.delete_vectors))
    raise ConfigError(f"{type(given).__name__} is not an update operation of qdrant_client.models.")


def _batch_selector(operation: Any) -> Any:
    selector = operation.points if operation.points is not None else operation.filter
    if selector is None:
        raise ConfigError("No filter or points provided: the operation selects nothing. Give one of them.")
    return selector


def _select(target: EdgeCollection, points: Any) -> Any:
    """A list of ids or an engine filter, for each of the client's selectors."""
    if isinstance(points, models.PointIdsList):
        points = points.points
    if isinstance(points, models.FilterSelector):
        points = points.filter
    if isinstance(points, models.Filter):
        return target.filter_to_update(points)
    if not isinstance(points, (list, tuple)):
        raise ConfigError(f"Points are selected by a list of ids or a models.Filter, got {type(points).__name__}.")
    if not points:
        raise ConfigError("Empty update request: the list of point ids is empty.")
    return [to_edge_id(point_id) for point_id in points]


def _on_selected(
    target: EdgeCollection, points: Any, by_ids: Callable[[list[int | str]], Any], by_filter: Callable[[Any], Any]
) -> Write:
    selected = _select(target, points)
    if not isinstance(selected, list):
        return lambda: target.shard.write(by_filter(selected))

    def write() -> None:
        for ids in _existing(target, selected):
            target.shard.write(by_ids(ids))

    return write


def _existing(target: EdgeCollection, ids: Sequence[int | str]) -> Iterator[list[int | str]]:
    """The ids that there are, in batches; then the error about those that there are not.

    The engine would write the whole operation to its log before it finds out, and apply a part of it.
    """
    missing: list[int | str] = []
    for batch in batched(dict.fromkeys(ids), WRITE_BATCH):
        found = {from_edge_id(record.id) for record in target.shard.retrieve(batch)}
        present = [point_id for point_id in batch if point_id in found]
        missing += [point_id for point_id in batch if point_id not in found]
        if present:
            yield present
    if missing:
        raise PointNotFoundError(
            f"Collection {target.name!r} has no point {missing[0]!r} ({len(missing)} of {len(ids)} not found). "
            "The others were updated."
        )


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size`, and a shorter one at the end."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
