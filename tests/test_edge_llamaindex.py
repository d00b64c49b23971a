"""LlamaIndex's own vector store, unmodified, on the embedded engine."""

from __future__ import annotations

import asyncio
import warnings

import pytest

from clip_qdrant import ClipEmbedding
from clip_qdrant.storage.connect import connect, connect_async
from clip_qdrant.testing import FakeEncoder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    stock = pytest.importorskip("llama_index.vector_stores.qdrant")

from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from qdrant_client import models

pytestmark = pytest.mark.filterwarnings(
    "ignore:Payload indexes have no effect:UserWarning",
    "ignore:Local mode performs exact:UserWarning",
    "ignore::DeprecationWarning:llama_index",
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


def sparse(texts):
    """A sparse vector for each text: one for the animal in it."""
    names = [animal for animal, _, _ in ROWS]
    return [[names.index(name) for name in names if name in text] for text in texts], [[1.0] for _ in texts]


def hybrid_query(text):
    return VectorStoreQuery(
        query_embedding=[1.0, 0.0, 0.0],
        query_str=text,
        similarity_top_k=2,
        sparse_top_k=1,
        mode=VectorStoreQueryMode.HYBRID,
    )


def test_mmr_and_hybrid(client):
    store = stock.QdrantVectorStore(
        "c", client=client, enable_hybrid=True, sparse_doc_fn=sparse, sparse_query_fn=sparse
    )
    store.add(make_nodes())
    assert set(animals(store.query(hybrid_query("a dog")))) == {"cat", "dog"}
    lexical = VectorStoreQuery(
        query_str="a dog", sparse_top_k=1, mode=VectorStoreQueryMode.SPARSE, query_embedding=[0.0, 0.0, 1.0]
    )
    assert animals(store.query(lexical)) == ["dog"]
    mmr = VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=2, mode=VectorStoreQueryMode.MMR)
    assert animals(store.query(mmr, mmr_threshold=0.5)) == ["cat", "fox"]  # the stock store has no MMR: a plain search
    dense = VectorStoreQuery(query_embedding=[0.0, 1.0, 0.0], similarity_top_k=1)
    assert animals(store.query(dense)) == ["dog"]
    assert [node.embedding for node in store.get_nodes(node_ids=[make_nodes()[0].node_id])] == [[1.0, 0.0, 0.0]]


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


def test_async_alone(tmp_path):
    """An application that has no other client than the asynchronous one."""
    nodes = make_nodes()

    async def run():
        async with connect_async(tmp_path) as aclient:
            store = stock.QdrantVectorStore("c", aclient=aclient, batch_size=2)
            assert await store.async_add(nodes) == [node.node_id for node in nodes]
            query = VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=3)
            late = where(("year", FilterOperator.GT, 2020))
            filtered = VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=3, filters=late)
            found = [animals(await store.aquery(query)), animals(await store.aquery(filtered))]
            many = await asyncio.gather(*(store.aquery(query) for _ in range(20)))
            assert all(animals(result) == found[0] for result in many)
            got = await store.aget_nodes(node_ids=[nodes[2].node_id])
            found.append([node.metadata["animal"] for node in got])
            await store.adelete_nodes(node_ids=[nodes[0].node_id])
            found.append(animals(await store.aquery(query)))
            await store.adelete_nodes(filters=where(("animal", FilterOperator.EQ, "fox")))
            found.append(animals(await store.aquery(query)))
            await store.aclear()
            return found, await aclient.collection_exists("c")

    found, is_there = asyncio.run(run())
    assert found == [["cat", "fox", "dog"], ["fox", "dog"], ["fox"], ["fox", "dog"], ["dog"]]
    assert is_there is False


def test_async_hybrid(tmp_path):
    async def run():
        async with connect_async(tmp_path) as aclient:
            store = stock.QdrantVectorStore(
                "c", aclient=aclient, enable_hybrid=True, sparse_doc_fn=sparse, sparse_query_fn=sparse
            )
            await store.async_add(make_nodes())
            return [set(animals(await store.aquery(query))) for query in (hybrid_query("a dog"), hybrid_query("a fox"))]

    assert asyncio.run(run()) == [{"cat", "dog"}, {"cat", "fox"}]


FILTERS = {
    FilterOperator.EQ: [("animal", "dog", "dog"), ("weight", 3.5, "fox"), ("year", 2020, "cat")],
    FilterOperator.NE: [("animal", "dog", "cat fox"), ("year", 2020, "dog fox")],
    FilterOperator.GT: [("year", 2020, "dog fox"), ("weight", 3.5, "cat dog")],
    FilterOperator.GTE: [("year", 2021, "dog fox"), ("weight", 3.5, "cat dog fox")],
    FilterOperator.LT: [("year", 2021, "cat"), ("weight", 3.5, "")],
    FilterOperator.LTE: [("year", 2021, "cat dog")],
    FilterOperator.IN: [
        ("animal", ["cat", "fox"], "cat fox"),
        ("year", [2020, 1999], "cat"),
        ("animal", "cat,dog", "cat dog"),
    ],
    FilterOperator.NIN: [("animal", ["cat", "fox"], "dog"), ("year", [2020], "dog fox")],
    FilterOperator.TEXT_MATCH: [("says", "woof", "dog"), ("says", "ring", "fox")],
    FilterOperator.TEXT_MATCH_INSENSITIVE: [("says", "woof", "dog")],
    FilterOperator.IS_EMPTY: [("says", None, "cat")],
}


@pytest.fixture
def described(client):
    """The three animals with a value of every kind."""
    store = stock.QdrantVectorStore("c", client=client)
    nodes = make_nodes()
    for node, weight, wild, says in zip(
        nodes, [4.0, 20.25, 3.5], [False, False, True], [None, "woof", "ring ding"], strict=True
    ):
        node.metadata |= {"weight": weight, "wild": wild, **({"says": says} if says else {})}
    store.add(nodes)
    return store


@pytest.mark.parametrize("operator", FilterOperator)
def test_every_filter_operator(described, operator):
    if operator not in FILTERS:
        query = VectorStoreQuery(query_embedding=[1.0, 1.0, 1.0], filters=where(("animal", operator, "dog")))
        with pytest.raises(NotImplementedError, match="not supported by Qdrant vector store"):
            described.query(query)
        return
    for key, value, expected in FILTERS[operator]:
        filters = where((key, operator, value))
        query = VectorStoreQuery(query_embedding=[1.0, 1.0, 1.0], similarity_top_k=3, filters=filters)
        assert sorted(animals(described.query(query))) == expected.split(), (key, value)
        assert sorted(node.metadata["animal"] for node in described.get_nodes(filters=filters)) == expected.split()


def test_filters_nest(described):
    cat_or_fox = where(
        ("animal", FilterOperator.EQ, "cat"), ("animal", FilterOperator.EQ, "fox"), condition=FilterCondition.OR
    )
    not_fox = where(("weight", FilterOperator.EQ, 3.5), condition=FilterCondition.NOT)
    both = MetadataFilters(filters=[cat_or_fox, not_fox], condition=FilterCondition.AND)
    assert ask(described, filters=both) == ["cat"]
    assert ask(described, filters=MetadataFilters(filters=[])) == ["cat", "dog", "fox"]


def ask(store, **options):
    query = VectorStoreQuery(query_embedding=[1.0, 1.0, 1.0], similarity_top_k=10, **options)
    return sorted(animals(store.query(query)))


def test_restricts_a_query_to_nodes_and_documents(described):
    nodes = make_nodes()
    assert ask(described, node_ids=[nodes[0].node_id, nodes[2].node_id]) == ["cat", "fox"]
    assert ask(described, doc_ids=["doc-1", "doc-2"]) == ["dog", "fox"]
    assert ask(described, doc_ids=["doc-1"], filters=where(("year", FilterOperator.EQ, 2020))) == []
    native = models.Filter(must_not=[models.FieldCondition(key="wild", match=models.MatchValue(value=True))])
    query = VectorStoreQuery(query_embedding=[1.0, 1.0, 1.0], similarity_top_k=10)
    assert sorted(animals(described.query(query, qdrant_filters=native))) == ["cat", "dog"]
    exact = described.query(query, search_params={"exact": True})
    assert sorted(animals(exact)) == ["cat", "dog", "fox"]


def test_gets_and_deletes_nodes_by_id_and_filter(described):
    ids = [node.node_id for node in make_nodes()]
    whole = described.get_nodes()
    assert sorted(node.node_id for node in whole) == ids
    assert whole[0].embedding == pytest.approx([1.0, 0.0, 0.0])
    assert len(described.get_nodes(limit=2)) == 2
    assert described.get_nodes(node_ids=["00000000-0000-0000-0000-00000000000f"]) == []
    young = where(("year", FilterOperator.GTE, 2021))
    assert [node.metadata["animal"] for node in described.get_nodes(node_ids=ids[:2], filters=young)] == ["dog"]
    described.delete_nodes(node_ids=ids[:2], filters=young)
    assert ask(described) == ["cat", "fox"]
    described.delete_nodes(filters=young)
    assert ask(described) == ["cat"]


def test_nodes_come_back_as_they_went_in(client):
    store = stock.QdrantVectorStore("c", client=client)
    image = ImageNode(id_="00000000-0000-0000-0000-0000000000aa", image_path="fox.png", embedding=[0.0, 0.0, 1.0])
    cat = make_nodes()[0]
    store.add([image, cat])
    by_id = {node.node_id: node for node in store.get_nodes()}
    assert isinstance(by_id[image.node_id], ImageNode)
    assert by_id[image.node_id].image_path == "fox.png"
    assert by_id[cat.node_id].model_dump(exclude={"embedding"}) == cat.model_dump(exclude={"embedding"})


def test_adds_many_and_again(client):
    store = stock.QdrantVectorStore("c", client=client, batch_size=16)
    nodes = [TextNode(text=f"{number}", embedding=[1.0, number / 100, 0.0]) for number in range(300)]
    assert len(store.add(nodes)) == 300
    store.add(nodes)
    assert client.count("c").count == 300
    assert store.add([]) == []
    result = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=3))
    assert [node.text for node in result.nodes] == ["0", "1", "2"]


def test_makes_payload_indexes_and_quantises(client):
    store = stock.QdrantVectorStore(
        "c",
        client=client,
        payload_indexes=[{"field_name": "animal", "field_schema": models.PayloadSchemaType.KEYWORD}],
        quantization_config=models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8")),
    )
    store.add(make_nodes())
    assert ask(store, filters=where(("animal", FilterOperator.EQ, "fox"))) == ["fox"]


def test_a_store_opened_again_goes_on(tmp_path):
    with connect(tmp_path) as client:
        stock.QdrantVectorStore("c", client=client).add(make_nodes()[:2])
    with connect(tmp_path) as client:
        store = stock.QdrantVectorStore("c", client=client)
        store.add(make_nodes()[2:])
        assert ask(store) == ["cat", "dog", "fox"]


def test_an_index_over_it(client):
    """VectorStoreIndex from documents to answers, with a model that gives every text the same vector."""
    context = StorageContext.from_defaults(vector_store=stock.QdrantVectorStore("c", client=client))
    documents = [Document(text=f"a {animal}", metadata={"animal": animal}, id_=animal) for animal, _, _ in ROWS]
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=MockEmbedding(embed_dim=4))
    filters = where(("animal", FilterOperator.EQ, "dog"))
    (found,) = index.as_retriever(similarity_top_k=3, filters=filters).retrieve("anything")
    assert (found.node.ref_doc_id, found.text, found.score) == ("dog", "a dog", pytest.approx(1.0))
    index.delete_ref_doc("dog")
    index.insert(Document(text="a cow", metadata={"animal": "cow"}, id_="cow"))
    again = VectorStoreIndex.from_vector_store(context.vector_store, embed_model=MockEmbedding(embed_dim=4))
    kept = again.as_retriever(similarity_top_k=9).retrieve("anything")
    assert sorted(node.metadata["animal"] for node in kept) == ["cat", "cow", "fox"]


def test_a_multi_modal_index_over_two_of_it(client, swatches):
    """Texts in one collection and pictures in another, as LlamaIndex's own examples have it."""
    model = ClipEmbedding(encoder=FakeEncoder())
    context = StorageContext.from_defaults(
        vector_store=stock.QdrantVectorStore("texts", client=client),
        image_store=stock.QdrantVectorStore("images", client=client),
    )
    nodes = [
        *(TextNode(text=f"a {colour} note") for colour in ("red", "blue")),
        *(ImageNode(image_path=str(path), metadata={"file": path.stem}) for path in sorted(swatches.iterdir())),
    ]
    index = MultiModalVectorStoreIndex(nodes, storage_context=context, embed_model=model, image_embed_model=model)
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
    (image,) = retriever.text_to_image_retrieve("something green")
    assert image.node.metadata["file"] == "green"
    (image,) = retriever.image_to_image_retrieve(str(swatches / "yellow.png"))
    assert image.node.metadata["file"] == "yellow"
    (text,) = retriever.text_retrieve("blue")
    assert text.text == "a blue note"
    assert (client.count("texts").count, client.count("images").count) == (2, 4)
