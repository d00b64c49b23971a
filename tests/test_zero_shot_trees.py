"""Trees of labels, example images, and prototypes that are made once."""

import logging

import numpy as np
import pytest

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.zero_shot import Calibration, Label, PrototypeCache, ZeroShotClassifier
from clip_qdrant.testing import FakeEncoder
from tests.test_zero_shot import COLOURS, Counting, classifier, picture

TREE = {"warm": ["red", "yellow"], "cold": {"water": ["blue"], "plants": ["green", "gray"]}}


def test_probabilities_multiply_down_the_tree():
    found = classifier(TREE, coarse="words", calibration=Calibration(temperature=30))
    assert found.is_tree and found.paths == (
        ("warm", "red"), ("warm", "yellow"), ("cold", "water", "blue"), ("cold", "plants", "green"),
        ("cold", "plants", "gray"),
    )  # fmt: skip
    vectors = FakeEncoder().embed_images([picture("green"), picture("red", "blue")])
    shares = found.probabilities(vectors)
    assert shares.sum(axis=1) == pytest.approx([1, 1])
    alone = classifier(["warm", "cold"], calibration=Calibration(temperature=30)).probabilities(vectors)
    assert shares[:, :2].sum(axis=1) == pytest.approx(alone[:, 0])


def test_by_what_is_below_a_tree_shares_out_as_its_leaves_do():
    flat = classifier(["red", "yellow", "blue", "green", "gray"], calibration=Calibration(temperature=30))
    vectors = FakeEncoder().embed_images([picture("green"), picture("red", "blue"), picture("gray", "yellow")])
    tree = classifier(TREE, calibration=Calibration(temperature=30))
    assert tree.probabilities(vectors) == pytest.approx(flat.probabilities(vectors))


def test_where_the_leaf_is_unsure_the_label_above_it_is_the_answer():
    found = classifier(TREE, calibration=Calibration(temperature=3, threshold=0.8))
    sure, unsure, none = found.classify_images([picture("blue"), picture("green", "gray"), picture("red", "green")])
    assert sure.labels[0].path == ("cold", "water", "blue")
    assert unsure.labels[0].path == ("cold", "plants") and not unsure.abstained
    assert none.abstained
    margin = classifier(TREE, calibration=Calibration(temperature=3, least_margin=0.5))
    assert next(margin.classify_images([picture("red", "yellow")])).label == "warm"


def test_examples_move_prototypes_across_the_gap():
    # Words that say nothing to the encoder get a meaning by pictures, and draw nothing from those without.
    shown = {"alpha": "red", "beta": "blue", "gamma": "green"}
    labels = [Label(name, examples=[picture(colour)]) for name, colour in shown.items()]
    found = classifier([*labels, "yellow"], example_weight=0.8)
    answers = found.classify_images([picture(colour) for colour in (*shown.values(), "yellow")])
    assert [answer.label for answer in answers] == [*shown, "yellow"]
    words = classifier([*labels, "yellow"], example_weight=0)
    assert np.allclose(words.prototypes, classifier([*shown, "yellow"]).prototypes)


def test_examples_of_one_label_alone_are_left_out_with_a_warning(caplog):
    one = [Label("alpha", examples=[picture("red")]), "yellow"]
    with caplog.at_level(logging.WARNING):
        found = classifier(one)
    assert np.array_equal(found.prototypes, classifier(["alpha", "yellow"]).prototypes)
    assert "Only one label has example images" in caplog.text and len(caplog.records) == 1


def test_prototypes_are_made_once_in_memory_and_on_disk(tmp_path):
    encoder, cache = Counting(), PrototypeCache(tmp_path / "kept")
    first = ZeroShotClassifier(encoder, COLOURS, cache=cache)
    made = list(encoder.texts)
    ZeroShotClassifier(encoder, COLOURS, cache=cache, multi_label=True)
    again = ZeroShotClassifier(encoder, COLOURS, cache=tmp_path / "kept")
    assert encoder.texts == made and np.array_equal(again.prototypes, first.prototypes)
    assert again.digest == first.digest
    ZeroShotClassifier(encoder, COLOURS, cache=cache, templates="name")
    ZeroShotClassifier(Counting(name="other"), COLOURS, cache=cache)
    assert len(encoder.texts) > len(made) and len(list((tmp_path / "kept").iterdir())) == 3


def test_a_damaged_file_is_made_again(tmp_path, caplog):
    first = ZeroShotClassifier(FakeEncoder(), COLOURS, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:50], whole[:-4] + b"\1\2\3\4"):
        path.write_bytes(damaged)
        with caplog.at_level(logging.WARNING):
            again = ZeroShotClassifier(FakeEncoder(), COLOURS, cache=tmp_path)
        assert np.array_equal(again.prototypes, first.prototypes) and path.read_bytes() == whole
    assert caplog.text.count("made again") == 2


def test_the_digest_is_of_all_that_decides():
    digests = {
        classifier(labels, **options).digest
        for labels, options in (
            (COLOURS, {}), (COLOURS[::-1], {}), (COLOURS, {"multi_label": True}), (COLOURS, {"templates": "name"}),
            (COLOURS, {"calibration": Calibration(threshold=0.5)}), ({"all": COLOURS, "none": ["gray"]}, {}),
        )
    }  # fmt: skip
    assert len(digests) == 6 and classifier().digest == classifier().digest


def test_children_may_be_names():
    found = classifier([Label("warm", children=["red", "yellow"]), "blue"])
    assert set(found.labels) == {"red", "yellow", "blue"}
    with pytest.raises(ConfigError, match="A label's name must be a text"):
        Label("warm", children=[7])
