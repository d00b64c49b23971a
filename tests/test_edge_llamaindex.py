"""LlamaIndex's own vector store, unmodified, on the embedded engine."""

from __future__ import annotations

import asyncio
import warnings

import pytest

from clip_qdrant.storage.connect import connect, connect_async

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    stock = pytest.importorskip("llama_index.vector_stores.qdrant")

from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode

pytestmark = pytest.mark.filterwarnings(
    "ignore:Payload indexes have no effect:UserWarning", "ignore::DeprecationWarning:llama_index"
)

ROWS = [("cat", 2020, [1.0, 0.0, 0.0]), ("dog", 2021, [0.0, 1.0, 0.0]), ("fox", 2022, [0.6, 0.8, 0.0])]


def make_nodes():
    return [
        TextNode(
            id_=f"00000000-0000-0000-0000-00000000000{number}",
            text=f"a {animal}",
            embedding=vector,
            metadata={"animal": animal, "year": year},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{number}")},
        )
        for number, (animal, year, vector) in enumerate(ROWS)
    ]


@pytest.fixture(params=["memory", "embedded"])
def client(request, tmp_path):
    with connect(":memory:" if request.param == "memory" else tmp_path) as opened:
        yield opened


def animals(result):
    return [node.metadata["animal"] for node in result.nodes]


def where(*filters, condition=FilterCondition.AND):
    return MetadataFilters(
        filters=[MetadataFilter(key=key, operator=operator, value=value) for key, operator, value in filters],
        condition=condition,
    )


def test_add_query_filter_delete(client):
    store = stock.QdrantVectorStore("c", client=client)
    nodes = make_nodes()
    assert store.add(nodes) == [node.node_id for node in nodes]
    query = VectorStoreQuery(query_embedding=[1.0, 0.1, 0.0], similarity_top_k=2)
    result = store.query(query)
    assert animals(result) == ["cat", "fox"]
    assert result.similarities == pytest.approx([0.99504, 0.67663], abs=1e-4)
    assert result.nodes[0].get_content() == "a cat"

    old = where(("year", FilterOperator.LTE, 2021), ("animal", FilterOperator.NE, "cat"))
    assert animals(store.query(VectorStoreQuery(query_embedding=[1.0, 0.1, 0.0], similarity_top_k=3, filters=old))) == [
        "dog"
    ]
    either = where(
        ("animal", FilterOperator.IN, ["fox"]), ("year", FilterOperator.EQ, 2020), condition=FilterCondition.OR
    )
    assert sorted(node.metadata["animal"] for node in store.get_nodes(filters=either)) == ["cat", "fox"]
    assert [node.metadata["animal"] for node in store.get_nodes(node_ids=[nodes[1].node_id])] == ["dog"]

    store.delete("doc-0")
    assert animals(store.query(query)) == ["fox", "dog"]
    store.delete_nodes(node_ids=[nodes[1].node_id])
    assert animals(store.query(query)) == ["fox"]
    store.clear()
    assert not client.collection_exists("c")


def test_mmr_and_hybrid(client):
    names = [animal for animal, _, _ in ROWS]

    def sparse(texts):
        return [[names.index(name) for name in names if name in text] for text in texts], [[1.0] for _ in texts]

    store = stock.QdrantVectorStore(
        "c", client=client, enable_hybrid=True, sparse_doc_fn=sparse, sparse_query_fn=sparse
    )
    store.add(make_nodes())
    hybrid = VectorStoreQuery(
        query_embedding=[1.0, 0.0, 0.0],
        query_str="a dog",
        similarity_top_k=2,
        sparse_top_k=1,
        mode=VectorStoreQueryMode.HYBRID,
    )
    assert set(animals(store.query(hybrid))) == {"cat", "dog"}
    lexical = VectorStoreQuery(
        query_str="a dog", sparse_top_k=1, mode=VectorStoreQueryMode.SPARSE, query_embedding=[0.0, 0.0, 1.0]
    )
    assert animals(store.query(lexical)) == ["dog"]
    mmr = VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=2, mode=VectorStoreQueryMode.MMR)
    assert animals(store.query(mmr, mmr_threshold=0.5))[0] == "cat"


def test_async(tmp_path):
    async def run():
        async with connect_async(tmp_path) as aclient:
            with connect(tmp_path) as client:
                store = stock.QdrantVectorStore("c", client=client, aclient=aclient)
                await store.async_add(make_nodes())
                query = VectorStoreQuery(query_embedding=[0.0, 1.0, 0.0], similarity_top_k=1)
                found = animals(await store.aquery(query)), animals(store.query(query))
                await store.adelete("doc-1")
                return found, animals(store.query(query))

    assert asyncio.run(run()) == ((["dog"], ["dog"]), ["fox"])
