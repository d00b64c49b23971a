"""What a `ClipQdrantVectorStore` is made with: the stock store's arguments, held against what there is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.vector_store_config import schema_fields
from clip_qdrant.storage.connect import connect
from clip_qdrant.storage.points import IMAGE, TEXT
from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors_checks import whole_number

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, QdrantClient, models

    from clip_qdrant.types import Encoder

_INSTEAD = {
    "sparse_config": "enable_hybrid=True, whose words are weighted by rarity",
    "fastembed_sparse_model": "enable_hybrid=True, whose BM25 downloads nothing, or that model's functions as "
    "sparse_doc_fn and sparse_query_fn",
    "sharding_method": "schema=CollectionSchema(shards=…), or a payload index of kind 'tenant' to keep owners apart",
    "shard_key_selector_fn": "a filter on a payload index of kind 'tenant'",
    "shard_keys": "a filter on a payload index of kind 'tenant'",
    "shard_identifier": "a filter on a payload index of kind 'tenant'",
}
_CONSTANTS = {"stores_text": True, "flat_metadata": False, "is_embedding_query": True, "index_doc_id": True}


def refuse_arguments(where: str, given: Mapping[str, Any]) -> None:
    """Refuse arguments that there are not, or that make no sense here.

    Raises:
        ConfigError: it names the argument, and what to use instead.
    """
    for name, value in given.items():
        if name in _INSTEAD:
            if value is not None:
                raise ConfigError(f"{where} does not take {name}. Use {_INSTEAD[name]}.")
        elif name not in _CONSTANTS:
            raise ConfigError(f"{where} has no argument {name!r}.")
        elif value != _CONSTANTS[name]:
            raise ConfigError(f"{where} has {name}={_CONSTANTS[name]} always, got {value!r}. Leave it out.")


def check_upload(batch_size: int, parallel: int, max_retries: int) -> None:
    """Refuse numbers by which nothing would be written.

    Raises:
        ConfigError: it names the argument.
    """
    whole_number("batch_size", batch_size, 1)
    whole_number("parallel", parallel, 1)
    whole_number("max_retries", max_retries, 0)


def unless(default: str, name: str | None) -> str | None:
    """A name, or None where it is the default: that is what a store has that is made again of its `to_dict`."""
    return None if name == default else name


def open_client(
    client: QdrantClient | None,
    aclient: AsyncQdrantClient | None,
    url: str | None,
    api_key: str | None,
    options: Mapping[str, Any],
) -> QdrantClient:
    """The client that was given, or one of a URL, a folder or memory, or of the server that `aclient` is for.

    Raises:
        ConfigError: there is no way to one, `client` is none, or `aclient` has data of its own.
    """
    from qdrant_client import QdrantClient
    from qdrant_client.async_qdrant_remote import AsyncQdrantRemote
    from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal

    if aclient is not None and isinstance(aclient._client, AsyncQdrantLocal):
        raise ConfigError(
            "aclient is in local mode, whose data no other client sees. Leave it out and give client: "
            "the async methods use it from threads."
        )
    if client is not None:
        if not isinstance(client, QdrantClient):
            raise ConfigError(f"client is a QdrantClient, got {type(client).__name__}. Give client=connect(…).")
        return client
    if url is not None:
        return connect(url, api_key=api_key, **options)
    if aclient is not None and isinstance(aclient._client, AsyncQdrantRemote):
        return QdrantClient(**aclient.init_options)
    raise ConfigError(
        "The store needs a client. Give client=connect(…), or url= of a server; the async methods need no other."
    )


def wanted_schema(
    schema: CollectionSchema | None,
    encoder: Encoder | None,
    *,
    dense_vector_name: str | None,
    enable_hybrid: bool,
    payload_indexes: Sequence[Mapping[str, Any]] | None,
    dense_config: models.VectorParams | None = None,
    quantization_config: Any = None,
    **numbers: int | None,
) -> CollectionSchema:
    """The shape that a new collection gets, and what is asked of one that is there.

    Args:
        schema: what was asked for, or None.
        encoder: its dimension and fingerprint become the collection's.
        dense_vector_name: of the one dense vector, instead of `image` and `text`.
        enable_hybrid: add the sparse vector `lexical`.
        payload_indexes: as the stock store takes them: [{"field_name": "year", "field_schema": "integer"}].
        dense_config: as Qdrant and the stock store have it (`vector_store_config`).
        quantization_config: the same.
        **numbers: fields of the schema under their names.

    Raises:
        ConfigError: an index or vectors that cannot be.
    """
    wanted = dict(schema or CollectionSchema()) | {key: value for key, value in numbers.items() if value is not None}
    wanted |= schema_fields(dense_config, quantization_config)
    if encoder is not None:
        if dense_config is not None and dense_config.size != encoder.dim:
            raise ConfigError(
                f"dense_config has the size {dense_config.size}, but {encoder.fingerprint.model!r} makes "
                f"{encoder.dim}-d vectors. Give that size."
            )
        wanted |= {"dim": encoder.dim, "fingerprint": encoder.fingerprint}
    if dense_vector_name is not None:
        wanted["vectors"] = (dense_vector_name,)
    if len(wanted["vectors"]) > 1 and not {IMAGE, TEXT} <= set(wanted["vectors"]):
        raise ConfigError(
            f"A collection has the vectors 'image' and 'text', or one of any name, not {wanted['vectors']!r}."
        )
    wanted["lexical"] = wanted["lexical"] or enable_hybrid
    wanted["indexes"] = {**wanted["indexes"], **dict(map(_index, payload_indexes or ()))}
    return CollectionSchema(**wanted)


def _index(given: Mapping[str, Any]) -> tuple[str, Any]:
    kind = given.get("field_schema")
    name = getattr(kind, "value", kind)
    if set(given) != {"field_name", "field_schema"} or not isinstance(name, str):
        raise ConfigError(
            f"A payload index is {{'field_name': 'year', 'field_schema': 'integer'}}, got {dict(given)!r}. "
            "What has more to say is given as schema=CollectionSchema(indexes=…)."
        )
    return given["field_name"], name
