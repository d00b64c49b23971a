"""What the engines of a ClipIndex show their models, by default and in every mode."""

import asyncio

import pytest
from llama_index.core import Document
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate, RichPromptTemplate
from llama_index.core.response_synthesizers import get_response_synthesizer
from PIL import Image

from clip_qdrant import ClipCollection, Record, connect
from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.answers import VisualQueryEngine, multimodal_query_engine
from clip_qdrant.llamaindex.budget import ImageBudget
from clip_qdrant.llamaindex.index import ClipIndex
from clip_qdrant.testing import FakeEncoder
from tests.scripted_llm import ScriptedLLM, seen

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")
SHOW = ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "compact_accumulate"]
CHATS = ["best", "condense_plus_context", "context", "condense_question"]


@pytest.fixture
def index(swatches):
    with connect(":memory:") as client:
        collection = ClipCollection(client, "c", FakeEncoder())
        paths = sorted(swatches.iterdir())
        collection.add(Record(str(path), path, text=f"the wall of room {i}") for i, path in enumerate(paths))
        yield ClipIndex.from_collection(collection, using="image")


@pytest.fixture
def llm():
    return ScriptedLLM("It is red.")


@pytest.fixture
def memory():
    return ChatMemoryBuffer.from_defaults()


def shown(llm):
    """What all calls showed."""
    return [seen(block) for call in llm.calls for message in call for block in message.blocks]


def texts(llm):
    return "\n".join(entry[1] for entry in shown(llm) if entry[0] == "text")


def ask(engine, how):
    return engine.query("red") if how == "sync" else asyncio.run(engine.aquery("red"))


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("mode", SHOW)
def test_a_chat_model_sees_pictures_and_captions(index, llm, mode, how):
    response = ask(index.as_query_engine(llm, similarity_top_k=2, response_mode=mode), how)
    assert "It is red." in str(response)
    assert [entry[1] for entry in shown(llm) if entry[0] == "image"] == [(16, 16)] * 2
    assert "[image red.png]" in texts(llm) and "the wall of room 2" in texts(llm)


def test_pictures_are_within_the_budget(index, llm, swatches):
    Image.new("RGB", (3000, 1000), "red").save(swatches / "red.png")
    index.as_query_engine(llm, similarity_top_k=1).query("red")
    assert llm.images == [(1024, 341)]
    budget = ImageBudget(max_side=300)
    index.as_query_engine(llm, similarity_top_k=1, node_postprocessors=[budget]).query("red")
    assert llm.images == [(300, 100)]


def test_a_model_that_completes_text_gets_text(index):
    answer = str(index.as_query_engine(MockLLM(), similarity_top_k=1).query("red"))
    assert "the wall of room 2" in answer and "image/png" not in answer


def test_without_pictures_if_so_asked(index, llm):
    index.as_query_engine(llm, similarity_top_k=1, multimodal=False).query("red")
    assert llm.images == [] and "the wall of room 2" in llm.text
    index.as_chat_engine("context", llm, multimodal=False, memory=ChatMemoryBuffer.from_defaults()).chat("red")
    assert llm.images == [] and "the wall of room 2" in llm.text


@pytest.mark.parametrize("mode", ["generation", "no_text", "context_only"])
def test_modes_that_ask_nothing_about_what_was_found_say_so(index, llm, mode, swatches):
    with pytest.raises(ConfigError, match=rf"response_mode '{mode}' shows no pictures. Use one of 'compact', 'refine'"):
        index.as_query_engine(llm, multimodal=True, response_mode=mode)
    with pytest.raises(ConfigError, match=f"response_mode '{mode}' shows no pictures"):
        multimodal_query_engine(index.as_retriever(), llm, response_mode=mode)
    with pytest.raises(ConfigError, match=f"response_mode '{mode}' shows no pictures"):
        VisualQueryEngine(swatches / "red.png", llm=llm, response_mode=mode)


def test_generation_is_as_it_was(index, llm):
    assert str(index.as_query_engine(llm, response_mode="generation").query("red")) == "It is red."
    assert llm.images == []


def test_a_template_for_text_is_used_for_pictures(index, llm):
    engine = index.as_query_engine(
        llm,
        similarity_top_k=2,
        response_mode="refine",
        text_qa_template=PromptTemplate("Look: {context_str} Then say in {tongue}: {query_str}", tongue="Latin"),
        refine_template=PromptTemplate("Better {existing_answer} by {context_msg} for {query_str}"),
    )
    engine.query("red")
    first, second = [[seen(block) for message in call for block in message.blocks] for call in llm.calls]
    assert first[:2] == [("text", "[image red.png]"), ("image", (16, 16), "PNG")]
    assert first[2][1].startswith("Look: [image red.png]\n")
    assert first[2][1].endswith("Then say in Latin: red")
    assert second[1][0] == "image" and second[2][1].startswith("Better It is red. by [image ")


def test_a_template_without_a_place_for_pictures_answers_by_text(index, llm):
    rich = RichPromptTemplate("Look: {{ context_str }} {{ query_str }}")
    index.as_query_engine(llm, similarity_top_k=1, text_qa_template=rich).query("red")
    assert llm.images == [] and llm.text.startswith("Look: ")
    with pytest.raises(ConfigError, match="Give chat_content_qa_template"):
        index.as_query_engine(llm, text_qa_template=rich, multimodal=True)
    summary = PromptTemplate("Sum up {context_str} for {query_str}")
    index.as_query_engine(llm, response_mode="tree_summarize", summary_template=summary).query("red")
    assert llm.images == [] and llm.text.startswith("Sum up ")
    with pytest.raises(ConfigError, match="chat_summary_template"):
        index.as_query_engine(llm, response_mode="tree_summarize", summary_template=summary, multimodal=True)


def test_a_synthesizer_is_as_it_was_made(index, llm):
    seeing = get_response_synthesizer(llm, multimodal=True)
    index.as_query_engine(llm, similarity_top_k=1, response_synthesizer=seeing).query("red")
    assert llm.images == [(16, 16)] and "the wall of room 2" in llm.text
    reading = get_response_synthesizer(llm)
    index.as_query_engine(llm, similarity_top_k=1, response_synthesizer=reading).query("red")
    assert llm.images == []
    with pytest.raises(ConfigError, match="without multimodal=True"):
        index.as_query_engine(llm, response_synthesizer=reading, multimodal=True)


# Chat -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["chat", "achat", "stream_chat", "astream_chat"])
@pytest.mark.parametrize("mode", CHATS)
def test_a_chat_shows_pictures_and_captions(index, llm, memory, mode, how):
    engine = index.as_chat_engine(mode, llm, memory=memory, similarity_top_k=2)

    async def awaited():
        response = await getattr(engine, how)("red")
        if how == "astream_chat":
            return "".join([part async for part in response.async_response_gen()]), response
        return str(response), response

    if how.startswith("a"):
        answer, response = asyncio.run(awaited())
    else:
        response = getattr(engine, how)("red")
        answer = "".join(response.response_gen) if how == "stream_chat" else str(response)
    assert answer == "It is red."
    assert llm.images == [(16, 16)] * 2
    assert "[image red.png]" in llm.text and "the wall of room 2" in llm.text
    if (mode, how) != ("condense_question", "astream_chat"):  # there LlamaIndex leaves them in `sources`
        assert len(response.source_nodes) == 2


def test_the_name_of_a_picture_stands_before_it_and_the_question_last(index, llm, memory):
    index.as_chat_engine("context", llm, memory=memory, similarity_top_k=2, system_prompt="Be brief.").chat("red")
    system, user = llm.calls[0]
    assert system.role.value == "system" and "the wall of room 2" in system.content and "Be brief." in system.content
    blocks = [seen(block) for block in user.blocks]
    assert [block[0] for block in blocks] == ["text", "image", "text", "image", "text"]
    assert blocks[0][1] == "[image red.png]" and blocks[-1][1] == "red"


def test_a_chat_goes_on_and_its_memory_has_no_pictures(index, memory):
    llm = ScriptedLLM("It is red.", "It is {blue}.")
    engine = index.as_chat_engine(llm=llm, memory=memory, similarity_top_k=1)
    engine.chat("red")
    assert str(engine.chat("and {this}?")) == "It is {blue}."
    assert llm.images == [(16, 16)]
    assert [message.content for message in memory.get_all()] == ["red", "It is red.", "and {this}?", "It is {blue}."]
    assert all(block.block_type == "text" for message in memory.get_all() for block in message.blocks)


def test_a_missing_picture_is_a_note_in_a_chat(index, llm, memory, swatches):
    (swatches / "red.png").unlink()
    index.as_chat_engine("context", llm, memory=memory, similarity_top_k=1).chat("red")
    assert llm.images == [] and "[image red.png is missing: no such file]" in llm.text


def test_texts_alone_are_a_chat_without_pictures(llm, memory):
    with connect(":memory:") as client:
        index = ClipIndex.from_collection(ClipCollection(client, "c", FakeEncoder()))
        index.insert(Document(text="a red note"))
        index.as_chat_engine(llm=llm, memory=memory).chat("red")
    assert llm.images == [] and "a red note" in llm.text


def test_a_chat_that_completes_text_gets_text(index, memory):
    response = index.as_chat_engine("context", MockLLM(), memory=memory, similarity_top_k=1).chat("red")
    assert "the wall of room 2" in str(response)


def test_chat_modes_that_there_are_not_are_refused(index, llm):
    with pytest.raises(ConfigError, match=r"one of 'simple', .*'best', got 'react'"):
        index.as_chat_engine("react", llm)
    with pytest.raises(ConfigError, match="'simple' shows the model nothing"):
        index.as_chat_engine("simple", llm, multimodal=True)


@pytest.mark.parametrize("make", ["as_query_engine", "as_chat_engine"])
def test_an_engine_refuses_arguments_that_there_are_not(index, llm, make):
    with pytest.raises(ConfigError, match="takes an argument 'top_k'"):
        getattr(index, make)(llm=llm, top_k=3)
