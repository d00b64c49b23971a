"""What questions want: by rule where a picture is given, by likeness to examples where it is not."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.schema import QueryBundle
from llama_index.core.tools import QueryEngineTool

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ConfigError, NoChoiceError
from clip_qdrant.llamaindex.modality import ModalitySelector
from clip_qdrant.models.modality import EXAMPLES, MODALITIES, ModalityRouter
from clip_qdrant.testing import FakeEncoder
from tests.zero_shot.modalities import QUESTIONS

COLOURS = {
    "pictures": ["red", "a red one"],
    "passages": ["green"],
    "generation": ["blue", "blue blue"],
    "answer": ["yellow"],
}


class Counting(FakeEncoder):
    def __init__(self):
        super().__init__()
        self.calls = []

    def embed_texts(self, texts):
        self.calls.append(len(texts))
        return super().embed_texts(texts)


@pytest.fixture
def router():
    return ModalityRouter(FakeEncoder(), examples=COLOURS)


def test_a_question_wants_what_the_most_similar_example_wants(router):
    asked = {"something red": "pictures", "green": "passages", "blue things": "generation", "a yellow one": "answer"}
    assert {question: router.route(question).modality for question in asked} == asked
    scores = router.route("something red").scores
    assert max(scores, key=scores.get) == "pictures" and scores["pictures"] > 0.8 > 0.2 > scores["answer"]


def test_examples_are_embedded_once_and_many_questions_together():
    encoder = Counting()
    router = ModalityRouter(encoder, examples=COLOURS)
    assert [routed.modality for routed in router.route_all(["red", "blue"])] == ["pictures", "generation"]
    router.route_all(["green", "red", "yellow"])
    assert encoder.calls == [2, 2, 1, 2, 1, 3] or encoder.calls == [2, 1, 2, 1, 2, 3]
    assert router.route_all([]) == []


def test_a_picture_alone_wants_pictures_and_with_words_no_passages(router):
    assert router.route(has_picture=True).modality == "pictures"
    routed = router.route("green", has_picture=True)
    assert "passages" not in routed.scores and routed.modality != "passages"
    assert router.route("yellow", has_picture=True).modality == "answer"
    assert [one.modality for one in router.route_all(["", "blue"], has_picture=True)] == ["pictures", "generation"]


def test_what_is_not_clear_goes_to_the_fallback():
    router = ModalityRouter(FakeEncoder(), examples=COLOURS, margin=0.2, fallback="answer")
    unclear = router.route("red and blue")
    assert (unclear.modality, unclear.certain) == ("answer", False)
    assert router.route("red").certain
    assert ModalityRouter(FakeEncoder(), examples=COLOURS).route("red and blue").certain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": {"pictures": ["a"], "music": ["b"]}}, "no modality 'music'"),
        ({"fallback": "nothing"}, "no modality 'nothing'"),
        ({"examples": {"pictures": ["a"]}}, "at least two"),
        ({"examples": {"pictures": ["a"], "answer": []}}, "at least one of each"),
        ({"margin": -1.0}, "margin is at least 0"),
        ({"margin": float("nan")}, "margin is at least 0"),
    ],
)
def test_what_cannot_route(options, message):
    with pytest.raises(ConfigError, match=message):
        ModalityRouter(FakeEncoder(), **options)


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_question_is_an_error(router, empty):
    with pytest.raises(ConfigError, match="nothing in the question"):
        router.route(empty)


def test_the_examples_that_come_with_it_and_the_test_are_different_questions():
    examples = {text for texts in EXAMPLES.values() for text in texts}
    questions = [text for texts in QUESTIONS.values() for text in texts]
    assert not examples & set(questions) and len(set(questions)) == len(questions) == 80
    assert {len(texts) for texts in EXAMPLES.values()} == {20} and tuple(EXAMPLES) == MODALITIES


def test_the_pocket_model_tells_most_questions_apart():
    router = ModalityRouter(ClipEncoder("pocket"))
    right = {
        wanted: np.mean([routed.modality == wanted for routed in router.route_all(questions)])
        for wanted, questions in QUESTIONS.items()
    }
    # Chance is 0.25. The text tower of the pocket model knows names of things; a large one knows questions, too.
    assert np.mean(list(right.values())) >= 0.70, right


class Saying(CustomQueryEngine):
    what: str

    def custom_query(self, query_str: str) -> str:
        return self.what


def tools(*names):
    return [QueryEngineTool.from_defaults(Saying(what=f"{name}!"), name=name, description=name) for name in names]


def test_a_router_engine_goes_where_the_question_wants_to():
    selector = ModalitySelector(FakeEncoder(), examples=COLOURS)
    engine = RouterQueryEngine(selector, tools(*MODALITIES), llm=MockLLM())
    assert [str(engine.query(question)) for question in ("blue", "green")] == ["generation!", "passages!"]
    assert str(asyncio.run(engine.aquery("red"))) == "pictures!"
    assert str(engine.query(QueryBundle("", image_path="bear.png"))) == "pictures!"
    result = selector.select([tool.metadata for tool in tools("answer", "pictures")], "a yellow one")
    assert result.ind == 0 and result.reason.startswith("wants answer: 'pictures'")


def test_where_a_tool_is_missing_the_next_best_is_taken():
    selector = ModalitySelector(FakeEncoder(), examples=COLOURS)
    assert selector.select([tool.metadata for tool in tools("answer", "passages")], "red yellow yellow").ind == 0
    unclear = ModalitySelector(FakeEncoder(), examples=COLOURS, margin=0.9)
    with pytest.raises(NoChoiceError, match="no tool 'passages'"):
        unclear.select([tool.metadata for tool in tools("answer", "pictures")], "red and yellow")
    with pytest.raises(ConfigError, match=r"are named 'pictures'.*got \['music'\]"):
        selector.select([tool.metadata for tool in tools("answer", "music")], "red")
