"""Collections, their aliases and their payload indexes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from qdrant_client import models
from qdrant_client.conversions import common_types as types

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.edge.base import EngineBase, completed
from clip_qdrant.storage.edge.convert_config import HNSW_DEFAULTS, to_edge_config, to_edge_index
from clip_qdrant.storage.edge.convert_points import to_edge_payload
from clip_qdrant.storage.edge.definition import NOT_OF_THE_SHARD, updated
from clip_qdrant.storage.edge.errors import CollectionExistsError, MissingCollectionError, engine_errors
from clip_qdrant.storage.edge.manifest import validate_name
from clip_qdrant.storage.edge.native import edge
from clip_qdrant.storage.edge.shard import FLUSH_SECONDS

_OPTIMIZER_DEFAULTS = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "indexing_threshold": 20000,
    "flush_interval_sec": int(FLUSH_SECONDS),
}


class CollectionsMixin(EngineBase):
    """`QdrantBase`'s methods on collections."""

    def create_collection(
        self,
        collection_name: str,
        vectors_config: types.VectorParams | Mapping[str, types.VectorParams] | None = None,
        **kwargs: Any,
    ) -> bool:
        """Make a collection.

        Raises:
            CollectionExistsError: the name is taken.
            ConfigError: a name, a vector or an option that cannot be.
        """
        given = {**kwargs, "sparse_vectors": kwargs.get("sparse_vectors_config")}
        fields = models.CreateCollection.model_fields
        known = {key: value for key, value in given.items() if value is not None and key in fields}
        if known.get("metadata"):
            known["metadata"] = to_edge_payload(known["metadata"], f"Metadata of collection {collection_name!r}")
        vectors = dict(vectors_config) if isinstance(vectors_config, Mapping) else vectors_config
        self._store.create(collection_name, models.CreateCollection(vectors=vectors or {}, **known))
        return True

    def recreate_collection(self, collection_name: str, *args: Any, **kwargs: Any) -> bool:
        """Delete the collection if there is one, and make it anew."""
        validate_name(collection_name)
        self.delete_collection(collection_name)
        return self.create_collection(collection_name, *args, **kwargs)

    def delete_collection(self, collection_name: str, **kwargs: Any) -> bool:
        """Remove a collection, its files and its aliases; whether there was one."""
        return self._store.delete(collection_name)

    def update_collection(self, collection_name: str, **kwargs: Any) -> bool:
        """Change parameters; those not given stay, a null in `metadata` removes its key. Whether any were given.

        What changes the vectors' indexes or quantisation is built at the next `optimize`.

        Raises:
            ConfigError: an option, or a vector, that there is not.
        """
        kwargs.pop("timeout", None)
        store = self._store
        with store.lock:
            present = store.config(store.resolve(collection_name))
            changed = updated(present, collection_name, kwargs)
            given = [option for option, change in kwargs.items() if change is not None]
            if changed != present:
                if not NOT_OF_THE_SHARD.issuperset(given):
                    store.open(collection_name).shard.reconfigure(to_edge_config(changed))
                store.redefine(collection_name, changed)
        return bool(given)

    def collection_exists(self, collection_name: str, **kwargs: Any) -> bool:
        """Whether there is a collection, or an alias, of that name."""
        try:
            self._store.resolve(collection_name)
        except MissingCollectionError:
            return False
        return True

    def get_collections(self, **kwargs: Any) -> types.CollectionsResponse:
        """The names of all collections."""
        names = list(self._store.manifest.collections)
        return models.CollectionsResponse(collections=[models.CollectionDescription(name=name) for name in names])

    def get_collection(self, collection_name: str, **kwargs: Any) -> types.CollectionInfo:
        """A collection's definition and counts."""
        store = self._store
        collection = store.open(collection_name)
        config, indexes = store.config(collection.name), store.manifest.collections[collection.name].indexes
        info = collection.shard.info()
        return models.CollectionInfo(
            status=models.CollectionStatus.GREEN,
            optimizer_status=models.OptimizersStatusOneOf.OK,
            indexed_vectors_count=info.indexed_vectors_count,
            points_count=collection.shard.count(),
            segments_count=info.segments_count,
            config=_info_config(config),
            payload_schema={
                key: _index_info(schema, info.payload_schema[key].points)
                for key, schema in indexes.items()
                if key in info.payload_schema
            },
        )

    def create_payload_index(
        self, collection_name: str, field_name: str, field_schema: Any = None, field_type: Any = None, **kwargs: Any
    ) -> types.UpdateResult:
        """Index a payload field; a second index of a field replaces the first.

        Raises:
            ConfigError: no kind of index, or one that does not exist.
        """
        schema = field_schema if field_schema is not None else field_type
        if schema is None:
            raise ConfigError(f"Payload index of {field_name!r} has no field_schema. Give one, such as 'keyword'.")
        converted = to_edge_index(schema)
        stored = schema if isinstance(schema, str) else schema.model_dump(mode="json", exclude_none=True)
        collection = self._open(collection_name)
        collection.rules.check_new_index(field_name)
        with engine_errors(f"The payload index of {field_name!r} is refused", ConfigError):
            operation = edge.UpdateOperation.create_field_index(field_name, converted)
        collection.shard.write(operation)
        plain = str(getattr(stored, "value", stored)) if isinstance(stored, str) else stored
        self._store.set_index(collection_name, field_name, plain)
        return completed()

    def delete_payload_index(self, collection_name: str, field_name: str, **kwargs: Any) -> types.UpdateResult:
        """Drop a field's index, if there is one."""
        with engine_errors(f"The field {field_name!r} is refused", ConfigError):
            operation = edge.UpdateOperation.delete_field_index(field_name)
        self._open(collection_name).shard.write(operation)
        self._store.set_index(collection_name, field_name, None)
        return completed()

    def update_collection_aliases(
        self, change_aliases_operations: Sequence[types.AliasOperations], **kwargs: Any
    ) -> bool:
        """Create, delete and rename aliases; all of the operations or none."""
        with self._store.lock:
            manifest = self._store.manifest
            aliases = dict(manifest.aliases)
            for operation in change_aliases_operations:
                _change_alias(aliases, manifest.collections, operation)
            manifest.aliases = aliases
            self._store.save()
        return True

    def get_aliases(self, **kwargs: Any) -> types.CollectionsAliasesResponse:
        """All aliases."""
        return _aliases(self._store.manifest.aliases)

    def get_collection_aliases(self, collection_name: str, **kwargs: Any) -> types.CollectionsAliasesResponse:
        """The aliases of one collection."""
        aliases = self._store.manifest.aliases
        return _aliases({alias: name for alias, name in aliases.items() if name == collection_name})

    def info(self) -> types.VersionInfo:
        """The engine's name and version."""
        version = importlib.metadata.version("qdrant-edge-py")
        return models.VersionInfo(title="qdrant-edge, embedded by clip-qdrant", version=version, commit=None)


def _info_config(config: models.CreateCollection) -> models.CollectionConfig:
    hnsw = {} if config.hnsw_config is None else config.hnsw_config.model_dump(exclude_none=True)
    optimizers = {} if config.optimizers_config is None else config.optimizers_config.model_dump(exclude_none=True)
    threads = optimizers.get("max_optimization_threads")
    if not isinstance(threads, int):
        optimizers.pop("max_optimization_threads", None)
    return models.CollectionConfig(
        params=models.CollectionParams(
            vectors=config.vectors,
            sparse_vectors=config.sparse_vectors,
            on_disk_payload=config.on_disk_payload,
            shard_number=config.shard_number,
            replication_factor=config.replication_factor,
            write_consistency_factor=config.write_consistency_factor,
            payload=config.payload,
            id_tracker=config.id_tracker,
        ),
        hnsw_config=models.HnswConfig(**{**HNSW_DEFAULTS, **hnsw}),
        optimizer_config=models.OptimizersConfig(**{**_OPTIMIZER_DEFAULTS, **optimizers}),
        wal_config=models.WalConfig(wal_capacity_mb=32, wal_segments_ahead=0),
        quantization_config=config.quantization_config,
        strict_mode_config=_strict_output(config.strict_mode_config),
        metadata=config.metadata,
    )


def _strict_output(config: models.StrictModeConfig | None) -> models.StrictModeConfigOutput | None:
    return None if config is None else models.StrictModeConfigOutput(**config.model_dump(exclude_none=True))


def _index_info(schema: Any, points: int) -> models.PayloadIndexInfo:
    kind = schema if isinstance(schema, str) else schema["type"]
    params = None if isinstance(schema, str) else schema
    return models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind), params=params, points=points)


def _aliases(aliases: Mapping[str, str]) -> models.CollectionsAliasesResponse:
    described = [models.AliasDescription(alias_name=alias, collection_name=name) for alias, name in aliases.items()]
    return models.CollectionsAliasesResponse(aliases=described)


def _change_alias(aliases: dict[str, str], collections: Mapping[str, Any], operation: Any) -> None:
    if isinstance(operation, models.CreateAliasOperation):
        name, alias = operation.create_alias.collection_name, operation.create_alias.alias_name
        if name not in collections:
            raise MissingCollectionError(name)
        _check_new_alias(alias, collections)
        aliases[alias] = name
    elif isinstance(operation, models.DeleteAliasOperation):
        aliases.pop(operation.delete_alias.alias_name, None)
    elif isinstance(operation, models.RenameAliasOperation):
        old, new = operation.rename_alias.old_alias_name, operation.rename_alias.new_alias_name
        _check_new_alias(new, collections)
        if old not in aliases:
            raise ConfigError(f"Alias {old!r} does not exist. Make it with models.CreateAliasOperation.")
        aliases[new] = aliases.pop(old)
    else:
        raise ConfigError(f"{type(operation).__name__} is not an alias operation.")


def _check_new_alias(alias: str, collections: Mapping[str, Any]) -> None:
    validate_name(alias, "Alias")
    if alias in collections:
        raise CollectionExistsError(f"Collection {alias!r} already exists. Use another name for the alias.")
