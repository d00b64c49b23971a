"""What counts as the same point: exactly, but for the roundings that Qdrant does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models

from clip_qdrant.storage.migrate.contents import (
    HALF_TOLERANCE,
    VectorRule,
    exact_text,
    same_payload,
    same_vectors,
    weight,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | finite,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def record(payload=None, vector=None, key=1):
    made = models.Record(id=key, payload=payload)
    made.vector = vector
    return made


def rounded(value):
    """As a parser may read it that is wrong in the last digit."""
    if isinstance(value, float):
        return math.nextafter(value, 0.0) if abs(value) > 1e-290 else value
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: rounded(value[key]) for key in reversed(value)}
    return value


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_the_last_digit_of_floats_and_the_order_of_keys_do_not_matter(payload):
    one, other = record(payload), record(rounded(payload))
    assert same_payload(one, other)
    assert exact_text(one)[0] == exact_text(other)[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0, None),
        (1, "1"),
        (2**63 - 1, 2**63 - 2),
        (2**53, 2**53 + 1),
        (0.1, 0.1000000000001),
        (1e300, 1.0000000001e300),
        ([1, 2], [2, 1]),
        ([0.5, 1], [1, 0.5]),
        ([], {}),
        ({}, None),
        ("é", "e\u0301"),
        ({"a": {"b": 1}}, {"a": 1, "b": 1}),
    ],
)
def test_everything_else_matters(one, other):
    assert not same_payload(record({"x": one}), record({"x": other}))
    assert not same_payload(record({"x": other}), record({"x": one}))


def test_a_missing_key_and_another_id_matter_but_no_payload_is_an_empty_one():
    assert not same_payload(record({"x": None}), record({}))
    assert not same_payload(record({}, key=1), record({}, key="00000000-0000-0000-0000-000000000001"))
    assert same_payload(record(None), record({}))


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8), st.sampled_from([1.0, 7.5, 0.01]))
def test_a_vector_is_compared_with_the_rounding_of_float32(values, scale):
    if max(map(abs, values)) < 1e-3:
        values[0] = 1.0
    largest, at = max((abs(value), at) for at, value in enumerate(values))
    near, far = [*values], [*values]
    near[at] += largest * 2e-7
    far[at] += largest * 1e-5
    assert same_vectors(record(vector=values), record(vector=near), {})
    assert not same_vectors(record(vector=values), record(vector=far), {})
    assert not same_vectors(record(vector=values), record(vector=[*values, 0.0]), {})
    scaled = [value * scale for value in values]
    unit = {"": VectorRule(at_unit_length=True)}
    assert same_vectors(record(vector=values), record(vector=scaled), unit)
    assert same_vectors(record(vector=values), record(vector=scaled), {}) == (scale == 1.0)


def test_rules_go_by_name():
    one, other = ({"a": [1.0, 0.5], "b": [value, 0.5]} for value in (1.0, 1.0004))
    assert not same_vectors(record(vector=one), record(vector=other), {"a": VectorRule(HALF_TOLERANCE)})
    assert same_vectors(record(vector=one), record(vector=other), {"b": VectorRule(HALF_TOLERANCE)})


def test_rows_of_a_multivector_are_scaled_one_by_one_and_zeros_stay():
    rule = {"": VectorRule(at_unit_length=True)}
    assert same_vectors(record(vector=[[3.0, 4.0], [0.0, 2.0]]), record(vector=[[0.6, 0.8], [0.0, 1.0]]), rule)
    assert not same_vectors(record(vector=[[3.0, 4.0], [0.0, 2.0]]), record(vector=[[0.0, 1.0], [0.6, 0.8]]), rule)
    assert not same_vectors(record(vector=[[1.0, 0.0]]), record(vector=[[1.0, 0.0], [1.0, 0.0]]), rule)
    assert not same_vectors(record(vector=[0.0, 0.0]), record(vector=[0.0, 1.0]), rule)


def sparse(indices, values):
    return record(vector={"s": models.SparseVector(indices=indices, values=values)})


def test_the_order_of_a_sparse_vector_does_not_matter():
    one = sparse([7, 3], [0.1, 0.2])
    assert same_vectors(one, sparse([3, 7], [float(np.float32(0.2)), float(np.float32(0.1))]), {})
    assert not same_vectors(one, sparse([3, 7], [0.1, 0.2]), {})
    assert not same_vectors(one, sparse([3, 8], [0.2, 0.1]), {})
    assert not same_vectors(one, sparse([3], [0.2]), {})
    assert not same_vectors(sparse([], []), record(vector={}), {})


def test_names_of_vectors_matter():
    assert not same_vectors(record(vector={"a": [1.0]}), record(vector={"b": [1.0]}), {})
    assert not same_vectors(record(vector={"a": [1.0]}), record(vector={"a": [1.0], "b": [1.0]}), {})
    assert same_vectors(record(vector=None), record(vector={}), {})
    assert same_vectors(record(vector=[1.0]), record(vector={"": [1.0]}), {})


def test_a_point_weighs_its_numbers_and_its_payload():
    assert weight(record(vector=[0.0] * 100)) == 1_202
    assert weight(record(vector={"a": [[0.0] * 10] * 10, "b": [0.0]})) == 1_214
    assert weight(sparse([1, 2], [0.5, 0.5])) == 50
    assert weight(record({"x": "y" * 1_000})) == 1_009
