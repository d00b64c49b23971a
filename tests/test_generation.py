"""Generated pictures in a collection, as tools for agents, as an engine, and where a search finds nothing good."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.schema import QueryBundle
from llama_index.core.tools import QueryEngineTool
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters
from PIL import Image

from clip_qdrant import ClipCollection, ClipRetriever, Record
from clip_qdrant.collection.synthetic import RetrieveOrGenerate, from_nearest, from_words, records_of, store
from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.generation import (
    GenerationQueryEngine,
    ImageGenerationToolSpec,
    RetrieveOrGenerateRetriever,
)
from clip_qdrant.llamaindex.selector import ZeroShotSelector
from clip_qdrant.testing import FakeEncoder, FakeGenerator
from clip_qdrant.types import Generated, ImageGenerator
from tests.scripted_llm import ScriptedLLM, call, seen


@pytest.fixture
def collection(client, name, swatches):
    collection = ClipCollection(client, name, FakeEncoder())
    collection.add(Record(str(path), path, text=path.stem) for path in sorted(swatches.iterdir()))
    collection.add([Record("note", text="a purple note")])
    return collection


@pytest.fixture
def generator():
    return FakeGenerator()


@pytest.fixture
def tools(generator, collection, tmp_path):
    return ImageGenerationToolSpec(generator, collection, tmp_path / "made")


def text_of(blocks):
    return " ".join(block.text for block in blocks if block.block_type == "text")


def pictures(blocks):
    return [seen(block)[1] for block in blocks if block.block_type == "image"]


def synthetic(collection):
    return list(collection.vectors.scan(where={"synthetic": True}))


def test_what_a_safety_checker_flagged_is_not_kept(collection, generator, tools, monkeypatch):
    made = generator.generate("a red thing", count=2, seed=4)
    flagged = [
        SimpleNamespace(image=one.image, prompt=one.prompt, seed=one.seed, flagged=one.seed == 5) for one in made
    ]
    monkeypatch.setattr(generator, "generate", lambda *_, **__: flagged)
    blocks = tools.generate_image("a red thing")
    assert "flagged what it made of 'a red thing' with the seeds [5]" in text_of(blocks)
    assert pictures(blocks) == [] and synthetic(collection) == []


def test_the_fake_is_a_generator(generator):
    assert isinstance(generator, ImageGenerator)
    assert isinstance(generator.generate("red")[0], Generated)
    red, other = generator.generate("a red wall", count=2, seed=1)
    assert red.image.tobytes() != other.image.tobytes()
    assert generator.generate("a red wall", seed=1)[0].png() == red.png()


def test_prompt_to_picture_to_collection_and_back(collection, generator, tmp_path):
    (made,) = generator.generate("a purple house", seed=3)
    (hit,) = store(collection, [made], tmp_path / "made", parent="sketch.png")
    assert hit.metadata["synthetic"] is True
    assert {key: hit.metadata[key] for key in ("prompt", "seed", "model", "parent")} == {
        "prompt": "a purple house", "seed": 3, "model": "fake", "parent": "sketch.png",
    }  # fmt: skip
    assert Path(hit.source).parent == tmp_path / "made"
    assert Image.open(hit.source).tobytes() == made.image.tobytes()
    for query in ("a purple house", made.image):
        assert collection.search(query, limit=1)[0].id == hit.id
        assert hit.id not in {one.id for one in collection.search(query, limit=50, where={"synthetic": False})}
        assert collection.search(query, limit=1, where="synthetic == true")[0].id == hit.id
    assert collection.count(where={"synthetic": False}) == collection.count() - 1


def test_the_same_picture_made_again_is_one_point(collection, generator, tmp_path):
    before = collection.count()
    first = store(collection, generator.generate("red", count=3), tmp_path)
    again = store(collection, generator.generate("red", count=3), tmp_path)
    assert [hit.id for hit in first] == [hit.id for hit in again]
    assert collection.count() == before + 3
    assert len(list(tmp_path.glob("*.png"))) == 3


def test_two_seeds_of_one_picture_are_each_answered(generator, collection, tmp_path):
    tools = ImageGenerationToolSpec(generator, collection, tmp_path, most=9)
    assert len(pictures(tools.generate_image("red", count=9))) == 9  # the first and the last are the same
    assert len(synthetic(collection)) == 8


def test_no_pictures_write_nothing(collection, tmp_path):
    assert store(collection, [], tmp_path / "made") == []


def test_a_folder_that_cannot_be_is_an_error_and_stores_nothing(collection, generator, tmp_path):
    (tmp_path / "file").write_text("")
    before = collection.count()
    with pytest.raises(ConfigError, match=r"Cannot write generated pictures to .*file"):
        store(collection, generator.generate("red"), tmp_path / "file")
    assert collection.count() == before


def test_defect_30_a_tool_makes_pictures_by_a_generator_in_this_process_and_keeps_them(tools, collection):
    blocks = tools.generate_image("a green door", count=2)
    assert pictures(blocks) == [(16, 16), (16, 16)]
    kept = synthetic(collection)
    assert len(kept) == 2
    assert all(hit.id in text_of(blocks) and hit.source in text_of(blocks) for hit in kept)


def test_an_edit_has_a_parent_and_leaves_it_alone(tools, collection, swatches):
    parent = collection.search("blue", limit=1)[0]
    before = Path(parent.source).read_bytes()
    for named in (parent.id, parent.source):
        blocks = tools.edit_image(named, "red", strength=0.5)
        assert pictures(blocks) == [(16, 16)]
    (made,) = synthetic(collection)  # both times the same
    assert made.metadata["parent"] == parent.id
    left, right = (Image.open(made.source).getpixel((x, 4)) for x in (2, 12))
    assert left[0] > 180 > 100 > right[0]
    assert Path(parent.source).read_bytes() == before


def test_variations_start_from_the_picture_and_its_caption(tools, collection, generator):
    parent = collection.search("blue", limit=1)[0]
    assert len(pictures(tools.vary_image(parent.id, count=3))) == 3
    assert generator.prompts == [parent.text]


def test_a_model_gets_no_more_than_allowed_and_opens_nothing_else(tools, collection, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    assert len(pictures(tools.generate_image("red", count=999))) == 4
    assert "There is no image" in text_of(tools.edit_image(str(secret), "red"))
    assert "not an image" in text_of(tools.edit_image("note", "red"))
    for wrong in (
        lambda: tools.generate_image("  "),
        lambda: tools.generate_image("red", count="many"),
        lambda: tools.edit_image("", "red"),
        lambda: tools.edit_image(collection.search("red")[0].id, "red", strength="x"),
        lambda: tools.edit_image(collection.search("red")[0].id, "red", strength=float("nan")),
        lambda: tools.vary_image(3),
    ):
        blocks = wrong()
        assert text_of(blocks).startswith("That did not work") and pictures(blocks) == []


def test_pictures_outside_of_the_filter_cannot_be_edited(generator, collection, tmp_path):
    red = collection.search("red", limit=1)[0]
    tools = ImageGenerationToolSpec(generator, collection, tmp_path, where={"source": "elsewhere"})
    assert "There is no image" in text_of(tools.edit_image(red.id, "blue"))


def test_a_lost_file_is_said_to_be_lost(tools, collection, tmp_path):
    path = tmp_path / "gone.png"
    Image.new("RGB", (8, 8), "red").save(path)
    collection.add([Record(str(path), path)])
    path.unlink()
    assert "no such file" in text_of(tools.edit_image(str(path), "blue"))


def test_agents_call_the_tools_by_their_schemas(tools):
    by_name = {tool.metadata.name: tool for tool in tools.to_tool_list()}
    assert set(by_name) == {"generate_image", "edit_image", "vary_image"}
    assert set(by_name["edit_image"].metadata.get_parameters_dict()["properties"]) == {"image", "prompt", "strength"}
    output = asyncio.run(by_name["generate_image"].acall(prompt="red"))
    assert pictures(output.blocks) == [(16, 16)]


# What LlamaIndex's workflows ask of pydantic when an agent is made.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")
def test_an_agent_makes_a_picture_and_sees_it(tools, collection):
    async def ask(llm):
        agent = FunctionAgent(tools=tools.to_tool_list(), llm=llm)
        return await agent.run("Make me a red wall", memory=ChatMemoryBuffer.from_defaults())

    llm = ScriptedLLM(call("generate_image", prompt="a red wall"), "Here it is.")
    assert str(asyncio.run(ask(llm))) == "Here it is."
    assert llm.images == [(16, 16)]
    (made,) = synthetic(collection)
    assert made.id in llm.text


def test_a_generator_is_used_by_one_call_at_a_time(collection, tmp_path):
    class Watched(FakeGenerator):
        inside = most = 0

        def generate(self, prompt, **kwargs):
            self.inside += 1
            self.most = max(self.most, self.inside)
            entered.set()
            go_on.wait(1)
            self.inside -= 1
            return super().generate(prompt, **kwargs)

    entered, go_on = threading.Event(), threading.Event()
    generator = Watched()
    tools = ImageGenerationToolSpec(generator, collection, tmp_path)
    threads = [threading.Thread(target=tools.generate_image, args=(word,)) for word in ("red", "blue", "green")]
    for thread in threads:
        thread.start()
    entered.wait(5)
    go_on.set()
    for thread in threads:
        thread.join()
    assert generator.most == 1 and len(generator.prompts) == 3


def test_an_engine_answers_with_what_it_made(generator, collection, tmp_path):
    engine = GenerationQueryEngine(generator, collection, tmp_path, count=2)
    answer = engine.query("a white cloud")
    assert [node.metadata["synthetic"] for node in answer.source_nodes] == [True, True]
    assert all(node.node.image_path in str(answer) for node in answer.source_nodes)
    assert asyncio.run(engine.aquery("a white cloud")).source_nodes[0].node_id == answer.source_nodes[0].node_id
    blue = collection.search("blue", limit=1)[0].source
    node = engine.query(QueryBundle("red", image_path=blue)).source_nodes[0].node
    edited = node.image_path
    assert node.metadata["parent"] == blue
    assert Image.open(edited).getpixel((15, 4)) == Image.open(blue).getpixel((15, 4))
    with pytest.raises(ConfigError, match="prompt must be a text"):
        engine.query(" ")
    with pytest.raises(ConfigError, match="count must be at least 1"):
        GenerationQueryEngine(generator, collection, tmp_path, count=0)


def test_a_router_sends_to_the_generator_what_asks_for_a_new_picture(generator, collection, tmp_path):
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine

    making = GenerationQueryEngine(generator, collection, tmp_path)
    finding = RetrieverQueryEngine.from_args(ClipRetriever(collection), llm=MockLLM())
    tools = [
        QueryEngineTool.from_defaults(making, name="make", description="paint something red"),
        QueryEngineTool.from_defaults(finding, name="find", description="find something blue"),
    ]
    router = RouterQueryEngine(ZeroShotSelector(collection.encoder), tools, llm=MockLLM())
    assert router.query("red red red").source_nodes[0].metadata["synthetic"] is True
    assert len(router.query("blue blue").source_nodes) > 1


def finder(collection, generator, folder, good_enough=0.8, **kwargs):
    return RetrieveOrGenerate(collection, from_words(generator), folder, good_enough=good_enough, **kwargs)


def ask(found, text, **kwargs):
    return found.search(found.collection.query_vector(text), text, **kwargs)


def test_what_is_good_enough_is_found_and_nothing_is_made(collection, generator, tmp_path):
    hits = ask(finder(collection, generator, tmp_path), "red")
    assert [Path(hit.source).stem for hit in hits] == ["red"]
    assert generator.prompts == [] and list(tmp_path.glob("*.png")) == []


def test_where_nothing_is_good_enough_something_is_made_once(collection, generator, tmp_path):
    collection.delete(where={"text": {"in": ["purple"]}})
    found = finder(collection, generator, tmp_path)
    first, second = ask(found, "purple"), ask(found, "purple")
    assert first[0].metadata["synthetic"] is True
    assert [hit.id for hit in second] == [first[0].id] and generator.prompts == ["purple"]
    assert first[0].score == pytest.approx(second[0].score, abs=1e-5) and first[0].score >= 0.8


def test_a_function_may_say_what_is_good_enough(collection, generator, tmp_path):
    found = finder(collection, generator, tmp_path, good_enough=lambda hit: hit.text == "blue")
    assert [hit.text for hit in ask(found, "blue")] == ["blue"]
    assert ask(found, "red", limit=1)[0].metadata["synthetic"] is True


def test_a_query_without_words_makes_nothing(collection, generator, tmp_path):
    found = finder(collection, generator, tmp_path, good_enough=1.0)
    assert found.search(collection.query_vector("purple"), "") == []
    assert generator.prompts == []


def test_what_was_found_near_by_can_be_started_from(collection, generator, tmp_path):
    found = RetrieveOrGenerate(collection, from_nearest(generator, strength=0.5), tmp_path, good_enough=0.999)
    (made,) = ask(found, "red red red blue")
    red = Image.open(collection.search("red", limit=1, where={"synthetic": False})[0].source)
    assert Image.open(made.source).getpixel((15, 4)) == red.getpixel((15, 4))


def test_without_a_picture_near_by_words_alone_are_left(client, name, generator, tmp_path):
    collection = ClipCollection(client, name, FakeEncoder())
    found = RetrieveOrGenerate(collection, from_nearest(generator), tmp_path, good_enough=0.5)
    assert [hit.text for hit in ask(found, "red")] == ["red"]


@pytest.mark.parametrize("good_enough", [2.0, -1.5])
def test_a_cosine_is_checked(collection, generator, tmp_path, good_enough):
    with pytest.raises(ConfigError, match="good_enough is a cosine"):
        finder(collection, generator, tmp_path, good_enough=good_enough)


def test_the_retriever_gives_nodes_and_leaves_the_bundle_alone(collection, generator, tmp_path):
    retriever = RetrieveOrGenerateRetriever(
        collection, from_words(generator), tmp_path, good_enough=0.99, similarity_top_k=3
    )
    bundle = QueryBundle("red and green and blue")
    (node,) = retriever.retrieve(bundle)
    assert node.metadata["prompt"] == "red and green and blue" and bundle == QueryBundle("red and green and blue")
    assert Path(node.node.image_path).is_file()
    assert asyncio.run(retriever.aretrieve("blue"))[0].node.text == "blue"


def test_filters_of_llamaindex_narrow_what_is_good_enough(collection, generator, tmp_path):
    def asked(source):
        filters = MetadataFilters(filters=[MetadataFilter(key="text", value=source)])
        retriever = RetrieveOrGenerateRetriever(
            collection, from_words(generator), tmp_path, good_enough=0.9, filters=filters
        )
        return retriever.retrieve("red")[0].metadata.get("synthetic", False)

    assert asked("red") is False
    assert asked("blue") is True


def test_two_who_ask_at_once_get_one_picture(collection, tmp_path):
    class Slow(FakeGenerator):
        def generate(self, prompt, **kwargs):
            both_ask.wait(5)
            return super().generate(prompt, **kwargs)

    both_ask = threading.Event()
    generator = Slow()
    collection.delete(where={"text": {"in": ["purple"]}})
    found = finder(collection, generator, tmp_path)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(found, "purple"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    both_ask.set()
    for thread in threads:
        thread.join()
    assert generator.prompts == ["purple"]
    assert answers[0][0].id == answers[1][0].id


def test_records_are_absolute_whatever_folder_is_given(generator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (record,) = records_of(generator.generate("red"), "made", scope="ann")
    assert Path(record.source).is_absolute() and record.scope == "ann"
