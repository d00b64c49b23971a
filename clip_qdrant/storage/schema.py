"""What a collection holds: its vectors, its payload indexes, and the encoder that its vectors come from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from clip_qdrant.errors import CollectionMismatchError, ConfigError
from clip_qdrant.storage.edge.manifest import validate_name
from clip_qdrant.storage.filter_paths import payload_path
from clip_qdrant.storage.points import CONTENT_HASH, IMAGE, MODALITY, SOURCE, SYNTHETIC, TEXT
from clip_qdrant.types import Fingerprint

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

IndexKind = Literal["keyword", "prefix", "tenant", "integer", "float", "bool", "datetime", "geo", "text", "uuid"]
"""A kind of payload index. "prefix" is a keyword index that also serves {"path": {"prefix": …}}; "tenant" is one that
keeps a tenant's points together."""

OWN_INDEXES: dict[str, IndexKind] = {
    CONTENT_HASH: "keyword",
    SOURCE: "keyword",
    MODALITY: "keyword",
    "doc_id": "keyword",
    SYNTHETIC: "bool",
}
"""The payload indexes that every collection has."""

LEXICAL = "lexical"
"""The sparse vector of a collection that has one."""

_OVERSAMPLING = 3.0
_METADATA_KEY = "clip_qdrant"


class Hnsw(BaseModel):
    """The graph that approximate search walks.

    Attributes:
        m: edges a point; more find more, and take more memory. 0 builds no graph.
        ef_construct: candidates while building; more find more, and build slower.
        on_disk: keep the graph on disk.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int = Field(default=16, ge=0, le=1_024)
    ef_construct: int = Field(default=100, ge=4, le=10_000)
    on_disk: bool = False


class CollectionSchema(BaseModel):
    """The shape of a collection: vectors of one dimension by name, and payload indexes.

    What is None is Qdrant's own choice when the collection is made, and is not checked when it is there.

    Attributes:
        dim: of the vectors; None is the encoder's, where there is one.
        fingerprint: of the encoder they come from; stored with the collection, and checked ever after.
        vectors: names of the dense vectors.
        distance: that they are compared by; CLIP's vectors are of unit length, and compared by cosine.
        lexical: add a sparse vector `lexical` for words, weighted by their rarity (IDF).
        indexes: payload field -> kind of index, beside `OWN_INDEXES`.
        hnsw: of the index of the vectors.
        quantization: keep small copies of the vectors in memory, and the vectors on disk to rescore with: "int8" is a
            quarter, "turbo" (TurboQuant, 4 bits) an eighth.
        on_disk: read vectors from disk, and hold none in memory but the small copies.
        strict: refuse a filter on a field that has no index, which would read every point.
        shards: of a cluster.
        replicas: copies of each shard in a cluster.
        write_consistency: how many replicas must have a write before it returns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int | None = Field(default=None, ge=1, le=65_536)
    fingerprint: Fingerprint | None = None
    vectors: tuple[str, ...] = Field(default=(IMAGE, TEXT), min_length=1)
    distance: Literal["cosine", "dot", "euclid", "manhattan"] = "cosine"
    lexical: bool = False
    indexes: dict[str, IndexKind] = Field(default_factory=dict)
    hnsw: Hnsw | None = None
    quantization: Literal["int8", "turbo"] | None = None
    on_disk: bool | None = None
    strict: bool | None = None
    shards: int | None = Field(default=None, ge=1)
    replicas: int | None = Field(default=None, ge=1)
    write_consistency: int | None = Field(default=None, ge=1)

    @field_validator("vectors")
    @classmethod
    def _vector_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            validate_name(name, "Vector")
        if len(set(names)) < len(names):
            raise ConfigError(f"Each vector has a name of its own, got {names!r}.")
        return names

    @field_validator("indexes")
    @classmethod
    def _indexed_fields(cls, indexes: dict[str, IndexKind]) -> dict[str, IndexKind]:
        for field, kind in indexes.items():
            own = OWN_INDEXES.get(field)
            if own is not None and _data_type(kind) != own:
                raise ConfigError(f"The field {field!r} is this package's own, and needs an index of kind {own!r}.")
        return {payload_path(field): kind for field, kind in indexes.items()}

    def ensure(self, client: QdrantClient, name: str) -> None:
        """Create the collection, or check that the one there fits; either way the indexes are there afterwards.

        Raises:
            CollectionMismatchError: one of that name exists and holds something else; says all that differs.
            ConfigError: there is no dimension to make it with.
        """
        if not client.collection_exists(name):
            try:
                client.create_collection(name, **self._definition())
            except Exception:
                if not client.collection_exists(name):  # else another process made it just now
                    raise
        self.check(client, name)
        create_indexes(client, name, {**OWN_INDEXES, **self.indexes})

    def check(self, client: QdrantClient, name: str) -> None:
        """Hold an existing collection against this schema.

        Raises:
            CollectionMismatchError: it holds something else; the message says all that differs.
        """
        info = client.get_collection(name)
        self._check_encoder(info, name)
        differences = list(self._differences(info))
        if not is_local_mode(client):  # which keeps no parameters, and has nothing to gain from them
            differences += self._parameter_differences(info)
        if differences:
            raise CollectionMismatchError(
                f"Collection {name!r} is another than was asked for: {'; '.join(differences)}. "
                "Ask for what is there, change it with client.update_collection, or use another collection."
            )

    def _definition(self) -> dict[str, Any]:
        from qdrant_client import models

        if self.dim is None:
            raise ConfigError("A new collection needs a dimension. Give CollectionSchema `dim`, or an encoder.")
        distance = models.Distance[self.distance.upper()]
        vector = models.VectorParams(size=self.dim, distance=distance, on_disk=self.on_disk)
        known = {} if self.fingerprint is None else {"fingerprint": self.fingerprint.to_dict()}
        strict = models.StrictModeConfig(
            enabled=True, unindexed_filtering_retrieve=False, unindexed_filtering_update=False
        )
        optional = {
            "hnsw_config": None if self.hnsw is None else models.HnswConfigDiff(**self.hnsw.model_dump()),
            "quantization_config": _quantization(self.quantization),
            "strict_mode_config": strict if self.strict else None,
            "shard_number": self.shards,
            "replication_factor": self.replicas,
            "write_consistency_factor": self.write_consistency,
        }
        return {
            "vectors_config": dict.fromkeys(self.vectors, vector),
            "sparse_vectors_config": {LEXICAL: models.SparseVectorParams(modifier=models.Modifier.IDF)}
            if self.lexical
            else None,
            "metadata": {_METADATA_KEY: {"format": 1, **known}},
            **{key: value for key, value in optional.items() if value is not None},
        }

    def _check_encoder(self, info: models.CollectionInfo, name: str) -> None:
        vectors = dense_vectors(info)
        for wanted in self.vectors:
            if wanted not in vectors:
                raise CollectionMismatchError(
                    f"Collection {name!r} has no vector named {wanted!r} but "
                    f"{sorted(filter(None, vectors)) or 'one without a name'}: something else made it. "
                    "Use another collection."
                )
        theirs, ours, size = stored_fingerprint(info), self.fingerprint, vectors[self.vectors[0]].size
        if (self.dim or size) == size and not (ours and theirs and ours.digest != theirs.digest):
            return
        maker = f" of {theirs.model!r}" if theirs else ""
        space = f"{self.dim}-d" if size != self.dim else f"{self.dim}-d of another space"
        mine = f"{ours.model!r} makes {space}" if ours else f"{space} was asked for"
        raise CollectionMismatchError(
            f"Collection {name!r} holds {size}-d vectors{maker}, but {mine}. "
            "Use another collection, or the model that this one was made with."
        )

    def _differences(self, info: models.CollectionInfo) -> Iterator[str]:
        """What of the vectors and indexes differs."""
        for name in self.vectors:
            params = dense_vectors(info)[name]
            yield from _differs(f"the distance of {name!r}", params.distance.value.lower(), self.distance)
            yield from _differs(f"the dimension of {name!r}", params.size, self.dim)
        if self.lexical and LEXICAL not in (info.config.params.sparse_vectors or {}):
            yield f"there is no sparse vector {LEXICAL!r}"
        for field, kind in self.indexes.items():
            index = info.payload_schema.get(field)
            if index is not None:
                yield from _differs(f"the index of {field!r}", index.data_type.value, _data_type(kind))
                option = _INDEX_OPTIONS.get(kind)
                if option is not None and not getattr(index.params, option, None):
                    yield f"the index of {field!r} is without {option} (drop it, and it is made anew)"

    def _parameter_differences(self, info: models.CollectionInfo) -> Iterator[str]:
        """What of the parameters that were asked for differs."""
        config = info.config
        if self.hnsw is not None:
            for key, wanted in self.hnsw:
                yield from _differs(f"hnsw.{key}", getattr(config.hnsw_config, key) or 0, wanted)
        quantization = config.quantization_config
        yield from _differs("quantization", _quantization_name(quantization), self.quantization)
        strict_mode = config.strict_mode_config
        is_strict = bool(strict_mode and strict_mode.enabled and strict_mode.unindexed_filtering_retrieve is False)
        yield from _differs("strict", is_strict, self.strict)
        if self.on_disk is not None:
            for name in self.vectors:
                yield from _differs(f"on_disk of {name!r}", bool(dense_vectors(info)[name].on_disk), self.on_disk)
        yield from _differs("shards", config.params.shard_number, self.shards)
        yield from _differs("replicas", config.params.replication_factor, self.replicas)
        yield from _differs("write_consistency", config.params.write_consistency_factor, self.write_consistency)


def create_indexes(client: QdrantClient, name: str, indexes: Mapping[str, IndexKind]) -> None:
    """Make the payload indexes that are not there yet, by field."""
    present = client.get_collection(name).payload_schema
    with warnings.catch_warnings():
        # Local mode has no payload indexes and says so each time; a filter works without.
        warnings.filterwarnings("ignore", "Payload indexes have no effect", UserWarning)
        for field, kind in indexes.items():
            if field not in present:
                client.create_payload_index(name, field, field_schema=_index(kind))


def stored_fingerprint(info: models.CollectionInfo) -> Fingerprint | None:
    """The fingerprint stored with a collection, or None where none is."""
    own: dict[str, Any] = (info.config.metadata or {}).get(_METADATA_KEY, {})
    return Fingerprint.from_dict(own["fingerprint"]) if "fingerprint" in own else None


def search_params(info: models.CollectionInfo) -> models.SearchParams | None:
    """How to search a collection well: where it is quantised, more candidates than asked for, rescored in full.

    Left to itself Qdrant ranks by the small copies alone, and misses answers.
    """
    from qdrant_client import models

    dense = dense_vectors(info).values()
    if info.config.quantization_config is None and all(params.quantization_config is None for params in dense):
        return None
    return models.SearchParams(quantization=models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING))


def _differs(what: str, present: Any, wanted: Any) -> Iterator[str]:
    if wanted is not None and present != wanted:
        yield f"{what} is {present!r}, not {wanted!r}"


def dense_vectors(info: models.CollectionInfo) -> Mapping[str, models.VectorParams]:
    """An existing collection's dense vectors by name; the unnamed one has the name ""."""
    vectors = info.config.params.vectors
    return vectors if isinstance(vectors, dict) else {"": vectors} if vectors is not None else {}


_INDEX_OPTIONS: dict[str, str] = {"prefix": "prefix", "tenant": "is_tenant", "text": "phrase_matching"}
"""The option that makes such an index what it is: without phrase_matching Qdrant finds no phrase, and does not say."""


def _index(kind: IndexKind) -> Any:
    from qdrant_client import models

    option = _INDEX_OPTIONS.get(kind)
    if option is None:
        return models.PayloadSchemaType(kind)
    params: Any = models.TextIndexParams if kind == "text" else models.KeywordIndexParams
    return params(type=_data_type(kind), **{option: True})


def _data_type(kind: IndexKind) -> str:
    return "keyword" if kind in ("prefix", "tenant") else kind


def _quantization(name: str | None) -> Any:
    from qdrant_client import models

    if name is None:
        return None
    if name == "int8":
        int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        return models.ScalarQuantization(scalar=int8)
    turbo = models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4, always_ram=True)
    return models.TurboQuantization(turbo=turbo)


def _quantization_name(config: Any) -> str | None:
    """Of a stored configuration: ours where it is one of ours, else Qdrant's."""
    if config is None:
        return None
    (kind,) = type(config).model_fields
    return "int8" if kind == "scalar" else str(kind)


def is_local_mode(client: QdrantClient) -> bool:
    """Whether a client is qdrant-client's local mode, in memory or in a folder."""
    from qdrant_client.local.qdrant_local import QdrantLocal

    return isinstance(client._client, QdrantLocal)
