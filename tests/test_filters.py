"""Mappings: each operator by example, on both backends, and what cannot be understood."""

import math
import uuid
from datetime import date, datetime, timedelta, timezone

import pytest
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import FilterError
from clip_qdrant.storage.filters import MAX_DEPTH, to_filter

NOON = "2024-05-01T12:00:00+00:00"
BERLIN, FIJI = {"lat": 52.52, "lon": 13.4}, {"lat": -17.0, "lon": 179.5}
CAT, DOG = {"label": "cat", "score": 0.9, "parts": [{"n": 1}]}, {"label": "dog", "score": 0.1}
PAYLOADS = [
    {},
    {"word": "cat", "number": 1, "real": 0.5, "flag": True, "day": "2024-05-01T00:00:00+00:00", "place": BERLIN},
    {"word": "dog", "number": 2, "real": -1.0, "flag": False, "day": NOON, "place": FIJI, "any": 1, "$id": 5},
    {"word": ["cat", "fish"], "number": [1, 5], "day": "2023-12-31T23:59:59+00:00", "objects": [CAT, DOG]},
    {"word": None, "number": None, "flag": None, "day": None, "objects": [{"label": "dog", "score": 0.9}]},
    {"word": "", "number": 0, "real": 0.0, "day": "2024-05-02T00:00:00+02:00", "a.b": 3, "odd name": {"x/y": 4}},
    {"word": [], "number": -3, "real": 2.5, "flag": True, "text": "A big, brown bear", "path": "2024/May/a.jpg"},
    {"word": [None], "text": "bear (brown)", "path": ["2023/a.jpg", "2024/b.jpg"], "not": {"all": 6}},
]
UUIDS = [uuid.UUID(int=i) for i in range(2)]
EVERY = set(range(len(PAYLOADS)))


@pytest.fixture(scope="module", params=["memory", "embedded"])
def search(request, tmp_path_factory):
    """The numbers of the payloads that a filter finds, on each backend."""
    place = ":memory:" if request.param == "memory" else tmp_path_factory.mktemp("filters")
    with connect(place) as client:
        vector = models.VectorParams(size=2, distance=models.Distance.COSINE)
        client.create_collection("c", vectors_config={"image": vector, "text": vector})
        names = [["image", "text"] if i < 2 else ["image"] for i in EVERY]
        points = [
            models.PointStruct(id=i, vector={name: [1, i] for name in names[i]}, payload=payload)
            for i, payload in enumerate(PAYLOADS)
        ]
        client.upsert("c", points)
        yield lambda where: {p.id for p in client.scroll("c", scroll_filter=to_filter(where), limit=100)[0]}


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (None, EVERY),
        ({}, EVERY),
        ("", EVERY),
        ({"word": "cat"}, {1, 3}),
        ({"word": []}, set()),
        ({"word": {"not_in": []}}, EVERY),
        ({"word": {"ne": "cat"}}, EVERY - {1, 3}),
        ({"flag": True}, {1, 6}),
        ({"number": 1}, {1, 3}),
        ({"number": [1, 0.0, "x"]}, {1, 3, 5}),
        ({"real": 0.5}, {1}),
        ({"real": 0}, set()),  # an integer is no float
        ({"number": 1.0}, {1, 3}),
        ({"camera": None}, EVERY),
        ({"word": None}, {0, 4, 6}),
        ({"word": {"is_empty": True}}, {0, 4, 6}),
        ({"word": {"is_empty": False}}, {1, 2, 3, 5, 7}),
        ({"word": {"is_null": True}}, {4, 7}),
        ({"word": {"is_null": False}}, EVERY - {4, 7}),
        ({"day": {"gte": "2024-05-01"}}, {1, 2, 5}),
        ({"day": {"gte": date(2024, 5, 1), "lt": NOON}}, {1}),
        ({"day": datetime(2024, 5, 1, 22, tzinfo=timezone.utc)}, {5}),
        ({"day": NOON}, {2}),  # the same text
        ({"number": {"gte": 1, "lt": 5, "ne": 2}}, {1, 3}),
        (models.Filter(must=[models.HasIdCondition(has_id=[4])]), {4}),
        ({"path": {"prefix": "2024/"}}, {6, 7}),
        ({"path": {"prefix": "a.jpg"}}, set()),
        ({"path": {"substring": "a.jpg"}}, {6, 7}),
        ({"path": {"substring": "may"}}, set()),
        ({"text": {"text": "BEAR brown"}}, {6, 7}),
        ({"text": {"text": "bear bird"}}, set()),
        ({"text": {"text_any": "big bird"}}, {6}),
        ({"text": {"phrase": "big brown"}}, {6}),
        ({"text": {"phrase": "brown bear"}}, {6}),
        ({"place": {"near": {"lat": 52.5, "lon": 13.4, "km": 3}}}, {1}),
        ({"place": {"near": {"lat": 52.5, "lon": 13.4, "m": 2000}}}, set()),
        ({"place": {"box": {"north": 53, "west": 13, "south": 52, "east": 14}}}, {1}),
        ({"place": {"box": {"north": 0, "west": 179, "south": -20, "east": -179}}}, {2}),
        ({"objects": {"nested": {"label": "cat", "score": {"gte": 0.5}}}}, {3}),
        ({"objects": {"nested": {"label": "dog", "score": {"gte": 0.5}}}}, {4}),
        ({"objects[].label": "dog", "objects[].score": {"gte": 0.5}}, {3, 4}),
        ({"objects": {"nested": {"parts": {"nested": {"n": 1}}}}}, {3}),
        ({"objects": {"nested": {"not": {"label": "dog"}}}}, {3}),
        ({"not": {"objects": {"nested": {"label": "dog"}}}}, EVERY - {3, 4}),
        ({"objects[0].label": "dog"}, {4}),
        ({"word": {"count": 2}}, {3}),
        ({"word": {"count": {"eq": 0}}}, {0, 4, 6}),
        ({"number": {"count": {"gte": 1, "lt": 2}}}, {1, 2, 5, 6}),
        ({"$id": 3}, {3}),
        ({"$id": "3"}, {3}),  # as `Hit.id` has it
        ({"$id": [3, 99, str(UUIDS[0])]}, {3}),
        ({"$id": {"not_in": [3, 4]}, "word": "cat"}, {1}),
        ({"$id": []}, set()),
        ({"$has_vector": "text"}, {0, 1}),
        ({"$has_vector": {"ne": "text"}}, EVERY - {0, 1}),
        ({"$has_vector": {"in": ["text", "image"]}}, EVERY),
        ({"$has_vector": {"not_in": ["text"]}, "word": "cat"}, {3}),
        ({'"any"': 1}, {2}),
        ({'"$id"': 5}, {2}),
        ({'"not"."all"': 6}, {7}),
        ({"not.all": 6}, {7}),
        ({'"a.b"': 3}, {5}),
        ({"odd name.x/y": 4}, {5}),
        ("number >= 1 and not word == 'dog'", {1, 3}),
        ("flag == true or real < 0", {1, 2, 6}),
        ("day == 2024-05-01T12:00:00Z", {2}),
        ("word is empty", {0, 4, 6}),
        ("word is null", {4, 7}),
        ("place within 3 km of (52.5, 13.4)", {1}),
        ("place within box (north 53, west 13, south 52, east 14)", {1}),
        ("objects[label == cat and score >= 0.5]", {3}),
        ("word count == 2 or path prefix '2024/'", {3, 6, 7}),
        ("$id in [3, 4] and not $has_vector == text", {3, 4}),
        ("any == 1 or '$id' == 7", {2}),
    ],
)
def test_examples(search, where, found):
    assert search(where) == found


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (3, "A filter is a mapping, an expression or a Qdrant Filter, got 3."),
        ({3: 4}, "The name of a field is text of at least one character, got 3."),
        ({"": 4}, "The name of a field is text of at least one character, got ''."),
        ({"a[": 4}, "'a[' does not name a field. Write year, exif.camera, objects[].label or objects[0].label; a name"),
        ({"a..b": 4}, "'a..b' does not name a field."),
        ({"a.": 4}, "'a.' does not name a field."),
        ({"a[]b": 4}, "'a[]b' does not name a field."),
        ({"a\0": 4}, r"'a\x00' does not name a field."),
        ({"$ids": 4}, "'$ids' is neither of the keys $id and $has_vector. A field of that name is written '\"$ids\"'."),
        ({"year": {"from": 3}}, "Field 'year' has the unknown operators ['from']. Use one of eq, ne, in, not_in, gt, gte, lt, lte, text, text_any, phrase, prefix, substring, is_null, is_empty, count, near, box, nested; a field within it is written 'year.from'."),  # noqa: E501
        ({"year": {}}, "Field 'year' has no operator. Use one of eq, "),
        ({"year": {"gte": "soon"}}, "Field 'year' has the limit 'soon'. It may be a finite number or a date (2024-05-01)"),  # noqa: E501
        ({"year": {"gte": 3, "lt": "2024-05-01"}}, "Field 'year' has the limit 3. It may be a finite number or a date (2024-05-01), all of one kind."),  # noqa: E501
        ({"year": {"gte": math.nan}}, "Field 'year' has the limit nan."),
        ({"year": {"gte": math.inf}}, "Field 'year' has the limit inf."),
        ({"year": {"gte": 10**400}}, "Field 'year' has the limit 1000"),
        ({"year": {"gte": True}}, "Field 'year' has the limit True."),
        ({"year": {"gte": "2024-13-45"}}, "Field 'year' has the limit '2024-13-45'."),
        ({"year": b"x"}, "Field 'year' is compared with b'x'. It may be text, a finite number (integers of 64 bits), true, false or a date."),  # noqa: E501
        ({"year": math.nan}, "Field 'year' is compared with nan."),
        ({"year": 2**63}, "Field 'year' is compared with 9223372036854775808. It may be text, a finite number (integers of 64 bits)"),  # noqa: E501
        ({"year": {"eq": None}}, "or a date. For a field that is not there or null, use is_empty."),
        ({"or": [{"a": 1}]}, "Field 'or' is compared with {'a': 1}. It may be text, a finite number (integers of 64 bits), true, false or a date. A list of filters stands under 'any' or 'all'."),  # noqa: E501
        ({"year": {"in": 3}}, "Field 'year': in takes a list, got 3."),
        ({"year": {"not_in": "cat"}}, "Field 'year': not_in takes a list, got 'cat'."),
        ({"year": {"is_null": 1}}, "Field 'year': is_null takes true or false, got 1."),
        ({"year": {"is_empty": None}}, "Field 'year': is_empty takes true or false, got None."),
        *(
            ({"year": {name: operand}}, f"Field 'year': {name} takes text of at least one character, in quotes, got {operand!r}.")  # noqa: E501
            for name in ("text", "text_any", "phrase", "prefix", "substring")
            for operand in ("", 2024)
        ),
        ("path prefix 2024", "Field 'path': prefix takes text of at least one character, in quotes, got 2024."),
        *(
            ({"tags": {"count": operand}}, f"Field 'tags': count takes a whole number from 0, or limits of such (gt, gte, lt, lte), as in {{\"gte\": 2}}, got {operand!r}.")  # noqa: E501
            for operand in (-1, 2.5, True, {}, {"ne": 2}, {"gte": "2"}, {"eq": 2, "lt": 3}, 2**63, None)
        ),
        *(
            ({"at": {"near": operand}}, f"Field 'at': near takes {{\"lat\": 52.5, \"lon\": 13.4, \"km\": 5}}, or \"m\" for metres in place of \"km\", got {operand!r}.")  # noqa: E501
            for operand in (5, {"lat": 1, "lon": 2}, {"km": 1, "lat": 1, "lon": 2, "m": 2}, {"km": 1, "lat": 1})
        ),
        ({"at": {"near": {"lat": 90.5, "lon": 2, "km": 1}}}, "Field 'at': near has the lat 90.5. It may be a number of degrees from -90 to 90."),  # noqa: E501
        ({"at": {"near": {"lat": 9, "lon": -181, "km": 1}}}, "Field 'at': near has the lon -181. It may be a number of degrees from -180 to 180."),  # noqa: E501
        ({"at": {"near": {"lat": "9", "lon": 1, "km": 1}}}, "Field 'at': near has the lat '9'."),
        ({"at": {"near": {"lat": 9, "lon": 1, "km": 0}}}, "Field 'at': near has the km 0. It may be a number above 0."),
        ({"at": {"near": {"lat": 9, "lon": 1, "m": math.inf}}}, "Field 'at': near has the m inf. It may be a number"),
        ({"at": {"box": {"north": 1}}}, "Field 'at': box takes {\"north\": 53, \"west\": 13, \"south\": 52, \"east\": 14}, got {'north': 1}."),  # noqa: E501
        ({"at": {"box": 5}}, "Field 'at': box takes {\"north\": 53, \"west\": 13, \"south\": 52, \"east\": 14}, got 5."),  # noqa: E501
        ({"at": {"box": {"north": 1, "west": 2, "south": 1, "east": 4}}}, "Field 'at': box has the north 1.0, which must be above its south 1.0."),  # noqa: E501
        ({"at": {"box": {"north": 1, "west": 200, "south": 0, "east": 4}}}, "Field 'at': box has the west 200. It may be a number of degrees from -180 to 180."),  # noqa: E501
        ({"objects": {"nested": 5}}, "Field 'objects': the filter of nested must be a mapping with at least one entry, got 5."),  # noqa: E501
        ({"objects": {"nested": {}}}, "Field 'objects': the filter of nested must be a mapping with at least one entry, got {}."),  # noqa: E501
        ({"objects": {"nested": {"not": {"$id": 3}}}}, "$id is about a point, not about an object in 'objects'. Move it out of 'nested'."),  # noqa: E501
        ({"objects": {"nested": {"$has_vector": "a"}}}, "$has_vector is about a point, not about an object in 'objects'."),  # noqa: E501
        *(
            ({"$id": operand}, f"$id is compared with {shown}. A point's id is an integer from 0 to 2**64 - 1, or a UUID.")  # noqa: E501
            for operand, shown in [("x", "'x'"), ([1, -1], "-1"), (2**64, 2**64), (True, True), (None, None), ([2.5], 2.5)]  # noqa: E501
        ),
        ({"$id": {"gte": 3}}, "'$id' has the unknown operators ['gte']. Use one of eq, ne, in, not_in."),
        ({"$id": {}}, "'$id' has no operator. Use one of eq, ne, in, not_in."),
        ({"$id": {"in": 3}}, "'$id': in takes a list, got 3."),
        ({"$has_vector": 3}, "$has_vector is compared with 3. It may be the name of a vector: 'image'."),
        ({"$has_vector": None}, "$has_vector is compared with None. It may be the name of a vector: 'image'."),
        ({"any": []}, "'any' takes a list of filters with at least one in it, got []."),
        ({"all": "x"}, "'all' takes a list of filters with at least one in it, got 'x'."),
        ({"any": {"a": 1}}, "'any' takes a list of filters with at least one in it, got {'a': 1}."),
        ({"not": {}}, "The filter of 'not' must be a mapping with at least one entry, got {}."),
        ({"not": [{"a": 1}]}, "The filter of 'not' must be a mapping with at least one entry, got [{'a': 1}]."),
        ({"any": [{"a": 1}, 3]}, "A filter in 'any' must be a mapping with at least one entry, got 3."),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_named(where, message):
    with pytest.raises(FilterError) as caught:
        to_filter(where)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("exif.camera", "exif.camera"),
        ('"any"', "any"),  # as its index is named
        ('"not"."all"[].x', "not.all[].x"),
        ('exif."f.number"[0]', 'exif."f.number"[0]'),
        ("odd name.größe", '"odd name".größe'),
        ('""', '""'),
    ],
)
def test_quotes_stand_where_qdrant_needs_them(name, path):
    assert to_filter({name: 1}).must[0].key == path


def test_a_zone_shifts_a_moment():
    east = datetime(2024, 5, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    for moment in (east, datetime(2024, 5, 1), date(2024, 5, 1), "2024-05-01", "2024-05-01T02:00+0200"):
        assert to_filter({"day": {"gte": moment}}) == to_filter({"day": {"gte": "2024-05-01T00:00:00Z"}})


def test_ids_may_be_uuids(tmp_path):
    with connect(":memory:") as client:
        client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
        client.upsert("c", [models.PointStruct(id=str(point_id), vector=[1]) for point_id in UUIDS])
        for wanted in (UUIDS[1], str(UUIDS[1]), UUIDS[1].hex.upper()):
            points, _ = client.scroll("c", scroll_filter=to_filter({"$id": wanted}))
            assert [point.id for point in points] == [str(UUIDS[1])]


def deep(levels, wrap):
    where = {"number": 1, "word": "cat"}
    for _ in range(levels):
        where = wrap(where)
    return where


WRAPS = [
    lambda inner: {"not": inner},
    lambda inner: {"any": [inner, {"number": 2}], "word": {"ne": "x"}},
    lambda inner: {"objects": {"nested": inner}},
]


@pytest.mark.parametrize("wrap", WRAPS, ids=["not", "any", "nested"])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 50_000])
def test_too_deep_is_said(wrap, levels):
    with pytest.raises(FilterError, match=r"nests deeper than 30 levels\. Make it flatter: 'any', 'all' and 'in' take"):
        to_filter(deep(levels, wrap))


def test_a_filter_within_itself_is_too_deep():
    where = {}
    where["any"] = [where]
    with pytest.raises(FilterError, match="nests deeper than 30 levels"):
        to_filter(where)
    with pytest.raises(FilterError, match="Field 'a' is compared with"):
        to_filter({"a": {"eq": where}})


@pytest.mark.parametrize(("wrap", "found"), list(zip(WRAPS, [{1, 3}, {1, 2, 3}, set()], strict=True)))
def test_the_deepest_is_found(search, wrap, found):
    assert search(deep(MAX_DEPTH, wrap)) == found


def test_the_deepest_is_shallow_enough_for_a_server():
    """Whose JSON parser stops at 128 levels."""

    def levels(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(levels, inner), default=0)

    request = {"filter": to_filter(deep(MAX_DEPTH, WRAPS[1])).model_dump(exclude_none=True)}
    assert levels(request) < 128


@pytest.mark.parametrize("more", [[], [0.25, True, date(2024, 5, 1)]])
def test_long_lists_are_found(search, more):
    numbers = [*range(1, 200_000), *(f"word {n}" for n in range(100_000)), *more]
    assert search({"number": numbers}) == {1, 2, 3}
    assert search({"number": {"not_in": numbers}}) == EVERY - {1, 2, 3}
    assert search({"$id": list(range(4, 200_000))}) == {4, 5, 6, 7}


def test_a_long_list_in_a_message_is_shortened():
    with pytest.raises(FilterError) as caught:
        to_filter({"number": {"eq": list(range(1_000_000))}})
    assert len(str(caught.value)) < 300
