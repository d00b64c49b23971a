"""The limits of a set of labels, on vectors whose answers are plain to see."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.audit import audit

TEMPLATES = ("a {}", "the {}")


class Words:
    """A vector for every text that is known."""

    def __init__(self, vectors):
        self._vectors = vectors

    def embed_texts(self, texts):
        rows = np.array([self._vectors[text] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def worded(**labels):
    """The same vector under every template."""
    return Words({template.format(name): vector for name, vector in labels.items() for template in TEMPLATES})


def unit(*rows):
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


CATS = {"cat": (1, 0, 0), "kitten": (0.95, 0.05, 0), "ship": (0, 0, 1)}


def test_labels_that_mean_nearly_the_same_come_first():
    told = audit(worded(**CATS), list(CATS), TEMPLATES)
    worst = told.confusions[0]
    assert {worst.one, worst.other} == {"cat", "kitten"} and worst.cosine > 0.99 and worst.shared is None
    assert len(told.confusions) == 3 and told.pictures == 0
    assert audit(worded(**CATS), list(CATS), TEMPLATES, most=1).confusions == [worst]
    np.testing.assert_allclose(np.diag(told.likeness), 1, atol=1e-6)


def test_with_pictures_it_counts_who_is_really_confused():
    labels = {"cat": (1, 0, 0), "dog": (0, 1, 0), "ship": (0, 0, 1)}
    pictures = unit((1, 0.999, 0), (0.999, 1, 0), (0, 0, 1), (1, 0, 0))
    told = audit(worded(**labels), list(labels), TEMPLATES, pictures=pictures)
    assert {told.confusions[0].one, told.confusions[0].other} == {"cat", "dog"}
    assert told.confusions[0].shared == pytest.approx(2 / 3)
    assert told.confusions[1].shared == 0.0 and told.pictures == 4


def test_a_label_that_draws_everything_pulls_most():
    labels = {"thing": (1, 1, 1), "cat": (1, 0, -1), "ship": (-1, 0, 1)}
    pictures = unit(*np.random.default_rng(0).uniform(0.4, 1, (40, 3)))
    told = audit(worded(**labels), list(labels), TEMPLATES, pictures=pictures)
    assert [told.labels[0].label, told.labels[0].drawn, told.labels[0].pull] == ["thing", 1.0, 3.0]
    assert told.labels[1].pull == told.labels[2].pull == 0.0


def test_without_pictures_a_hub_is_what_the_others_are_nearest_to():
    labels = {"hub": (1, 1, 1), "x": (1, 0.2, 0.2), "y": (0.2, 1, 0.2), "z": (0.2, 0.2, 1)}
    told = audit(worded(**labels), list(labels), TEMPLATES)
    assert told.labels[0].label == "hub" and told.labels[0].drawn == 0.75 and told.labels[0].pull == 3.0


def test_what_hangs_on_the_wording_flips():
    vectors = {"a cat": (1, 0), "the cat": (1, 0.1), "a crane": (0, 1), "the crane": (1, 0.5)}
    told = audit(Words(vectors), ["cat", "crane"], TEMPLATES, pictures=unit((1, 0.45), (0.5, 0.7), (1, -0.5)))
    # The second picture is a crane by both; the first is a crane by "the {}", and a cat by "a {}".
    by_name = {one.label: one.flips for one in told.labels}
    assert told.flipped == pytest.approx(1 / 3) and sum(by_name.values()) > 0
    steady = audit(worded(**CATS), list(CATS), TEMPLATES)
    assert steady.flipped == 0.0 and all(one.flips == 0.0 for one in steady.labels)


def test_groups_that_are_labelled_differently_stand_out():
    labels = {"doctor": (1, 0), "nurse": (0, 1)}
    men, women = [(1, 0.1)] * 90 + [(0.1, 1)] * 10, [(1, 0.1)] * 30 + [(0.1, 1)] * 70
    groups = ["man"] * 100 + ["woman"] * 100 + [None] * 5
    pictures = unit(*men, *women, *[(1, 0)] * 5)
    told = audit(worded(**labels), list(labels), TEMPLATES, pictures=pictures, groups=groups)
    first = told.skews[0]
    assert first.pictures == 100 and abs(first.deviation) > 8
    shares = {(one.group, one.label): (one.share, one.expected) for one in told.skews}
    assert shares[("man", "doctor")] == (pytest.approx(0.9), pytest.approx(0.6))
    assert shares[("woman", "nurse")] == (pytest.approx(0.7), pytest.approx(0.4))
    even = audit(worded(**labels), list(labels), TEMPLATES, pictures=unit(*men, *men), groups=["a"] * 100 + ["b"] * 100)
    assert all(abs(one.deviation) < 1e-6 for one in even.skews)
    assert audit(worded(**labels), list(labels), TEMPLATES, pictures=unit(*men), groups=[None] * 100).skews == []


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 30), st.integers(0, 10_000))
def test_shares_add_up(count, pictures, seed):
    rng = np.random.default_rng(seed)
    labels = {f"l{index}": rng.normal(size=4) for index in range(count)}
    vectors = unit(*rng.normal(size=(pictures, 4))) if pictures else np.zeros((0, 4), dtype=np.float32)
    groups = [str(number % 3) for number in range(pictures)]
    told = audit(worded(**labels), list(labels), TEMPLATES, pictures=vectors, groups=groups if pictures else None)
    assert sum(one.drawn for one in told.labels) == pytest.approx(1.0)
    assert sorted(one.label for one in told.labels) == sorted(labels)
    assert 0 <= told.flipped <= 1 and told.pictures == pictures
    assert json.loads(json.dumps(told.to_dict()))["names"] == list(labels)


@pytest.mark.parametrize(
    ("labels", "templates", "options", "message"),
    [
        (["cat"], TEMPLATES, {}, "at least two labels"),
        (["cat", "cat "], TEMPLATES, {}, "all different"),
        (["cat", " "], TEMPLATES, {}, "none blank"),
        (["cat", "ship"], ("a thing",), {}, "has a {} for the label"),
        (["cat", "ship"], (), {}, "at least one"),
        (["cat", "ship"], TEMPLATES, {"groups": ["a"]}, "as many of one as of the other"),
        (["cat", "ship"], TEMPLATES, {"most": 0}, "most is at least 1"),
    ],
)
def test_what_cannot_be_audited(labels, templates, options, message):
    with pytest.raises(ConfigError, match=message):
        audit(worded(**CATS), labels, templates, **options)
