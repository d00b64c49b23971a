"""The differences between the embedded client and local mode that docs/embedded.md lists, each pinned."""

import json
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import ClipQdrantError, ConfigError, InvalidPointError
from clip_qdrant.storage.edge.errors import RefusedError

DOCS = Path(__file__).parents[1] / "docs" / "embedded.md"


@pytest.fixture(params=["memory", "embedded"])
def mode(request):
    return request.param


@pytest.fixture
def collection(mode, tmp_path):
    """Makes the collection `c` of points with these payloads, with these indexes; ids count from 1."""
    with connect(":memory:" if mode == "memory" else tmp_path) as client:

        def make(*payloads, distance=models.Distance.DOT, **indexes):
            client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=distance))
            for field, kind in indexes.items():
                client.create_payload_index("c", field.replace("__", "[]."), field_schema=kind)
            points = [
                models.PointStruct(id=number, vector=[1.0, number], payload=payload)
                for number, payload in enumerate(payloads, 1)
            ]
            if points:
                client.upsert("c", points)
            return client

        yield make


pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect", "ignore:Local mode performs exact")


def found(client, *conditions):
    return [record.id for record in client.scroll("c", scroll_filter=models.Filter(must=list(conditions)))[0]]


def field(key, **test):
    return models.FieldCondition(key=key, **test)


@pytest.mark.parametrize(
    "ask", [lambda client: client.scroll("c", order_by="n"), lambda client: client.facet("c", "n")]
)
def test_order_and_facets_need_an_index(collection, mode, ask):
    client = collection({"n": 1})
    if mode == "memory":
        ask(client)
    else:
        with pytest.raises(RefusedError, match="Please create one"):
            ask(client)


def test_an_index_sees_values_of_its_type_only(collection, mode):
    client = collection({"x": 1}, {"x": "a"}, x="integer")
    values = [hit.value for hit in client.facet("c", "x").hits]
    others = found(client, field("x", match=models.MatchExcept(**{"except": [1]})))
    assert (values, others) == (([1, "a"], [2]) if mode == "memory" else ([1], []))


@pytest.mark.parametrize("indexes", [{}, {"list__a": "integer"}])
def test_an_empty_field_of_nested_objects(collection, mode, indexes):
    client = collection({"list": [{"a": 1}, {"b": 1}]}, {"list": [{"a": 1}]}, **indexes)
    empty = models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="a"))])
    nested = models.NestedCondition(nested=models.Nested(key="list", filter=empty))
    assert found(client, nested) == ([] if indexes and mode == "embedded" else [1])


def test_null_and_empty_of_a_path_into_a_list(collection, mode):
    client = collection({"list": [{"a": "t"}, {"a": None}]}, {"list": [{"a": None}]}, {"list": [{"a": "t"}]})
    asked = [found(client, field("list[].a", **test)) for test in ({"is_null": False}, {"is_empty": True})]
    assert asked == ([[3], [2]] if mode == "memory" else [[1, 3], [1, 2]])


def test_a_phrase_over_an_index_without_phrases(collection, mode):
    client = collection({"t": "a red fox"}, t="text")
    assert found(client, field("t", match=models.MatchPhrase(phrase="red fox"))) == ([1] if mode == "memory" else [])


@pytest.mark.parametrize("kind", ["integer", "float"])
def test_ranges_over_indexes_of_another_kind(collection, mode, kind):
    at = datetime(2024, 1, 1, tzinfo=timezone.utc)
    microseconds = int(at.timestamp() * 1e6)
    client = collection({"at": at.isoformat(), "n": microseconds}, {"n": 10 * microseconds}, at="datetime", n=kind)
    by_number = found(client, field("at", range=models.Range(gte=microseconds, lte=microseconds)))
    by_date = found(client, field("n", range=models.DatetimeRange(lte=at)))
    assert (by_number, by_date) == (([], []) if mode == "memory" else ([1], [1]))


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.retrieve("c", ["no id"]),
        lambda client: client.scroll("c", offset="no id"),
        lambda client: client.create_payload_index("c", "a[", "keyword"),
        lambda client: client.create_payload_index("c", "a", "no kind"),
        lambda client: found(client, field("a", values_count=models.ValuesCount(gte=-1))),
        lambda client: found(client, field("a", match=models.MatchValue(value=2**64))),
        lambda client: found(
            client, field("a", geo_radius=models.GeoRadius(center=models.GeoPoint(lat=100, lon=0), radius=1))
        ),
        lambda client: client.query_points("c", [1.0, 1.0], limit=2.5),
        lambda client: client.query_points("c", [1.0, 1.0], search_params=models.SearchParams(hnsw_ef=-1)),
    ],
)
def test_what_cannot_be_is_refused(collection, mode, ask):
    client = collection({"a": 1})
    if mode == "memory":
        ask(client)
    else:
        with pytest.raises(ValueError, match=r"refused|not a") as refused:
            ask(client)
        assert isinstance(refused.value, ClipQdrantError)


def test_an_id_twice_in_a_conditional_upsert(collection, mode):
    client = collection()
    twice = [models.PointStruct(id=1, vector=[1.0, 1.0], payload={"n": number}) for number in (1, 2)]
    client.upsert("c", twice, update_mode=models.UpdateMode.INSERT_ONLY)
    assert client.retrieve("c", [1])[0].payload == {"n": 1 if mode == "memory" else 2}


@pytest.mark.parametrize("vector, payload", [([0.0, 0.0], {}), ([1.0, 1.0], {"a": json.loads("[" * 101 + "]" * 101)})])
def test_points_that_the_engine_would_lose_are_refused(collection, mode, vector, payload):
    client = collection(distance=models.Distance.COSINE)
    points = [models.PointStruct(id=1, vector=vector, payload=payload)]
    if mode == "memory":
        client.upsert("c", points)
    else:
        with pytest.raises(InvalidPointError, match="Nothing was written"):
            client.upsert("c", points)
    assert client.count("c").count == (1 if mode == "memory" else 0)


def test_a_float_index_orders_by_floats(collection, mode):
    value = collection({"f": 1}, f="float").scroll("c", order_by="f")[0][0].order_value
    assert repr(value) == ("1" if mode == "memory" else "1.0")


def test_a_query_over_an_empty_prefetch_is_checked(collection, mode):
    client = collection({})
    nothing = models.Prefetch(query=[1.0, 1.0], filter=models.Filter(must=[models.HasIdCondition(has_id=[])]))
    invalid = models.RecommendQuery(recommend=models.RecommendInput(positive=[], negative=[]))
    if mode == "memory":
        assert client.query_points("c", prefetch=nothing, query=invalid).points == []
    else:
        with pytest.raises(ConfigError, match="needs a positive example"):
            client.query_points("c", prefetch=nothing, query=invalid)


def test_discovery_among_no_points(collection, mode):
    client = collection()
    pair = models.ContextPair(positive=[1.0, 0.0], negative=[0.0, 1.0])
    query = models.DiscoverQuery(discover=models.DiscoverInput(target=[1.0, 1.0], context=pair))
    if mode == "memory":
        with pytest.raises(TypeError, match="ufunc"):
            client.query_points("c", query=query)
    else:
        assert client.query_points("c", query=query).points == []


def test_feedback_by_a_point_of_another_collection(collection, mode):
    client = collection({}, {})
    client.create_collection("other", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    client.upsert("other", [models.PointStruct(id=1, vector=[-1.0, -1.0])])
    query = models.RelevanceFeedbackQuery(
        relevance_feedback=models.RelevanceFeedbackInput(
            target=1,
            feedback=[models.FeedbackItem(example=[1.0, 1.0], score=1.0)],
            strategy=models.NaiveFeedbackStrategy(naive=models.NaiveFeedbackStrategyParams(a=1.0, b=1.0, c=1.0)),
        )
    )
    place = models.LookupLocation(collection="other")
    scores = [point.score for point in client.query_points("c", query=query, lookup_from=place).points]
    assert all(score > 0 for score in scores) if mode == "memory" else all(score < 0 for score in scores)


def test_every_difference_of_the_first_two_tables_is_pinned():
    tables = DOCS.read_text().split("## From a server")[0]
    rows = [line for line in tables.splitlines() if re.match(r"\| (?!what)(?!-)", line)]
    pinned = [name for name in globals() if name.startswith("test_")]
    assert len(rows) == len(pinned) - 1
