"""What a collection is besides its points: made in the target like in the source, or compared with what is there."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import CollectionMismatchError, UnsupportedError
from clip_qdrant.storage.edge.strict import check_strict_mode
from clip_qdrant.storage.migrate.contents import HALF_TOLERANCE, VECTOR_TOLERANCE, VectorRule
from clip_qdrant.storage.schema import dense_vectors, is_local_mode, stored_fingerprint

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_PARAMETERS = (
    "shard_number",
    "replication_factor",
    "write_consistency_factor",
    "on_disk_payload",
    "payload",
    "id_tracker",
)


def check_same_shape(name: str, source: models.CollectionInfo, target: models.CollectionInfo) -> None:
    """Refuse a target that cannot hold the source's points, or holds those of another encoder.

    Raises:
        CollectionMismatchError: says all that differs.
    """
    shape, other = _shape(source), _shape(target)
    differences = list(_differences(shape, other, {**shape, **other}))
    theirs, ours = stored_fingerprint(target), stored_fingerprint(source)
    if (theirs and theirs.digest) != (ours and ours.digest):
        of = [f"of {one.model!r}" if one else "of an unknown encoder" for one in (theirs, ours)]
        differences.append(f"its vectors are {of[0]}, not {of[1]}")
    if differences:
        raise CollectionMismatchError(
            f"Collection {name!r} of the target is another than the source's: {'; '.join(differences)}. "
            "Nothing was written. Use another target, or move that collection out of the way."
        )


def create(source: QdrantClient, target: QdrantClient, name: str) -> None:
    """Make the collection in the target, if it is not there, and those of its payload indexes that are not there.

    Everything is carried over that the source reports and the target can keep.
    """
    info = source.get_collection(name)
    if not target.collection_exists(name):
        target.create_collection(name, **_options(info.config, is_local_mode(source), target))
    present = target.get_collection(name).payload_schema
    with warnings.catch_warnings():
        # Local mode has no payload indexes and says so each time; a filter works without.
        warnings.filterwarnings("ignore", "Payload indexes have no effect", UserWarning)
        for field, schema in _indexes(source, name, info).items():
            if field not in present:
                target.create_payload_index(name, field, field_schema=schema)


def create_aliases(source: QdrantClient, target: QdrantClient, name: str) -> None:
    """Make those of the collection's aliases that the target has not."""
    from qdrant_client import models

    for alias in _aliases(source, name):
        if not target.collection_exists(alias):
            wanted = models.CreateAlias(collection_name=name, alias_name=alias)
            target.update_collection_aliases([models.CreateAliasOperation(create_alias=wanted)])


def left_out(source: QdrantClient, target: QdrantClient, name: str) -> Iterator[str]:
    """What of the definition is otherwise in the target, in words."""
    wanted, present = (_described(client.get_collection(name)) for client in (source, target))
    if is_local_mode(source):  # which keeps no parameters: those that it reports are made up
        wanted = {key: value for key, value in wanted.items() if key.startswith("metadata")}
    yield from _differences(wanted, present, wanted)
    for alias in sorted(_aliases(source, name) - _aliases(target, name)):
        yield f"alias {alias!r} does not lead to it"


def vector_rules(info: models.CollectionInfo) -> dict[str, VectorRule]:
    """How the dense vectors of a collection are compared, by name."""
    rules = {}
    for name, params in dense_vectors(info).items():
        datatype = _datatype(params.datatype)
        # Bytes are not scaled to unit length, which none of them have.
        is_scaled = params.distance.value == "Cosine" and datatype != "uint8"
        rules[name] = VectorRule(HALF_TOLERANCE if datatype == "float16" else VECTOR_TOLERANCE, is_scaled)
    return rules


def largest_page(wanted: int, *collections: models.CollectionInfo) -> int:
    """How many points one request may read or write, given what strict mode allows."""
    strict = [info.config.strict_mode_config for info in collections]
    limits = [(mode.max_query_limit, mode.upsert_max_batchsize) for mode in strict if mode and mode.enabled]
    return min([wanted, *(limit for pair in limits for limit in pair if limit)])


def is_custom_sharded(info: models.CollectionInfo) -> bool:
    """Whether points are placed by shard keys of the user's."""
    method = info.config.params.sharding_method
    return method is not None and method.value == "custom"


def _indexes(source: QdrantClient, name: str, info: models.CollectionInfo) -> dict[str, Any]:
    """Payload field -> its index. Local mode has those for scored texts only, and does not report them."""
    client: Any = source._client
    unreported = getattr(client.collections[name], "text_indexes", {}) if is_local_mode(source) else {}
    return {**unreported, **{field: index.params or index.data_type for field, index in info.payload_schema.items()}}


def _options(config: models.CollectionConfig, from_local_mode: bool, target: QdrantClient) -> dict[str, Any]:
    from qdrant_client import models

    params = config.params
    options: dict[str, Any] = {
        "vectors_config": params.vectors or {},
        "sparse_vectors_config": params.sparse_vectors,
        "metadata": config.metadata,
    }
    if not from_local_mode:  # whose parameters are made up
        options |= {
            "hnsw_config": models.HnswConfigDiff(**config.hnsw_config.model_dump(exclude_none=True)),
            "optimizers_config": models.OptimizersConfigDiff(**config.optimizer_config.model_dump(exclude_none=True)),
            "wal_config": config.wal_config and models.WalConfigDiff(**config.wal_config.model_dump(exclude_none=True)),
            "quantization_config": config.quantization_config,
            "strict_mode_config": _strict_mode(config.strict_mode_config, target),
            **{key: getattr(params, key) for key in _PARAMETERS},
        }
    return {key: value for key, value in options.items() if value is not None}


def _strict_mode(mode: models.StrictModeConfigOutput | None, target: QdrantClient) -> models.StrictModeConfig | None:
    from qdrant_client import models

    from clip_qdrant.storage.edge.client import EmbeddedQdrantClient

    if mode is None:
        return None
    limits = mode.model_dump(exclude_none=True)
    if isinstance(target, EmbeddedQdrantClient):
        limits = {key: limit for key, limit in limits.items() if _can_be_embedded(key, limit)}
    return models.StrictModeConfig(**limits)


def _can_be_embedded(key: str, limit: Any) -> bool:
    from qdrant_client import models

    try:
        check_strict_mode(models.StrictModeConfig(**{key: limit}))
    except UnsupportedError:
        return False
    return True


def _shape(info: models.CollectionInfo) -> dict[str, Any]:
    """What must be the same for points to be copied."""
    shape: dict[str, Any] = {}
    for name, params in dense_vectors(info).items():
        at = f"vector {name!r}"
        shape[f"{at}: size"], shape[f"{at}: distance"] = params.size, params.distance.value
        shape[f"{at}: datatype"] = _datatype(params.datatype)
        multi = params.multivector_config
        shape[f"{at}: multivector"] = None if multi is None else multi.comparator.value
    for name, sparse in (info.config.params.sparse_vectors or {}).items():
        modifier = sparse.modifier
        shape[f"sparse vector {name!r}: modifier"] = "none" if modifier is None else modifier.value
    return shape


def _described(info: models.CollectionInfo) -> dict[str, Any]:
    config = info.config.model_dump(mode="json", exclude_none=True, exclude={"wal_config"})  # each engine has its own
    indexes = {
        field: index.model_dump(mode="json", exclude_none=True, exclude={"points"})
        for field, index in info.payload_schema.items()
    }
    return dict(_flat({**config, "payload index": indexes}))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _differences(wanted: Mapping[str, Any], present: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        if wanted.get(key) != present.get(key):
            yield f"{key} is {present.get(key)!r}, not {wanted.get(key)!r}"


def _datatype(datatype: models.Datatype | None) -> str:
    return "float32" if datatype is None else str(datatype.value)


def _aliases(client: QdrantClient, name: str) -> set[str]:
    return {alias.alias_name for alias in client.get_collection_aliases(name).aliases}
