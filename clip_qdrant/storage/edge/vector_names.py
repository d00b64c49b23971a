"""Adding and dropping named vectors."""

from __future__ import annotations

from typing import Any

from qdrant_client import models
from qdrant_client.conversions import common_types as types

from clip_qdrant.storage.edge.base import EngineBase, completed
from clip_qdrant.storage.edge.convert_config import to_edge_enum, to_edge_struct
from clip_qdrant.storage.edge.definition import with_vector, without_vector
from clip_qdrant.storage.edge.manifest import validate_name
from clip_qdrant.storage.edge.native import edge


class VectorNamesMixin(EngineBase):
    """`QdrantBase`'s methods on vector names."""

    def create_vector_name(
        self, collection_name: str, vector_name: str, vector_name_config: types.VectorNameConfig, **kwargs: Any
    ) -> types.UpdateResult:
        """Add a named vector, which no point has yet; nothing happens where it is there already, just so.

        Raises:
            ConfigError: there is another vector of that name.
        """
        validate_name(vector_name, "Vector")
        store = self._store
        with store.lock:
            config = store.config(store.resolve(collection_name))
            changed, params = with_vector(config, collection_name, vector_name, vector_name_config)
            if params is not None:
                # The shard first: a definition that names a vector which the shard lacks would let broken points in.
                # A leftover of that name, from a crash between the two steps, goes before it.
                drop = edge.UpdateOperation.delete_vector_name(vector_name)
                store.open(collection_name).shard.alter(drop, _creation(vector_name, params))
                store.redefine(collection_name, changed)
        return completed()

    def delete_vector_name(self, collection_name: str, vector_name: str, **kwargs: Any) -> types.UpdateResult:
        """Drop a named vector from the collection and from every point; nothing happens where there is none.

        Raises:
            ConfigError: it is unnamed, or the collection's only vector.
        """
        store = self._store
        with store.lock:
            changed = without_vector(store.config(store.resolve(collection_name)), collection_name, vector_name)
            if changed is not None:
                store.redefine(collection_name, changed)
                store.open(collection_name).shard.alter(edge.UpdateOperation.delete_vector_name(vector_name))
        return completed()


def _creation(name: str, params: models.VectorParams | models.SparseVectorParams) -> Any:
    """The engine's operation that adds a vector."""
    if isinstance(params, models.SparseVectorParams):
        datatype = None if params.index is None else params.index.datatype
        return edge.UpdateOperation.create_sparse_vector(name, _enum(params.modifier), _enum(datatype))
    return edge.UpdateOperation.create_dense_vector(
        name,
        params.size,
        to_edge_enum(params.distance),
        None if params.multivector_config is None else to_edge_struct(params.multivector_config),
        _enum(params.datatype),
    )


def _enum(value: Any) -> Any:
    return None if value is None else to_edge_enum(value)
