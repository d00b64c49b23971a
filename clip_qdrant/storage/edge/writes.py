"""`QdrantBase`'s updates of points. Each is checked whole, and only then written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
from qdrant_client import models
from qdrant_client.conversions import common_types as types

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.edge.base import EngineBase, completed
from clip_qdrant.storage.edge.collection import EdgeCollection
from clip_qdrant.storage.edge.updates import (
    Write,
    batched,
    prepare_batch,
    prepare_clear_payload,
    prepare_delete,
    prepare_delete_payload,
    prepare_delete_vectors,
    prepare_overwrite_payload,
    prepare_set_payload,
    prepare_update_vectors,
    prepare_upsert,
)

UPLOAD_BATCH = 5000
"""Points that an upload checks, and then writes, at a time."""


class WritesMixin(EngineBase):
    """`QdrantBase`'s updates of points."""

    def upsert(self, collection_name: str, points: types.Points, **kwargs: Any) -> types.UpdateResult:
        """Insert points, or replace those with the same id; all of them or, on a mistake, none.

        Raises:
            InvalidPointError: a point that cannot be stored.
        """
        return self._run(
            collection_name, prepare_upsert, points, kwargs.get("update_filter"), kwargs.get("update_mode")
        )

    def update_vectors(
        self, collection_name: str, points: Sequence[types.PointVectors], **kwargs: Any
    ) -> types.UpdateResult:
        """Replace the named vectors of points, and leave their others."""
        return self._run(collection_name, prepare_update_vectors, points, kwargs.get("update_filter"))

    def delete_vectors(
        self, collection_name: str, vectors: Sequence[str], points: types.PointsSelector, **kwargs: Any
    ) -> types.UpdateResult:
        """Remove the named vectors from points."""
        return self._run(collection_name, prepare_delete_vectors, vectors, points)

    def delete(self, collection_name: str, points_selector: types.PointsSelector, **kwargs: Any) -> types.UpdateResult:
        """Remove points; ids that do not exist are no mistake."""
        return self._run(collection_name, prepare_delete, points_selector)

    def set_payload(
        self,
        collection_name: str,
        payload: types.Payload,
        points: types.PointsSelector,
        key: str | None = None,
        **kwargs: Any,
    ) -> types.UpdateResult:
        """Merge a payload into that of points, or into the value at `key`; a null removes its key."""
        return self._run(collection_name, prepare_set_payload, payload, points, key)

    def overwrite_payload(
        self, collection_name: str, payload: types.Payload, points: types.PointsSelector, **kwargs: Any
    ) -> types.UpdateResult:
        """Replace the payload of points."""
        return self._run(collection_name, prepare_overwrite_payload, payload, points)

    def delete_payload(
        self, collection_name: str, keys: Sequence[str], points: types.PointsSelector, **kwargs: Any
    ) -> types.UpdateResult:
        """Remove keys from the payload of points."""
        return self._run(collection_name, prepare_delete_payload, keys, points)

    def clear_payload(
        self, collection_name: str, points_selector: types.PointsSelector, **kwargs: Any
    ) -> types.UpdateResult:
        """Remove the payload of points."""
        return self._run(collection_name, prepare_clear_payload, points_selector)

    def batch_update_points(
        self, collection_name: str, update_operations: Sequence[types.UpdateOperation], **kwargs: Any
    ) -> list[types.UpdateResult]:
        """Run updates in order, after all of them were checked."""
        _apply(self._open(collection_name), prepare_batch, update_operations)
        return [completed() for _ in update_operations]

    def upload_points(self, collection_name: str, points: Iterable[types.PointStruct], **kwargs: Any) -> None:
        """Upsert a stream of points, some thousands at a time, and flush at its end."""
        target = self._open(collection_name)
        for batch in batched(points, min(UPLOAD_BATCH, target.rules.most_in_upsert)):
            structs = [
                models.PointStruct.model_construct(
                    id=point.id, vector={} if point.vector is None else point.vector, payload=point.payload
                )
                for point in batch
            ]
            _apply(target, prepare_upsert, structs, kwargs.get("update_filter"), kwargs.get("update_mode"))
        target.shard.flush()

    def upload_collection(
        self,
        collection_name: str,
        vectors: dict[str, types.NumpyArray] | types.NumpyArray | Iterable[types.VectorStruct],
        payload: Iterable[dict[Any, Any]] | None = None,
        ids: Iterable[types.PointId] | None = None,
        **kwargs: Any,
    ) -> None:
        """Upsert columns of vectors, payloads and ids; ids are made up if there are none."""
        points = (
            models.PointStruct.model_construct(id=point_id, vector=vector, payload=values)
            for point_id, vector, values in zip(
                (str(uuid4()) for _ in itertools.count()) if ids is None else ids,
                _rows(vectors),
                itertools.repeat(None) if payload is None else payload,
                strict=False,
            )
        )
        self.upload_points(collection_name, points, **kwargs)

    def _run(self, collection_name: str, prepare: Callable[..., Write], *args: Any) -> types.UpdateResult:
        _apply(self._open(collection_name), prepare, *args)
        return completed()


def _apply(target: EdgeCollection, prepare: Callable[..., Write], *args: Any) -> None:
    """Check an update, then write it; checked once more if the collection's vectors changed in between."""
    space = target.space
    write = prepare(target, *args)
    with target.shard.lock:
        if target.space is not space:
            write = prepare(target, *args)
        write()


def _rows(vectors: Any) -> Iterator[Any]:
    """One vector, or dict of named vectors, a point."""
    if isinstance(vectors, dict) and any(isinstance(column, np.ndarray) for column in vectors.values()):
        if len({len(column) for column in vectors.values()}) != 1:
            raise ConfigError("Each named vector must have as many rows as the others.")
        names = list(vectors)
        return (dict(zip(names, row, strict=True)) for row in zip(*vectors.values(), strict=True))
    return iter(vectors)
