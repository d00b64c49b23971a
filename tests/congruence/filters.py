"""Filters of every condition, alone and in trees of at least three levels."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

from hypothesis import strategies as st
from qdrant_client import models

from tests.congruence.data import FLOATS, NUMBERS, SPELLED_IDS, UUIDS, WORDS

PLAIN_KEYS = st.sampled_from(["n", "f", "kind", "ok", "at", "place", "text", "uid", "x", "y", "obj", "arr"])
PATHS = st.sampled_from(
    [
        "obj.a",
        "obj.b",
        "obj.n",
        "arr[].a",
        "arr[].b",
        "arr[].kind",
        "arr[0].a",
        "x.y",
        "x.x",
        "y[].x",
        "x[]",
        "x[].y",
        "missing",
    ]
)
KEYS = st.one_of(PLAIN_KEYS, PATHS)
NESTED_KEYS = st.sampled_from(["arr", "x", "obj", "arr[]"])
INNER_KEYS = st.sampled_from(["a", "b", "n", "kind", "x", "y"])
WHEN = st.sampled_from(
    [
        datetime(2024, 1, 1),
        datetime(2024, 1, 2, tzinfo=timezone.utc),
        datetime(2024, 1, 1, 22, tzinfo=timezone.utc),
        datetime(2024, 1, 3, 14, 30, tzinfo=timezone(timedelta(hours=2))),
        date(2024, 1, 2),
    ]
)


def _bounds(values, kind):
    names = st.sampled_from(["gt", "gte", "lt", "lte"])
    return st.dictionaries(names, values, min_size=1, max_size=2).map(lambda given: kind(**given))


def _geo(lat, lon):
    return models.GeoPoint(lat=lat / 8, lon=lon / 8)


ODD = st.integers(-13, 13).map(lambda n: 2 * n + 1)  # payloads lie on even eighths, so no point is on an edge
GEO = st.builds(_geo, ODD, ODD)


@st.composite
def _rings(draw):
    west, east = sorted(draw(st.tuples(ODD, ODD).filter(lambda pair: pair[0] != pair[1])))
    south, north = sorted(draw(st.tuples(ODD, ODD).filter(lambda pair: pair[0] != pair[1])))
    corners = [(south, west), (south, east), (north, east), (north, west), (south, west)]
    return models.GeoLineString(points=[_geo(*corner) for corner in corners])


MATCHES = {
    "value": st.builds(
        lambda v: models.MatchValue(value=v), st.one_of(WORDS, NUMBERS, st.booleans(), st.sampled_from(UUIDS))
    ),
    "any": st.builds(
        lambda v: models.MatchAny(any=v), st.one_of(st.lists(WORDS, max_size=3), st.lists(NUMBERS, max_size=3))
    ),
    "except": st.builds(
        lambda v: models.MatchExcept(**{"except": v}),
        st.one_of(st.lists(WORDS, max_size=3), st.lists(NUMBERS, max_size=3)),
    ),
    "text": st.builds(lambda v: models.MatchText(text=v), WORDS),
    "text_any": st.builds(lambda v: models.MatchTextAny(text_any=v), WORDS),
    "phrase": st.builds(lambda v: models.MatchPhrase(phrase=v), WORDS),
    "prefix": st.builds(lambda v: models.MatchPrefix(prefix=v), st.sampled_from(["", "a", "re", "Th", "na"])),
    "substring": st.builds(lambda v: models.MatchSubstring(substring=v), st.sampled_from(["", "a", "fox", "ï", "RED"])),
}
TESTS = {
    **{f"match_{name}": matches.map(lambda match: {"match": match}) for name, matches in MATCHES.items()},
    "range": _bounds(FLOATS, models.Range).map(lambda v: {"range": v}),
    "datetime_range": _bounds(WHEN, models.DatetimeRange).map(lambda v: {"range": v}),
    "values_count": _bounds(st.integers(0, 3), models.ValuesCount).map(lambda v: {"values_count": v}),
    "geo_radius": st.builds(
        lambda center, radius: {"geo_radius": models.GeoRadius(center=center, radius=radius)},
        GEO,
        st.sampled_from([1.0, 50_123.0, 201_234.0, 1e7]),
    ),
    "geo_box": st.builds(
        lambda a, b: {"geo_bounding_box": models.GeoBoundingBox(top_left=a, bottom_right=b)},
        st.builds(_geo, st.integers(0, 6).map(lambda n: 4 * n + 1), ODD),
        st.builds(_geo, st.integers(0, 6).map(lambda n: -4 * n - 3), ODD),
    ),
    "geo_polygon": st.builds(
        lambda ring, holes: {"geo_polygon": models.GeoPolygon(exterior=ring, interiors=holes)},
        _rings(),
        st.one_of(st.none(), st.lists(_rings(), max_size=1)),
    ),
    "field_is_empty": st.booleans().map(lambda v: {"is_empty": v}),
    "field_is_null": st.booleans().map(lambda v: {"is_null": v}),
}


DIFFERING = {
    # Of a path into a list the engine asks each value by itself, and an index of numbers takes dates for microseconds,
    # one of dates the other way round; which docs/embedded.md lists.
    "field_is_empty": lambda key: "[]" in key,
    "field_is_null": lambda key: "[]" in key,
    "range": lambda key: key == "at",
    "datetime_range": lambda key: key.rsplit(".")[-1] in ("n", "f"),
}


def _fields(keys):
    return {
        name: st.builds(lambda key, test: models.FieldCondition(key=key, **test), _same(keys, name), test)
        for name, test in TESTS.items()
    }


def _same(keys, test):
    """The keys on which both must agree about a test."""
    differs = DIFFERING.get(test)
    return keys if differs is None else keys.filter(lambda key: not differs(key))


def _presence(keys):
    fields = keys.map(lambda key: models.PayloadField(key=key))
    return {
        "is_empty": fields.map(lambda field: models.IsEmptyCondition(is_empty=field)),
        "is_null": fields.map(lambda field: models.IsNullCondition(is_null=field)),
    }


def conditions(names):
    """Strategies of all conditions by name, for a collection with these vectors."""
    inner = st.one_of(*_fields(INNER_KEYS).values(), *_presence(INNER_KEYS).values())
    return {
        **_fields(KEYS),
        **_presence(KEYS),
        "has_id": st.lists(SPELLED_IDS, max_size=3).map(lambda ids: models.HasIdCondition(has_id=ids)),
        "has_vector": st.sampled_from(names).map(lambda name: models.HasVectorCondition(has_vector=name)),
        "slice": st.integers(1, 4).flatmap(
            lambda total: st.integers(0, total - 1).map(
                lambda index: models.SliceCondition(slice=models.Slice(total=total, index=index))
            )
        ),
        "nested": st.builds(
            lambda key, given: models.NestedCondition(nested=models.Nested(key=key, filter=given)),
            NESTED_KEYS,
            _tree(inner),
        ),
    }


def _clause(children):
    return st.one_of(st.none(), st.lists(children, max_size=3), children)


def _tree(children):
    clause = _clause(children)
    min_should = st.one_of(
        st.none(),
        st.none(),
        st.builds(
            lambda given, count: models.MinShould(conditions=given, min_count=count),
            st.lists(children, min_size=1, max_size=3),
            st.integers(1, 3),
        ),
    )
    return st.builds(models.Filter, must=clause, should=clause, must_not=clause, min_should=min_should)


def filters(names):
    """Filters: one condition alone (to find what is wrong with it), or a tree of up to four levels of clauses."""
    leaf = st.one_of(*conditions(names).values())
    alone = leaf.map(lambda condition: models.Filter(must=[condition]))
    two = _tree(st.one_of(leaf, _tree(leaf)))
    deep = st.builds(lambda inner, other: models.Filter(must=[inner], should=other), two, _clause(leaf))
    return st.one_of(alone, deep, _tree(st.one_of(leaf, deep)))
