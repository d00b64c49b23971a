"""Expressions: what they read as, what cannot be read, and back from what was written."""

import json
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_qdrant.errors import FilterError
from clip_qdrant.storage.filter_expression import parse
from clip_qdrant.storage.filter_paths import RESERVED
from clip_qdrant.storage.filters import to_filter


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
        ("kind in[3]", {"kind": {"in": [3]}}),
        ("kind not in [true]", {"kind": {"not_in": [True]}}),
        ("camera is null", {"camera": {"is_null": True}}),
        ("camera is not null", {"camera": {"is_null": False}}),
        ("camera is empty", {"camera": {"is_empty": True}}),
        ("camera is not empty", {"camera": {"is_empty": False}}),
        (r'name == "a \"quoted\" name"', {"name": {"eq": 'a "quoted" name'}}),
        ("name == 'two\\\nlines'", {"name": {"eq": "two\nlines"}}),
        ("exif.camera == Nikon", {"exif.camera": {"eq": "Nikon"}}),
        ("tags[] == x", {"tags[]": {"eq": "x"}}),
        ("objects[0].label == x", {"objects[0].label": {"eq": "x"}}),
        ("'odd name' < 2024-05-01", {"odd name": {"lt": date(2024, 5, 1)}}),
        ("at == 2024-05-01T12:30Z", {"at": {"eq": datetime(2024, 5, 1, 12, 30, tzinfo=timezone.utc)}}),
        ("at == 2024-05-01T12:30:01.5+0200", {"at": {"eq": datetime(2024, 5, 1, 12, 30, 1, 500_000, timezone(timedelta(hours=2)))}}),  # noqa: E501
        ("at == '2024-05-01'", {"at": {"eq": "2024-05-01"}}),
        ("caption contains 'brown bear'", {"caption": {"text": "brown bear"}}),
        ("caption text bear", {"caption": {"text": "bear"}}),
        ("caption text_any 'bear fox'", {"caption": {"text_any": "bear fox"}}),
        ("caption phrase 'brown bear'", {"caption": {"phrase": "brown bear"}}),
        ("path prefix '2024/'", {"path": {"prefix": "2024/"}}),
        ("path substring a/b", {"path": {"substring": "a/b"}}),
        ("prefix prefix prefix", {"prefix": {"prefix": "prefix"}}),
        ("tags count >= 2", {"tags": {"count": {"gte": 2}}}),
        ("count count == 2", {"count": {"count": {"eq": 2}}}),
        ("location within 5 km of (52.5, 13.4)", {"location": {"near": {"lat": 52.5, "lon": 13.4, "km": 5}}}),
        ("location within 0.3km of (-52, 13)", {"location": {"near": {"lat": -52, "lon": 13, "km": 0.3}}}),
        ("location within 300 m of (52.5, 13.4)", {"location": {"near": {"lat": 52.5, "lon": 13.4, "m": 300}}}),
        ("at within box (north 53, west 13, south 52, east 14)", {"at": {"box": {"north": 53, "west": 13, "south": 52, "east": 14}}}),  # noqa: E501
        ("at within box (east 14, west 13, south -2.5, north 53)", {"at": {"box": {"north": 53, "west": 13, "south": -2.5, "east": 14}}}),  # noqa: E501
        ("objects[label == cat]", {"objects": {"nested": {"label": {"eq": "cat"}}}}),
        ("exif.objects [a == 1 and (b == 2)]", {"exif.objects": {"nested": {"all": [{"a": {"eq": 1}}, {"b": {"eq": 2}}]}}}),  # noqa: E501
        ("a[b[c == 1] or d in [2]]", {"a": {"nested": {"any": [{"b": {"nested": {"c": {"eq": 1}}}}, {"d": {"in": [2]}}]}}}),  # noqa: E501
        ("$id in [1, '6da33aeb-c595-4959-a74b-74bd4e62e5f4']", {"$id": {"in": [1, "6da33aeb-c595-4959-a74b-74bd4e62e5f4"]}}),  # noqa: E501
        ("$has_vector == text", {"$has_vector": {"eq": "text"}}),
        ("'$id' == 3 and any == 3 and all == 3", {"all": [{'"$id"': {"eq": 3}}, {'"any"': {"eq": 3}}, {'"all"': {"eq": 3}}]}),  # noqa: E501
        ('"not" == 3', {'"not"': {"eq": 3}}),
        ('"is" == 3', {"is": {"eq": 3}}),
    ],
)  # fmt: skip
def test_expressions_are_mappings(expression, mapping):
    assert parse(expression) == mapping
    to_filter(mapping)


COMPARISONS = (
    "(==, =, !=, >, >=, <, <=, in, not in, is empty, is null, text, text_any, phrase, prefix, substring, contains, "
    "count, within, […])"
)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("year", f"needs a comparison {COMPARISONS} where it has its end."),
        ("year startswith 3", f"needs a comparison {COMPARISONS} where it has 'startswith 3'."),
        ("year >=", "needs a value where it has its end."),
        ("year >= 3 5", "needs 'and', 'or' or the end where it has '5'."),
        ("year >= 3 AND b == 2", "needs 'and', 'or' or the end where it has 'AND b == 2'."),
        ("(a == 1", "needs ')' where it has its end."),
        ("a in []", "needs a value where it has ']'."),
        ("a in [1 2]", "needs ']' where it has '2]'."),
        ("a not 3", "needs 'in' where it has '3'."),
        ("a is 3", "needs 'empty' or 'null' where it has '3'."),
        ("and == 3", "needs the name of a field where it has 'and == 3'."),
        ("a == and", "needs a value where it has 'and'."),
        ("a == 5 km", "needs a value where it has '5 km'."),
        ("a ~ 3", "cannot be read from '~ 3' on."),
        ("folder != 2024/summer", "cannot be read from '/summer' on."),
        ("at > 2024-02-30", "needs a date of the calendar, as in 2024-05-01 or 2024-05-01T12:00:00Z, where it has '2024-02-30'."),  # noqa: E501
        ("a == " + "9" * 5000, "needs a number (integers of 64 bits) where it has '9999"),
        ("a == -" + "9" * 5000, "needs a number (integers of 64 bits) where it has '-9999"),
        ("tags count in [2]", "needs '==' or '=' or '>' or '>=' or '<' or '<=' where it has 'in [2]'."),
        ("tags count >= many", "needs a number (integers of 64 bits) where it has 'many'."),
        ("at within 5 of (1, 2)", "needs a distance, as in 5 km or 300 m, or 'box' where it has '5 of (1, 2)'."),
        ("at within 5 miles of (1, 2)", "needs a distance, as in 5 km or 300 m, or 'box' where it has '5 miles of (1, 2)'."),  # noqa: E501
        ("at within 5 km", "needs 'of' where it has its end."),
        ("at within 5 km of Berlin", "needs '(' where it has 'Berlin'."),
        ("at within 5 km of (1)", "needs ',' where it has ')'."),
        ("at within 5 km of (a, 2)", "needs a number (integers of 64 bits) where it has 'a, 2)'."),
        ("at within box (1, 2, 3, 4)", "needs 'north' or 'west' or 'south' or 'east' where it has '1, 2, 3, 4)'."),
        ("at within box (north 1, north 2)", "needs 'west' or 'south' or 'east' where it has 'north 2)'."),
        ("at within box (north 1)", "needs ',' where it has ')'."),
        ("objects[]", f"needs a comparison {COMPARISONS} where it has its end."),
        ("objects[a == 1", "needs ']' where it has its end."),
        ("not " * 60 + "a == 1", "nests deeper than 30 levels. Write it with fewer brackets and 'not's."),
        ("(" * 100_000, "nests deeper than 30 levels."),
        ("a [" * 100_000, "nests deeper than 30 levels."),
    ],
)  # fmt: skip
def test_an_expression_that_cannot_be_read_says_where(expression, message):
    with pytest.raises(FilterError) as caught:
        parse(expression)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_long_expressions_are_read():
    numbers = list(range(20_000))
    assert parse(f"a in {numbers}") == {"a": {"in": numbers}}
    assert parse(" or ".join(f"a == {n}" for n in numbers)) == {"any": [{"a": {"eq": n}} for n in numbers]}


SIGNS = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def value(x):
    if isinstance(x, bool):
        return str(x).lower()
    if isinstance(x, str):
        return '"' + x.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return x.isoformat() if isinstance(x, date) else repr(x)


def comparison(name, op, x):
    if op in SIGNS:
        return f"{name} {SIGNS[op]} {value(x)}"
    if op in ("in", "not_in"):
        return f"{name} {op.replace('_', ' ')} [{', '.join(map(value, x))}]"
    if op in ("is_null", "is_empty"):
        return f"{name} is {'' if x else 'not '}{op[3:]}"
    if op == "nested":
        return f"{name}[{render(x)}]"
    if op == "count":
        limits = x if isinstance(x, dict) else {"eq": x}
        return " and ".join(f"{name} count {SIGNS[sign]} {limit}" for sign, limit in limits.items())
    if op == "near":
        unit = "km" if "km" in x else "m"
        return f"{name} within {x[unit]!r} {unit} of ({x['lat']!r}, {x['lon']!r})"
    if op == "box":
        return f"{name} within box ({', '.join(f'{side} {degrees!r}' for side, degrees in x.items())})"
    return f"{name} {op} {value(x)}"


def render(where):
    """A mapping in the words of an expression."""
    parts = []
    for key, inner in where.items():
        name = key if key in ("$id", "$has_vector") else value(key)
        if key == "not":
            parts.append(f"not ({render(inner)})")
        elif key in ("any", "all"):
            parts.append({"any": " or ", "all": " and "}[key].join(f"({render(part)})" for part in inner))
        elif inner is None:
            parts.append(f"{name} is empty")
        elif isinstance(inner, dict):
            parts += [comparison(name, op, x) for op, x in inner.items()]
        else:
            parts.append(comparison(name, "in" if isinstance(inner, list) else "eq", inner))
    return parts[0] if len(parts) == 1 else " and ".join(f"({part})" for part in parts)


INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ZONES = st.sampled_from([None, timezone.utc, timezone(timedelta(hours=-9, minutes=-30))])
SCALARS = st.text(max_size=8) | INTEGERS | FLOATS | st.booleans() | st.dates() | st.datetimes(timezones=ZONES)
OPERATORS = {
    **dict.fromkeys(["eq", "ne", "gt", "gte", "lt", "lte"], SCALARS),
    **dict.fromkeys(["text", "text_any", "phrase", "prefix", "substring"], st.text(max_size=8)),
    **dict.fromkeys(["in", "not_in"], st.lists(SCALARS, min_size=1, max_size=3)),
    **dict.fromkeys(["is_null", "is_empty"], st.booleans()),
    "count": st.dictionaries(st.sampled_from(["eq", "gt", "gte", "lt", "lte"]), INTEGERS, min_size=1, max_size=1),
    "near": st.builds(
        lambda lat, lon, unit, radius: {"lat": lat, "lon": lon, unit: abs(radius)},
        FLOATS, FLOATS | INTEGERS, st.sampled_from(["km", "m"]), FLOATS | st.integers(0, 9_999),
    ),
    "box": st.fixed_dictionaries(dict.fromkeys(["north", "west", "south", "east"], FLOATS | INTEGERS)),
}  # fmt: skip


def fields(operators):
    names = st.text(min_size=1, max_size=6).filter(lambda name: name not in RESERVED)
    names |= st.sampled_from(["$id", "$has_vector", *(json.dumps(name) for name in RESERVED)])
    entry = st.one_of([st.fixed_dictionaries({op: operand}) for op, operand in operators.items()])
    return st.dictionaries(names, entry, min_size=1, max_size=1)


EXPRESSIBLE = st.recursive(
    fields(OPERATORS),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"any": st.lists(inner, min_size=2, max_size=3)}),
        st.fixed_dictionaries({"all": st.lists(inner, min_size=2, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
        fields({"nested": inner}),
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(where=EXPRESSIBLE)
def test_an_expression_reads_back_as_its_mapping(where):
    assert parse(render(where)) == where


@settings(max_examples=300, deadline=None, derandomize=True)
@given(expression=st.text(alphabet="ab13=<>!()[],.'\"\\ notridulkmwh$-:", max_size=25) | st.text(max_size=25))
def test_garbage_is_a_filter_error_and_nothing_else(expression):
    try:
        to_filter(expression)
    except FilterError as error:
        assert str(error)
