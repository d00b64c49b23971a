"""LlamaIndex's vector store over a collection of pictures and texts: in place of `QdrantVectorStore`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from clip_qdrant.errors import CollectionMismatchError
from clip_qdrant.llamaindex.embedding import encoder_of
from clip_qdrant.llamaindex.metadata_filters import to_qdrant_filter
from clip_qdrant.llamaindex.turns import Turns
from clip_qdrant.llamaindex.vector_store_collection import LazyCollection
from clip_qdrant.llamaindex.vector_store_layout import Legs, check_embeddings
from clip_qdrant.llamaindex.vector_store_options import (
    check_upload,
    open_client,
    refuse_arguments,
    unless,
    wanted_schema,
)
from clip_qdrant.llamaindex.vector_store_points import (
    bm25_documents,
    deletions,
    of_document,
    points_of,
    selections,
    upload,
)
from clip_qdrant.llamaindex.vector_store_queries import SearchedVectorStore
from clip_qdrant.llamaindex.vector_store_search import check_options
from clip_qdrant.storage.points import CAPTION, IMAGE, TEXT
from clip_qdrant.storage.schema import LEXICAL, CollectionSchema
from clip_qdrant.storage.vectors_checks import pages, whole_number
from clip_qdrant.storage.vectors_scan import scan_by_id

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores import MetadataFilters
    from llama_index.vector_stores.qdrant.utils import HybridFusionCallable, SparseEncoderCallable
    from qdrant_client import AsyncQdrantClient, QdrantClient, models

    from clip_qdrant.llamaindex.embedding import ClipEmbedding
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.types import Encoder


class ClipQdrantVectorStore(SearchedVectorStore):
    """Holds pictures and texts in one collection: the vectors `image` and `text`, and of words `lexical`.

    The vector of a picture's node is its image vector, of any other node its text vector. With an encoder the captions
    of pictures get their text vectors here. A query is compared with both kinds. What this package's other parts have
    written is read and searched, and they read what is written here; so is what LlamaIndex's own store has written.

    A new collection is made when the first nodes come. One client serves all: the async methods call it from threads.

    Args:
        collection_name: of the collection.
        client: a server, a folder or memory; it is not closed here.
        aclient: of the same server, for the queries of `aquery`; there need not be one.
        url: in place of a client: whatever `connect` takes.
        api_key: of the server; it is in no `repr` and no `to_dict`.
        batch_size: how many points are made and written at a time.
        parallel: how many processes send points to a server.
        max_retries: how often a batch is sent to a server that does not take it.
        client_kwargs: more arguments of the client that is made.
        enable_hybrid: add `lexical`, for the modes HYBRID, SPARSE and TEXT_SEARCH; BM25, which downloads nothing.
        sparse_doc_fn: makes the sparse vectors of nodes' texts, instead of BM25: texts -> (indices, values), which a
            new collection weighs by rarity (IDF).
        sparse_query_fn: makes that of a query's text.
        hybrid_fusion_fn: makes one result of a dense and a sparse one, instead of reciprocal rank fusion.
        index_doc_id: true; there always is an index of `doc_id`.
        text_key: the payload's key of the text, for points that no LlamaIndex has written.
        dense_vector_name: have one dense vector of this name, for pictures and texts alike; "image" is as if left out.
        sparse_vector_name: the sparse vector of an existing collection, if it has several.
        dense_config, quantization_config: Qdrant's, for what `schema` says by other names (`vector_store_config`).
        shard_number: of a new collection in a cluster.
        replication_factor: copies of each shard.
        write_consistency_factor: how many copies must have a write before it returns.
        payload_indexes: [{"field_name": "year", "field_schema": "integer"}], made if they are not there.
        encoder: of the vectors, also as a `ClipEmbedding`. Its fingerprint is stored, and checked.
        schema: what else a new collection shall be, and an existing one must be.
        using: which vectors a query is compared with: "image", "text" or "both".
        **other: of the stock store's, what makes no sense here; each is refused with what to use instead.

    Raises:
        ConfigError: an argument that there is not, or that makes no sense.
        CollectionMismatchError: the collection there is of another encoder, or is another than was asked for.
    """

    api_key: str | None = Field(default=None, exclude=True, repr=False)
    client_kwargs: dict[str, Any] = Field(default_factory=dict, repr=False)

    _encoder: Any = PrivateAttr(default=None)
    _owns_client: bool = PrivateAttr()

    def __init__(
        self,
        collection_name: str,
        client: QdrantClient | None = None,
        aclient: AsyncQdrantClient | None = None,
        url: str | None = None,
        api_key: str | None = None,
        batch_size: int = 64,
        parallel: int = 1,
        max_retries: int = 3,
        client_kwargs: dict[str, Any] | None = None,
        *,
        enable_hybrid: bool = False,
        sparse_doc_fn: SparseEncoderCallable | None = None,
        sparse_query_fn: SparseEncoderCallable | None = None,
        hybrid_fusion_fn: HybridFusionCallable | None = None,
        index_doc_id: bool = True,
        text_key: str | None = CAPTION,
        dense_vector_name: str | None = None,
        sparse_vector_name: str | None = None,
        dense_config: models.VectorParams | None = None,
        quantization_config: models.QuantizationConfig | None = None,
        shard_number: int | None = None,
        replication_factor: int | None = None,
        write_consistency_factor: int | None = None,
        payload_indexes: list[dict[str, Any]] | None = None,
        encoder: Encoder | ClipEmbedding | None = None,
        schema: CollectionSchema | None = None,
        using: Legs = "both",
        **other: Any,
    ) -> None:
        refuse_arguments(type(self).__name__, {**other, "index_doc_id": index_doc_id})
        check_options({"using": using})
        check_upload(batch_size, parallel, max_retries)
        fields: dict[str, Any] = {
            "collection_name": collection_name, "url": url, "api_key": api_key, "batch_size": batch_size,
            "parallel": parallel, "max_retries": max_retries, "client_kwargs": client_kwargs or {},
            "enable_hybrid": enable_hybrid, "index_doc_id": True, "fastembed_sparse_model": None,
            "text_key": text_key or CAPTION, "dense_vector_name": dense_vector_name or IMAGE,
            "sparse_vector_name": sparse_vector_name or LEXICAL, "using": using,
        }  # fmt: skip
        # Past the stock constructor, which loads models, and asks Qdrant for what is asked below.
        BasePydanticVectorStore.__init__(self, **fields)
        self._encoder = None if encoder is None else encoder_of(encoder)
        shape = wanted_schema(
            schema, self._encoder, dense_vector_name=unless(IMAGE, dense_vector_name), enable_hybrid=enable_hybrid,
            payload_indexes=payload_indexes, dense_config=dense_config, quantization_config=quantization_config,
            shards=shard_number, replicas=replication_factor, write_consistency=write_consistency_factor,
        )  # fmt: skip
        self.set_query_functions(sparse_doc_fn, sparse_query_fn, hybrid_fusion_fn)
        self._client = open_client(client, aclient, url, api_key, client_kwargs or {})
        self._owns_client = client is None
        self._turns = Turns(self._client)
        self._aclient = aclient  # type: ignore[assignment]  # the stock store has it unset
        self._collection = LazyCollection(
            self._client, collection_name, shape, sparse=unless(LEXICAL, sparse_vector_name),
            any_distance=(schema, dense_config) == (None, None), own_words=None not in (sparse_doc_fn, sparse_query_fn),
        )  # fmt: skip
        if self._collection.find() is not None:
            self._opened()

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises this component by."""
        return "ClipQdrantVectorStore"

    @property
    def aclient(self) -> Any:
        """The asynchronous client, or None: there need not be one."""
        return self._aclient

    @property
    def collection_schema(self) -> CollectionSchema:
        """What a new collection gets, and an existing one is asked for."""
        return self._collection.schema

    @property
    def is_by_kind(self) -> bool:
        """Whether pictures and texts have vectors of their own, as in all that this package makes by itself."""
        layout = self._collection.find()
        return set(self.collection_schema.vectors if layout is None else layout.legs.values()) == {IMAGE, TEXT}

    def use_encoder(self, encoder: Encoder) -> None:
        """Take the encoder of an index over this store, which has none of its own, or the same.

        Raises:
            CollectionMismatchError: the store, or its collection, has another.
        """
        if self._encoder is None:
            self._encoder = encoder
            self._collection.take(encoder)
        elif self._encoder.fingerprint.digest != encoder.fingerprint.digest:
            raise CollectionMismatchError(
                f"The store of {self.collection_name!r} has the encoder {self._encoder.fingerprint.model!r}, but the "
                f"index embeds by {encoder.fingerprint.model!r}. Give both the same."
            )

    def close(self) -> None:
        """Close the client, if it was made here and not given."""
        if self._owns_client:
            self._client.close()

    def add(self, nodes: Sequence[BaseNode], shard_identifier: Any = None, **add_kwargs: Any) -> list[str]:
        """Write nodes that have their embeddings, and return their ids. A node of the same id is replaced.

        What has an embedding is stored, also a node without text, and a picture whose file is gone; that one has no
        `content_hash`. All embeddings are looked at before anything is written; points are made and written a batch at
        a time. After an interruption what was written stays, and the same call writes all.

        Raises:
            InvalidPointError: an embedding is missing, zero, or has a NaN; metadata that JSON cannot hold.
            CollectionMismatchError: an embedding is of another dimension.
        """
        refuse_arguments("add", {**add_kwargs, "shard_identifier": shard_identifier})
        given = list(nodes)
        if given:
            self._collection.again(lambda: self._write(given))
        return [node.node_id for node in given]

    def delete(self, ref_doc_id: str, shard_identifier: Any = None, **delete_kwargs: Any) -> None:
        """Delete all nodes of a document.

        Raises:
            ConfigError: no id of a document; "None" is what LlamaIndex writes of all nodes that have none.
        """
        refuse_arguments("delete", {**delete_kwargs, "shard_identifier": shard_identifier})
        self._delete(of_document(ref_doc_id))

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | Where | None = None,
        shard_identifier: Any = None,
        **delete_kwargs: Any,
    ) -> None:
        """Delete the nodes of these ids, or those that the filters find; of both the nodes that are in both.

        Raises:
            ConfigError: neither was given, or filters that hold for every node: `clear` deletes all; ids that are none.
            FilterError: filters that cannot be understood.
        """
        refuse_arguments("delete_nodes", {**delete_kwargs, "shard_identifier": shard_identifier})
        for each in deletions(node_ids, to_qdrant_filter(filters)):
            self._delete(each)

    def clear(self) -> None:
        """Delete the collection; the next nodes make it anew."""
        self._collection.drop()

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | Where | None = None,
        limit: int | None = None,
        shard_identifier: Any = None,
    ) -> list[BaseNode]:
        """All nodes, with their embeddings: of these ids, that the filters find, or of both those that are in both.

        Raises:
            CollectionNotFoundError: there is no collection, or no more.
            FilterError: filters that cannot be understood.
            ConfigError: ids that are none, or a limit that is none.
        """
        refuse_arguments("get_nodes", {"shard_identifier": shard_identifier})
        most = None if limit is None else whole_number("limit", limit, 0)
        wanted = list(selections(node_ids, to_qdrant_filter(filters)))

        def scan() -> list[models.Record]:
            self._opened()
            found = (scan_by_id(self._client, self.collection_name, each, with_vectors=True) for each in wanted)
            return list(islice(chain.from_iterable(found), most))

        return list(self.parse_to_query_result(self._collection.again(scan)).nodes or [])

    def _write(self, nodes: Sequence[BaseNode]) -> None:
        layout = self._collection.find()
        dim, maker = (self._collection.schema.dim, None) if layout is None else (layout.dim, layout.space.model)
        dim = check_embeddings(self.collection_name, nodes, dim, maker)
        if layout is None:
            self._create_collection(self.collection_name, dim)
        batches = (self._build_points(batch, self.sparse_vector_name)[0] for batch in pages(nodes, self.batch_size))
        upload(self._client, self.collection_name, batches, self.batch_size, self.parallel, self.max_retries)

    def _build_points(self, nodes: Sequence[BaseNode], sparse_vector_name: str) -> tuple[list[Any], list[str]]:
        layout = self._opened()
        sparse = self._sparse_doc_fn or (bm25_documents if layout.sparse == LEXICAL else None)
        return points_of(nodes, layout, self._encoder, sparse), [node.node_id for node in nodes]

    def _create_collection(self, collection_name: str, vector_size: int) -> None:
        self._collection.make(vector_size)

    def _delete(self, wanted: models.Filter) -> None:
        def delete() -> None:
            if self._collection.find() is not None:  # of a collection that is not there yet, nothing
                self._client.delete(self.collection_name, points_selector=wanted, wait=True)

        self._collection.again(delete)
