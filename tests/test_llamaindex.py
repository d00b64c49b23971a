"""LlamaIndex over a collection: the embedding model and the retriever, in the places where an app uses them."""

import asyncio
import base64
from io import BytesIO
from pathlib import Path

import pytest
from llama_index.core import Settings
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import ImageNode, QueryBundle, TextNode
from PIL import Image

from clip_qdrant import ClipCollection, ClipEmbedding, ClipRetriever, Record, connect
from clip_qdrant.errors import ConfigError, ImageNotFoundError
from clip_qdrant.testing import FakeEncoder


@pytest.fixture
def collection(swatches):
    with connect(":memory:") as client:
        collection = ClipCollection(client, "swatches", FakeEncoder())
        collection.add(
            [
                *(Record(str(path), path, metadata={"file": path.stem}) for path in sorted(swatches.iterdir())),
                Record("note", text="a blue note", metadata={"file": "note"}),
            ]
        )
        yield collection


@pytest.fixture
def embedding():
    return ClipEmbedding(encoder=FakeEncoder())


def names(nodes):
    return [node.metadata["file"] for node in nodes]


def test_retrieves_image_nodes_by_text(collection):
    (best,) = ClipRetriever(collection, similarity_top_k=1).retrieve("something red")
    assert isinstance(best.node, ImageNode)
    assert Path(best.node.image_path).name == "red.png"
    assert best.score > 0.9


def test_retrieves_by_image_and_leaves_the_bundle_alone(collection, swatches):
    bundle = QueryBundle("", image_path=str(swatches / "green.png"))
    retriever = ClipRetriever(collection, similarity_top_k=1)
    assert names(retriever.retrieve(bundle)) == names(retriever.retrieve(bundle)) == ["green"]
    assert bundle.embedding is None


def test_the_named_methods_search_what_they_say(collection, swatches):
    retriever = ClipRetriever(collection, similarity_top_k=1)
    assert names(retriever.text_to_image_retrieve("blue")) == ["blue"]
    assert names(retriever.image_to_image_retrieve(str(swatches / "red.png"))) == ["red"]
    (text,) = retriever.text_retrieve("blue")
    assert isinstance(text.node, TextNode)
    assert text.node.text == "a blue note"


def test_a_text_that_is_a_path_stays_a_text(collection, swatches):
    """STOCK_DEFECTS 33: only what was given as an image is opened."""
    retriever = ClipRetriever(collection, similarity_top_k=1)
    assert retriever.retrieve(str(swatches / "red.png"))[0].score < 0.9


def test_an_image_query_without_an_image_is_refused(collection):
    with pytest.raises(ConfigError, match="needs an image"):
        ClipRetriever(collection).image_to_image_retrieve(QueryBundle("red"))


def test_a_missing_query_image_is_an_error(collection):
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png"):
        ClipRetriever(collection).retrieve(QueryBundle("", image_path="nowhere.png"))


def test_where_and_cutoff_narrow(collection):
    assert names(ClipRetriever(collection, filters={"file": "blue"}).retrieve("red")) == ["blue"]
    assert names(ClipRetriever(collection, similarity_cutoff=0.9).retrieve("red")) == ["red"]


def test_no_room_for_a_node_is_refused(collection):
    with pytest.raises(ConfigError, match="similarity_top_k must be at least 1"):
        ClipRetriever(collection, similarity_top_k=0)


def test_async_answers_as_sync_does(collection):
    retriever = ClipRetriever(collection, similarity_top_k=3)
    assert names(asyncio.run(retriever.aretrieve("green"))) == names(retriever.retrieve("green"))


def test_works_in_a_query_engine(collection):
    engine = RetrieverQueryEngine.from_args(ClipRetriever(collection, similarity_top_k=1, using="text"), llm=MockLLM())
    response = engine.query("blue")
    assert "a blue note" in str(response)
    assert names(response.source_nodes) == ["note"]


def test_embeds_every_form_of_an_image_alike(embedding, swatches):
    path = swatches / "red.png"
    encoded = path.read_bytes()
    uri = "data:image/png;base64," + base64.b64encode(encoded).decode()
    forms = [str(path), path, encoded, BytesIO(encoded), uri, Image.open(path)]
    vectors = embedding.get_image_embedding_batch(forms)
    assert all(vector == vectors[0] for vector in vectors)
    assert embedding.get_image_embedding(str(path)) == vectors[0]


def test_a_missing_image_is_an_error_and_never_a_text(embedding):
    """STOCK_DEFECTS 6."""
    with pytest.raises(ImageNotFoundError):
        embedding.get_image_embedding("a red picture.png")


def test_async_embeddings_equal_sync_ones(embedding, swatches):
    path = str(swatches / "blue.png")

    async def both():
        return (
            await embedding.aget_text_embedding("red"),
            await embedding.aget_query_embedding("red"),
            await embedding.aget_image_embedding(path),
            await embedding.aget_text_embedding_batch(["red", "blue"]),
        )

    text, query, image, batch = asyncio.run(both())
    assert text == query == embedding.get_text_embedding("red") == batch[0]
    assert image == embedding.get_image_embedding(path)


def test_batches_go_through_the_model_at_once():
    """STOCK_DEFECTS 2."""

    class Counting(FakeEncoder):
        calls = 0

        def embed_images(self, images):
            self.calls += 1
            return super().embed_images(images)

    encoder = Counting()
    picture = Image.new("RGB", (8, 8), "red")
    ClipEmbedding(encoder=encoder, embed_batch_size=4).get_image_embedding_batch([picture] * 8)
    assert encoder.calls == 2


def test_an_unknown_argument_is_refused():
    with pytest.raises(ConfigError, match="no argument 'devise'"):
        ClipEmbedding("pocket", devise="cpu")


def test_serialises_without_loading_the_model():
    original = ClipEmbedding("no/such-model", device="cpu", text_policy="pool", embed_batch_size=3)
    copy = ClipEmbedding.from_dict(original.to_dict())
    assert copy.to_dict() == original.to_dict()
    assert (copy.model_name, copy.text_policy, copy.embed_batch_size) == ("no/such-model", "pool", 3)


def test_is_taken_by_settings(embedding, monkeypatch):
    monkeypatch.setattr(Settings, "_embed_model", None)
    Settings.embed_model = embedding
    assert Settings.embed_model is embedding
