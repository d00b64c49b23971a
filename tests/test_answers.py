"""Questions about pictures, end to end: what the model was shown, and what the answer's sources are."""

import asyncio
from pathlib import Path

import pytest
from llama_index.core.chat_engine import CondenseQuestionChatEngine, ContextChatEngine
from llama_index.core.chat_engine.multi_modal_context import MultiModalContextChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import QueryBundle
from PIL import Image

from clip_qdrant import ClipCollection, ClipRetriever, Record, connect
from clip_qdrant.errors import ConfigError, ImageNotFoundError
from clip_qdrant.llamaindex.answers import VisualQueryEngine, multimodal_query_engine
from clip_qdrant.llamaindex.budget import ImageBudget
from clip_qdrant.llamaindex.postprocessors import ClipReranker, NearDuplicateFilter
from clip_qdrant.llamaindex.queries import ImageQueryBundle
from clip_qdrant.testing import FakeEncoder
from tests.scripted_llm import ScriptedLLM

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")


@pytest.fixture
def collection(swatches):
    with connect(":memory:") as client:
        collection = ClipCollection(client, "swatches", FakeEncoder())
        paths = sorted(swatches.iterdir())
        collection.add(Record(str(path), path, text=f"the wall of room {i}") for i, path in enumerate(paths))
        yield collection


@pytest.fixture
def memory():
    """For a chat engine; LlamaIndex's default one leaves a database connection open."""
    return ChatMemoryBuffer.from_defaults()


@pytest.fixture
def llm():
    return ScriptedLLM("It is red.")


def ask(engine, question, how):
    return engine.query(question) if how == "sync" else asyncio.run(engine.aquery(question))


def sources(response):
    return [(Path(node.node.image_path).name, round(node.score, 1)) for node in response.source_nodes]


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize(
    "postprocessors",
    [
        pytest.param(
            [], id="stock", marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason="leaves captions out")
        ),
        pytest.param([ImageBudget()], id="ours"),
    ],
)
def test_defect_32_the_model_is_shown_pictures_and_captions(collection, llm, postprocessors, how):
    retriever = ClipRetriever(collection, similarity_top_k=1)
    engine = RetrieverQueryEngine.from_args(retriever, llm=llm, multimodal=True, node_postprocessors=postprocessors)
    response = ask(engine, "something red", how)
    assert str(response) == "It is red."
    assert sources(response) == [("red.png", 1.0)]
    assert llm.images == [(16, 16)]
    assert "the wall of room 2" in llm.text


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_picture_that_has_gone_since_is_a_note(collection, llm, swatches, how):
    (swatches / "red.png").unlink()
    response = ask(multimodal_query_engine(ClipRetriever(collection, similarity_top_k=2), llm), "red", how)
    assert "[image red.png is missing: no such file]" in llm.text
    assert len(llm.images) == 1
    assert sources(response)[0] == ("red.png", 1.0)


def test_each_picture_is_followed_by_its_own_caption(collection, llm):
    multimodal_query_engine(ClipRetriever(collection), llm).query("red")
    blocks = llm.shown
    pictures = [i for i, block in enumerate(blocks) if block[0] == "image"]
    assert len(pictures) == 4
    for i, name in zip(pictures, sources_by_score(collection), strict=True):
        assert blocks[i + 1][1].startswith(f"[image {name}]")


def sources_by_score(collection):
    return [Path(hit.source).name for hit in collection.search("red")]


def test_a_narrow_window_keeps_a_caption_with_its_picture(collection):
    """The prompt is cut into several calls; no caption ends up in the call of another picture."""
    llm = ScriptedLLM("so far", "in the end", context_window=3900)
    response = multimodal_query_engine(ClipRetriever(collection), llm).query("red")
    assert str(response) == "in the end"
    assert len(llm.calls) == 4
    for messages in llm.calls:
        text = " ".join(block.text for message in messages for block in message.blocks if block.block_type == "text")
        assert text.count("[image ") == text.count("the wall of room") == 1


def test_large_pictures_and_many_are_kept_within_the_budget(tmp_path, llm):
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for i, path in enumerate(paths):
        Image.new("RGB", (1000, 500), (200, i, i)).save(path)
    with connect(":memory:") as client:
        collection = ClipCollection(client, "large", FakeEncoder())
        collection.add(Record(str(path), path) for path in paths)
        retriever = ClipRetriever(collection, similarity_top_k=20)
        response = multimodal_query_engine(retriever, llm, budget=ImageBudget(200, max_images=5)).query("red")
    assert llm.images == [(200, 100)] * 5
    assert llm.text.count("is left out: there is room for 5") == 15
    assert len(response.source_nodes) == 20


def test_nothing_found_asks_no_model(collection, llm):
    engine = multimodal_query_engine(ClipRetriever(collection, filters={"source": "nowhere"}), llm)
    assert str(engine.query("red")) == "Empty Response"
    assert llm.calls == []


def test_answers_stream(collection, llm):
    engine = multimodal_query_engine(ClipRetriever(collection, similarity_top_k=1), llm, streaming=True)
    response = engine.query("red")
    assert "".join(response.response_gen) == "It is red."
    assert sources(response) == [("red.png", 1.0)]

    async def collected():
        answer = await engine.aquery("red")
        return "".join([part async for part in answer.async_response_gen()])

    assert asyncio.run(collected()) == "It is red."


def test_postprocessors_come_before_the_budget(collection, llm, swatches):
    class Reversed(BaseNodePostprocessor):
        def _postprocess_nodes(self, nodes, query_bundle=None):
            return nodes[::-1]

    steps = [ClipReranker(collection.encoder), NearDuplicateFilter(collection.encoder), Reversed()]
    retriever, budget = ClipRetriever(collection), ImageBudget(max_images=1)
    engine = multimodal_query_engine(retriever, llm, node_postprocessors=steps, budget=budget)
    response = engine.query(QueryBundle("", image_path=str(swatches / "blue.png")))
    assert len(llm.images) == 1
    assert sources(response)[-1] == ("blue.png", 1.0)
    assert "[image blue.png is left out" in llm.text


def test_a_chat_engine_over_the_query_engine_shows_pictures_and_captions(collection, llm, memory):
    engine = multimodal_query_engine(ClipRetriever(collection, similarity_top_k=1), llm)
    response = CondenseQuestionChatEngine.from_defaults(engine, llm=llm, memory=memory).chat("something red")
    assert llm.images == [(16, 16)]
    assert "the wall of room 2" in llm.text
    assert sources(response) == [("red.png", 1.0)]


def test_a_context_chat_engine_of_texts_gets_the_captions_and_notes(collection, llm, memory, swatches):
    (swatches / "green.png").unlink()
    engine = ContextChatEngine.from_defaults(
        ClipRetriever(collection), llm=llm, memory=memory, node_postprocessors=[ImageBudget()]
    )
    response = engine.chat("red")
    assert llm.text.count("the wall of room") == 4
    assert "[image green.png is missing" in llm.text
    assert sources(response)[0] == ("red.png", 1.0)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_multimodal_chat_engine_gets_resized_pictures_and_notes(collection, llm, memory, swatches, how):
    (swatches / "green.png").unlink()
    budget = ImageBudget(max_side=8)
    engine = MultiModalContextChatEngine.from_defaults(
        ClipRetriever(collection), multi_modal_llm=llm, memory=memory, node_postprocessors=[budget]
    )
    response = engine.chat("red") if how == "sync" else asyncio.run(engine.achat("red"))
    assert llm.images == [(8, 8)] * 3
    assert "[image green.png is missing" in llm.text
    assert len(response.source_nodes) == 4


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("form", ["str", "Path", "bytes", "PIL"])
def test_a_question_about_one_given_picture(swatches, llm, form, how):
    path = swatches / "red.png"
    forms = {"str": str(path), "Path": path, "bytes": path.read_bytes(), "PIL": Image.new("RGB", (16, 16), "red")}
    response = ask(VisualQueryEngine(forms[form], llm=llm), "What colour is it?", how)
    assert str(response) == "It is red."
    assert llm.images == [(16, 16)]
    assert "Query: What colour is it?" in llm.text
    (source,) = response.source_nodes
    assert source.node.image_path == (str(path) if form in ("str", "Path") else None)


def test_a_question_may_bring_its_own_picture_and_is_not_changed(swatches, llm):
    bundle = QueryBundle("What is it?", image_path=str(swatches / "blue.png"))
    response = VisualQueryEngine(swatches / "red.png", llm=llm, budget=ImageBudget(4)).query(bundle)
    assert response.source_nodes[0].node.image_path == str(swatches / "blue.png")
    assert llm.images == [(4, 4)]
    assert (bundle.query_str, bundle.embedding) == ("What is it?", None)


def test_a_question_may_bring_bytes(swatches, llm):
    bundle = ImageQueryBundle("What is it?", image=(swatches / "blue.png").read_bytes())
    VisualQueryEngine(llm=llm).query(bundle)
    assert llm.images == [(16, 16)]


def test_a_given_picture_streams(swatches, llm):
    response = VisualQueryEngine(swatches / "red.png", llm=llm, streaming=True).query("What?")
    assert "".join(response.response_gen) == "It is red."


def test_a_given_picture_that_is_missing_is_an_error(swatches, llm):
    with pytest.raises(ImageNotFoundError, match=r"lost\.png"):
        VisualQueryEngine(swatches / "lost.png", llm=llm).query("What?")
    assert llm.calls == []


def test_a_question_about_no_picture_is_refused(llm):
    with pytest.raises(ConfigError, match="about no picture"):
        VisualQueryEngine(llm=llm).query("What?")
