"""ZeroShotSelector and ZeroShotRouter: texts and pictures to where they belong, with no language model."""

import asyncio
import copy

import pytest
from llama_index.core import Settings
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata
from PIL import Image

from clip_qdrant import ClipCollection, ClipEmbedding, ClipRetriever, Record, connect
from clip_qdrant.errors import ConfigError, ImageNotFoundError, NoChoiceError
from clip_qdrant.llamaindex import ImageQueryBundle, ZeroShotRouter, ZeroShotSelector
from clip_qdrant.testing import PALETTE, FakeEncoder

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")
COLOURS = ("red", "green", "blue")
CHOICES = [ToolMetadata(name=f"{colour}s", description=f"{colour} things") for colour in COLOURS]


class Counting(FakeEncoder):
    def __init__(self):
        super().__init__()
        self.texts = self.images = 0

    def embed_texts(self, texts):
        self.texts += 1
        return super().embed_texts(texts)

    def embed_images(self, images):
        self.images += 1
        return super().embed_images(images)


def picture(colour):
    return Image.new("RGB", (16, 16), PALETTE[colour])


def chosen(selector, query, choices=CHOICES):
    return [choices[index].name for index in selector.select(choices, query).inds]


def test_a_text_goes_where_it_is_most_like_the_description():
    selector = ZeroShotSelector(FakeEncoder())
    assert [chosen(selector, f"something {colour}") for colour in COLOURS] == [["reds"], ["greens"], ["blues"]]
    reason = selector.select(CHOICES, "green").reason
    assert reason.startswith("likeness: 'greens' 0.9")
    assert "'reds'" in reason


def test_a_picture_goes_by_words_until_every_choice_has_pictures():
    bundle = ImageQueryBundle("", image=picture("blue"))
    assert chosen(ZeroShotSelector(FakeEncoder()), bundle) == ["blues"]
    swapped = {"reds": [picture("blue")], "greens": [picture("green")], "blues": [picture("red")]}
    assert chosen(ZeroShotSelector(FakeEncoder(), examples=swapped), bundle) == ["reds"]
    some = {"reds": [picture("blue")]}
    assert chosen(ZeroShotSelector(FakeEncoder(), examples=some), bundle) == ["blues"]


def test_words_and_a_picture_together_are_one_query(swatches):
    selector = ZeroShotSelector(FakeEncoder(), top_k=2, margin=0.2)
    assert set(chosen(selector, QueryBundle("red", image_path=str(swatches / "blue.png")))) == {"reds", "blues"}


def test_examples_are_prototypes_of_their_own():
    selector = ZeroShotSelector(FakeEncoder(), examples={"reds": ["purple", "yellow"]})
    assert chosen(selector, "something yellow") == chosen(selector, "something purple") == ["reds"]
    assert chosen(selector, "blue") == ["blues"]


def test_several_are_chosen_best_first():
    choices = [ToolMetadata(name=name, description=name) for name in ("red", "red blue", "blue", "green")]
    assert chosen(ZeroShotSelector(FakeEncoder(), top_k=3), "red", choices)[:2] == ["red", "red blue"]
    assert chosen(ZeroShotSelector(FakeEncoder(), top_k=3, threshold=0.5), "red", choices) == ["red", "red blue"]
    assert chosen(ZeroShotSelector(FakeEncoder(), top_k=3, margin=0.1), "red", choices) == ["red"]


def test_what_is_like_nothing_goes_to_the_fallback():
    selector = ZeroShotSelector(FakeEncoder(), threshold=0.5, fallback="greens")
    result = selector.select(CHOICES, "an opera")
    assert CHOICES[result.ind].name == "greens"
    assert "no choice reaches the threshold of 0.5" in result.reason
    assert chosen(selector, "red") == ["reds"]


def test_what_is_like_two_goes_to_the_fallback():
    assert chosen(ZeroShotSelector(FakeEncoder(), margin=0.3, fallback="greens"), "red blue") == ["greens"]
    assert chosen(ZeroShotSelector(FakeEncoder(), margin=0.3, fallback="greens"), "red") == ["reds"]


@pytest.mark.parametrize("options", [{"threshold": 0.5}, {"margin": 0.3}])
def test_without_a_fallback_it_says_so_with_the_scores(options):
    with pytest.raises(NoChoiceError, match=r"'reds' 0.*Name a fallback"):
        ZeroShotSelector(FakeEncoder(), **options).select(CHOICES, "an opera" if "threshold" in options else "red blue")


@pytest.mark.parametrize(
    "selector",
    [
        pytest.param(
            lambda encoder: EmbeddingSingleSelector(ClipEmbedding(encoder=encoder)),
            marks=pytest.mark.xfail(strict=True),
        ),
        ZeroShotSelector,
        lambda encoder: ZeroShotSelector(ClipEmbedding(encoder=encoder)),
    ],
)
def test_defect_29_the_choices_are_embedded_once_and_a_query_once(selector):
    encoder = Counting()
    made = selector(encoder)
    made.select(CHOICES, "red")
    encoder.texts = 0
    for colour in COLOURS:
        made.select(CHOICES, colour)
    assert encoder.texts == 3
    made.select(CHOICES, ImageQueryBundle("", image=picture("red")))
    assert (encoder.texts, encoder.images) == (3, 1)


def test_changed_choices_are_embedded_anew():
    selector = ZeroShotSelector(FakeEncoder())
    assert chosen(selector, "red") == ["reds"]
    other = [ToolMetadata(name="reds", description="blue things"), ToolMetadata(name="blues", description="red things")]
    assert chosen(selector, "red", other) == ["blues"]


def test_two_hundred_choices_in_any_order():
    choices = [ToolMetadata(name=f"{number}", description=f"thing number {number}") for number in range(199)]
    choices.insert(77, ToolMetadata(name="wanted", description="red"))
    assert chosen(ZeroShotSelector(FakeEncoder()), "red", choices) == ["wanted"]


def test_tools_that_llamaindex_names_alike_are_told_apart_by_what_they_are_for():
    choices = [ToolMetadata(name="retriever_tool", description=f"{colour} things") for colour in ("red", "blue")]
    assert ZeroShotSelector(FakeEncoder()).select(choices, "blue").ind == 1


def test_plain_strings_are_choices_by_their_own_name():
    selector = ZeroShotSelector(FakeEncoder(), examples={"blue things": ["yellow"]})
    assert selector.select(["red things", "blue things"], "yellow").ind == 1


@pytest.mark.parametrize(
    "arguments, choices, query, message",
    [
        ({}, [], "red", "nothing to choose from"),
        ({"fallback": "reds"}, [CHOICES[0]] * 2, "red", "Two choices are named 'reds'"),
        ({"fallback": "others"}, CHOICES, "red", "no choice 'others'; there is 'reds'"),
        ({"examples": {"others": ["a"]}}, CHOICES, "red", "no choice 'others'"),
        ({}, CHOICES, "  ", "query is empty"),
        ({}, CHOICES, QueryBundle(""), "query is empty"),
    ],
)
def test_what_cannot_be_routed_is_refused(arguments, choices, query, message):
    with pytest.raises(ConfigError, match=message):
        ZeroShotSelector(FakeEncoder(), **arguments).select(choices, query)


@pytest.mark.parametrize(
    "wrong", [{"top_k": 0}, {"top_k": 1.5}, {"threshold": 3.0}, {"threshold": "x"}, {"margin": -0.1}, {"margin": True}]
)
def test_wrong_numbers_are_refused_at_once(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ZeroShotSelector(FakeEncoder(), **wrong)


def test_a_missing_picture_is_an_error():
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png"):
        ZeroShotSelector(FakeEncoder()).select(CHOICES, QueryBundle("", image_path="nowhere.png"))


def test_the_bundle_is_only_read(swatches):
    bundle = QueryBundle("red", image_path=str(swatches / "blue.png"))
    before = copy.deepcopy(bundle)
    selector = ZeroShotSelector(FakeEncoder())
    assert selector.select(CHOICES, bundle) == asyncio.run(selector.aselect(CHOICES, bundle))
    assert bundle == before


@pytest.fixture
def retrievers(swatches):
    """A retriever of notes and one of pictures."""
    with connect(":memory:") as client:
        collection = ClipCollection(client, "c", FakeEncoder())
        collection.add(Record(str(path), path, metadata={"name": path.stem}) for path in sorted(swatches.iterdir()))
        collection.add(
            Record(colour, text=f"a {colour} note", metadata={"name": f"{colour} note"}) for colour in COLOURS
        )
        yield {using: ClipRetriever(collection, using=using, similarity_top_k=1) for using in ("image", "text")}


@pytest.fixture
def no_model(monkeypatch):
    """Whoever asks for a language model fails."""
    monkeypatch.setattr(Settings, "_llm", None)
    monkeypatch.setattr("llama_index.core.settings.resolve_llm", _refuse)


def _refuse(*arguments, **options):
    raise AssertionError("a language model was asked for")


def retriever_tools(retrievers):
    return [
        RetrieverTool.from_defaults(retrievers["image"], name="pictures", description="red blue"),
        RetrieverTool.from_defaults(retrievers["text"], name="notes", description="green"),
    ]


def found(nodes):
    return [node.metadata["name"] for node in nodes]


def test_retrievers_are_routed_without_a_model(retrievers, no_model, swatches):
    router = ZeroShotRouter.of_retrievers(retriever_tools(retrievers), FakeEncoder())
    assert found(router.retrieve("red")) == ["red"]
    assert found(router.retrieve("green")) == ["green note"]
    assert found(asyncio.run(router.aretrieve("green"))) == ["green note"]
    bundle = QueryBundle("", image_path=str(swatches / "blue.png"))
    assert found(router.retrieve(bundle)) == found(asyncio.run(router.aretrieve(bundle))) == ["blue"]


def test_several_retrievers_answer_together(retrievers, no_model):
    router = ZeroShotRouter.of_retrievers(retriever_tools(retrievers), FakeEncoder(), top_k=2)
    assert set(found(router.retrieve("red"))) == {"red", "red note"}


def engine_tools(retrievers):
    return [
        QueryEngineTool.from_defaults(
            RetrieverQueryEngine.from_args(tool.retriever, llm=MockLLM()),
            name=tool.metadata.name,
            description=tool.metadata.description,
        )
        for tool in retriever_tools(retrievers)
    ]


def test_query_engines_are_routed_without_a_model(retrievers, no_model, swatches):
    router = ZeroShotRouter.of_query_engines(engine_tools(retrievers), FakeEncoder())
    response = router.query("green")
    assert found(response.source_nodes) == ["green note"]
    assert "'notes'" in response.metadata["selector_result"].reason
    assert found(asyncio.run(router.aquery("red")).source_nodes) == ["red"]
    bundle = QueryBundle("", image_path=str(swatches / "blue.png"))
    assert found(router.query(bundle).source_nodes) == ["blue"]


def test_several_answers_need_a_model(retrievers):
    tools = engine_tools(retrievers)
    with pytest.raises(ConfigError, match="give llm"):
        ZeroShotRouter.of_query_engines(tools, FakeEncoder(), top_k=2)
    router = ZeroShotRouter.of_query_engines(tools, FakeEncoder(), top_k=2, llm=MockLLM())
    assert set(found(router.query("red").source_nodes)) == {"red", "red note"}
