"""Filters: the same points on both backends, for every condition alone and for random trees of them."""

from __future__ import annotations

from datetime import date, datetime, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import models

from clip_qdrant.errors import FilterError
from clip_qdrant.storage.connect import connect

UUID_ID = "6da33aeb-c595-4959-a74b-74bd4e62e5f4"
PAYLOADS = {
    1: {"kind": "cat", "n": 1, "tags": ["a", "b"], "at": "2024-01-01T00:00:00Z", "text": "A red Fox, jumping"},
    2: {"kind": "dog", "n": 2, "f": 2.5, "tags": [], "geo": {"lat": 52.5, "lon": 13.4}, "text": "red and fox"},
    3: {"kind": None, "ok": True, "nested": [{"a": 1, "b": 2}, {"a": 3}], "geo": {"lat": 48.1, "lon": 11.6}},
    4: {"kind": ["cat", "dog"], "n": [1, 5], "at": "2024-06-01T12:00:00+02:00", "deep": {"x": {"y": "z"}}},
    UUID_ID: {},
}


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    with connect(":memory:") as memory, connect(tmp_path_factory.mktemp("filters")) as embedded:
        for client in (memory, embedded):
            client.create_collection("c", vectors_config={"v": models.VectorParams(size=1, distance="Dot")})
            client.create_collection("random", vectors_config={"v": models.VectorParams(size=1, distance="Dot")})
            points = [
                models.PointStruct(id=point_id, vector={"v": [1.0]} if point_id != 3 else {}, payload=payload)
                for point_id, payload in PAYLOADS.items()
            ]
            client.upsert("c", points)
        yield memory, embedded


def field(key, **test):
    return models.FieldCondition(key=key, **test)


def circle(*points):
    return models.GeoLineString(points=[models.GeoPoint(lat=lat, lon=lon) for lat, lon in points])


BERLIN = models.GeoPoint(lat=52.52, lon=13.405)
AROUND_BERLIN = circle((53.0, 13.0), (53.0, 14.0), (52.0, 14.0), (52.0, 13.0), (53.0, 13.0))
AROUND_POINT_2 = circle((52.6, 13.3), (52.6, 13.5), (52.4, 13.5), (52.4, 13.3), (52.6, 13.3))
NOON = datetime(2024, 6, 1, 10, 0, tzinfo=timezone.utc)

CONDITIONS = [
    (field("kind", match=models.MatchValue(value="cat")), [1, 4]),
    (field("n", match=models.MatchValue(value=1)), [1, 4]),
    (field("ok", match=models.MatchValue(value=True)), [3]),
    (field("kind", match=models.MatchAny(any=["dog", "fish"])), [2, 4]),
    (field("n", match=models.MatchAny(any=[2, 5])), [2, 4]),
    (field("kind", match=models.MatchExcept(**{"except": ["cat"]})), [2, 4]),
    (field("text", match=models.MatchText(text="fox red")), [1, 2]),
    (field("text", match=models.MatchTextAny(text_any="jumping and")), [1, 2]),
    (field("text", match=models.MatchPhrase(phrase="red fox")), [1]),
    (field("n", range=models.Range(gt=1, lte=5)), [2, 4]),
    (field("f", range=models.Range(gte=2.5)), [2]),
    (field("at", range=models.DatetimeRange(gte=NOON)), [4]),
    (field("at", range=models.DatetimeRange(lt=datetime(2024, 1, 2))), [1]),
    (field("at", range=models.DatetimeRange(gt=date(2024, 1, 1))), [4]),
    (field("geo", geo_radius=models.GeoRadius(center=BERLIN, radius=5000.0)), [2]),
    (
        field(
            "geo",
            geo_bounding_box=models.GeoBoundingBox(
                top_left=models.GeoPoint(lat=49.0, lon=11.0), bottom_right=models.GeoPoint(lat=48.0, lon=12.0)
            ),
        ),
        [3],
    ),
    (field("geo", geo_polygon=models.GeoPolygon(exterior=AROUND_BERLIN)), [2]),
    (field("geo", geo_polygon=models.GeoPolygon(exterior=AROUND_BERLIN, interiors=[AROUND_POINT_2])), []),
    (field("tags", values_count=models.ValuesCount(gte=2)), [1]),
    (field("tags", is_empty=True), [2, 3, 4, UUID_ID]),
    (field("tags", is_empty=False), [1]),
    (field("kind", is_null=True), [3]),
    (models.IsEmptyCondition(is_empty=models.PayloadField(key="n")), [3, UUID_ID]),
    (models.IsNullCondition(is_null=models.PayloadField(key="kind")), [3]),
    (models.HasIdCondition(has_id=[1, UUID_ID.upper(), 99]), [1, UUID_ID]),
    (models.HasVectorCondition(has_vector="v"), [1, 2, 4, UUID_ID]),
    (field("deep.x.y", match=models.MatchValue(value="z")), [4]),
    (field("nested[].a", match=models.MatchValue(value=3)), [3]),
    (
        models.NestedCondition(
            nested=models.Nested(
                key="nested",
                filter=models.Filter(
                    must=[field("a", match=models.MatchValue(value=3)), field("b", match=models.MatchValue(value=2))]
                ),
            )
        ),
        [],
    ),
    (
        models.NestedCondition(
            nested=models.Nested(key="nested", filter=models.Filter(must=field("b", range=models.Range(gt=1))))
        ),
        [3],
    ),
    (models.Filter(should=[models.HasIdCondition(has_id=[1]), models.HasIdCondition(has_id=[2])]), [1, 2]),
]


def matching(client, condition, collection="c"):
    return [record.id for record in client.scroll(collection, scroll_filter=condition, limit=100)[0]]


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS, ids=range(len(CONDITIONS)))
def test_every_condition(backends, condition, expected):
    everything = list(PAYLOADS)
    for client in backends:
        assert matching(client, models.Filter(must=[condition])) == expected
        assert matching(client, models.Filter(must_not=condition)) == [i for i in everything if i not in expected]


def test_clauses_combine(backends):
    cat, two = (condition for condition, _ in (CONDITIONS[0], CONDITIONS[4]))
    low = field("n", range=models.Range(lt=2))
    for client in backends:
        assert matching(client, models.Filter(must=[cat], must_not=[two])) == [1]
        assert matching(client, models.Filter(must=[two], should=[cat, low])) == [4]
        min_should = models.MinShould(conditions=[cat, two, low], min_count=2)
        assert matching(client, models.Filter(min_should=min_should)) == [1, 4]
        assert matching(client, models.Filter(must=[], should=[], must_not=[])) == list(PAYLOADS)
        assert matching(client, None) == list(PAYLOADS)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (models.HasIdCondition(has_id=["not an id"]), "'not an id'"),
        (models.FieldCondition(key="n"), "tests nothing"),
        (models.FieldCondition(key="n[", range=models.Range(gt=1)), "n\\["),
        (
            models.FieldCondition(
                key="g", geo_radius=models.GeoRadius(center=models.GeoPoint(lat=99.0, lon=0.0), radius=1.0)
            ),
            "lat",
        ),
        (models.Filter(min_should=models.MinShould(conditions=[], min_count=0)), "min_count"),
    ],
)
def test_a_filter_that_cannot_be_understood_says_why(backends, condition, reason):
    with pytest.raises(FilterError, match=reason):
        backends[1].count("c", models.Filter(must=[condition]))


WORDS = st.sampled_from(["a", "b", "a b", "B c", ""])
NUMBERS = st.integers(-2, 2)
MOMENTS = st.sampled_from([datetime(2024, 1, day, tzinfo=timezone.utc) for day in (1, 2, 3)])
VALUES = st.one_of(
    WORDS,
    NUMBERS,
    st.sampled_from([0.5, -1.5, 2.0]),
    st.booleans(),
    st.none(),
    MOMENTS.map(datetime.isoformat),
    st.lists(st.one_of(WORDS, NUMBERS, st.none()), max_size=3),
    st.lists(st.dictionaries(st.sampled_from("xy"), st.one_of(WORDS, NUMBERS), max_size=2), max_size=2),
    st.dictionaries(st.sampled_from("xy"), st.one_of(WORDS, NUMBERS, st.none()), max_size=2),
    st.builds(lambda lat, lon: {"lat": lat, "lon": lon}, st.floats(-3, 3), st.floats(-3, 3)),
)
ROWS = st.lists(st.dictionaries(st.sampled_from("xy"), VALUES, min_size=1), min_size=1, max_size=6)
PLAIN_KEYS = st.sampled_from(["x", "y", "x.y", "y.x"])
KEYS = st.one_of(PLAIN_KEYS, st.sampled_from(["x", "y", "y[].x", "x[]"]))


def bounds(values, kind):
    names = ("gt", "gte", "lt", "lte")
    return st.dictionaries(st.sampled_from(names), values, min_size=1, max_size=2).map(lambda given: kind(**given))


GEO_POINTS = st.builds(models.GeoPoint, lat=st.floats(-3, 3), lon=st.floats(-3, 3))
TESTS = st.one_of(
    st.builds(lambda v: {"match": models.MatchValue(value=v)}, st.one_of(WORDS, NUMBERS, st.booleans())),
    st.builds(
        lambda v: {"match": models.MatchAny(any=v)},
        st.one_of(st.lists(WORDS, min_size=1), st.lists(NUMBERS, min_size=1)),
    ),
    st.builds(lambda v: {"match": models.MatchExcept(**{"except": v})}, st.lists(NUMBERS, min_size=1)),
    st.builds(lambda v: {"match": models.MatchText(text=v)}, WORDS),
    st.builds(lambda v: {"match": models.MatchPhrase(phrase=v)}, WORDS),
    st.builds(lambda v: {"range": v}, bounds(st.sampled_from([-1.5, 0.0, 1.0, 2.0]), models.Range)),
    st.builds(lambda v: {"range": v}, bounds(MOMENTS, models.DatetimeRange)),
    st.builds(lambda v: {"values_count": v}, bounds(st.integers(0, 3), models.ValuesCount)),
    st.builds(lambda c, r: {"geo_radius": models.GeoRadius(center=c, radius=r)}, GEO_POINTS, st.floats(1.0, 5e5)),
)
# The backends differ on what is empty behind "[]" in a list with nulls: {"x": [null, "a"]} has an empty "x[]" for the
# engine, and not for local mode.
PRESENCE = st.one_of(
    st.builds(lambda v: {"is_empty": v}, st.booleans()),
    st.builds(lambda v: {"is_null": v}, st.booleans()),
)
FIELDS = st.one_of(
    st.builds(lambda key, test: models.FieldCondition(key=key, **test), KEYS, TESTS),
    st.builds(lambda key, test: models.FieldCondition(key=key, **test), PLAIN_KEYS, PRESENCE),
)
LEAVES = st.one_of(
    FIELDS,
    st.builds(lambda v: models.HasIdCondition(has_id=v), st.lists(st.integers(0, 5), min_size=1, max_size=3)),
    st.builds(lambda key: models.IsEmptyCondition(is_empty=models.PayloadField(key=key)), PLAIN_KEYS),
    st.builds(lambda key: models.IsNullCondition(is_null=models.PayloadField(key=key)), PLAIN_KEYS),
    st.builds(
        lambda key, test: models.NestedCondition(nested=models.Nested(key=key, filter=models.Filter(must=[test]))),
        st.sampled_from("xy"),
        FIELDS,
    ),
)


def trees(children):
    clause = st.one_of(st.none(), st.lists(children, max_size=3))
    min_should = st.one_of(
        st.none(),
        st.builds(
            lambda conditions, count: models.MinShould(conditions=conditions, min_count=count),
            st.lists(children, min_size=1, max_size=3),
            st.integers(1, 2),
        ),
    )
    return st.builds(models.Filter, must=clause, should=clause, must_not=clause, min_should=min_should)


ALONE = LEAVES.map(lambda leaf: models.Filter(must=[leaf]))
FILTERS = st.one_of(ALONE, trees(st.one_of(LEAVES, trees(st.one_of(LEAVES, trees(LEAVES))))))


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(ROWS, st.lists(FILTERS, min_size=4, max_size=16))
def test_random_filters_over_random_payloads_select_the_same(backends, payloads, filters):
    points = [models.PointStruct(id=row, vector={"v": [1.0]}, payload=payload) for row, payload in enumerate(payloads)]
    for client in backends:
        client.delete("random", models.Filter())
        client.upsert("random", points)
    memory, embedded = backends
    for condition in filters:
        assert matching(embedded, condition, "random") == matching(memory, condition, "random")
