"""LlamaIndex's filters as Qdrant's: what they become, and what is refused."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilters
from llama_index.core.vector_stores import MetadataFilter as CoreMetadataFilter
from pydantic import ValidationError
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import FilterError
from clip_qdrant.llamaindex.metadata_filters import MetadataFilter, holds_always, to_qdrant_filter
from clip_qdrant.storage.filters import to_filter

AND, OR, NOT = FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT


def group(*filters, condition=AND):
    return MetadataFilters(filters=list(filters), condition=condition)


def number(value):
    return CoreMetadataFilter(key="number", value=value)


def test_nothing_asked_is_no_filter():
    assert to_qdrant_filter(None) is None
    assert to_qdrant_filter({}) is None
    for condition in FilterCondition:
        assert to_qdrant_filter(group(condition=condition)) is None
        assert to_qdrant_filter(group(group(group(condition=NOT)), condition=condition)) is None


def test_an_empty_group_beside_others_asks_nothing():
    for condition in FilterCondition:
        with_empty = group(number(1), group(condition=OR), number(2), condition=condition)
        assert to_qdrant_filter(with_empty) == to_qdrant_filter(group(number(1), number(2), condition=condition))


def test_no_condition_is_and():
    assert to_qdrant_filter(group(number(1), number(2), condition=None)) == to_qdrant_filter(
        group(number(1), number(2))
    )


def test_other_ways_to_say_it_are_taken():
    own = models.Filter(must=[models.HasIdCondition(has_id=[1])])
    assert to_qdrant_filter(own) is own
    assert to_qdrant_filter("number = 1") == to_qdrant_filter({"number": 1}) == to_qdrant_filter(group(number(1)))


@pytest.mark.parametrize("value", [True, False, date(2024, 5, 1), [True, False], [date(2024, 5, 1)]])
def test_our_metadata_filter_takes_what_cores_refuses(value):
    with pytest.raises(ValidationError):
        CoreMetadataFilter(key="seen", value=value)
    operator = FilterOperator.IN if isinstance(value, list) else FilterOperator.EQ
    ours = MetadataFilter(key="seen", value=value, operator=operator)
    assert isinstance(ours, CoreMetadataFilter)
    assert MetadataFilter.from_dict({"key": "seen", "value": value, "operator": operator.value}) == ours
    constructed = CoreMetadataFilter.model_construct(key="seen", value=value, operator=operator.value)
    assert to_qdrant_filter(group(ours)) == to_qdrant_filter(group(constructed)) == to_filter({"seen": value})


def test_a_filter_without_an_operator_is_equality_and_an_unknown_key_is_refused():
    assert MetadataFilter(key="a", value=True).operator == FilterOperator.EQ
    with pytest.raises(ValidationError):
        MetadataFilter(key="a", value=1, operator="about")


def test_groups_of_one_kind_become_one_level():
    flat = to_qdrant_filter(group(*map(number, range(5)), condition=OR))
    nested = group(number(0), group(number(1), group(number(2), condition=OR), condition=OR), condition=OR)
    assert to_qdrant_filter(group(nested, number(3), number(4), condition=OR)) == flat
    assert to_qdrant_filter(group(group(group(number(1), condition=OR)))) == to_filter({"number": 1})


def test_a_hundred_groups_within_groups_of_one_kind_are_no_matter():
    filters = group(number(1))
    for _ in range(100):
        filters = group(filters, number(2))
    assert to_qdrant_filter(filters) == to_qdrant_filter(group(number(1), *[number(2)] * 100))


def test_what_nests_too_deep_is_refused():
    filters = group(number(1), number(2))
    for depth in range(40):
        filters = group(filters, number(3), condition=OR if depth % 2 == 0 else AND)
    with pytest.raises(FilterError, match="nests deeper than 30 levels"):
        to_qdrant_filter(filters)


@pytest.mark.parametrize("key", ["any", "all", "not", "$id", "$has_vector", "two words", "ünï", "a.b", '"a.b"'])
def test_every_name_of_a_field_can_be_asked_for(key):
    payload = {"a": {"b": 1}} if key == "a.b" else {key.strip('"'): 1}
    with connect(":memory:") as client:
        client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
        client.upsert("c", [models.PointStruct(id=i, vector=[1.0], payload=p) for i, p in enumerate([{}, payload])])
        for operator, value in [("==", 1), (">", 0), ("in", [1]), ("all", [1])]:
            wanted = to_qdrant_filter(group(CoreMetadataFilter(key=key, value=value, operator=operator)))
            assert [point.id for point in client.scroll("c", scroll_filter=wanted)[0]] == [1]


@pytest.mark.parametrize(
    ("operator", "value", "message"),
    [
        ("==", None, r"EQ takes text, a finite number .*, true, false or a date, got None\. .* use IS_EMPTY"),
        ("!=", ["a"], r"NE takes text, a finite number .*, got \['a'\]"),
        ("==", float("inf"), "EQ takes .* got inf"),
        ("==", 2**63, "EQ takes .*integers of 64 bits"),
        (">", "tomorrow", r"GT takes a finite number, a date or ISO 8601 text such as '2024-05-01', got 'tomorrow'"),
        ("<=", True, "LTE takes a finite number.*, got True"),
        ("in", 5, "IN takes a list of text, finite numbers, true, false or dates, got 5"),
        ("any", "ab", "ANY takes a list of .*, got 'ab'"),
        ("nin", [None], r"NIN takes a list of .*, got \[None\]"),
        ("text_match", "", "TEXT_MATCH takes text of at least one character, got ''"),
        ("text_match_insensitive", 5, "TEXT_MATCH_INSENSITIVE takes text of at least one character, got 5"),
    ],
)
def test_what_an_operator_does_not_take_is_refused_by_name(operator, value, message):
    filters = group(MetadataFilter(key="field", value=value, operator=operator))
    with pytest.raises(FilterError, match=rf"Filter on 'field': {message}"):
        to_qdrant_filter(filters)


def test_a_name_that_is_none_is_refused():
    for key in ("", "a..b", "a["):
        with pytest.raises(FilterError, match="field"):
            to_qdrant_filter(group(CoreMetadataFilter(key=key, value=1)))


def test_a_list_of_many_values_is_one_condition():
    wanted = to_qdrant_filter(group(CoreMetadataFilter(key="id", value=list(range(50_000)), operator="in")))
    assert len(wanted.must) == 1 and len(wanted.must[0].match.any) == 50_000


def test_text_with_commas_is_a_list_and_no_text_an_empty_one():
    for operator in ("in", "nin"):
        for text, listed in (("a,b", ["a", "b"]), ("a,", ["a", ""]), ("", [])):
            filters = [MetadataFilter(key="tag", value=value, operator=operator) for value in (text, listed)]
            assert to_qdrant_filter(group(filters[0])) == to_qdrant_filter(group(filters[1]))


NEVER = models.HasIdCondition(has_id=[])
ONE = models.FieldCondition(key="number", match=models.MatchValue(value=1))
CONSTANTS = st.sampled_from(
    [NEVER, models.FieldCondition(key="number", match=models.MatchAny(any=[])), models.Filter()]
)


def trees(leaves):
    def parents(children):
        some = st.none() | children | st.lists(children, max_size=3)
        least = st.builds(
            models.MinShould, conditions=st.lists(children, min_size=1, max_size=3), min_count=st.integers(1, 3)
        )
        return st.builds(models.Filter, must=some, should=some, must_not=some, min_should=st.none() | least)

    return st.builds(models.Filter, must=st.recursive(leaves, parents, max_leaves=8))


@pytest.fixture(scope="module")
def found():
    """Which of three points a filter finds."""
    with connect(":memory:") as client:
        client.create_collection("c", vectors_config={})
        client.upsert("c", [models.PointStruct(id=id, vector={}, payload={"number": id}) for id in (1, 2, 3)])
        yield lambda wanted: client.count("c", count_filter=wanted).count


@given(trees(CONSTANTS))
def test_a_filter_of_nothing_but_constants_is_known_to_hold_always_or_not(found, wanted):
    assert holds_always(wanted) == (found(wanted) == 3)


@given(trees(CONSTANTS | st.just(ONE)))
def test_what_holds_always_finds_every_point(found, wanted):
    assert not holds_always(wanted) or found(wanted) == 3


def test_what_finds_every_point_by_chance_does_not_hold_always(found):
    either = models.Filter(should=[ONE, models.Filter(must_not=[ONE])])
    assert found(either) == 3 and not holds_always(either)
    assert holds_always(None)
