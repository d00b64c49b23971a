"""Every filter operator with every type of value, nested three deep: what is found is what plain Python says.

Flat filters are held against LlamaIndex's own `build_metadata_filter_fn` too. Where the two differ, and why:

    integers and floats    core: 1 == 1.0 == True. Qdrant keeps integers, floats and truth values apart: the integer 1
                           finds 1 only; 1.0 finds 1 and 1.0; true finds true only, and no range finds it.
    lists                  core compares a stored list as a whole in EQ, NE, IN, NIN, and refuses ranges of it. Qdrant
                           has no way to; a list holds where one of its values does, and NE and NIN where none does.
    parts of a text        core: CONTAINS, ANY and ALL look into a stored text: "cat" in "catfish". They are about
                           the values of a list, and a single text is a list of one; TEXT_MATCH looks into text.
    one text for a list    core: IN looks for the stored text in the given one. Commas divide it, as in the stock store.
    empty list             core: a stored [] is a value. Qdrant: it is none.
    order of texts         core orders any two texts. A range is of numbers or dates.
    words                  core: TEXT_MATCH_INSENSITIVE finds "cat" in "catfish", and "a cat" only in a row. Qdrant
                           has no such match; it finds whole words, in any order.
    other types            core raises TypeError when it meets a stored value of another type. Here it does not match.
"""

from __future__ import annotations

import itertools
import re
from datetime import date, datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilters
from llama_index.core.vector_stores import MetadataFilter as CoreMetadataFilter
from llama_index.core.vector_stores.utils import build_metadata_filter_fn
from pydantic import ValidationError
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import FilterError
from clip_qdrant.llamaindex.metadata_filters import MetadataFilter, to_qdrant_filter

STORED = [
    None, True, False, -3, 0, 1, 2, 5.0, 0.5, 1.0, -1.5, "", "cat", "catfish", "a big Cat", "Cat, a", "fish",
    "ß Straße", "2024-05-01", "2024-05-01T12:00:00Z", "2024-05-01T14:30:00+02:00", "2023-12-31T23:59:59.5Z",
    [], [None], ["", "cat"], ["cat"],
    ["cat", "dog"], ["dog", None], [1, 2], [0.5, 2.5], [True], ["2024-05-01", "2025-01-01"],
]  # fmt: skip
PAYLOADS = [{}] + [{"field": value, "other": number % 3} for number, value in enumerate(STORED)]

TEXTS = ["cat", "fish", "a", "cat,dog", "CAT", "a cat", "straße", "2024-05-01", "2024-05-01T12:00:00Z"]
NUMBERS = [-3, 0, 1, 2, 5, 0.5, 1.0, -1.5]
DATES = [date(2024, 5, 1), datetime(2024, 5, 1, 12, 30, tzinfo=timezone.utc)]
SINGLE = [*TEXTS, *NUMBERS, True, False, *DATES]
LISTS = [[], ["cat"], ["cat", "dog"], ["fish", "cat"], [1, 2], [0, 5], [0.5, 2.5], [1.0], [True], [DATES[0], "cat", 2]]
LIMITS = [*NUMBERS, *DATES, *TEXTS[-2:]]
O = FilterOperator  # noqa: E741
TAKES = {
    **dict.fromkeys([O.EQ, O.NE, O.CONTAINS], SINGLE),
    **dict.fromkeys([O.GT, O.GTE, O.LT, O.LTE], LIMITS),
    O.IN: [*LISTS, *TEXTS],
    O.NIN: [*LISTS, *TEXTS],
    **dict.fromkeys([O.ANY, O.ALL], LISTS),
    **dict.fromkeys([O.TEXT_MATCH, O.TEXT_MATCH_INSENSITIVE], TEXTS),
    O.IS_EMPTY: [None, "", 1, [], True],
}
MATRIX = [(operator, value) for operator, values in TAKES.items() for value in values]


@pytest.fixture(scope="module", params=["memory", "embedded", "indexed"])
def find(request, tmp_path_factory):
    """The numbers of the payloads that filters find, on each backend."""
    with connect(":memory:" if request.param == "memory" else tmp_path_factory.mktemp("matrix")) as client:
        client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
        if request.param == "indexed":
            client.create_payload_index("c", "field", field_schema=models.PayloadSchemaType.KEYWORD)
            client.create_payload_index("c", "other", field_schema=models.PayloadSchemaType.INTEGER)
        points = [models.PointStruct(id=i, vector=[1.0], payload=payload) for i, payload in enumerate(PAYLOADS)]
        client.upsert("c", points)
        yield lambda filters: {
            point.id for point in client.scroll("c", scroll_filter=to_qdrant_filter(filters), limit=100)[0]
        }


def moment(value):
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00").replace("59.5+", "59.500+"))
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equal(stored, wanted):
    if isinstance(wanted, date):
        return isinstance(stored, str) and moment(stored) == moment(wanted)
    if isinstance(stored, bool) or isinstance(wanted, bool):
        return stored is wanted
    return stored == wanted and not (isinstance(wanted, int) and isinstance(stored, float))


def compare(operator, stored, limit):
    if is_number(limit):
        if not is_number(stored):
            return False
    else:
        stored, limit = moment(stored) if isinstance(stored, str) else None, moment(limit)
        if stored is None:
            return False
    return {O.GT: stored > limit, O.GTE: stored >= limit, O.LT: stored < limit, O.LTE: stored <= limit}[operator]


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def holds(payload, operator, wanted):
    """What the table at the top of the module says, in plain Python."""
    raw = payload.get("field")
    values = [value for value in (raw if isinstance(raw, list) else [raw]) if value is not None]
    if operator == O.IS_EMPTY:
        return raw in (None, [], "")
    if operator in (O.NE, O.NIN):
        return not holds(payload, {O.NE: O.EQ, O.NIN: O.IN}[operator], wanted)
    if operator in (O.EQ, O.CONTAINS):
        return any(equal(value, wanted) for value in values)
    if operator in (O.IN, O.ANY):
        options = wanted.split(",") if isinstance(wanted, str) else wanted
        return any(equal(value, option) for value in values for option in options)
    if operator == O.ALL:
        return raw not in (None, []) and all(any(equal(value, option) for value in values) for option in wanted)
    if operator == O.TEXT_MATCH:
        return any(isinstance(value, str) and wanted in value for value in values)
    if operator == O.TEXT_MATCH_INSENSITIVE:
        return any(isinstance(value, str) and words(wanted) <= words(value) for value in values)
    return any(compare(operator, value, wanted) for value in values)


def tree_holds(payload, tree):
    if isinstance(tree, MetadataFilter):
        if tree.key == "other":
            return payload.get("other") == tree.value
        return holds(payload, tree.operator, tree.value)
    parts = [tree_holds(payload, part) for part in tree.filters]
    return {
        FilterCondition.AND: all(parts),
        FilterCondition.OR: any(parts),
        FilterCondition.NOT: not any(parts),
    }[tree.condition]


def one(operator, value):
    return MetadataFilter(key="field", operator=operator, value=value)


def group(filters, condition=FilterCondition.AND):
    return MetadataFilters(filters=filters, condition=condition)


def test_every_operator_with_every_type_of_value(find):
    for operator, value in MATRIX:
        expected = {i for i, payload in enumerate(PAYLOADS) if holds(payload, operator, value)}
        assert find(group([one(operator, value)])) == expected, (operator, value)


LEAVES = st.sampled_from(MATRIX).map(lambda pair: one(*pair)) | st.integers(0, 3).map(
    lambda number: MetadataFilter(key="other", value=number)
)


def groups(parts):
    return st.builds(group, st.lists(parts, min_size=1, max_size=3), st.sampled_from(FilterCondition))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tree=groups(groups(groups(LEAVES) | LEAVES) | LEAVES))
def test_filters_nested_three_deep_find_what_python_says(find, tree):
    assert find(tree) == {i for i, payload in enumerate(PAYLOADS) if tree_holds(payload, tree)}


def core_accepts(operator, value):
    try:
        CoreMetadataFilter(key="field", operator=operator, value=value)
    except ValidationError:
        return False
    return True


def difference(stored, operator, wanted):
    """Which of the differences at the top it is that ours and core's answer differ by."""
    given_values = wanted if isinstance(wanted, list) else [wanted]
    if isinstance(stored, list):
        return "lists" if stored else "empty list"
    if isinstance(wanted, str) and operator in (O.IN, O.NIN):
        return "one text for a list"
    if any(is_number(value) or isinstance(value, bool) for value in given_values):
        if isinstance(stored, (int, float)):
            return "integers and floats"
    if isinstance(stored, str) and operator in (O.CONTAINS, O.ANY, O.ALL):
        return "parts of a text"
    if isinstance(stored, str) and operator in (O.GT, O.GTE, O.LT, O.LTE):
        return "order of texts"
    return "words" if operator == O.TEXT_MATCH_INSENSITIVE else None


def test_flat_filters_agree_with_core_but_for_the_listed_differences():
    seen = set()
    accepted = [pair for pair in MATRIX if core_accepts(*pair)]
    assert len(MATRIX) - len(accepted) == 29  # with a date, true or false
    for (operator, wanted), payload in itertools.product(accepted, PAYLOADS):
        core = build_metadata_filter_fn(lambda _, payload=payload: payload, group([one(operator, wanted)]))
        stored, ours = payload.get("field"), holds(payload, operator, wanted)
        try:
            theirs = core("")
        except TypeError:
            theirs = operator in (O.NE, O.NIN)
            seen.add("other types")
        if ours != theirs:
            why = difference(stored, operator, wanted)
            assert why, (stored, operator, wanted, ours, theirs)
            seen.add(why)
    assert seen == {
        "integers and floats", "lists", "parts of a text", "one text for a list", "empty list", "order of texts",
        "words", "other types",
    }  # fmt: skip


@pytest.mark.parametrize("operator", [operator for operator in TAKES if operator != O.IS_EMPTY])
def test_every_operator_refuses_the_values_of_the_others(operator):
    taken = [repr(value) for value in TAKES[operator]]
    others = {repr(value): value for values in TAKES.values() for value in values if repr(value) not in taken}
    others |= {"nan": float("nan"), "long": 2**63, "dict": {"a": 1}, "mixed": ["a", None]}
    lists_by_comma = operator in (O.IN, O.NIN)
    ranges_of_moments = operator in (O.GT, O.GTE, O.LT, O.LTE)
    for value in others.values():
        if (lists_by_comma and isinstance(value, str)) or (ranges_of_moments and value == 2**63):
            continue
        if value == "" and operator in (O.EQ, O.NE, O.CONTAINS):
            continue
        with pytest.raises(FilterError, match=rf"Filter on 'field': {operator.name} takes "):
            to_qdrant_filter(group([one(operator, value)]))
