"""Changes of a collection's definition, as `models.CreateCollection` to `models.CreateCollection`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.edge.convert_config import dense_vectors
from clip_qdrant.storage.edge.convert_points import to_edge_payload

if TYPE_CHECKING:
    from pydantic import BaseModel
    from qdrant_client import models


NOT_OF_THE_SHARD = frozenset({"metadata", "strict_mode_config"})
"""Options that only we keep; the engine does not know them."""


def updated(config: models.CreateCollection, collection: str, changes: Mapping[str, Any]) -> models.CreateCollection:
    """The definition after `QdrantClient.update_collection` with these arguments; all of them or an error.

    Raises:
        ConfigError: an unknown option, or a vector that is not there.
    """
    result = config
    for option, change in changes.items():
        if change is None:
            continue
        apply = _OPTIONS.get(option)
        if apply is None:
            raise ConfigError(f"update_collection has no option {option!r}. Use one of {', '.join(sorted(_OPTIONS))}.")
        result = result.model_copy(update=apply(result, change, collection))
    return type(config)(**result.model_dump(mode="json", exclude_none=True))


def with_vector(
    config: models.CreateCollection, collection: str, name: str, wanted: Any
) -> tuple[models.CreateCollection, models.VectorParams | models.SparseVectorParams | None]:
    """The definition with a named vector added, and its params; None where it is there already, just so.

    Raises:
        ConfigError: there is another vector of that name, or `wanted` describes none.
    """
    from qdrant_client import models

    params: models.VectorParams | models.SparseVectorParams
    compared: tuple[str, ...]
    if isinstance(wanted, models.DenseVectorNameConfig):
        params = models.VectorParams(**wanted.dense.model_dump(exclude_none=True))
        compared = ("size", "distance", "multivector_config")
    elif isinstance(wanted, models.SparseVectorNameConfig):
        datatype = wanted.sparse.datatype
        index = None if datatype is None else models.SparseIndexParams(datatype=models.Datatype(datatype.value))
        params = models.SparseVectorParams(modifier=wanted.sparse.modifier, index=index)
        compared = ("modifier",)
    else:
        raise ConfigError(
            f"A vector is configured by models.DenseVectorNameConfig or SparseVectorNameConfig, got {wanted!r}."
        )
    dense, sparse = dense_vectors(config), dict(config.sparse_vectors or {})
    there = {**dense, **sparse}.get(name)
    if there is None:
        if isinstance(params, models.VectorParams):
            return config.model_copy(update={"vectors": {**dense, name: params}}), params
        return config.model_copy(update={"sparse_vectors": {**sparse, name: params}}), params
    if type(there) is type(params) and all(getattr(there, key) == getattr(params, key) for key in compared):
        return config, None
    raise ConfigError(
        f"Vector {name!r} of collection {collection!r} already exists with a different configuration. "
        "Use another name, or delete_vector_name it first."
    )


def without_vector(config: models.CreateCollection, collection: str, name: str) -> models.CreateCollection | None:
    """The definition without a named vector; None where there is none of that name.

    Raises:
        ConfigError: it is unnamed, or the only one, which the engine cannot be without.
    """
    dense, sparse = dense_vectors(config), dict(config.sparse_vectors or {})
    if name not in dense and name not in sparse:
        return None
    if not name or len(dense) + len(sparse) == 1:
        raise ConfigError(
            f"Vector {name!r} of collection {collection!r} cannot be deleted: it is unnamed, or the only one. "
            "Delete the collection, or create another vector first."
        )
    dense.pop(name, None)
    sparse.pop(name, None)
    return config.model_copy(update={"vectors": dense, "sparse_vectors": sparse or None})


def _merged(present: BaseModel | None, change: BaseModel) -> BaseModel:
    """A params model with the set fields of another one over it."""
    if present is None:
        return change
    fields = {key: getattr(change, key) for key in change.model_fields_set if getattr(change, key) is not None}
    return present.model_copy(update=fields)


def _quantization(change: Any) -> Any:
    from qdrant_client import models

    return None if isinstance(change, models.Disabled) else change


def _metadata(config: models.CreateCollection, change: Any, collection: str) -> dict[str, Any]:
    changes = to_edge_payload(change, f"Metadata of collection {collection!r}")
    merged = {**(config.metadata or {}), **changes}
    return {"metadata": {key: value for key, value in merged.items() if value is not None}}


def _vectors(config: models.CreateCollection, change: Mapping[str, Any], collection: str) -> dict[str, Any]:
    vectors = dense_vectors(config)
    for name, diff in change.items():
        _check_known(name, vectors, collection)
        fields = {key: getattr(diff, key) for key in diff.model_fields_set if getattr(diff, key) is not None}
        if "quantization_config" in fields:
            fields["quantization_config"] = _quantization(fields["quantization_config"])
        if "hnsw_config" in fields:
            fields["hnsw_config"] = _merged(vectors[name].hnsw_config, fields["hnsw_config"])
        vectors[name] = vectors[name].model_copy(update=fields)
    return {"vectors": vectors[""] if set(vectors) == {""} else vectors}


def _sparse_vectors(config: models.CreateCollection, change: Mapping[str, Any], collection: str) -> dict[str, Any]:
    vectors = dict(config.sparse_vectors or {})
    for name, diff in change.items():
        _check_known(name, vectors, collection)
        index = vectors[name].index if diff.index is None else _merged(vectors[name].index, diff.index)
        vectors[name] = _merged(vectors[name], diff).model_copy(update={"index": index})  # type: ignore[assignment]
    return {"sparse_vectors": vectors}


def _check_known(name: str, vectors: Mapping[str, Any], collection: str) -> None:
    if name not in vectors:
        raise ConfigError(
            f"Wrong input: Not existing vector name error: collection {collection!r} has no such vector {name!r}. "
            f"It has {', '.join(map(repr, vectors)) or 'none of that kind'}."
        )


def _params(config: models.CreateCollection, change: Any, collection: str) -> dict[str, Any]:
    known = type(config).model_fields
    return {key: getattr(change, key) for key in change.model_fields_set if key in known}


_OPTIONS: Mapping[str, Any] = {
    "metadata": _metadata,
    "vectors_config": _vectors,
    "sparse_vectors_config": _sparse_vectors,
    "collection_params": _params,
    "hnsw_config": lambda config, change, _: {"hnsw_config": _merged(config.hnsw_config, change)},
    "optimizers_config": lambda config, change, _: {"optimizers_config": _merged(config.optimizers_config, change)},
    "quantization_config": lambda config, change, _: {"quantization_config": _quantization(change)},
    "strict_mode_config": lambda config, change, _: {"strict_mode_config": _merged(config.strict_mode_config, change)},
}
