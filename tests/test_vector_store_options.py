"""What ClipQdrantVectorStore is made with: the stock store's arguments, and what is refused."""

from __future__ import annotations

import inspect
import json

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from clip_qdrant import CollectionSchema, connect, connect_async
from clip_qdrant.errors import ConfigError, StorageError
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder

NODE = TextNode(id_="n", text="x", embedding=[1.0, 0.5])
REFUSED = {
    "sparse_config": models.SparseVectorParams(),
    "fastembed_sparse_model": "Qdrant/bm25",
    "sharding_method": models.ShardingMethod.CUSTOM,
    "shard_key_selector_fn": lambda key: key,
    "shard_keys": ["a"],
}


@pytest.fixture
def memory():
    with connect(":memory:") as client:
        yield client


def test_every_argument_of_the_stock_store_is_taken_or_refused_with_what_to_use():
    stock = set(inspect.signature(QdrantVectorStore.__init__).parameters) - {"self", "kwargs"}
    ours = set(inspect.signature(ClipQdrantVectorStore.__init__).parameters)
    assert stock - ours == set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(memory, name):
    with pytest.raises(ConfigError, match=f"ClipQdrantVectorStore does not take {name}. Use [a-z]"):
        ClipQdrantVectorStore("c", client=memory, **{name: REFUSED[name]})
    ClipQdrantVectorStore("c", client=memory, **{name: None})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"colection": "x"}, "ClipQdrantVectorStore has no argument 'colection'"),
        ({"index_doc_id": False}, "has index_doc_id=True always, got False"),
        ({"stores_text": False}, "has stores_text=True always, got False"),
        ({"client": ":memory:"}, "client is a QdrantClient, got str. Give client=connect"),
        ({"encoder": "pocket"}, "An encoder is a ClipEncoder or a ClipEmbedding, got str"),
        ({"using": "sound"}, "using must be 'image', 'text' or 'both', got 'sound'"),
        ({"schema": CollectionSchema(vectors=("a", "b"))}, "the vectors 'image' and 'text', or one of any name"),
        ({"payload_indexes": [{"field": "year"}]}, "A payload index is {'field_name': 'year'"),
        ({"payload_indexes": [{"field_name": "y", "field_schema": models.IntegerIndexParams(type="integer")}]},
         "What has more to say is given as schema=CollectionSchema"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_are_refused(memory, arguments, message):
    with pytest.raises(ConfigError, match=message):
        ClipQdrantVectorStore("c", **{"client": memory, **arguments})
    assert not memory.collection_exists("c")


def test_without_a_client_there_is_no_store():
    with pytest.raises(ConfigError, match=r"The store needs a client. Give client=connect"):
        ClipQdrantVectorStore("c")


def test_async_clients_in_local_mode_are_refused(memory):
    for client in (None, memory):
        with pytest.raises(
            ConfigError, match=r"aclient is in local mode, whose data no other client sees. Leave it out"
        ):
            ClipQdrantVectorStore("c", client=client, aclient=AsyncQdrantClient(":memory:"))


def test_an_async_client_of_a_folder_alone_is_refused(tmp_path):
    aclient = connect_async(tmp_path)
    with pytest.raises(ConfigError, match="The store needs a client"):
        ClipQdrantVectorStore("c", aclient=aclient)


def test_of_a_servers_async_client_the_other_is_made(monkeypatch):
    asked = []
    monkeypatch.setattr(QdrantClient, "collection_exists", lambda self, name: asked.append(self.init_options) or False)
    aclient = AsyncQdrantClient(url="http://localhost:1", api_key=None, timeout=3, check_compatibility=False)
    store = ClipQdrantVectorStore("c", aclient=aclient)
    assert (asked[0]["url"], asked[0]["timeout"]) == ("http://localhost:1", 3)
    assert (store.aclient, type(store.client)) == (aclient, QdrantClient)


def test_a_client_that_is_made_is_closed_and_one_that_is_given_is_not(tmp_path, memory):
    store = ClipQdrantVectorStore("c", url=str(tmp_path / "folder"))
    store.add([NODE])
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.get_nodes()
    with connect(tmp_path / "folder") as client:
        given = ClipQdrantVectorStore("c", client=client)
        given.close()
        assert [node.node_id for node in given.get_nodes()] == ["n"]


def test_the_arguments_reach_the_client(monkeypatch):
    monkeypatch.setattr(QdrantClient, "collection_exists", lambda self, name: False)
    options = {"timeout": 7, "check_compatibility": False}
    store = ClipQdrantVectorStore("c", url="http://localhost:1", client_kwargs=options)
    assert {key: store.client.init_options[key] for key in ("url", *options)} == {
        "url": "http://localhost:1",
        **options,
    }


def test_it_serialises_without_secrets(tmp_path):
    store = ClipQdrantVectorStore("c", url=str(tmp_path), api_key=None, batch_size=7, using="text", text_key="body")
    store.api_key = "s3cret"
    written = store.to_json()
    assert "s3cret" not in written and "s3cret" not in repr(store)
    again = ClipQdrantVectorStore.from_dict(json.loads(written))
    assert (again.collection_name, again.batch_size, again.using, again.text_key) == ("c", 7, "text", "body")
    assert json.loads(written)["class_name"] == "ClipQdrantVectorStore"
    assert again.client is not store.client


@pytest.mark.parametrize("made", [False, True])
def test_a_store_of_an_existing_or_a_coming_collection_serialises(tmp_path, made):
    store = ClipQdrantVectorStore("c", url=str(tmp_path), enable_hybrid=True)
    if made:
        store.add([NODE])
    again = ClipQdrantVectorStore.from_dict(store.to_dict())
    again.add([NODE])
    assert set(again.client.scroll("c", with_vectors=True)[0][0].vector) == {"text", "lexical"}
    assert set(again.client.get_collection("c").config.params.vectors) == {"image", "text"}


def test_shards_indexes_and_the_encoder_are_the_collections(tmp_path):
    encoder = FakeEncoder()
    with connect(tmp_path) as client:
        store = ClipQdrantVectorStore(
            "c", client=client, encoder=encoder, enable_hybrid=True, schema=CollectionSchema(indexes={"a": "text"}),
            payload_indexes=[{"field_name": "year", "field_schema": "integer"}],
        )  # fmt: skip
        store.add([TextNode(text="red", embedding=encoder.embed_texts(["red"])[0].tolist())])
        info = client.get_collection("c")
        assert info.config.metadata["clip_qdrant"]["fingerprint"]["model"] == "fake"
        assert {"doc_id", "content_hash", "a", "year"} <= set(info.payload_schema)
        assert list(info.config.params.sparse_vectors) == ["lexical"]


def test_cluster_settings_are_the_schemas(memory):
    store = ClipQdrantVectorStore("c", client=memory, shard_number=3, replication_factor=2, write_consistency_factor=1)
    schema = store._collection.schema
    assert (schema.shards, schema.replicas, schema.write_consistency) == (3, 2, 1)


def test_a_new_collections_words_have_our_name(memory):
    store = ClipQdrantVectorStore("c", client=memory, enable_hybrid=True, sparse_vector_name="mine")
    with pytest.raises(ConfigError, match="The sparse vector of a new collection is 'lexical', not 'mine'"):
        store.add([NODE])
    assert not memory.collection_exists("c")


def test_searches_have_the_params_that_were_asked_for_or_fit_the_collection(tmp_path, monkeypatch):
    with connect(tmp_path) as client:
        store = ClipQdrantVectorStore("c", client=client, schema=CollectionSchema(quantization="int8"), using="text")
        store.add([NODE])
        asked = []
        answer = client.query_batch_points
        monkeypatch.setattr(
            client, "query_batch_points", lambda name, requests: asked.extend(requests) or answer(name, requests)
        )
        query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=1)
        for params in (None, {}, {"exact": True}, models.SearchParams(hnsw_ef=7)):
            assert store.query(query, search_params=params).ids == ["n"]
    rescored, rescored_too, exact, wide = (request.params for request in asked)
    assert rescored.quantization.rescore and rescored_too == rescored
    assert (exact.exact, wide.hnsw_ef) == (True, 7)


def test_hooks_of_the_stock_class_hold(memory):
    class Hooked(ClipQdrantVectorStore):
        def _build_query_filter(self, query):
            return models.Filter(must=[models.HasIdCondition(has_id=[])]) if query.query_str == "none" else None

        def parse_to_query_result(self, response):
            found = super().parse_to_query_result(response)
            found.ids = [id.upper() for id in found.ids]
            return found

    store = Hooked("c", client=memory)
    store.add([NODE])
    assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=1)).ids == ["N"]
    assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], query_str="none", similarity_top_k=1)).ids == []


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": -1}, {"parallel": 0}, {"max_retries": -1}])
def test_numbers_that_would_write_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ClipQdrantVectorStore("c", client=connect(":memory:"), **wrong)
