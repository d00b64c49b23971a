"""Collection and index definitions: qdrant-client's models to the engine's.

The engine's classes take the names that the client's models have, so one generic converter serves them all.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.edge.errors import engine_errors
from clip_qdrant.storage.edge.native import edge

if TYPE_CHECKING:
    from pydantic import BaseModel
    from qdrant_client import models

HNSW_DEFAULTS = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000}

_RENAMED = {
    "Datatype": "VectorStorageDatatype",
    "NoStemmer": "DisabledStemmer",
    "DisabledStemmerParams": "DisabledStemmer",
    "HnswConfigDiff": "HnswIndexConfig",
    "OptimizersConfigDiff": "EdgeOptimizersConfig",
}
"""Where the engine's name for a class differs."""

_NOT_IN_ENGINE = {"EdgeOptimizersConfig": {"memmap_threshold", "flush_interval_sec", "max_optimization_threads"}}


def to_edge_enum(value: Enum) -> Any:
    """The engine's member of the same name: `Distance.COSINE` to `edge.Distance.Cosine`."""
    return _named_member(getattr(edge, _RENAMED.get(type(value).__name__, type(value).__name__)), str(value.value))


def to_edge_struct(model: BaseModel, **defaults: Any) -> Any:
    """The engine's object for a params model, field by field; unset fields keep the engine's defaults."""
    name = type(model).__name__
    target = _RENAMED.get(name, name)
    skipped = _NOT_IN_ENGINE.get(target, set())
    fields = {key: getattr(model, key) for key in type(model).model_fields if key not in skipped}
    if "type" in fields and target not in ("ScalarQuantizationConfig", "TextScoringParams"):
        del fields["type"]  # the discriminator of a union; in the engine the class says it
    given = {key: _to_edge_value(value) for key, value in fields.items() if value is not None}
    return getattr(edge, target)(**{**defaults, **given})


def to_edge_config(config: models.CreateCollection) -> Any:
    """The engine's definition of a collection.

    Raises:
        ConfigError: the engine refuses it.
    """
    with engine_errors("The collection's definition is refused", ConfigError):
        return edge.EdgeConfig(
            vectors={name: _to_edge_vector(params) for name, params in dense_vectors(config).items()},
            sparse_vectors={name: _to_edge_sparse(params) for name, params in (config.sparse_vectors or {}).items()},
            on_disk_payload=config.on_disk_payload,
            hnsw_config=_hnsw(config.hnsw_config),
            quantization_config=_quantization(config.quantization_config),
            optimizers=None if config.optimizers_config is None else to_edge_struct(config.optimizers_config),
            payload_memory=_memory(config.payload),
            id_tracker_memory=_memory(config.id_tracker),
        )


def dense_vectors(config: models.CreateCollection) -> dict[str, models.VectorParams]:
    """Dense vectors by name; the unnamed one has the name ""."""
    vectors = config.vectors
    if vectors is None:
        return {}
    return dict(vectors) if isinstance(vectors, dict) else {"": vectors}


def to_edge_index(schema: Any) -> Any:
    """The engine's index definition for a `PayloadSchemaType`, its name, or params.

    Raises:
        ConfigError: not an index that there is.
    """
    with engine_errors(f"Payload index {schema!r} is refused", ConfigError):
        if isinstance(schema, (str, Enum)):
            return _named_member(edge.PayloadSchemaType, str(getattr(schema, "value", schema)))
        return to_edge_struct(schema)


def _named_member(cls: Any, value: str) -> Any:
    wanted = value.replace("_", "").lower()
    for name in dir(cls):
        if name.replace("_", "").lower() == wanted and not name.startswith("_"):
            return getattr(cls, name)
    names = ", ".join(repr(name.lower()) for name in dir(cls) if not name.startswith("_"))
    raise ConfigError(f"{value!r} is not a {cls.__name__}. Use one of {names}.")


def _to_edge_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return to_edge_enum(value)
    if hasattr(type(value), "model_fields"):
        return to_edge_struct(value)
    if isinstance(value, list):  # of stopwords, which are sets in the engine
        return {_to_edge_value(item) for item in value}
    return value


def _to_edge_vector(params: models.VectorParams) -> Any:
    return edge.EdgeVectorParams(
        size=params.size,
        distance=to_edge_enum(params.distance),
        on_disk=params.on_disk,
        multivector_config=None if params.multivector_config is None else to_edge_struct(params.multivector_config),
        datatype=None if params.datatype is None else to_edge_enum(params.datatype),
        quantization_config=_quantization(params.quantization_config),
        hnsw_config=_hnsw(params.hnsw_config),
        memory=_memory(params),
    )


def _to_edge_sparse(params: models.SparseVectorParams) -> Any:
    index = params.index
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=None if index is None else index.full_scan_threshold,
        on_disk=None if index is None else index.on_disk,
        modifier=edge.Modifier.Idf if params.modifier is not None and params.modifier.value == "idf" else None,
        datatype=None if index is None or index.datatype is None else to_edge_enum(index.datatype),
        memory=_memory(index),
    )


def _hnsw(diff: models.HnswConfigDiff | None) -> Any:
    return None if diff is None else to_edge_struct(diff, **HNSW_DEFAULTS)


def _quantization(config: Any) -> Any:
    """The client wraps the params of each kind in a model with one field, named after the kind."""
    if config is None:
        return None
    (kind,) = type(config).model_fields
    return to_edge_struct(getattr(config, kind))


def _memory(params: Any) -> Any:
    return None if params is None or params.memory is None else to_edge_enum(params.memory)
