"""Random filters find on every backend, with and without indexes, what plain Python says that they mean."""

import math
import re
from datetime import date, datetime, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.storage.filters import to_filter
from tests.test_filters_expressions import render

UUID = "6da33aeb-c595-4959-a74b-74bd4e62e5f4"
NOON = "2024-05-01T12:00:00+00:00"
BERLIN, POTSDAM, FIJI = {"lat": 52.52, "lon": 13.4}, {"lat": 52.4, "lon": 13.06}, {"lat": -17.0, "lon": 179.5}
CAT, DOG = {"label": "cat", "score": 0.9, "tags": ["a", "b"]}, {"label": "dog", "score": 0.1, "tags": []}
POINTS = {
    0: {},
    1: {"word": "cat", "number": 1, "real": 0.5, "flag": True, "day": "2024-05-01T00:00:00+00:00", "place": BERLIN},
    2: {"word": "dog", "number": 2, "real": -1.0, "flag": False, "day": NOON, "caption": "A big, brown BEAR"},
    3: {"word": ["cat", "fish"], "number": [1, 5], "day": "2023-12-31T23:59:59+00:00", "place": [POTSDAM, FIJI]},
    4: {"word": None, "number": None, "flag": None, "day": None, "objects": None, "place": None, "caption": None},
    5: {"word": "", "number": 0, "real": 0.0, "day": "2024-05-02T00:00:00+02:00", "objects": [], "caption": ""},
    6: {"word": [], "number": -3, "real": 2.5, "flag": True, "objects": [CAT, DOG], "caption": "brown dog, big bear"},
    7: {"word": [None, "catfish"], "objects": [DOG, {"label": "fish", "parts": [{"kind": "fin", "n": 2}]}], "any": 3},
    8: {"word": ["dog", None], "objects": CAT,
        "exif": {"camera": "cat", "lens model": "dog"}, "caption": ["x", "bear"]},
    9: {"objects": [{"label": None}, {}], "exif": {"camera": None}, "any": 4, "caption": "2024/bear_cub"},
    UUID: {"word": ["cat", "cat", "dog"], "number": [0, 0], "objects": [{"label": "cat", "parts": [{"kind": "fin"}]}]},
}  # fmt: skip
VECTORS = {i: ("a", "b")[: 1 + (i not in (2, 6))] for i in POINTS}
INDEXES = {
    **dict.fromkeys(
        ["word", "exif.camera", "objects[].label"], models.KeywordIndexParams(type="keyword", prefix=True)
    ),
    "number": "integer", "real": "float", "flag": "bool", "day": "datetime", "place": "geo",
    "caption": models.TextIndexParams(type="text", phrase_matching=True),
}  # fmt: skip


@pytest.fixture(scope="module", params=["memory", "embedded", "indexed"])
def search(request, tmp_path_factory):
    """The ids of the points that a filter finds, on each backend."""
    place = ":memory:" if request.param == "memory" else tmp_path_factory.mktemp("filters")
    with connect(place) as client:
        vector = models.VectorParams(size=2, distance=models.Distance.COSINE)
        client.create_collection("c", vectors_config={"a": vector, "b": vector})
        vectors = {i: {name: [1, 1] for name in VECTORS[i]} for i in POINTS}
        client.upsert("c", [models.PointStruct(id=i, vector=vectors[i], payload=POINTS[i]) for i in POINTS])
        for field, index in INDEXES.items() if request.param == "indexed" else ():
            client.create_payload_index("c", field, field_schema=index)
        yield lambda where: {p.id for p in client.scroll("c", scroll_filter=to_filter(where), limit=100)[0]}


def select(payload, path):
    """The values at a path, lists as they are."""
    values = [payload]
    for step in path.replace('"', "").split("."):
        values = [value[step.removesuffix("[]")] for value in values if step.removesuffix("[]") in value]
        if step.endswith("[]"):
            values = [item for value in values if isinstance(value, list) for item in value]
        elif step != path.split(".")[-1].replace('"', ""):
            values = [value for value in values if isinstance(value, dict)]
    return values


def moment(value):
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def equal(stored, wanted):
    if isinstance(wanted, date):
        return isinstance(stored, str) and len(stored) > 9 and moment(stored) == moment(wanted)
    if isinstance(wanted, bool) or isinstance(stored, bool):
        return stored is wanted
    if isinstance(wanted, int) and isinstance(stored, float):
        return False  # Qdrant matches integers with integers
    return stored == wanted


COMPARE = {
    "eq": lambda a, b: a == b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def between(stored, limits):
    return all(COMPARE[op](stored, limit) for op, limit in limits.items())


def within(stored, limits):
    if isinstance(next(iter(limits.values())), (int, float)):
        return isinstance(stored, (int, float)) and not isinstance(stored, bool) and between(stored, limits)
    return isinstance(stored, str) and between(moment(stored), {op: moment(limit) for op, limit in limits.items()})


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def near(stored, circle):
    (lat, lon), (lat2, lon2) = ([math.radians(p[x]) for x in ("lat", "lon")] for p in (stored, circle))
    haversine = math.sin((lat2 - lat) / 2) ** 2 + math.cos(lat) * math.cos(lat2) * math.sin((lon2 - lon) / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(haversine)) < circle.get("km", circle.get("m", 0) / 1000)


def in_box(stored, box):
    west, east, lon = box["west"], box["east"], stored["lon"]
    across = west < lon < east if west <= east else lon > west or lon < east
    return across and box["south"] < stored["lat"] < box["north"]


def in_a_row(text, phrase):
    have, want = words(text), words(phrase)
    return any(have[i : i + len(want)] == want for i in range(len(have)))


HOLDS = {
    "eq": equal,
    "in": lambda stored, wanted: any(equal(stored, value) for value in wanted),
    "prefix": lambda stored, wanted: stored.startswith(wanted),
    "substring": lambda stored, wanted: wanted in stored,
    "text": lambda stored, wanted: set(words(wanted)) <= set(words(stored)),
    "text_any": lambda stored, wanted: bool(set(words(wanted)) & set(words(stored))),
    "phrase": in_a_row,
    "near": near,
    "box": in_box,
}


def operator_holds(raw, op, operand):
    """`raw`: the values at the path, lists as they are."""
    if op in ("ne", "not_in"):
        return not operator_holds(raw, {"ne": "eq", "not_in": "in"}[op], operand)
    if op == "is_empty":
        return all(value in (None, []) for value in raw) is operand
    if op == "is_null":
        return any(value is None or (isinstance(value, list) and None in value) for value in raw) is operand
    if op == "nested":
        lists = [value for value in raw if isinstance(value, list)]
        return any(payload_holds(item, operand) for items in lists for item in items)
    if op == "count":
        counts = [0 if value is None else len(value) if isinstance(value, list) else 1 for value in raw] or [0]
        return any(between(count, operand if isinstance(operand, dict) else {"eq": operand}) for count in counts)
    values = [value for item in raw for value in (item if isinstance(item, list) else [item]) if value is not None]
    return any(HOLDS[op](value, operand) if op in HOLDS else within(value, operand) for value in values)


def field_holds(raw, wanted):
    if wanted is None:
        wanted = {"is_empty": True}
    elif not isinstance(wanted, dict):
        wanted = {"in" if isinstance(wanted, list) else "eq": wanted}
    limits = {op: limit for op, limit in wanted.items() if op in ("gt", "gte", "lt", "lte")}
    operators = {op: operand for op, operand in wanted.items() if op not in limits} | ({"range": limits} if limits else {})  # fmt: skip  # noqa: E501
    return all(operator_holds(raw, op, operand) for op, operand in operators.items())


def payload_holds(payload, where, point_id=None):
    def entry(key, value):
        if key == "not":
            return not payload_holds(payload, value, point_id)
        if key in ("any", "all"):
            return {"any": any, "all": all}[key](payload_holds(payload, part, point_id) for part in value)
        if key == "$id":
            return field_holds([point_id], value)
        return field_holds([list(VECTORS[point_id])] if key == "$has_vector" else select(payload, key), value)

    return all(entry(key, value) for key, value in where.items())


WORDS, NUMBERS = st.sampled_from(["cat", "dog", "fish", "", "bird"]), st.integers(-3, 6)
REALS = st.sampled_from([-1.0, 0.0, 0.5, 2.5, 9.5])
DAYS = st.sampled_from([date(2024, 5, 1), datetime(2024, 5, 1, 12), datetime(2024, 5, 1, 22, tzinfo=timezone.utc)])
TEXTS = st.sampled_from(["bear", "BROWN bear", "big bear", "big brown", "x zebra", "cub", "b"])
CIRCLES = st.sampled_from([{"lat": 52.5, "lon": 13.5, "km": 20}, {"lat": 52, "lon": 13, "m": 1e5}, {**FIJI, "km": 0.1}])
NORTHS, WESTS, EASTS = st.sampled_from([53, -16.5]), st.sampled_from([13.2, 170]), st.sampled_from([14, -170])
BOXES = st.fixed_dictionaries({"north": NORTHS, "west": WESTS, "south": st.just(-18), "east": EASTS})


COUNTS = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.integers(0, 3), min_size=1, max_size=2)


def some(**operators):
    """One or two of these operators."""
    one = st.one_of([st.fixed_dictionaries({name: operand}) for name, operand in operators.items()])
    return one | st.builds(lambda a, b: {**a, **b}, one, one)


def matches(values, **more):
    lists = st.lists(values, max_size=3)
    common = {"is_null": st.booleans(), "is_empty": st.booleans(), "count": st.integers(0, 3) | COUNTS}
    return values | lists | st.none() | some(ne=values, not_in=lists, eq=values, **{"in": lists}, **common, **more)


def ranges(limits):
    return dict.fromkeys(["gt", "gte", "lt", "lte"], limits)


PREFIXES = st.sampled_from(["c", "cat", "d", "fis", "x"])
STRINGS = matches(WORDS, prefix=PREFIXES, substring=PREFIXES)
ONE_OBJECT = {
    "label": STRINGS,
    "score": some(**ranges(REALS)),
    "tags": matches(st.sampled_from("abc")),
    "parts": st.fixed_dictionaries({"nested": st.fixed_dictionaries({"kind": STRINGS, "n": matches(NUMBERS)})}),
}


def entries(fields):
    """A mapping of one or two fields."""
    names = st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: fields[name] for name in chosen}))


def trees(leaves, size):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"not": inner}),
        ),
        max_leaves=size,
    )


PLACES = some(near=CIRCLES, box=BOXES, is_empty=st.booleans(), count=COUNTS)
FIELDS = {
    "word": STRINGS,
    "number": matches(NUMBERS, **ranges(NUMBERS)),
    "real": REALS | some(**ranges(REALS)) | st.lists(REALS, max_size=3),
    "flag": matches(st.booleans()),
    "day": DAYS | some(**ranges(DAYS)) | st.lists(DAYS, max_size=2),
    "caption": some(text=TEXTS, text_any=TEXTS, phrase=TEXTS, substring=TEXTS, is_empty=st.booleans()),
    "place": PLACES,
    "objects": st.fixed_dictionaries({"nested": trees(entries(ONE_OBJECT), 4)}) | some(count=COUNTS),
    "objects[].label": STRINGS,
    "exif.camera": STRINGS,
    "exif.lens model": STRINGS,
    '"any"': matches(NUMBERS),
}
ABOUT_POINTS = st.one_of(
    st.fixed_dictionaries({"$id": some(eq=st.sampled_from([1, UUID]), not_in=st.lists(st.sampled_from([3, UUID])))}),
    st.fixed_dictionaries({"$id": st.lists(st.sampled_from([0, 5, 99, UUID]), max_size=3)}),
    st.fixed_dictionaries({"$has_vector": some(eq=st.sampled_from("ab"), ne=st.sampled_from("ab"))}),
    st.fixed_dictionaries({"$has_vector": st.lists(st.sampled_from("ab"), max_size=2)}),
)
MAPPINGS = trees(entries(FIELDS) | ABOUT_POINTS, 6)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=MAPPINGS)
def test_a_filter_finds_what_its_mapping_says(search, where):
    expected = {i for i, payload in POINTS.items() if payload_holds(payload, where, i)}
    assert search(where) == expected
    if "[]" not in str(where).replace("[].", ""):  # an expression has no empty lists
        assert search(render(where)) == expected
