"""`ClipEmbedding` in an `IngestionPipeline`: the pixels of picture nodes, the text of text nodes."""

import asyncio
import base64
import threading

import numpy as np
import pytest
from llama_index.core import StorageContext
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, Node, TextNode

from clip_qdrant import ClipEmbedding, ClipIndex, ClipQdrantVectorStore, connect
from clip_qdrant.errors import ConfigError, ImageDecodeError, ImageFetchError, ImageNotFoundError
from clip_qdrant.llamaindex.nodes import content_hash_of, image_of
from clip_qdrant.testing import FakeEncoder
from tests.embeddings import Counting, Slow, Stock


def call(embedding, nodes):
    return embedding(nodes)


def acall(embedding, nodes):
    return asyncio.run(embedding.acall(nodes))


def run(embedding, nodes):
    return IngestionPipeline(transformations=[embedding], disable_cache=True).run(nodes=nodes)


def arun(embedding, nodes):
    return asyncio.run(IngestionPipeline(transformations=[embedding], disable_cache=True).arun(nodes=nodes))


ways = pytest.mark.parametrize("way", [call, acall, run, arun])


def near(node, colour):
    return np.dot(node.embedding, FakeEncoder().embed_texts([colour])[0]) > 0.9


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Stock, id="stock", marks=pytest.mark.xfail(strict=True)),
        pytest.param(lambda: ClipEmbedding(encoder=FakeEncoder()), id="ours"),
    ],
)
@ways
def test_defect_14_a_picture_node_has_the_vector_of_its_pixels(make, way, swatches):
    (node,) = way(make(), [ImageNode(image_path=str(swatches / "red.png"), text="blue")])
    assert near(node, "red") and not near(node, "blue")


@ways
def test_every_node_has_the_vector_of_its_kind_and_the_order_stays(way, swatches):
    encoded = (swatches / "green.png").read_bytes()
    nodes = [
        TextNode(text="blue"),
        ImageNode(image_path=str(swatches / "red.png")),
        Document(text="yellow"),
        ImageNode(image=base64.b64encode(encoded).decode(), text="red"),
        ImageDocument(image_path=str(swatches / "blue.png")),
        Node(image_resource=MediaResource(data=encoded), text_resource=MediaResource(text="red")),
    ]
    encoder = Counting()
    done = way(ClipEmbedding(encoder=encoder, embed_batch_size=3), nodes)
    assert [node.node_id for node in done] == [node.node_id for node in nodes]
    for node, colour in zip(done, ["blue", "red", "yellow", "green", "blue", "green"], strict=True):
        assert near(node, colour)
    assert [len(batch) for batch in encoder.image_batches] == [3, 1]
    assert [len(batch) for batch in encoder.text_batches] == [2]


def test_a_text_is_embedded_with_the_metadata_that_is_meant_for_it():
    encoder = Counting()
    node = TextNode(text="red", metadata={"by": "Ann", "secret": "x"}, excluded_embed_metadata_keys=["secret"])
    ClipEmbedding(encoder=encoder, text_instruction="keep: ")([node])
    assert encoder.text_batches == [["keep: by: Ann\n\nred"]]


@ways
def test_a_picture_that_was_lost_is_named_before_anything_is_embedded(way):
    encoder = Counting()
    first = TextNode(text="red")
    with pytest.raises(ConfigError, match="ImageNode 'lost' has no picture"):
        way(ClipEmbedding(encoder=encoder), [first, ImageNode(id_="lost", text="a caption")])
    assert encoder.text_batches == [] and first.embedding is None


BLANK = {
    "document": lambda: Document(id_="blank", text=""),
    "text": lambda: TextNode(id_="blank", text=" \n", metadata={"a": 1}),
    "node": lambda: Node(id_="blank"),
    "image": lambda: ImageNode(id_="blank", metadata={"a": 1}),
}


@ways
@pytest.mark.parametrize("make", BLANK.values(), ids=BLANK)
def test_a_blank_node_has_no_vector_and_does_not_stop_the_others(way, make, caplog):
    encoder = Counting()
    blank, red = way(ClipEmbedding(encoder=encoder), [make(), TextNode(text="red")])
    assert (blank.node_id, blank.embedding, encoder.text_batches) == ("blank", None, [["red"]])
    assert near(red, "red")
    assert "1 nodes have neither a picture nor a text, and get no vector: blank" in caplog.text


def test_a_blank_node_that_brings_a_vector_keeps_it():
    (node,) = ClipEmbedding(encoder=FakeEncoder())([TextNode(text="", embedding=[1.0, 0.0])])
    assert node.embedding == [1.0, 0.0]


def test_blank_documents_are_left_out_by_a_pipeline_and_by_an_index_alike():
    embedding = ClipEmbedding(encoder=FakeEncoder())
    documents = [make() for make in (BLANK["document"], BLANK["text"])] + [Document(id_="red", text="red")]
    stored = []
    for fill in (
        lambda store: IngestionPipeline(transformations=[embedding], vector_store=store).run(documents=documents),
        lambda store: IngestionPipeline(transformations=[SentenceSplitter(), embedding], vector_store=store).run(
            documents=documents
        ),
        lambda store: [
            ClipIndex(storage_context=context_of(store), embed_model=embedding).insert(d) for d in documents
        ],
        lambda store: ClipIndex.from_documents(documents, storage_context=context_of(store), embed_model=embedding),
    ):
        store = ClipQdrantVectorStore("c", client=connect(":memory:"), encoder=FakeEncoder())
        fill(store)
        stored.append([node.text for node in store.get_nodes()])
    assert stored == [["red"]] * 4


def context_of(store):
    return StorageContext.from_defaults(vector_store=store)


@pytest.mark.parametrize("way", [call, acall])
def test_a_broken_picture_is_named_and_its_node_too(way, swatches):
    broken = swatches / "green.png"
    broken.write_bytes(b"no picture")
    good = ImageNode(image_path=str(swatches / "red.png"))
    embedding = ClipEmbedding(encoder=FakeEncoder())
    with pytest.raises(ImageDecodeError, match=r"green\.png of node 'g'"):
        way(embedding, [good, ImageNode(id_="g", image_path=str(broken))])
    with pytest.raises(ImageDecodeError, match=r"bytes \(10\) of node 'b'"):
        way(embedding, [good, ImageNode(id_="b", image=base64.b64encode(b"no picture").decode())])
    with pytest.raises(ImageDecodeError, match="of node 'n': it is not valid base64"):
        way(embedding, [good, ImageNode(id_="n", image="not base64!")])
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png of node 'm'"):
        way(embedding, [good, ImageNode(id_="m", image_path="nowhere.png")])
    with pytest.raises(ImageFetchError, match=r"red\.png of node 'u': URLs are not opened"):
        way(embedding, [good, ImageNode(id_="u", image_url="https://example.org/red.png")])
    assert good.embedding is None


def test_the_loop_beats_while_nodes_are_embedded(swatches, monkeypatch):
    encoder = Slow()
    decoders = []

    def decoded(node):
        decoders.append(threading.current_thread())
        return image_of(node)

    monkeypatch.setattr("clip_qdrant.llamaindex.embedding.image_of", decoded)
    encoded = base64.b64encode((swatches / "red.png").read_bytes()).decode()

    async def both():
        done = ClipEmbedding(encoder=encoder).acall([ImageNode(image=encoded)])
        return (await asyncio.gather(done, encoder.heartbeat(beats=10)))[0]

    (node,) = asyncio.run(both())
    assert encoder.in_time and near(node, "red")
    assert threading.main_thread() not in decoders


def test_a_call_that_is_cancelled_leaves_no_node_half_done(swatches):
    encoder = Slow()
    nodes = [TextNode(text="red"), ImageNode(image_path=str(swatches / "red.png"))]

    async def cancelled():
        call = asyncio.create_task(ClipEmbedding(encoder=encoder).acall(nodes))
        await asyncio.sleep(0)
        call.cancel()
        encoder.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancelled())
    assert [node.embedding for node in nodes] == [None, None]


def test_two_thousand_nodes_go_in_by_batches(swatches):
    encoder = Counting()
    path = str(swatches / "red.png")
    nodes = [ImageNode(image_path=path) if i % 2 else TextNode(text="blue") for i in range(2000)]
    ClipEmbedding(encoder=encoder, embed_batch_size=64)(nodes)
    assert all(near(node, "red" if i % 2 else "blue") for i, node in enumerate(nodes))
    assert {len(batch) for batch in encoder.image_batches[:-1] + encoder.text_batches[:-1]} == {64}
    assert len(encoder.image_batches) == len(encoder.text_batches) == 16


@pytest.mark.parametrize("hashed", [pytest.param(False, marks=pytest.mark.xfail(strict=True)), True])
def test_defect_15_with_its_hash_in_the_metadata_a_picture_is_not_taken_for_another(hashed, swatches):
    """The pipeline's cache sees texts and metadata only; `content_hash_of` is what to put there."""

    def node(path):
        node = ImageNode(image_path=str(path), excluded_embed_metadata_keys=["content_hash"])
        node.metadata = {"content_hash": content_hash_of(node)} if hashed else {}
        return node

    pipeline = IngestionPipeline(transformations=[ClipEmbedding(encoder=FakeEncoder())], cache=IngestionCache())
    (red,) = pipeline.run(nodes=[node(swatches / "red.png")])
    (blue,) = pipeline.run(nodes=[node(swatches / "blue.png")])
    assert near(red, "red") and near(blue, "blue")
