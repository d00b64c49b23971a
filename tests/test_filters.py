"""Mappings and expressions against a reference that reads the mapping in plain Python."""

import math
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import FilterError
from clip_qdrant.storage.filter_expression import parse
from clip_qdrant.storage.filters import to_filter

NOON = "2024-05-01T12:00:00+00:00"
PAYLOADS = [
    {},
    {"word": "cat", "number": 1, "real": 0.5, "flag": True, "day": "2024-05-01T00:00:00+00:00"},
    {"word": "dog", "number": 2, "real": -1.0, "flag": False, "day": NOON},
    {"word": ["cat", "fish"], "number": [1, 5], "day": "2023-12-31T23:59:59+00:00"},
    {"word": None, "number": None, "flag": None, "day": None},
    {"word": "", "number": 0, "real": 0.0, "day": "2024-05-02T00:00:00+02:00"},
    {"word": [], "number": -3, "real": 2.5, "flag": True},
]


@pytest.fixture(scope="module", params=["memory", "embedded"])
def search(request, tmp_path_factory):
    """The numbers of the payloads that a filter finds, on each backend."""
    place = ":memory:" if request.param == "memory" else tmp_path_factory.mktemp("filters")
    with connect(place) as client:
        client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))
        client.upsert("c", [models.PointStruct(id=i, vector=[1, i], payload=p) for i, p in enumerate(PAYLOADS)])
        yield lambda where: {p.id for p in client.scroll("c", scroll_filter=to_filter(where), limit=100)[0]}


def values_of(payload, field):
    value = payload.get(field)
    return value if isinstance(value, list) else [] if value is None else [value]


def moment(value):
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def equal(stored, wanted):
    if isinstance(wanted, (date, datetime)):
        return isinstance(stored, str) and len(stored) > 9 and moment(stored) == moment(wanted)
    if isinstance(wanted, bool) or isinstance(stored, bool):
        return stored is wanted
    if isinstance(wanted, int) and isinstance(stored, float):
        return False  # Qdrant matches integers with integers
    return stored == wanted


COMPARE = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def within(stored, limits):
    if isinstance(stored, bool):
        return False
    if isinstance(next(iter(limits.values())), (int, float)):
        return isinstance(stored, (int, float)) and all(COMPARE[op](stored, limit) for op, limit in limits.items())
    return isinstance(stored, str) and len(stored) > 9 and all(COMPARE[op](moment(stored), moment(limit)) for op, limit in limits.items())  # fmt: skip  # noqa: E501


def field_holds(payload, field, wanted):
    stored = values_of(payload, field)
    if wanted is None:
        return not stored
    if not isinstance(wanted, dict):
        wanted = {"in": wanted} if isinstance(wanted, list) else {"eq": wanted}
    limits = {op: limit for op, limit in wanted.items() if op in COMPARE}
    held = [any(within(value, limits) for value in stored)] if limits else []
    for op, operand in wanted.items():
        if op == "is_null":
            held.append((not stored) is operand)
        elif op not in COMPARE:
            options = operand if op in ("in", "not_in") else [operand]
            found = any(equal(value, option) for value in stored for option in options)
            held.append(found if op in ("eq", "in") else not found)
    return all(held)


def holds(payload, where):
    def entry(key, value):
        if key == "not":
            return not holds(payload, value)
        if key in ("any", "all"):
            return {"any": any, "all": all}[key](holds(payload, part) for part in value)
        return field_holds(payload, key, value)

    return all(entry(key, value) for key, value in where.items())


def reference(where):
    return {i for i, payload in enumerate(PAYLOADS) if holds(payload, where)}


WORDS, NUMBERS = st.sampled_from(["cat", "dog", "fish", "", "bird"]), st.integers(-3, 6)
REALS = st.sampled_from([-1.0, 0.0, 0.5, 2.5, 9.5])
DAYS = st.sampled_from([date(2024, 5, 1), datetime(2024, 5, 1, 12), datetime(2024, 5, 1, 22, tzinfo=timezone.utc)])


def ranges(limits):
    return st.dictionaries(st.sampled_from(sorted(COMPARE)), limits, min_size=1, max_size=2)


def matches(values):
    some = st.lists(values, max_size=3)
    return st.one_of(
        values,
        some,
        st.fixed_dictionaries({"ne": values}),
        st.fixed_dictionaries({"not_in": some}),
        st.fixed_dictionaries({"is_null": st.booleans()}),
        st.none(),
    )


FIELDS = st.one_of(
    st.fixed_dictionaries({"word": matches(WORDS)}),
    st.fixed_dictionaries({"number": matches(NUMBERS) | ranges(NUMBERS)}),
    st.fixed_dictionaries({"real": ranges(REALS) | REALS}),
    st.fixed_dictionaries({"flag": matches(st.booleans())}),
    st.fixed_dictionaries({"day": ranges(DAYS) | DAYS}),
    st.fixed_dictionaries({"word": matches(WORDS), "number": matches(NUMBERS)}),
)
NESTED = st.recursive(
    FIELDS,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=NESTED)
def test_finds_what_the_mapping_says(search, where):
    assert search(where) == reference(where)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (None, set(range(7))),
        ({}, set(range(7))),
        ({"word": "cat"}, {1, 3}),
        ({"word": []}, set()),
        ({"flag": True}, {1, 6}),
        ({"number": 1}, {1, 3}),
        ({"real": 0.5}, {1}),
        ({"camera": None}, set(range(7))),
        ({"word": {"is_null": False}}, {1, 2, 3, 5}),
        ({"day": {"gte": "2024-05-01"}}, {1, 2, 5}),
        ({"day": {"gte": date(2024, 5, 1), "lt": NOON}}, {1}),
        ({"day": datetime(2024, 5, 1, 22, tzinfo=timezone.utc)}, {5}),
        ({"number": {"gte": 1, "lt": 5, "ne": 2}}, {1, 3}),
        (models.Filter(must=[models.HasIdCondition(has_id=[4])]), {4}),
        ("number >= 1 and not word == 'dog'", {1, 3}),
        ("flag == true or real < 0", {1, 2, 6}),
        ("day >= 2024-05-01T12:00:00Z", {2, 5}),
        ("word is null", {0, 4, 6}),
    ],
)
def test_examples(search, where, found):
    assert search(where) == found


def test_words_are_found_in_a_text(tmp_path):
    with connect(":memory:") as client:
        client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
        client.upsert("c", [models.PointStruct(id=1, vector=[1], payload={"caption": "a big brown bear"})])
        count = lambda where: client.count("c", count_filter=to_filter(where)).count  # noqa: E731
        assert count({"caption": {"text": "brown bear"}}) == 1
        assert count('caption contains "bird"') == 0


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (3, "A filter is a mapping, an expression or a Qdrant Filter, got 3."),
        ({3: 4}, "The name of a field is text, got 3."),
        ({"year": {"from": 3}}, "Field 'year' has the unknown operators ['from']. Use one of eq, ne, in, not_in, gt"),
        ({"year": {}}, "Field 'year' has no operator."),
        ({"year": {"gte": "soon"}}, "Field 'year' has the limit 'soon'. It may be a number or a date (2024-05-01)"),
        ({"year": {"gte": 3, "lt": "2024-05-01"}}, "all of one kind"),
        ({"year": {"gte": math.nan}}, "Field 'year' has the limit nan."),
        ({"year": {"gte": True}}, "Field 'year' has the limit True."),
        ({"year": {"gte": "2024-13-45"}}, "Field 'year' has the limit '2024-13-45'."),
        ({"year": b"x"}, "Field 'year' is compared with b'x'. It may be text, a number, true, false or a date."),
        ({"year": math.nan}, "Field 'year' is compared with nan."),
        ({"year": {"in": 3}}, "Field 'year': in takes a list, got 3."),
        ({"year": {"is_null": 1}}, "Field 'year': is_null takes true or false, got 1."),
        ({"year": {"text": ""}}, "Field 'year': text takes words, got ''."),
        ({"any": []}, "'any' takes a list of filters with at least one in it, got []."),
        ({"all": "x"}, "'all' takes a list of filters with at least one in it, got 'x'."),
        ({"not": {}}, "A filter within a filter is a mapping with at least one entry, got {}."),
        ({"any": [{"a": 1}, 3]}, "A filter within a filter is a mapping with at least one entry, got 3."),
    ],
)
def test_what_cannot_be_understood_is_named(where, message):
    with pytest.raises(FilterError) as caught:
        to_filter(where)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "mapping"),
    [
        ("", {}),
        ("  ", {}),
        ("year >= 2023", {"year": {"gte": 2023}}),
        ("year = -2.5e3", {"year": {"eq": -2500.0}}),
        ("a == 1 or b == 2 and c == 3", {"any": [{"a": {"eq": 1}}, {"all": [{"b": {"eq": 2}}, {"c": {"eq": 3}}]}]}),
        ("(a == 1 or b == 2) and c == 3", {"all": [{"any": [{"a": {"eq": 1}}, {"b": {"eq": 2}}]}, {"c": {"eq": 3}}]}),
        ("not a == 1 and b == 2", {"all": [{"not": {"a": {"eq": 1}}}, {"b": {"eq": 2}}]}),
        ("kind in [cat, 'a dog', 3]", {"kind": {"in": ["cat", "a dog", 3]}}),
        ("kind not in [true]", {"kind": {"not_in": [True]}}),
        ("camera is not null", {"camera": {"is_null": False}}),
        (r'name == "a \"quoted\" name"', {"name": {"eq": 'a "quoted" name'}}),
        ("exif.camera == Nikon", {"exif.camera": {"eq": "Nikon"}}),
        ("tags[] == x", {"tags[]": {"eq": "x"}}),
        ("'odd name' < 2024-05-01", {"odd name": {"lt": "2024-05-01"}}),
        ("caption contains 'brown bear'", {"caption": {"text": "brown bear"}}),
    ],
)
def test_expressions_are_mappings(expression, mapping):
    assert parse(expression) == mapping


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("year", "needs a comparison (==, !=, <, <=, >, >=, in, contains, is null) where it has its end."),
        ("year >=", "needs a value where it has its end."),
        ("year >= 3 5", "needs 'and', 'or' or the end where it has '5'."),
        ("(a == 1", "needs ')' where it has its end."),
        ("a in []", "needs a value where it has ']'."),
        ("a in [1 2]", "needs ']' where it has '2]'."),
        ("and == 3", "needs the name of a field where it has 'and == 3'."),
        ("a == and", "needs a value where it has 'and'."),
        ("a ~ 3", "cannot be read from '~ 3' on."),
        ("folder != 2024/summer", "cannot be read from '/summer' on."),
        ("not " * 60 + "a == 1", "nests deeper than 50 levels"),
    ],
)
def test_an_expression_that_cannot_be_read_says_where(expression, message):
    with pytest.raises(FilterError) as caught:
        parse(expression)
    assert message in str(caught.value)


def render(where):
    """A mapping in the words of an expression."""

    def value(x):
        if isinstance(x, bool):
            return str(x).lower()
        if isinstance(x, str):
            return '"' + x.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return repr(x)

    ((key, inner),) = where.items()
    if key == "not":
        return f"not ({render(inner)})"
    if key in ("any", "all"):
        return "(" + {"any": " or ", "all": " and "}[key].join(f"({render(part)})" for part in inner) + ")"
    ((op, x),) = inner.items()
    if op in ("in", "not_in"):
        return f"{value(key)} {op.replace('_', ' ')} [{', '.join(map(value, x))}]"
    if op == "is_null":
        return f"{value(key)} is {'' if x else 'not '}null"
    return f"{value(key)} {dict(eq='==', ne='!=', gt='>', gte='>=', lt='<', lte='<=', text='contains')[op]} {value(x)}"


SCALARS = st.text(max_size=8) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
COMPARISONS = st.one_of(
    st.dictionaries(st.sampled_from(["eq", "ne", "gt", "lte", "text"]), SCALARS, min_size=1, max_size=1),
    st.dictionaries(
        st.sampled_from(["in", "not_in"]), st.lists(SCALARS, min_size=1, max_size=3), min_size=1, max_size=1
    ),
    st.fixed_dictionaries({"is_null": st.booleans()}),
)
RESERVED = {"not", "any", "all"}
EXPRESSIBLE = st.recursive(
    st.dictionaries(
        st.text(min_size=1, max_size=6).filter(lambda name: name not in RESERVED), COMPARISONS, min_size=1, max_size=1
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"any": st.lists(inner, min_size=2, max_size=3)}),
        st.fixed_dictionaries({"all": st.lists(inner, min_size=2, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(where=EXPRESSIBLE)
def test_an_expression_reads_back_as_its_mapping(where):
    assert parse(render(where)) == where


@settings(max_examples=300, deadline=None, derandomize=True)
@given(expression=st.text(alphabet="ab13=<>!()[],.'\"\\ notridul-:", max_size=25) | st.text(max_size=25))
def test_garbage_is_a_filter_error_and_nothing_else(expression):
    try:
        parse(expression)
    except FilterError as error:
        assert repr(expression) in str(error)


def test_a_zone_shifts_a_moment():
    east = datetime(2024, 5, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    for moment in (east, datetime(2024, 5, 1), date(2024, 5, 1), "2024-05-01"):
        assert to_filter({"day": {"gte": moment}}) == to_filter({"day": {"gte": "2024-05-01T00:00:00Z"}})
