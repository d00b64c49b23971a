"""ZeroShotSelector and ZeroShotRouter: texts and pictures to where they belong, with no language model."""

import asyncio
import copy

import pytest
from llama_index.core import Settings
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import RouterRetriever
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


def picture_query(colour):
    return ImageQueryBundle("", image=picture(colour))


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


def blend(colour, share):
    """A picture that is so much of a colour, and the rest yellow, which no choice is for."""
    image = Image.new("RGB", (100, 16), PALETTE["yellow"])
    image.paste(PALETTE[colour], (0, 0, round(100 * share), 16))
    return ImageQueryBundle("", image=image)


def test_texts_and_pictures_have_thresholds_of_their_own():
    swatches = {f"{colour}s": [picture(colour)] for colour in COLOURS}
    options = {"examples": swatches, "fallback": "greens"}
    one = ZeroShotSelector(FakeEncoder(), threshold=0.5, **options)
    each = ZeroShotSelector(FakeEncoder(), threshold={"text": 0.5, "image": 0.95}, **options)
    assert chosen(one, blend("blue", 0.6)) == ["blues"] and chosen(each, blend("blue", 0.6)) == ["greens"]
    assert chosen(each, picture_query("blue")) == chosen(each, "something blue") == ["blues"]
    words_too = ImageQueryBundle("blue", image=blend("blue", 0.6).image)
    assert chosen(each, words_too) == ["blues"]  # words make it a text
    margins = ZeroShotSelector(FakeEncoder(), margin={"image": 1.9}, **options)
    assert chosen(margins, picture_query("blue")) == ["greens"] and chosen(margins, "something blue") == ["blues"]
    assert chosen(
        ZeroShotSelector(FakeEncoder(), threshold={"image": 1.9}, **options),
        ImageQueryBundle(" ", image=picture("blue")),
    ) == ["greens"]  # blank words are none


def test_thresholds_are_found_on_queries_of_each_kind():
    swatches = {f"{colour}s": [picture(colour)] for colour in COLOURS}
    encoder = Counting()
    plain = ZeroShotSelector(encoder, examples=swatches)
    texts = [f"something {colour}" for colour in COLOURS] * 2, ["an opera", "the yellow one", "purple", "a word"]
    pictures = [picture_query(colour) for colour in COLOURS] * 2, [blend(colour, 0.3) for colour in COLOURS] * 2
    selector = plain.calibrate(CHOICES, [*texts[0], *pictures[0]], [*texts[1], *pictures[1]])
    assert set(selector.threshold) == {"text", "image"} and plain.threshold == {}
    assert encoder.texts == 1 + 10 and encoder.images == 1 + 12  # the choices once, each query once
    for query in (*texts[0], *pictures[0]):
        selector.select(CHOICES, query)
    for query in (*texts[1], *pictures[1]):
        with pytest.raises(NoChoiceError, match="threshold"):
            selector.select(CHOICES, query)
    assert encoder.texts == 11 + 10
    again = ZeroShotSelector(FakeEncoder(), examples=swatches, threshold=selector.threshold)
    assert again.threshold == selector.threshold
    only = again.calibrate(CHOICES, texts[0], texts[1] + ["something green and yellow"] * 3)
    assert only.threshold["image"] == again.threshold["image"] and only.threshold["text"] != again.threshold["text"]


def test_a_precision_is_kept_at_the_least_threshold_that_has_it():
    belong, others = ["something red"] * 6, ["red yellow", "purple", "an opera", "a word"]
    least = ZeroShotSelector(FakeEncoder()).calibrate(CHOICES, belong, others, precision=0.85)
    assert chosen(least, "red yellow") == chosen(least, "something red") == ["reds"]
    with pytest.raises(NoChoiceError):
        least.select(CHOICES, "purple")
    with pytest.raises(NoChoiceError):
        ZeroShotSelector(FakeEncoder()).calibrate(CHOICES, belong, others, precision=1.0).select(CHOICES, "red yellow")


def test_what_the_fallback_is_like_anyway_sets_no_threshold():
    choices = [*CHOICES, ToolMetadata(name="rest", description="yellow things")]
    selector = ZeroShotSelector(FakeEncoder(), fallback="rest")
    found = selector.calibrate(choices, ["something red"] * 6, ["something yellow"] * 9 + ["purple"] * 4)
    assert chosen(found, "something red", choices) == ["reds"]
    assert chosen(found, "something yellow", choices) == chosen(found, "purple", choices) == ["rest"]
    with pytest.raises(ConfigError, match="got 6 and 0 of text, without those most like 'rest'"):
        selector.calibrate(choices, ["something red"] * 6, ["something yellow"] * 9)


@pytest.mark.parametrize(
    ("queries", "others", "options", "message"),
    [
        ([], [], {}, "no queries to find a threshold by"),
        (["red"] * 5, ["an opera"] * 4, {}, "at least 10 queries of a kind, .* got 5 and 4 of text"),
        (["red"] * 12, [], {}, "got 12 and 0 of text"),
        (
            ["red"] * 9,
            ["an opera"] * 9 + [ImageQueryBundle("", image=Image.new("RGB", (8, 8)))],
            {},
            "0 and 1 of image",
        ),
        ("red", ["an opera"] * 6, {}, "Queries must be a list, got str"),
        (["red"] * 6, QueryBundle("an opera"), {}, "Queries must be a list, got QueryBundle"),
        (["red"] * 6, ["an opera"] * 6, {"precision": 0}, "precision must be above 0"),
        (["an opera"] * 6, ["red"] * 6, {"precision": 0.9}, "No limit makes 90%"),
    ],
)
def test_what_no_threshold_is_found_by(queries, others, options, message):
    with pytest.raises(ConfigError, match=message):
        ZeroShotSelector(FakeEncoder()).calibrate(CHOICES, queries, others, **options)


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
    "wrong",
    [
        {"top_k": 0}, {"top_k": 1.5}, {"threshold": 3.0}, {"threshold": "x"}, {"margin": -0.1}, {"margin": True},
        {"threshold": {"text": None}}, {"examples": {"reds": "scarlet"}},
    ],
)  # fmt: skip
def test_wrong_numbers_are_refused_at_once(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ZeroShotSelector(FakeEncoder(), **wrong)


def test_there_is_no_other_kind_of_query():
    with pytest.raises(ConfigError, match="kind must be 'image' or 'text', got 'sound'"):
        ZeroShotSelector(FakeEncoder(), threshold={"sound": 0.5})


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


def test_llamaindex_own_routers_need_no_model(retrievers, monkeypatch, swatches):
    monkeypatch.setattr(Settings, "_llm", None)
    Settings.llm = None  # as LlamaIndex's documents say it
    selector = ZeroShotSelector(FakeEncoder())
    retriever = RouterRetriever.from_defaults(retriever_tools(retrievers), selector=selector)
    engine = RouterQueryEngine.from_defaults(engine_tools(retrievers), selector=selector)
    bundle = QueryBundle("", image_path=str(swatches / "blue.png"))
    assert found(retriever.retrieve("green")) == found(engine.query("green").source_nodes) == ["green note"]
    assert found(retriever.retrieve(bundle)) == found(engine.query(bundle).source_nodes) == ["blue"]


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
