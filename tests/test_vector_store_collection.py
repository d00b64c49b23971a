"""A store whose collection others delete, or make anew, while it is open."""

import asyncio

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery, VectorStoreQueryResult

from clip_qdrant import ClipEmbedding
from clip_qdrant.errors import CollectionMismatchError, CollectionNotFoundError
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder

NOTHING = VectorStoreQueryResult(nodes=[], similarities=[], ids=[])


def node(id, *vector):
    return TextNode(id_=id, text=id, embedding=list(vector))


def ask(*vector):
    return VectorStoreQuery(query_embedding=list(vector), similarity_top_k=3)


@pytest.fixture
def store(client, name):
    store = ClipQdrantVectorStore(name, client=client)
    store.add([node("a", 1.0, 0.0), node("b", 0.0, 1.0)])
    return store


@pytest.fixture
def gone(store, client, name):
    """A store that has seen its collection, which somebody has deleted since."""
    client.delete_collection(name)
    return store


def test_a_query_finds_nothing(gone):
    assert gone.query(ask(1.0, 0.0)) == NOTHING
    assert gone.query(ask(1.0, 0.0)) == NOTHING


def test_an_async_query_finds_nothing(gone):
    assert asyncio.run(gone.aquery(ask(1.0, 0.0))) == NOTHING


def test_get_nodes_says_what_is_not_there(gone, name):
    for _ in range(2):
        with pytest.raises(CollectionNotFoundError, match=f"There is no collection '{name}'"):
            gone.get_nodes()


def test_add_makes_it_anew(gone):
    assert gone.add([node("c", 1.0, 1.0)]) == ["c"]
    assert [each.node_id for each in gone.get_nodes()] == ["c"]


def test_add_makes_it_anew_of_another_dimension(gone, client, name):
    gone.query(ask(1.0, 0.0))
    gone.add([node("c", 1.0, 1.0, 1.0)])
    assert client.get_collection(name).config.params.vectors["text"].size == 3


def test_delete_and_clear_have_nothing_to_do(gone, client, name):
    gone.delete("doc")
    gone.delete_nodes(["a"])
    gone.clear()
    assert not client.collection_exists(name)


def test_one_that_is_made_anew_of_another_dimension_is_read_as_it_is(gone, client, name):
    ClipQdrantVectorStore(name, client=client, dense_vector_name="v").add([node("c", 0.0, 0.0, 1.0)])
    assert gone.query(ask(0.0, 0.0, 1.0)).ids == ["c"]
    assert gone.dense_vector_name == "v"
    gone.add([node("d", 1.0, 0.0, 0.0)])
    assert sorted(each.node_id for each in gone.get_nodes()) == ["c", "d"]
    with pytest.raises(CollectionMismatchError, match="holds 3-d vectors"):
        gone.query(ask(1.0, 0.0))


def test_a_failure_of_another_kind_is_not_tried_again(store, client, monkeypatch):
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(client, "query_batch_points", fail)
    with pytest.raises(RuntimeError, match="the disk is full"):
        store.query(ask(1.0, 0.0))
    assert len(calls) == 1


def test_an_index_without_a_collection_has_no_hits(client, name):
    store = ClipQdrantVectorStore(name, client=client)
    index = VectorStoreIndex([], storage_context=StorageContext.from_defaults(vector_store=store),
                             embed_model=ClipEmbedding(encoder=FakeEncoder()))  # fmt: skip
    assert index.as_retriever().retrieve("red") == []
    assert asyncio.run(index.as_retriever().aretrieve("red")) == []
    assert not client.collection_exists(name)
