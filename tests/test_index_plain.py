"""LlamaIndex's own VectorStoreIndex over our store: it embeds captions, and calls them the vectors of pictures."""

import logging

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import ImageNode, TextNode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from clip_qdrant import ClipCollection, ClipEmbedding
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder
from tests.embeddings import Counting

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")
ID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def client():
    client = QdrantClient(":memory:")
    yield client
    client.close()


def plain(store, nodes, encoder):
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=ClipEmbedding(encoder=encoder))


def stock_store(client):
    return QdrantVectorStore("c", client=client)


def our_store(client):
    return ClipQdrantVectorStore("c", client=client, encoder=FakeEncoder())


@pytest.mark.parametrize("make", [pytest.param(stock_store, marks=pytest.mark.xfail(strict=True)), our_store])
def test_defect_14_a_plain_index_has_the_picture_and_the_caption(client, swatches, make):
    node = ImageNode(id_=ID, image_path=str(swatches / "red.png"), text="blue words")
    index = plain(make(client), [node, TextNode(text="green words")], FakeEncoder())
    best = index.as_retriever(similarity_top_k=1).retrieve("red")[0]
    assert best.node_id == ID and best.score > 0.9


def test_both_kinds_of_vectors_are_what_they_are_called(client, swatches):
    plain(our_store(client), [ImageNode(image_path=str(swatches / "red.png"), text="blue words")], FakeEncoder())
    collection = ClipCollection(client, "c", FakeEncoder())
    assert len(collection.search("red", min_score=0.9)) == 1
    assert collection.search("blue", min_score=0.3) == []
    assert len(collection.search("blue", using="text", min_score=0.5)) == 1


def test_a_picture_that_is_gone_is_found_by_its_caption_alone(client, swatches, caplog):
    gone = ImageNode(id_="gone", image_path=str(swatches / "lost.png"), text="blue words")
    with caplog.at_level(logging.WARNING):
        plain(our_store(client), [gone, ImageNode(image_path=str(swatches / "red.png"), text="a poem")], FakeEncoder())
    assert "'gone' came with the embedding of its caption" in caplog.text and "no such file" in caplog.text
    collection = ClipCollection(client, "c", FakeEncoder())
    assert [hit.text for hit in collection.search("blue", limit=9)] == ["a poem"]
    assert [hit.text for hit in collection.search("blue", using="text", min_score=0.5)] == ["blue words"]


def test_a_picture_with_its_own_vector_is_not_embedded_again(client, swatches):
    encoder = Counting()
    vector = FakeEncoder().embed_images([swatches / "green.png"])[0].tolist()
    node = ImageNode(image_path=str(swatches / "red.png"), text="blue words", embedding=vector)
    ClipQdrantVectorStore("c", client=client, encoder=encoder).add([node])
    assert sum(map(len, encoder.image_batches)) == 0
    assert len(ClipCollection(client, "c", FakeEncoder()).search("green", min_score=0.9)) == 1
