"""Ranking retrieved nodes anew by CLIP, and leaving out pictures that are shown already."""

import asyncio
import base64
import threading
from io import BytesIO

import numpy as np
import pytest
from llama_index.core.schema import ImageNode, MediaResource, Node, NodeWithScore, QueryBundle, TextNode
from PIL import Image

from clip_qdrant import ClipEmbedding
from clip_qdrant.errors import ConfigError, ImageNotFoundError
from clip_qdrant.llamaindex.nodes import node_of
from clip_qdrant.llamaindex.postprocessors import ClipReranker, NearDuplicateFilter
from clip_qdrant.testing import FakeEncoder
from clip_qdrant.types import Hit


class CountingEncoder(FakeEncoder):
    """Notes how many items each call brings."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = []

    def embed_images(self, images):
        vectors = super().embed_images(images)
        self.calls.append(("images", len(vectors)))
        return vectors

    def embed_texts(self, texts):
        self.calls.append(("texts", len(texts)))
        return super().embed_texts(texts)


@pytest.fixture
def encoder():
    return CountingEncoder()


@pytest.fixture
def nodes(swatches):
    """Four swatches, by name, as a retriever that knows no better might order them."""
    paths = sorted(swatches.iterdir())
    return [
        NodeWithScore(node=ImageNode(id_=path.stem, image_path=str(path)), score=0.9 - i / 10)
        for i, path in enumerate(paths)
    ]


def ids(nodes):
    return [node.node.node_id for node in nodes]


def test_pictures_are_ranked_by_words(encoder, nodes):
    results = ClipReranker(encoder).postprocess_nodes(nodes, query_str="red red yellow")
    assert ids(results)[:2] == ["red", "yellow"]
    assert results[0].score > results[1].score > 0.4


@pytest.mark.parametrize("make", [ClipReranker, NearDuplicateFilter])
def test_an_embedding_model_will_do_and_what_is_no_model_is_refused(make, encoder, nodes):
    given = make(ClipEmbedding(encoder=encoder)).postprocess_nodes(nodes, query_str="red")
    assert given == make(encoder).postprocess_nodes(nodes, query_str="red")
    assert encoder.calls
    with pytest.raises(ConfigError, match="a ClipEncoder or a ClipEmbedding, got str"):
        make("pocket")


def test_pictures_are_ranked_by_a_picture_and_the_bundle_is_not_changed(encoder, nodes, swatches):
    bundle = QueryBundle("", image_path=str(swatches / "yellow.png"))
    (best,) = ClipReranker(encoder, top_n=1).postprocess_nodes(nodes, bundle)
    assert ids([best]) == ["yellow"]
    assert best.score == pytest.approx(1.0)
    assert bundle == QueryBundle("", image_path=str(swatches / "yellow.png"))


def test_words_and_a_picture_count_half_each(encoder, nodes, swatches):
    bundle = QueryBundle("blue", image_path=str(swatches / "yellow.png"))
    results = ClipReranker(encoder).postprocess_nodes(nodes, bundle)
    assert set(ids(results)[:2]) == {"blue", "yellow"}
    assert results[1].score > 0.6 > results[2].score


def test_scores_are_the_cosines_of_query_and_picture(encoder, nodes, swatches):
    results = ClipReranker(encoder).postprocess_nodes(nodes, query_str="green")
    for result in results:
        picture = encoder.embed_images([swatches / f"{result.node.node_id}.png"])[0]
        assert result.score == pytest.approx(float(picture @ encoder.embed_texts(["green"])[0]), abs=1e-6)


def test_the_given_nodes_keep_their_scores_and_order(encoder, nodes):
    before = [(node.node.node_id, node.score) for node in nodes]
    results = ClipReranker(encoder).postprocess_nodes(nodes, query_str="red")
    assert [(node.node.node_id, node.score) for node in nodes] == before
    assert results[0].node is next(node.node for node in nodes if node.node.node_id == "red")


def test_each_kind_is_encoded_in_one_call(encoder, nodes):
    texts = [NodeWithScore(node=TextNode(text=f"text {i}")) for i in range(50)]
    ClipReranker(encoder).postprocess_nodes([*texts, *nodes], query_str="red")
    assert encoder.calls == [("images", 4), ("texts", 51)]


def test_texts_alone_are_ranked_by_their_cosines(encoder):
    nodes = [NodeWithScore(node=TextNode(id_=word, text=f"a {word} thing")) for word in ("red", "blue", "green")]
    results = ClipReranker(encoder).postprocess_nodes(nodes, query_str="blue")
    assert ids(results)[0] == "blue"
    assert results[0].score > 0.9


def test_pictures_and_texts_are_fused_by_rank(encoder, nodes):
    texts = [NodeWithScore(node=TextNode(id_=f"a {word} text", text=word)) for word in ("blue", "red")]
    results = ClipReranker(encoder, top_n=4).postprocess_nodes([*nodes, *texts], query_str="red")
    assert ids(results)[:2] == ["red", "a red text"]
    assert ids(results)[3] == "a blue text"
    assert [node.score for node in results] == [1 / 2, 1 / 2, 1 / 3, 1 / 3]


def test_a_picture_that_has_gone_is_ranked_by_its_caption(encoder, nodes, swatches):
    (swatches / "red.png").unlink()
    nodes = [nodes[0], NodeWithScore(node=ImageNode(id_="gone", text="red", image_path=str(swatches / "red.png")))]
    assert ids(ClipReranker(encoder).postprocess_nodes(nodes, query_str="red")) == ["blue", "gone"]
    assert ids(ClipReranker(encoder).postprocess_nodes(nodes[1:], query_str="red")) == ["gone"]


def test_a_node_with_nothing_to_compare_comes_last_with_its_score(encoder, nodes, swatches):
    (swatches / "blue.png").unlink()
    broken = NodeWithScore(node=ImageNode(id_="broken", image="no base64!"), score=0.7)
    results = ClipReranker(encoder).postprocess_nodes([broken, *nodes], query_str="red")
    assert ids(results)[0] == "red"
    assert [(node.node.node_id, node.score) for node in results[-2:]] == [("broken", 0.7), ("blue", 0.9)]
    assert "broken" not in ids(ClipReranker(encoder, top_n=3).postprocess_nodes([broken, *nodes], query_str="red"))


def test_only_broken_nodes_come_back_as_they_were(encoder):
    nodes = [NodeWithScore(node=ImageNode(id_=id), score=score) for id, score in (("a", 0.1), ("b", 0.2))]
    assert ClipReranker(encoder).postprocess_nodes(nodes, query_str="red") == nodes


def test_an_encoder_that_fails_leaves_no_thread_behind(nodes):
    class Failing(FakeEncoder):
        def embed_images(self, images):
            next(iter(images))
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        ClipReranker(Failing()).postprocess_nodes(nodes, query_str="red")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_no_nodes_need_no_encoder(encoder):
    assert ClipReranker(encoder).postprocess_nodes([], query_str="red") == []
    assert encoder.calls == []


@pytest.mark.parametrize("bundle", [None, QueryBundle(" ")])
def test_no_query_is_refused(encoder, nodes, bundle):
    with pytest.raises(ConfigError, match="no query to rank by"):
        ClipReranker(encoder).postprocess_nodes(nodes, bundle)


def test_a_query_picture_that_is_missing_is_an_error(encoder, nodes):
    with pytest.raises(ImageNotFoundError, match=r"lost\.png"):
        ClipReranker(encoder).postprocess_nodes(nodes, QueryBundle("", image_path="lost.png"))


@pytest.mark.parametrize("top_n", [0, "3", 1.5, True])
def test_no_room_is_refused(encoder, top_n):
    with pytest.raises(ConfigError, match=f"top_n must be at least 1, .*, got {top_n!r}"):
        ClipReranker(encoder, top_n=top_n)


def test_async_ranks_the_same(encoder, nodes):
    reranker = ClipReranker(encoder)
    assert asyncio.run(reranker.apostprocess_nodes(nodes, query_str="red")) == reranker.postprocess_nodes(
        nodes, query_str="red"
    )


def picture(id, colour, score):
    """A node with a picture in it, of one colour."""
    file = BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return NodeWithScore(node=ImageNode(id_=id, image=base64.b64encode(file.getvalue()).decode()), score=score)


def test_of_near_identical_pictures_the_best_stays_and_the_order_too(encoder):
    nodes = [
        picture("red", (220, 30, 30), 0.3),
        picture("blue", (40, 70, 220), 0.2),
        picture("another red", (219, 31, 30), 0.9),
        picture("blue again", (41, 70, 220), 0.1),
        NodeWithScore(node=TextNode(id_="text", text="red")),
        NodeWithScore(node=TextNode(id_="text again", text="red")),
    ]
    assert ids(NearDuplicateFilter(encoder).postprocess_nodes(nodes)) == ["blue", "another red", "text", "text again"]
    assert encoder.calls == [("images", 4)]


def test_the_threshold_says_what_is_near(encoder):
    reds = [picture("a", (220, 30, 30), 0.5), picture("b", (219, 31, 30), 0.4)]
    cosine = float(np.dot(*encoder.embed_images(base64.b64decode(node.node.image) for node in reds)))
    assert 0.97 < cosine < 1
    assert ids(NearDuplicateFilter(encoder, threshold=cosine).postprocess_nodes(reds)) == ["a"]
    assert ids(NearDuplicateFilter(encoder, threshold=cosine + 1e-4).postprocess_nodes(reds)) == ["a", "b"]


def test_embeddings_are_used_where_there_are_some(encoder):
    near, far = [1.0, 0.0], [0.0, 2.0]
    nodes = [
        NodeWithScore(node=ImageNode(id_="a", embedding=near, image_path="a.png"), score=0.5),
        NodeWithScore(node=ImageNode(id_="b", embedding=far, image_path="b.png"), score=0.4),
        NodeWithScore(node=ImageNode(id_="c", embedding=[3.0, 0.1], image_path="c.png"), score=0.3),
    ]
    assert ids(NearDuplicateFilter(encoder).postprocess_nodes(nodes)) == ["a", "b"]
    assert encoder.calls == []
    assert ids(NearDuplicateFilter().postprocess_nodes(nodes)) == ["a", "b"]


def test_equal_bytes_are_one_without_an_encoder(swatches, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes((swatches / "red.png").read_bytes())
    paths = {"red": swatches / "red.png", "copy": copy, "blue": swatches / "blue.png", "lost": tmp_path / "lost.png"}
    nodes = [NodeWithScore(node=ImageNode(id_=id, image_path=str(path)), score=None) for id, path in paths.items()]
    assert ids(NearDuplicateFilter().postprocess_nodes(nodes)) == ["red", "blue", "lost"]


def test_a_stored_hash_speaks_for_a_picture_that_is_elsewhere():
    nodes = [
        NodeWithScore(node=ImageNode(id_=id, image_url="https://example.org/" + id, metadata={"content_hash": known}))
        for id, known in (("a", "x"), ("b", "y"), ("c", "x"))
    ]
    assert ids(NearDuplicateFilter().postprocess_nodes(nodes)) == ["a", "b"]


def test_what_metadata_calls_a_hash_does_not_speak_for_pictures_that_can_be_read(swatches):
    """Such as that of the file which several pictures were taken from."""
    nodes = [
        NodeWithScore(node=ImageNode(id_=colour, image_path=str(swatches / f"{colour}.png"), metadata=metadata))
        for metadata in (
            {"content_hash": "f" * 64, "modality": "text"},
            {"content_hash": "f" * 64, "modality": "image"},
        )
        for colour in ("red", "blue")
    ]
    assert ids(NearDuplicateFilter().postprocess_nodes(nodes)) == ["red", "blue"]


def test_texts_of_the_kind_image_are_not_compared(encoder):
    payload = {"source": "a.png", "text": "red", "modality": "image"}
    found = [node_of(Hit(id, 0.5, "a.png", "red", {"modality": "image"}, payload=payload)) for id in ("1", "2")]
    nodes = [NodeWithScore(node=node, score=0.5) for node in found]
    assert ids(NearDuplicateFilter(encoder).postprocess_nodes(nodes)) == ["1", "2"]
    assert encoder.calls == []


def test_a_node_that_cannot_be_opened_stays(encoder):
    nodes = [NodeWithScore(node=ImageNode(id_=id), score=0.5) for id in ("a", "b")]
    assert ids(NearDuplicateFilter(encoder).postprocess_nodes(nodes)) == ["a", "b"]


def test_pictures_in_a_node_of_any_shape_are_compared(encoder, swatches):
    resource = MediaResource(path=swatches / "red.png")
    nodes = [
        NodeWithScore(node=ImageNode(id_="a", image_path=str(swatches / "red.png")), score=0.1),
        NodeWithScore(node=Node(id_="b", image_resource=resource), score=0.2),
    ]
    assert ids(NearDuplicateFilter(encoder).postprocess_nodes(nodes)) == ["b"]


def test_vectors_of_several_models_are_refused(encoder, nodes):
    nodes[0].node.embedding = [1.0, 0.0]
    with pytest.raises(ConfigError, match=r"\[2, 32\]-d: of several models"):
        NearDuplicateFilter(encoder).postprocess_nodes(nodes)


def test_two_thousand_embeddings_are_compared():
    vectors = np.random.default_rng(0).normal(size=(1000, 64))
    nodes = [
        NodeWithScore(
            node=ImageNode(id_=f"{i}", embedding=vectors[i % 1000].tolist(), metadata={"content_hash": f"{i}"})
        )
        for i in range(2000)
    ]
    assert ids(NearDuplicateFilter().postprocess_nodes(nodes)) == [f"{i}" for i in range(1000)]


def test_nothing_is_left_of_nothing(encoder):
    assert NearDuplicateFilter(encoder).postprocess_nodes([]) == []


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan"), "x", None, True])
def test_a_threshold_that_cannot_be_is_refused(threshold):
    with pytest.raises(ConfigError, match="threshold must be above 0"):
        NearDuplicateFilter(threshold=threshold)


def test_async_leaves_out_the_same(encoder):
    reds = [picture("a", (220, 30, 30), 0.5), picture("b", (219, 31, 30), 0.6)]
    assert ids(asyncio.run(NearDuplicateFilter(encoder).apostprocess_nodes(reds))) == ["b"]
