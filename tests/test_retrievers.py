"""ClipRetriever: every kind of query, both kinds of vectors, and every place where LlamaIndex takes a retriever."""

import asyncio
import copy
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever, RouterRetriever
from llama_index.core.schema import ImageNode, QueryBundle
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import RetrieverTool
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from PIL import Image

from clip_qdrant import ClipCollection, ClipEmbedding, ClipRetriever, Record, connect
from clip_qdrant.collection.fusion import Chance, by_calibration, by_rank
from clip_qdrant.errors import ConfigError, FilterError, ImageNotFoundError
from clip_qdrant.llamaindex.queries import ImageQueryBundle
from clip_qdrant.testing import FakeEncoder
from clip_qdrant.types import Hit
from tests.heartbeat import ROUNDS, least_missed

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")


@pytest.fixture
def collection(swatches):
    with connect(":memory:") as client:
        collection = ClipCollection(client, "swatches", FakeEncoder())
        pictures = [
            Record(str(path), path, metadata={"file": path.stem, "kept": path.stem != "red"})
            for path in sorted(swatches.iterdir())
        ]
        notes = [
            Record(f"{colour}.txt", text=f"a {colour} note", metadata={"file": f"{colour} note", "kept": True})
            for colour in ("red", "blue")
        ]
        collection.add([*pictures, *notes])
        yield collection


def names(nodes):
    return [node.metadata["file"] for node in nodes]


def forms(path):
    encoded = path.read_bytes()
    picture = Image.open(path)
    return [path, encoded, BytesIO(encoded), picture, np.asarray(picture.convert("RGB"))]


def test_a_picture_comes_back_as_its_node(collection, swatches):
    (best,) = ClipRetriever(collection, similarity_top_k=1).retrieve("something red")
    assert isinstance(best.node, ImageNode)
    assert best.node.image_path == str(swatches / "red.png")
    assert best.score > 0.9


def test_defect_33_a_text_that_is_a_path_stays_a_text(collection, swatches):
    assert ClipRetriever(collection).retrieve(str(swatches / "red.png"))[0].score < 0.9


# Queries --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", range(5))
def test_a_picture_of_any_form_is_a_query(collection, swatches, form):
    query = forms(swatches / "green.png")[form]
    retriever = ClipRetriever(collection, similarity_top_k=1)
    assert names(retriever.retrieve(query)) == ["green"]
    assert names(asyncio.run(retriever.aretrieve(query))) == ["green"]


def test_the_four_ways(collection, swatches):
    retriever = ClipRetriever(collection, similarity_top_k=1)
    picture = str(swatches / "red.png")
    assert names(retriever.text_to_image_retrieve("blue")) == ["blue"]
    assert names(retriever.image_to_image_retrieve(picture)) == ["red"]
    assert names(retriever.text_retrieve("blue")) == ["blue note"]
    assert names(retriever.image_to_text_retrieve(picture)) == ["red note"]


def test_the_four_ways_are_the_same_asynchronously(collection, swatches):
    retriever = ClipRetriever(collection, similarity_top_k=2)
    picture = str(swatches / "red.png")

    async def all_four():
        return [
            await retriever.atext_to_image_retrieve("blue"),
            await retriever.aimage_to_image_retrieve(picture),
            await retriever.atext_retrieve("blue"),
            await retriever.aimage_to_text_retrieve(picture),
        ]

    assert [names(found) for found in asyncio.run(all_four())] == [
        names(retriever.text_to_image_retrieve("blue")),
        names(retriever.image_to_image_retrieve(picture)),
        names(retriever.text_retrieve("blue")),
        names(retriever.image_to_text_retrieve(picture)),
    ]


def test_words_and_a_picture_count_half_each(collection, swatches):
    purple = Image.new("RGB", (64, 64), (130, 40, 160))
    collection.add([Record("mixed", _halves(swatches / "red.png", purple), metadata={"file": "red and purple"})])
    retriever = ClipRetriever(collection, similarity_top_k=1)
    assert names(retriever.retrieve(QueryBundle("purple", image_path=str(swatches / "red.png")))) == ["red and purple"]
    assert names(retriever.retrieve(ImageQueryBundle("red", image=purple))) == ["red and purple"]


def _halves(left, right):
    both = Image.new("RGB", (64, 64))
    both.paste(Image.open(left).resize((32, 64)), (0, 0))
    both.paste(right.resize((32, 64)), (32, 0))
    return both


def test_an_embedding_in_the_bundle_is_the_query(collection):
    embedding = FakeEncoder().embed_texts(["green"])[0].tolist()
    assert names(ClipRetriever(collection).retrieve(QueryBundle("red", embedding=embedding)))[0] == "green"


def test_custom_embedding_strings_are_averaged(collection):
    """Issue 13 of the stock route: its asynchronous retriever drops them."""
    bundle = QueryBundle("red", custom_embedding_strs=["green", "green", "a green picture"])
    retriever = ClipRetriever(collection, similarity_top_k=1)
    assert names(retriever.retrieve(bundle)) == names(asyncio.run(retriever.aretrieve(bundle))) == ["green"]


@pytest.mark.parametrize("bundle", [QueryBundle("red"), QueryBundle("red", custom_embedding_strs=["blue"])])
def test_defect_12_the_bundle_is_only_read(collection, swatches, bundle):
    bundle.image_path = str(swatches / "green.png")
    before = copy.deepcopy(bundle)
    retriever = ClipRetriever(collection, using="both")
    first = names(retriever.retrieve(bundle))
    retriever.image_to_image_retrieve(bundle)
    retriever.text_retrieve(bundle)
    assert bundle == before
    assert names(retriever.retrieve(bundle)) == first


def test_defect_13_a_picture_in_the_bundle_is_searched_by(collection, swatches):
    bundle = QueryBundle("", image_path=str(swatches / "green.png"))
    retriever = ClipRetriever(collection, similarity_top_k=1)
    assert names(retriever.retrieve(bundle)) == names(asyncio.run(retriever.aretrieve(bundle))) == ["green"]


@pytest.mark.parametrize("query", ["", "  ", QueryBundle(""), QueryBundle("a", custom_embedding_strs=[" "])])
def test_an_empty_query_is_refused(collection, query):
    with pytest.raises(ConfigError, match="query is empty"):
        ClipRetriever(collection).retrieve(query)


def test_what_is_missing_from_a_query_is_named(collection, swatches):
    retriever = ClipRetriever(collection)
    with pytest.raises(ConfigError, match="needs an image"):
        retriever.image_to_image_retrieve(QueryBundle("red"))
    with pytest.raises(ConfigError, match="needs a text"):
        retriever.text_retrieve(QueryBundle("", image_path=str(swatches / "red.png")))
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png"):
        retriever.retrieve(Path("nowhere.png"))


@pytest.mark.parametrize("using", ["image", "both"])
def test_the_loop_goes_on_while_two_hundred_queries_are_answered(tmp_path, using):
    async def run():
        with connect(tmp_path / "q") as client:
            collection = ClipCollection(client, "c", FakeEncoder())
            collection.add(Record(str(number), text=f"red note {number}") for number in range(200))
            retriever = ClipRetriever(collection, using=using, similarity_top_k=2)
            await retriever.aretrieve("red")

            async def work():
                for _ in range(ROUNDS):
                    answers = await asyncio.gather(*(retriever.aretrieve("red") for _ in range(200)))
                    assert len(answers) == 200

            assert await least_missed(work) <= 0.1

    asyncio.run(run())


# Filters, numbers and fusion ------------------------------------------------------------------------------------------

KEPT = MetadataFilters(
    filters=[
        MetadataFilter(key="file", value=["red", "red note"], operator=FilterOperator.NIN),
        MetadataFilter(key="file", value="yellow", operator=FilterOperator.NE),
    ],
    condition=FilterCondition.AND,
)


@pytest.mark.parametrize(
    "filters", [KEPT, {"file": {"not_in": ["red", "red note"]}}, 'not file in ["red", "red note"]']
)
@pytest.mark.parametrize("fusion", ["rank", "calibrated"])
def test_filters_hold_on_every_leg(collection, filters, fusion):
    retriever = ClipRetriever(collection, filters=filters, using="both", fusion=fusion, similarity_top_k=20)
    found = names(retriever.retrieve("red"))
    assert "blue" in found
    assert "blue note" in found
    assert not {"red", "red note"} & set(found)


def test_ranks_are_fused(collection):
    nodes = ClipRetriever(collection, using="both", similarity_top_k=3).retrieve("red")
    assert names(nodes)[:2] == ["red", "red note"]
    assert [node.score for node in nodes] == pytest.approx([1 / 2, 1 / 2, 1 / 3])


def test_each_kind_brings_as_many_as_it_may(collection):
    retriever = ClipRetriever(
        collection, using="both", similarity_top_k=10, image_similarity_top_k=1, text_similarity_top_k=2
    )
    nodes = retriever.retrieve("red")
    assert names(nodes) == ["red", "red note", "blue note"]
    assert [isinstance(node.node, ImageNode) for node in nodes] == [True, False, False]
    assert len(ClipRetriever(collection, using="both", similarity_top_k=2).retrieve("red")) == 2
    more = ClipRetriever(collection, using="both", similarity_top_k=1, image_similarity_top_k=3).retrieve("red")
    assert len(more) == 4


def test_the_cutoff_is_a_cosine_of_each_kind(collection):
    for fusion in ("rank", "calibrated"):
        retriever = ClipRetriever(collection, using="both", fusion=fusion, similarity_cutoff=0.9)
        assert names(retriever.retrieve("red")) == ["red", "red note"]


def test_calibration_lets_the_kind_that_stands_out_come_first():
    found = {
        "image": [_hit("picture", 0.30), _hit("other", 0.20)],
        "text": [_hit("note", 0.80), _hit("picture", 0.75)],
    }
    chance = {"image": (0.20, 0.02), "text": (0.70, 0.05)}
    fused = by_calibration(found, chance)
    assert [hit.id for hit in fused] == ["picture", "note", "other"]
    assert [hit.score for hit in fused] == pytest.approx([5.0, 2.0, 0.0])
    assert [hit.id for hit in by_rank(found)] == ["picture", "note", "other"]
    assert by_rank(found)[0].score == pytest.approx(1 / 2 + 1 / 3)


def test_the_length_of_an_embedding_in_the_bundle_does_not_count(collection):
    vector = FakeEncoder().embed_texts(["red"])[0]
    retriever = ClipRetriever(collection, using="both", fusion="calibrated")
    answers = [retriever.retrieve(QueryBundle("", embedding=(length * vector).tolist())) for length in (1, 20)]
    assert [node.score for node in answers[0]] == pytest.approx([node.score for node in answers[1]], abs=1e-4)


def test_calibrated_answers_name_what_each_kind_finds(collection):
    nodes = ClipRetriever(collection, using="both", fusion="calibrated", similarity_top_k=2).retrieve("red")
    assert set(names(nodes)) == {"red", "red note"}
    assert all(node.score > 0.9 for node in nodes)


def test_chance_is_the_mean_and_deviation_of_stored_vectors(collection):
    query = FakeEncoder().embed_texts(["red"])[0]
    chance = Chance(collection.vectors)
    for leg in ("image", "text"):
        stored = [hit.vector for hit in collection.vectors.search(query, limit=100, using=leg, with_vectors=True)]
        cosines = np.array(stored) @ query
        assert chance.of(query, leg) == pytest.approx((cosines.mean(), cosines.std()), abs=1e-5)


def test_chance_without_vectors_leaves_scores_as_they_are():
    with connect(":memory:") as client:
        empty = ClipCollection(client, "empty", FakeEncoder())
        assert Chance(empty.vectors).of(FakeEncoder().embed_texts(["red"])[0], "image") == (0.0, 1.0)
        assert ClipRetriever(empty, using="both", fusion="calibrated").retrieve("red") == []


def _hit(id, score):
    return Hit(id=id, score=score, source=None, text=None, metadata={})


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"similarity_top_k": 0}, "similarity_top_k must be at least 1, .* got 0"),
        ({"similarity_top_k": "3"}, "similarity_top_k must be .* a whole number, got '3'"),
        ({"image_similarity_top_k": 2.5}, "image_similarity_top_k must be .* a whole number, got 2.5"),
        ({"text_similarity_top_k": 0}, "text_similarity_top_k must be at least 1"),
        ({"using": "images"}, "using must be one of 'image', 'text', 'both', got 'images'"),
        ({"fusion": "rrf"}, "fusion must be one of 'rank', 'calibrated', got 'rrf'"),
    ],
)
def test_wrong_arguments_are_refused_at_once(collection, wrong, message):
    with pytest.raises(ConfigError, match=message):
        ClipRetriever(collection, **wrong)


def test_a_wrong_filter_is_refused_before_the_first_query(collection):
    with pytest.raises(FilterError):
        ClipRetriever(collection, filters={"file": {"like": "r"}})


# In LlamaIndex --------------------------------------------------------------------------------------------------------


def test_in_a_query_engine(collection, swatches):
    engine = RetrieverQueryEngine.from_args(ClipRetriever(collection, similarity_top_k=1), llm=MockLLM())
    bundle = QueryBundle("which colour?", image_path=str(swatches / "red.png"))
    assert names(engine.query(bundle).source_nodes) == ["red"]
    assert names(asyncio.run(engine.aquery(bundle)).source_nodes) == ["red"]


def test_in_a_fusion_retriever(collection):
    legs = [ClipRetriever(collection, using=using, similarity_top_k=2) for using in ("image", "text")]
    fused = QueryFusionRetriever(legs, llm=MockLLM(), num_queries=1, similarity_top_k=2, mode="reciprocal_rerank")
    assert set(names(fused.retrieve("red"))) == {"red", "red note"}


def test_in_a_router(collection):
    tools = [
        RetrieverTool.from_defaults(ClipRetriever(collection, similarity_top_k=1), description="a red picture"),
        RetrieverTool.from_defaults(
            ClipRetriever(collection, using="text", similarity_top_k=1), description="a blue note"
        ),
    ]
    selector = EmbeddingSingleSelector.from_defaults(embed_model=ClipEmbedding(encoder=FakeEncoder()))
    router = RouterRetriever.from_defaults(tools, selector=selector, llm=MockLLM())
    assert names(router.retrieve("blue")) == ["blue note"]
    assert names(router.retrieve("red")) == ["red"]


def test_as_a_tool(collection):
    tool = RetrieverTool.from_defaults(ClipRetriever(collection, using="text", similarity_top_k=1), description="notes")
    assert "a blue note" in tool.call("blue").content


@pytest.mark.parametrize("engine", [ContextChatEngine, CondensePlusContextChatEngine])
def test_in_a_chat_engine(collection, engine):
    retriever = ClipRetriever(collection, using="text", similarity_top_k=1)
    chat = engine.from_defaults(retriever=retriever, llm=MockLLM(), memory=ChatMemoryBuffer.from_defaults())
    assert names(chat.chat("blue").source_nodes) == ["blue note"]
    assert names(chat.chat("red").source_nodes)
