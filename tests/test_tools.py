"""Search as tools for agents: what the model sees, and what it cannot ask for."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from PIL import Image

from clip_qdrant import ClipCollection, ClipRetriever, Record, connect
from clip_qdrant.errors import ConfigError, FilterError
from clip_qdrant.llamaindex.budget import ImageBudget
from clip_qdrant.llamaindex.tools import ImageSearchToolSpec
from clip_qdrant.testing import FakeEncoder
from tests.scripted_llm import ScriptedLLM, call, seen


@pytest.fixture
def collection(swatches):
    with connect(":memory:") as client:
        collection = ClipCollection(client, "swatches", FakeEncoder())
        paths = sorted(swatches.iterdir())
        collection.add(
            Record(str(path), path, text=f"wall {i}", metadata={"room": i, "owner": "ann" if i < 3 else "bob"})
            for i, path in enumerate(paths)
        )
        collection.add([Record("note", text="a red note", metadata={"owner": "ann"})])
        yield collection


@pytest.fixture
def tools(collection):
    return ImageSearchToolSpec(collection)


def texts(blocks):
    return [block.text for block in blocks if block.block_type == "text"]


def pictures(blocks):
    return [seen(block)[1] for block in blocks if block.block_type == "image"]


def search_of_ours(collection):
    return ImageSearchToolSpec(collection).to_tool_list(["search_images"])[0]


def search_of_stock(collection):
    retriever = ClipRetriever(collection, similarity_top_k=1)

    def search_images(query: str, limit: int = 1) -> list:
        """Find images."""
        return [found.node for found in retriever.retrieve(query)][:limit]

    return FunctionTool.from_defaults(search_images)


@pytest.mark.parametrize(
    "tool_of",
    [
        pytest.param(
            search_of_stock,
            id="stock",
            marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason="FunctionTool makes nodes text"),
        ),
        pytest.param(search_of_ours, id="ours"),
    ],
)
def test_defect_31_a_tool_shows_pictures(collection, tool_of):
    output = tool_of(collection).call(query="red", limit=1)
    assert pictures(output.blocks) == [(16, 16)]


def test_each_picture_follows_its_path_id_score_and_caption(collection, tools, swatches):
    head, named, image, *_ = tools.search_images("red", limit=2)
    (best, _) = collection.search("red", limit=2)
    assert head.text == "Found 2 images for 'red', best first."
    first, *rest = named.text.splitlines()
    assert first == f"1. {swatches / 'red.png'} (id {best.id}, score {best.score:.3f})"
    assert {"room: 2", "owner: ann", "wall 2"} <= set(rest)
    assert seen(image) == ("image", (16, 16), "PNG")


def test_async_answers_in_a_thread_as_sync_does(tools):
    names = []
    search = tools.collection.search
    tools.collection.search = lambda *a, **kw: names.append(threading.current_thread()) or search(*a, **kw)
    tool = tools.to_tool_list(["search_images"])[0]
    output = asyncio.run(tool.acall(query="red", limit=2))
    assert output.blocks == tools.search_images("red", limit=2)
    assert names[0] is not threading.main_thread()


def test_pictures_are_within_the_budget(tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (2000, 500), "red").save(path)
    with connect(":memory:") as client:
        collection = ClipCollection(client, "large", FakeEncoder())
        collection.add([Record(str(path), path)])
        blocks = ImageSearchToolSpec(collection, budget=ImageBudget(100)).search_images("red")
    assert pictures(blocks) == [(100, 25)]


@pytest.mark.parametrize(("asked", "got"), [(1000, 3), (0, 1), (-5, 1), (10**30, 3)])
def test_a_limit_out_of_range_is_moved_and_the_model_told(collection, asked, got):
    blocks = ImageSearchToolSpec(collection, budget=ImageBudget(max_images=3)).search_images("red", asked)
    assert len(pictures(blocks)) == got
    assert blocks[0].text.endswith(f"The limit was {asked}; it can be 1 to 3, so it was {got}.")


def test_a_limit_in_quotes_is_a_number(tools):
    assert len(pictures(tools.search_images("red", "2"))) == 2


def test_where_narrows(tools):
    assert "(id" in texts(tools.search_images("red", where={"room": 0}))[1]
    assert len(pictures(tools.search_images("red", where={"room": {"gte": 2}}))) == 2
    assert len(pictures(tools.search_images("red", where={}))) == 4


def test_nothing_found_says_so(tools):
    assert texts(tools.search_images("red", where={"room": 99})) == ["There are no images for 'red'."]


def test_an_empty_collection_says_so():
    with connect(":memory:") as client:
        tools = ImageSearchToolSpec(ClipCollection(client, "empty", FakeEncoder()))
        assert texts(tools.search_images("red")) == ["There are no images for 'red'."]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"query": ""}, "query must be a text"),
        ({"query": "  "}, "query must be a text"),
        ({"query": None}, "query must be a text"),
        ({"query": ["red"]}, "query must be a text"),
        ({"query": "red", "limit": "many"}, "limit must be a whole number from 1 to 10, got 'many'"),
        ({"query": "red", "limit": None}, "limit must be a whole number"),
        ({"query": "red", "limit": float("inf")}, "limit must be a whole number"),
        ({"query": "red", "where": "room = 2"}, "where must be an object"),
        ({"query": "red", "where": {"room": {"above": 1}}}, "above"),
        ({"query": "red", "where": {"$id": []}}, ""),
    ],
)
def test_bad_arguments_come_back_as_text(tools, arguments, reason):
    (answer,) = texts(tools.search_images(**arguments))
    assert reason in answer
    assert pictures(tools.search_images(**arguments)) == []


def test_a_text_that_is_a_path_or_a_url_is_a_text(tools, swatches):
    """STOCK_DEFECTS 33: the model cannot have a file opened by searching for its name."""
    blocks = tools.search_images(str(swatches / "red.png"), limit=1)
    assert "score 0.9" not in texts(blocks)[1]


def test_similar_to_an_id_or_a_path_leaves_itself_out(collection, tools, swatches):
    (red,) = collection.search("red", limit=1)
    by_id, by_path = tools.find_similar(red.id), tools.find_similar(str(swatches / "red.png"))
    assert len(pictures(by_id)) == len(pictures(by_path)) == 3
    assert texts(by_id)[1:] == texts(by_path)[1:]
    assert not any("red.png" in text for text in texts(by_id))


def test_a_path_is_opened_only_under_the_given_folders(collection, swatches, tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        shutil.copy(swatches / "blue.png", folder / "query.png")
    (mine / "link.png").symlink_to(other / "query.png")
    tools = ImageSearchToolSpec(collection, folders=[mine])
    for allowed in (str(mine / "query.png"), "query.png"):
        assert "blue.png" in texts(tools.find_similar(allowed, limit=1))[1]
    outside = [str(other / "query.png"), "../other/query.png", "link.png"]
    for path in [*outside, "lost.png", str(mine), "a" * 9999, "nul\0.png", "/etc/passwd", "http://127.0.0.1/x.png"]:
        (answer,) = texts(tools.find_similar(path))
        assert answer.startswith("That did not work: There is no image")
        assert answer.endswith("Give an id or a path from an earlier answer.")
        assert len(answer) < 500


@pytest.mark.parametrize("kind", [str, Path])
def test_one_folder_is_not_taken_for_its_letters(collection, tmp_path, kind):
    with pytest.raises(ConfigError, match=r"folders are a list, got .*in brackets"):
        ImageSearchToolSpec(collection, folders=kind(tmp_path))


def test_no_path_is_opened_without_folders(tools, tmp_path, swatches):
    copy = tmp_path / "copy.png"
    shutil.copy(swatches / "red.png", copy)
    assert "There is no image" in texts(tools.find_similar(str(copy)))[0]


def test_a_broken_file_in_a_given_folder_is_told(collection, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    tools = ImageSearchToolSpec(collection, folders=[tmp_path])
    assert "broken or cut short" in texts(tools.find_similar("broken.png"))[0]


def test_the_agent_cannot_lift_the_filter(collection, swatches):
    tools = ImageSearchToolSpec(collection, where={"owner": "ann"})
    (bob,) = collection.search("red", where={"owner": "bob"})
    assert len(pictures(tools.search_images("red", 10))) == 3
    for where in ({"owner": "bob"}, {"any": [{"owner": "ann"}, {"owner": "bob"}]}, {"not": {"owner": "ann"}}):
        assert bob.id not in str(tools.search_images("red", 10, where))
    for image in (bob.id, bob.source):
        assert "There is no image" in texts(tools.find_similar(image))[0]
        assert "There is no image" in texts(tools.get_image(image))[0]


def test_a_filter_that_is_none_is_refused_at_once(collection):
    with pytest.raises(FilterError):
        ImageSearchToolSpec(collection, where={"owner": {"above": 1}})


def test_one_image_is_shown(tools, swatches):
    text, image = tools.get_image(str(swatches / "green.png"))
    assert text.text.startswith(f"1. {swatches / 'green.png'} (id ")
    assert text.text.endswith("wall 1")
    assert seen(image) == ("image", (16, 16), "PNG")


def test_a_text_has_no_picture_to_show(tools):
    (text,) = tools.get_image("note")
    assert text.text.endswith("a red note")


@pytest.mark.parametrize("image", ["", None, 7, "no such thing", "00000000-0000-0000-0000-000000000000"])
def test_an_image_that_is_not_there_is_told(tools, image):
    (answer,) = tools.get_image(image)
    assert answer.text.startswith("That did not work: ")


def test_a_picture_that_has_gone_since_is_told(tools, swatches):
    (swatches / "red.png").unlink()
    blocks = tools.search_images("red", limit=2)
    assert "[image red.png is missing: no such file]" in texts(blocks)[1]
    assert len(pictures(blocks)) == 1


def test_descriptions_fit_what_openai_takes(tools):
    for tool in tools.to_tool_list():
        described = tool.metadata.to_openai_tool()["function"]
        assert all(parameter["description"] for parameter in described["parameters"]["properties"].values())


# What LlamaIndex's workflows ask of pydantic when an agent is made.
an_agent = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")


@an_agent
@pytest.mark.parametrize("streaming", [True, False])
def test_an_agent_searches_and_sees(tools, swatches, streaming):
    llm = ScriptedLLM(
        call("search_images", query="red", limit=1, where={"room": {"gte": 1}}),
        call("find_similar", image=str(swatches / "red.png"), limit=1),
        "The wall is red.",
    )

    async def run():
        agent = FunctionAgent(tools=tools.to_tool_list(), llm=llm, streaming=streaming)
        return str(await agent.run("Which wall is red?", memory=ChatMemoryBuffer.from_defaults()))

    assert asyncio.run(run()) == "The wall is red."
    results = [message for message in llm.calls[-1] if message.role == "tool"]
    assert [pictures(message.blocks) for message in results] == [[(16, 16)], [(16, 16)]]
    assert "red.png" in results[0].blocks[1].text


@an_agent
def test_an_agent_reads_what_was_wrong_and_tries_again(tools):
    llm = ScriptedLLM(
        call("search_images", query="red", where={"room": {"above": 1}}),
        call("search_images", query="red", where={"room": {"gt": 1}}),
        "Two.",
    )

    async def run():
        agent = FunctionAgent(tools=tools.to_tool_list(), llm=llm)
        return str(await agent.run("How many?", memory=ChatMemoryBuffer.from_defaults()))

    assert asyncio.run(run()) == "Two."
    first, second = (message for message in llm.calls[-1] if message.role == "tool")
    assert first.blocks[0].text.startswith("That did not work: ")
    assert pictures(second.blocks) == [(16, 16), (16, 16)]
