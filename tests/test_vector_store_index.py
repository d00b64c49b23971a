"""ClipQdrantVectorStore inside LlamaIndex: indexes, pipelines, retrievers and query engines, as an app has them."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import ImageNode, QueryBundle, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from clip_qdrant import ClipEmbedding
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder

COLOURS = ("red", "green", "blue", "yellow")
EMBEDDING = ClipEmbedding(encoder=FakeEncoder())


@pytest.fixture
def store(client, name):
    return ClipQdrantVectorStore(name, client=client, encoder=EMBEDDING, enable_hybrid=True)


def texts():
    return [
        TextNode(id_=f"t-{colour}", text=f"a {colour} thing", metadata={"colour": colour, "number": number})
        for number, colour in enumerate(COLOURS)
    ]


def build(store, nodes):
    storage = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=storage, embed_model=EMBEDDING)


def ids(nodes):
    return [node.node_id for node in nodes]


def test_an_index_of_nodes(store):
    index = build(store, texts())
    assert ids(index.as_retriever(similarity_top_k=2).retrieve("blue"))[0] == "t-blue"
    again = VectorStoreIndex.from_vector_store(store, embed_model=EMBEDDING)
    assert ids(again.as_retriever(similarity_top_k=1).retrieve("green")) == ["t-green"]
    again.insert_nodes([TextNode(id_="t-purple", text="a purple thing")])
    again.insert(Document(id_="doc", text="one black thing"))
    assert ids(index.as_retriever(similarity_top_k=1).retrieve("purple")) == ["t-purple"]
    index.delete_nodes(["t-purple"])
    again.delete_ref_doc("doc")
    assert sorted(ids(store.get_nodes())) == sorted(f"t-{colour}" for colour in COLOURS)


def test_retrievers_take_filters_modes_and_options(store):
    index = build(store, texts())
    even = MetadataFilters(filters=[MetadataFilter(key="number", value=[0, 2], operator=FilterOperator.IN)])
    assert sorted(ids(index.as_retriever(filters=even, similarity_top_k=9).retrieve("thing"))) == ["t-blue", "t-red"]
    mapping = index.as_retriever(filters={"number": {"gt": 2}}, similarity_top_k=9)
    assert ids(mapping.retrieve("thing")) == ["t-yellow"]
    words = index.as_retriever(vector_store_query_mode="text_search", similarity_top_k=1)
    assert ids(words.retrieve("yellow")) == ["t-yellow"]
    hybrid = index.as_retriever(vector_store_query_mode="hybrid", alpha=0, similarity_top_k=1)
    assert ids(hybrid.retrieve("green")) == ["t-green"]
    mmr = index.as_retriever(
        vector_store_query_mode="mmr", similarity_top_k=4, vector_store_kwargs={"mmr_threshold": 0.9}
    )
    assert ids(mmr.retrieve("red"))[0] == "t-red"
    pictures_alone = index.as_retriever(vector_store_kwargs={"using": "image"})
    assert pictures_alone.retrieve("red") == []
    documents = index.as_retriever(doc_ids=["no such"], similarity_top_k=9)
    assert documents.retrieve("red") == []


def test_async_retrieval_finds_the_same(store):
    retriever = build(store, texts()).as_retriever(similarity_top_k=3)
    found = asyncio.run(retriever.aretrieve("blue"))
    assert [(node.node_id, node.score) for node in found] == [
        (node.node_id, node.score) for node in retriever.retrieve("blue")
    ]


def test_pictures_are_found_by_text_and_by_picture(store, swatches):
    nodes = [ImageNode(id_=colour, image_path=str(swatches / f"{colour}.png")) for colour in COLOURS]
    for node in nodes:
        node.embedding = EMBEDDING.get_image_embedding(node.image_path)
    build(store, []).insert_nodes(texts())
    store.add(nodes)
    index = VectorStoreIndex.from_vector_store(store, embed_model=EMBEDDING)
    assert set(ids(index.as_retriever(similarity_top_k=2).retrieve("yellow"))) == {"yellow", "t-yellow"}
    picture = QueryBundle("", embedding=EMBEDDING.get_image_embedding(str(swatches / "red.png")))
    found = index.as_retriever(similarity_top_k=1, vector_store_kwargs={"using": "image"}).retrieve(picture)
    assert (ids(found), found[0].node.image_path) == (["red"], str(swatches / "red.png"))


def test_a_query_engine_answers_from_what_was_found(store):
    engine = build(store, texts()).as_query_engine(llm=MockLLM(), similarity_top_k=1)
    response = engine.query("which thing is blue")
    assert ids(response.source_nodes) == ["t-blue"]
    assert "a blue thing" in str(response)


def pipeline(store):
    return IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), EMBEDDING],
        vector_store=store, docstore=SimpleDocumentStore(), docstore_strategy=DocstoreStrategy.UPSERTS,
    )  # fmt: skip


def test_a_pipeline_replaces_what_has_changed(store):
    pipe = pipeline(store)
    documents = [Document(id_=f"d-{colour}", text=f"a {colour} thing") for colour in COLOURS]
    assert len(pipe.run(documents=documents)) == 4
    assert pipe.run(documents=documents) == []
    changed = [Document(id_="d-red", text="a purple thing"), *documents[1:]]
    assert [node.text for node in pipe.run(documents=changed)] == ["a purple thing"]
    assert sorted(node.text for node in store.get_nodes()) == [
        "a blue thing", "a green thing", "a purple thing", "a yellow thing",
    ]  # fmt: skip
    assert {node.ref_doc_id for node in store.get_nodes()} == {f"d-{colour}" for colour in COLOURS}
    asyncio.run(pipe.arun(documents=[Document(id_="d-red", text="a white thing")]))
    assert {node.text for node in store.get_nodes(filters={"doc_id": "d-red"})} == {"a white thing"}


def test_a_pipeline_of_pictures_and_texts(store, swatches):
    nodes = [
        ImageNode(id_=colour, image_path=str(swatches / f"{colour}.png"), text="a gray thing") for colour in COLOURS
    ]
    pipe = IngestionPipeline(transformations=[EMBEDDING], vector_store=store)
    pipe.run(nodes=[*nodes, *texts()])
    index = VectorStoreIndex.from_vector_store(store, embed_model=EMBEDDING)
    for using, expected in {"image": "blue", "text": "t-blue"}.items():
        retriever = index.as_retriever(similarity_top_k=1, vector_store_kwargs={"using": using})
        assert ids(retriever.retrieve("blue")) == [expected]
    # All captions are equal here, so their ranks, and what is fused of them, come in any order.
    assert {"blue", "t-blue"} <= set(ids(index.as_retriever(similarity_top_k=8).retrieve("blue")))
    captions = index.as_retriever(similarity_top_k=4, vector_store_kwargs={"using": "text"})
    assert set(ids(captions.retrieve("gray"))) == set(COLOURS)


def test_a_pipeline_with_upserts_and_deletes_keeps_what_is_given(store):
    pipe = pipeline(store)
    pipe.docstore_strategy = DocstoreStrategy.UPSERTS_AND_DELETE
    documents = [Document(id_=f"d-{colour}", text=f"a {colour} thing") for colour in COLOURS]
    pipe.run(documents=documents)
    pipe.run(documents=documents[:2])
    assert sorted(node.text for node in store.get_nodes()) == ["a green thing", "a red thing"]


def test_an_empty_index_is_filled_later(store):
    index = build(store, [])
    index.insert_nodes(texts()[:1])
    assert ids(index.as_retriever().retrieve("red")) == ["t-red"]
