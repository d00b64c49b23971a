"""One body over both backends: what holds for qdrant-client's local mode holds for the embedded engine."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from clip_qdrant.storage.connect import connect
from tests.edge_data import IDS, UNIT, UUID_ID, VECTORS, fill, fill_named, ids

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")


@pytest.fixture(params=["memory", "embedded"])
def client(request, tmp_path):
    with connect(":memory:" if request.param == "memory" else tmp_path / "db") as opened:
        yield opened


@pytest.fixture
def filled(client):
    return fill(client)


@pytest.fixture
def named(client):
    return fill_named(client)


def kind_is(kind):
    return models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value=kind))])


def test_a_client_is_a_qdrant_client(client):
    assert isinstance(client, QdrantClient)


def test_collections_come_and_go(client):
    assert client.create_collection("photos", vectors_config=UNIT, metadata={"made": date(2024, 5, 1), "by": "me"})
    assert client.collection_exists("photos")
    assert not client.collection_exists("Photos")
    assert [found.name for found in client.get_collections().collections] == ["photos"]
    info = client.get_collection("photos")
    assert info.config.params.vectors == UNIT
    assert info.points_count == 0
    assert info.config.metadata == {"made": "2024-05-01", "by": "me"}
    assert client.update_collection("photos", metadata={"by": None, "encoder": {"dim": 3}})
    assert client.get_collection("photos").config.metadata == {"made": "2024-05-01", "encoder": {"dim": 3}}
    assert client.delete_collection("photos")
    assert not client.collection_exists("photos")
    assert not client.delete_collection("photos")


def test_a_missing_collection_raises_what_stock_users_catch(client):
    for call in (
        lambda: client.get_collection("none"),
        lambda: client.count("none"),
        lambda: client.upsert("none", [models.PointStruct(id=1, vector=[1.0])]),
        lambda: client.query_points("none", query=[1.0]),
    ):
        with pytest.raises(ValueError, match="not found"):
            call()


def test_creating_an_existing_collection_says_already_exists(filled):
    with pytest.raises(ValueError, match="already exists"):
        filled.create_collection("c", vectors_config=UNIT)
    assert filled.count("c").count == 5


def test_a_recreated_collection_is_empty(filled):
    with pytest.warns(DeprecationWarning):
        filled.recreate_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    assert filled.count("c").count == 0
    assert filled.get_collection("c").config.params.vectors.size == 2


def test_points_come_back_as_they_were(filled):
    records = filled.retrieve("c", [UUID(UUID_ID), 1, 99, 1], with_vectors=True)
    assert [record.id for record in records] == [UUID_ID, 1, 1]
    assert records[1].payload == {"n": 0, "kind": "cat"}
    assert records[0].vector == pytest.approx([v / np.linalg.norm(VECTORS[4]) for v in VECTORS[4]])
    assert filled.retrieve("c", [1], with_payload=False)[0].payload is None
    assert filled.retrieve("c", [1])[0].vector is None
    assert filled.retrieve("c", [1], with_payload=["n"])[0].payload == {"n": 0}
    assert filled.retrieve("c", [1], with_payload=models.PayloadSelectorExclude(exclude=["n"]))[0].payload == {
        "kind": "cat"
    }
    assert filled.retrieve("c", []) == []


def test_payload_values_are_stored_as_json(client):
    client.create_collection("c", vectors_config=UNIT)
    payload = {
        "at": datetime(2024, 5, 1, 12, 30, tzinfo=timezone.utc),
        "there": datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=2))),
        "day": date(2024, 5, 1),
        "id": UUID(UUID_ID),
        "score": np.float64(0.5),
        "tags": ("a", "b"),
        "none": None,
        "deep": {"list": [1, [2.5, True]]},
        "text": "ü ☃ 𝄞",
    }
    client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0, 0.0], payload=payload)])
    assert client.retrieve("c", [1])[0].payload == {
        "at": "2024-05-01T12:30:00Z",
        "there": "2024-05-01T00:00:00+02:00",
        "day": "2024-05-01",
        "id": UUID_ID,
        "score": 0.5,
        "tags": ["a", "b"],
        "none": None,
        "deep": {"list": [1, [2.5, True]]},
        "text": "ü ☃ 𝄞",
    }


def test_upsert_replaces_and_takes_batches(client):
    client.create_collection("c", vectors_config=UNIT)
    batch = models.Batch(ids=[1, 2], vectors=VECTORS[:2], payloads=[{"a": 1}, {"a": 2}])
    client.upsert("c", batch)
    client.upsert(
        "c", [models.PointStruct(id=1, vector=VECTORS[2], payload={"b": 1}), models.PointStruct(id=3, vector={})]
    )
    assert [record.payload for record in client.retrieve("c", [1, 2, 3])] == [{"b": 1}, {"a": 2}, {}]
    assert client.retrieve("c", [3], with_vectors=True)[0].vector == {}


def test_upsert_modes(filled):
    changed = [models.PointStruct(id=point_id, vector=VECTORS[0], payload={"new": True}) for point_id in (1, 77)]
    filled.upsert("c", changed, update_mode=models.UpdateMode.UPDATE_ONLY)
    assert [record.payload for record in filled.retrieve("c", [1, 77])] == [{"new": True}]
    filled.upsert("c", [models.PointStruct(id=2, vector=VECTORS[0])], update_mode=models.UpdateMode.INSERT_ONLY)
    assert filled.retrieve("c", [2])[0].payload == {"n": 1, "kind": "cat"}
    filled.upsert("c", [models.PointStruct(id=3, vector=VECTORS[0])], update_filter=kind_is("cat"))
    assert filled.retrieve("c", [3])[0].payload == {"n": 2, "kind": "dog"}


def test_uploads(client):
    client.create_collection("c", vectors_config=UNIT)
    client.upload_points("c", (models.PointStruct(id=rank, vector=VECTORS[rank]) for rank in range(3)))
    client.upload_points("c", [])
    client.upload_collection(
        "c", vectors=np.eye(3, dtype=np.float32), payload=[{"i": i} for i in range(3)], ids=[10, 11, 12]
    )
    assert client.count("c").count == 6
    assert client.retrieve("c", [12], with_vectors=True)[0].vector == [0.0, 0.0, 1.0]
    client.upload_collection("c", vectors=[[1.0, 1.0, 0.0]])
    made_up = [record.id for record in client.scroll("c", limit=20)[0]][-1]
    assert str(UUID(made_up)) == made_up


def test_upload_of_named_columns(named):
    named.upload_collection("c", vectors={"image": np.eye(3), "text": np.ones((3, 2))}, ids=[10, 11, 12])
    assert named.retrieve("c", [11], with_vectors=["text"])[0].vector == {"text": [1.0, 1.0]}


def test_delete_by_ids_and_by_filter(filled):
    filled.delete("c", [1, 99])
    assert ids(filled.scroll("c")[0]) == [2, 3, 5, UUID_ID]
    filled.delete("c", models.FilterSelector(filter=kind_is("dog")))
    assert ids(filled.scroll("c")[0]) == [2, UUID_ID]
    filled.delete("c", models.PointIdsList(points=[UUID_ID]))
    assert ids(filled.scroll("c")[0]) == [2]


def test_scroll_pages_through_everything_once(filled):
    first, following = filled.scroll("c", limit=2)
    assert (ids(first), following) == ([1, 2], 3)
    second, following = filled.scroll("c", limit=2, offset=following)
    assert (ids(second), following) == ([3, 5], UUID_ID)
    last, following = filled.scroll("c", limit=2, offset=following)
    assert (ids(last), following) == ([UUID_ID], None)
    assert ids(filled.scroll("c", scroll_filter=kind_is("dog"), limit=1)[0]) == [3]


def test_scroll_in_order_of_a_value(filled):
    filled.create_payload_index("c", "n", models.PayloadSchemaType.INTEGER)
    descending = models.OrderBy(key="n", direction=models.Direction.DESC, start_from=3)
    records, following = filled.scroll("c", order_by=descending, limit=3)
    assert (ids(records), following) == ([5, 3, 2], None)
    assert [record.order_value for record in records] == [3, 2, 1]
    assert ids(filled.query_points("c", query=models.OrderByQuery(order_by="n"), limit=2)) == [1, 2]


def test_count_and_facet(filled):
    filled.create_payload_index("c", "kind", "keyword")
    assert filled.count("c").count == 5
    assert filled.count("c", count_filter=kind_is("cat")).count == 2
    hits = filled.facet("c", "kind", exact=True).hits
    assert [(hit.value, hit.count) for hit in hits] == [("cat", 2), ("dog", 2), ("fish", 1)]
    hits = filled.facet("c", "kind", facet_filter=kind_is("fish"), exact=True).hits
    assert [(hit.value, hit.count) for hit in hits] == [("fish", 1)]


def test_booleans_are_not_integers(client):
    client.create_collection("c", vectors_config=UNIT)
    payloads = [{"v": True}, {"v": 1}, {"v": False}, {"v": 0}]
    client.upsert("c", [models.PointStruct(id=i, vector={}, payload=payload) for i, payload in enumerate(payloads)])
    for value, expected in ((True, 0), (1, 1), (False, 2), (0, 3)):
        match = models.FieldCondition(key="v", match=models.MatchValue(value=value))
        assert ids(client.scroll("c", scroll_filter=models.Filter(must=[match]))[0]) == [expected]
    client.create_payload_index("c", "v", "bool")
    match = models.Filter(must=[models.HasIdCondition(has_id=[0, 2])])
    assert [hit.value for hit in client.facet("c", "v", facet_filter=match, exact=True).hits] == [False, True]


def test_payload_updates(filled):
    filled.set_payload("c", {"n": 7, "extra": {"a": 1}}, [1])
    filled.set_payload("c", {"b": 2}, [1], key="extra")
    assert filled.retrieve("c", [1])[0].payload == {"n": 7, "kind": "cat", "extra": {"a": 1, "b": 2}}
    filled.set_payload("c", {"seen": True}, kind_is("dog"))
    assert filled.retrieve("c", [3])[0].payload == {"n": 2, "kind": "dog", "seen": True}
    filled.overwrite_payload("c", {"only": 1}, [2])
    assert filled.retrieve("c", [2])[0].payload == {"only": 1}
    filled.delete_payload("c", ["n", "extra.a"], [1])
    assert filled.retrieve("c", [1])[0].payload == {"kind": "cat", "extra": {"b": 2}}
    filled.clear_payload("c", models.FilterSelector(filter=kind_is("dog")))
    assert [record.payload for record in filled.retrieve("c", [3, 5])] == [{}, {}]


def test_an_update_of_a_missing_point_is_an_error_after_the_others_were_updated(filled):
    with pytest.raises(KeyError):
        filled.set_payload("c", {"x": 1}, [99, 1])
    assert filled.retrieve("c", [1])[0].payload == {"n": 0, "kind": "cat", "x": 1}
    assert filled.retrieve("c", [99]) == []


def test_vector_updates(named):
    named.update_vectors("c", [models.PointVectors(id=1, vector={"text": [5.0, 5.0]})])
    assert named.retrieve("c", [1], with_vectors=["text", "image"])[0].vector == {
        "text": [5.0, 5.0],
        "image": [0.0, 1.0, 0.0],
    }
    named.delete_vectors("c", ["text"], [0, 1])
    assert ids(named.query_points("c", query=[1.0, 1.0], using="text")) == [2]


def test_a_batch_of_updates(filled):
    operations = [
        models.UpsertOperation(upsert=models.PointsList(points=[models.PointStruct(id=8, vector=VECTORS[0])])),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"n": 8}, points=[8])),
        models.DeleteOperation(delete=models.PointIdsList(points=[1])),
        models.UpdateVectorsOperation(
            update_vectors=models.UpdateVectors(points=[models.PointVectors(id=8, vector=VECTORS[3])])
        ),
    ]
    assert len(filled.batch_update_points("c", operations)) == 4
    assert ids(filled.scroll("c")[0]) == [2, 3, 5, 8, UUID_ID]
    assert filled.retrieve("c", [8])[0].payload == {"n": 8}
    assert set(ids(filled.query_points("c", query=VECTORS[3], limit=2))) == {5, 8}


def test_aliases(filled):
    alias = models.CreateAlias(collection_name="c", alias_name="latest")
    filled.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    assert filled.count("latest").count == 5
    assert [found.alias_name for found in filled.get_collection_aliases("c").aliases] == ["latest"]
    rename = models.RenameAlias(old_alias_name="latest", new_alias_name="newest")
    filled.update_collection_aliases([models.RenameAliasOperation(rename_alias=rename)])
    assert [found.alias_name for found in filled.get_aliases().aliases] == ["newest"]
    filled.delete_collection("c")
    assert filled.get_aliases().aliases == []


def test_copying_to_another_client(filled, tmp_path):
    filled.create_payload_index("c", "kind", "keyword")
    with connect(tmp_path / "copy") as other:
        filled.migrate(other)
        assert ids(other.scroll("c")[0]) == IDS
        assert other.retrieve("c", [1])[0].payload == {"n": 0, "kind": "cat"}


@pytest.mark.parametrize(
    "vector",
    [[1.0, 0.0], [float("nan"), 0.0, 1.0], {"none": [1.0, 0.0, 0.0]}, models.SparseVector(indices=[1], values=[1.0])],
)
def test_a_bad_vector_in_a_batch_writes_nothing(filled, vector):
    vector = {"": vector} if isinstance(vector, models.SparseVector) else vector
    batch = [models.PointStruct(id=50, vector=VECTORS[0]), models.PointStruct(id=51, vector=vector)]
    with pytest.raises(ValueError, match=r".+"):
        filled.upsert("c", batch)
    assert filled.count("c").count == 5


def test_empty_requests_are_refused(filled):
    for call in (
        lambda: filled.upsert("c", []),
        lambda: filled.delete("c", []),
        lambda: filled.set_payload("c", {"a": 1}, []),
        lambda: filled.query_points("c", query=VECTORS[0], limit=0),
        lambda: filled.scroll("c", limit=0),
    ):
        with pytest.raises(ValueError, match=r".+"):
            call()


def test_everything_works_on_an_empty_collection(client):
    client.create_collection("c", vectors_config=UNIT)
    assert client.query_points("c", query=[1.0, 0.0, 0.0]).points == []
    assert client.scroll("c") == ([], None)
    assert client.query_points_groups("c", group_by="kind", query=[1.0, 0.0, 0.0]).groups == []
    client.delete("c", kind_is("cat"))
    assert client.count("c").count == 0


def test_one_id_twice_in_an_update_keeps_the_vectors_of_both(named):
    named.update_vectors(
        "c",
        [
            models.PointVectors(id=2, vector={"image": [0.0, 0.0, 1.0]}),
            models.PointVectors(id=2, vector={"text": [7.0, 8.0]}),
            models.PointVectors(id=2, vector={"text": [9.0, 8.0]}),
        ],
    )
    assert named.retrieve("c", [2], with_vectors=True)[0].vector == {"image": [0.0, 0.0, 1.0], "text": [9.0, 8.0]}


@pytest.mark.parametrize("wanted", [["text"], ["image"], ["image", "text"], True])
def test_a_diverse_search_returns_the_vectors_that_were_asked_for(named, wanted):
    query = models.NearestQuery(nearest=[1.0, 0.0, 0.0], mmr=models.Mmr(diversity=0.5))
    found = named.query_points("c", query=query, using="image", with_vectors=wanted).points
    (point,) = (point for point in found if point.id == 2)
    assert set(point.vector) == ({"image", "text"} if wanted is True else set(wanted))


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(
    ("bounds", "matching"),
    [
        ({"lt": 2.5, "lte": 0.5}, [0]),
        ({"lt": 1.0, "lte": 3.0}, [0]),
        ({"lt": 2.0, "lte": 2.0}, [0, 1]),
        ({"gt": 0.5, "gte": 3.0}, [3, 4]),
        ({"gt": 3.0, "gte": 1.0}, [4]),
        ({"gt": 3.0, "gte": 3.0}, [4]),
        ({"gt": 0.0, "gte": 1.0, "lt": 4.0, "lte": 3.0}, [1, 2, 3]),
    ],
)
def test_two_bounds_on_one_side_both_hold(filled, indexed, bounds, matching):
    start = datetime(2024, 1, 1)
    for rank, point_id in enumerate(IDS):
        filled.set_payload("c", {"at": (start + timedelta(days=rank)).isoformat()}, [point_id])
    if indexed:
        filled.create_payload_index("c", "n", "integer")
        filled.create_payload_index("c", "at", "datetime")
    moments = {bound: start + timedelta(days=value) for bound, value in bounds.items()}
    for key, limits in (("n", models.Range(**bounds)), ("at", models.DatetimeRange(**moments))):
        within = models.Filter(must=[models.FieldCondition(key=key, range=limits)])
        assert sorted(r.payload["n"] for r in filled.scroll("c", scroll_filter=within)[0]) == matching
