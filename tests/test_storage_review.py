"""Storage against bad input, a disk that refuses, and the limits of strict mode."""

import os
import subprocess
import sys
import uuid

import pytest
from qdrant_client import models

from clip_qdrant.errors import CollectionMismatchError, ConfigError, FilterError, InvalidPointError, StorageError
from clip_qdrant.storage.connect import connect
from clip_qdrant.storage.filter_expression import parse
from clip_qdrant.storage.filters import to_filter
from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors import Fusion
from tests.edge_data import VECTORS, fill
from tests.vectors_data import ROWS, id_of, small

M = models
VECTOR = VECTORS[0]
ONE = M.VectorParams(size=2, distance="Dot")


@pytest.fixture
def client(tmp_path):
    with connect(tmp_path / "storage") as client:
        yield client


@pytest.fixture(params=["memory", "embedded"])
def either(request, tmp_path):
    with connect(":memory:" if request.param == "memory" else tmp_path / "storage") as client:
        yield client


# A disk that refuses


@pytest.fixture
def full_disk(client, tmp_path):
    """The client of a folder that holds the collection `c`, and whose manifest cannot be written; and how to end it."""
    client.create_collection("c", vectors_config=ONE)
    in_the_way = tmp_path / "storage" / "manifest.json.tmp"
    in_the_way.mkdir()
    return client, in_the_way.rmdir


def lead(client, alias):
    made = M.CreateAlias(collection_name="c", alias_name=alias)
    return client.update_collection_aliases([M.CreateAliasOperation(create_alias=made)])


CHANGES = {
    "create": lambda client: client.create_collection("d", vectors_config=ONE),
    "delete": lambda client: client.delete_collection("c"),
    "alias": lambda client: lead(client, "other"),
    "metadata": lambda client: client.update_collection("c", metadata={"a": 1}),
    "vector": lambda client: client.create_vector_name(
        "c", "more", M.DenseVectorNameConfig(dense=M.DenseVectorConfig(size=2, distance="Dot"))
    ),
}


def definitions(client):
    names = sorted(each.name for each in client.get_collections().collections)
    return {name: client.get_collection(name).config for name in names}, client.get_aliases()


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_could_not_be_written_has_not_happened_and_can_be_tried_again(full_disk, tmp_path, change):
    client, make_room = full_disk
    before = definitions(client)
    with pytest.raises(StorageError, match="Cannot write the manifest"):
        CHANGES[change](client)
    assert definitions(client) == before
    client.upsert("c", [M.PointStruct(id=1, vector=[1.0, 2.0])])
    make_room()
    assert CHANGES[change](client)
    after = definitions(client)
    assert after != before
    client.close()
    with connect(tmp_path / "storage") as again:
        assert definitions(again) == after


def test_a_schema_does_not_take_an_unwritten_collection_for_one_that_is_there(full_disk):
    client, make_room = full_disk
    with pytest.raises(StorageError, match="Cannot write the manifest"):
        CollectionSchema(dim=2).ensure(client, "d")
    make_room()
    CollectionSchema(dim=2).ensure(client, "d")
    assert client.count("d").count == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows writes a folder's list of files through")
def test_a_new_collection_survives_a_power_loss_by_name(client, tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), fsync(handle)))
    client.create_collection("c", vectors_config=ONE)
    folder = tmp_path / "storage"
    wanted = [path.stat().st_ino for path in (folder / "collections", folder / "manifest.json", folder)]
    assert [each for each in synced if each in wanted] == wanted


# Bad input


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.create_payload_index("c", "a..b", "keyword"),
        lambda client: client.delete_payload_index("c", "a..b"),
        lambda client: client.facet("c", "a..b"),
        lambda client: client.scroll("c", order_by="a..b"),
        lambda client: client.query_points("c", query=M.OrderByQuery(order_by=M.OrderBy(key="a..b"))),
    ],
)
def test_what_is_no_path_is_named(client, call):
    client.create_collection("c", vectors_config=ONE)
    with pytest.raises(ConfigError, match=r"a\.\.b.* is refused"):
        call(client)
    assert not client.get_collection("c").payload_schema


def test_a_vector_is_dense_or_sparse(client):
    with pytest.raises(ConfigError, match="'lexical' of collection 'c' is both dense and sparse"):
        CollectionSchema(dim=2, vectors=("lexical",), lexical=True).ensure(client, "c")
    assert not client.collection_exists("c")


@pytest.mark.parametrize("nothing", [M.Filter(), M.Filter(must=[]), M.Filter(should=[], must_not=[]), {}, ""], ids=repr)
def test_a_filter_without_conditions_deletes_nothing(either, nothing):
    collection = small(either, "c")
    with pytest.raises(ConfigError, match="not empty"):
        collection.delete(where=nothing)
    assert collection.count(where=nothing) == len(ROWS)


def test_a_filter_with_any_kind_of_clause_is_kept():
    condition = M.HasIdCondition(has_id=[1])
    for given in (
        M.Filter(must=condition),
        M.Filter(should=[condition]),
        M.Filter(must_not=[condition]),
        M.Filter(min_should=M.MinShould(conditions=[], min_count=1)),  # no point fulfils one of none
    ):
        assert to_filter(given) is given


def test_an_unknown_kind_of_vector_cannot_be_sampled(either):
    with pytest.raises(CollectionMismatchError, match="no vectors 'sound' but"):
        small(either, "c").sample(1, using="sound")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda collection: collection.scan(order_by=5), "order_by takes the name of a field.* got 5"),
        (lambda collection: collection.search([1, 0, 0], min_score="0.5"), "min_score must be a number, got '0.5'"),
        (lambda collection: collection.search([1, 0, 0], diversity="1"), "diversity must be from 0 to 1, got '1'"),
        (lambda collection: collection.search([1, 0, 0], using=Fusion(weights={"text": "2"})), "positive numbers, got"),
    ],
)
def test_text_for_a_number_is_refused(either, call, message):
    with pytest.raises(ConfigError, match=message):
        call(small(either, "c"))


@pytest.mark.parametrize(("wanted", "option"), [("prefix", "prefix"), ("tenant", "is_tenant")])
def test_an_index_without_the_option_that_was_asked_for_is_a_difference(client, wanted, option):
    CollectionSchema(dim=2, indexes={"path": "keyword"}).ensure(client, "c")
    asked = CollectionSchema(dim=2, indexes={"path": wanted})
    with pytest.raises(CollectionMismatchError, match=f"the index of 'path' is without {option} .drop it"):
        asked.ensure(client, "c")
    client.delete_payload_index("c", "path")
    asked.ensure(client, "c")
    CollectionSchema(dim=2, indexes={"path": "keyword"}).ensure(client, "c")  # which it also is


def test_a_text_index_that_finds_no_phrases_is_a_difference(client):
    CollectionSchema(dim=2).ensure(client, "c")
    client.create_payload_index("c", "caption", "text")
    with pytest.raises(CollectionMismatchError, match="'caption' is without phrase_matching"):
        CollectionSchema(dim=2, indexes={"caption": "text"}).ensure(client, "c")


@pytest.mark.parametrize("id", [str(uuid.UUID(int=1)), "12345678-1234-5678-9abc-def012345678", id_of("cat")])
def test_an_expression_has_uuids_without_quotes(id):
    assert parse(f"$id in [{id}]") == {"$id": {"in": [id]}}
    assert parse(f"not $id == {id.upper()} and year == 1") == {
        "all": [{"not": {"$id": {"eq": id.upper()}}}, {"year": {"eq": 1}}]
    }


def test_an_id_of_one_digit_too_many_is_no_uuid():
    with pytest.raises(FilterError):
        parse(f"$id == {uuid.UUID(int=1)}0")


def test_expressions_are_read_without_the_mapping():
    """They stand on what is below `filters`, not on it."""
    code = "import sys, clip_qdrant.storage.filter_expression; print('clip_qdrant.storage.filters' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


# Strict mode


@pytest.fixture
def strict(client):
    """Says what the strict mode of the filled collection `c` allows."""
    fill(client)

    def be_strict(**limits):
        client.update_collection("c", strict_mode_config=M.StrictModeConfig(enabled=True, **limits))

    return be_strict


def groups(client, limit, size, **options):
    return client.query_points_groups("c", "kind", query=VECTOR, limit=limit, group_size=size, **options).groups


def test_groups_are_limited_by_what_is_asked_for_not_by_what_is_read(client, strict):
    unlimited = groups(client, 2, 1)
    fused = {"prefetch": [M.Prefetch(query=VECTOR, limit=1)]}
    strict(max_query_limit=2, search_max_hnsw_ef=64)
    assert groups(client, 2, 1) == unlimited
    assert groups(client, 2, 1, **fused)
    with pytest.raises(ConfigError, match="allows 2 points in an answer, got 4"):
        groups(client, 2, 2)
    with pytest.raises(ConfigError, match="allows 64 hnsw_ef, got 65"):
        groups(client, 1, 1, search_params={"hnsw_ef": 65})


def test_a_matrix_is_limited_by_what_is_asked_for_not_by_what_is_searched(client, strict):
    strict(max_query_limit=6, search_max_batchsize=1, condition_max_size=1, filter_max_conditions=1)
    assert client.search_matrix_pairs("c", limit=2, sample=3).pairs
    with pytest.raises(ConfigError, match="allows 6 points in an answer, got 8"):
        client.search_matrix_pairs("c", limit=2, sample=4)


def test_a_field_to_group_by_needs_an_index(client, strict):
    strict(unindexed_filtering_retrieve=False)
    cure = r"client.create_payload_index\('c', 'kind', field_schema='keyword'\)"
    with pytest.raises(ConfigError, match=f"allows no groups by 'kind' without an index. Add one: {cure}"):
        groups(client, 2, 1)
    client.create_payload_index("c", "kind", "text")  # which does not say which values are equal
    with pytest.raises(ConfigError, match="allows no groups by 'kind'"):
        groups(client, 2, 1)
    client.create_payload_index("c", "kind", "keyword")
    assert groups(client, 2, 1)


@pytest.mark.parametrize("wrong", [0, 2.5, "10", 2**70, None])
def test_a_limit_is_a_whole_number(client, wrong):
    client.create_collection("c", vectors_config=ONE)
    client.create_payload_index("c", "n", "integer")
    for ask in (
        lambda: client.scroll("c", limit=wrong),
        lambda: client.facet("c", "n", limit=wrong),
        lambda: client.query_points_groups("c", "n", limit=wrong),
        lambda: client.search_matrix_pairs("c", sample=wrong),
    ):
        with pytest.raises(ConfigError, match=r"refused|whole number"):
            ask()


def test_what_is_no_point_is_named(client):
    fill(client)
    before = client.count("c")
    with pytest.raises(ConfigError, match=r"Point 1 must be a models\.PointStruct, got dict"):
        client.upsert("c", [M.PointStruct(id=9, vector=VECTOR), {"id": 10, "vector": VECTOR}])
    assert client.count("c") == before


@pytest.mark.parametrize(
    "wrong, error",
    [({"id": 9}, InvalidPointError), (M.PointStruct(id=9, vector={"no": [1.0]}), CollectionMismatchError)],
)
def test_a_collection_of_vectors_takes_points_of_its_vectors_over_every_backend(either, wrong, error):
    collection = small(either, "v")
    before = collection.count()
    with pytest.raises(error):
        collection.upsert([M.PointStruct(id=8, vector=ROWS["cat"]), wrong])
    assert collection.count() == before


def test_where_payloads_and_ids_are_kept_is_reported(client, tmp_path):
    kept = {"payload": M.PayloadStorageParams(memory="cold"), "id_tracker": M.IdTrackerParams(memory="cached")}
    client.create_collection("c", vectors_config=ONE, **kept)
    client.close()
    with connect(tmp_path / "storage") as again:
        params = again.get_collection("c").config.params
    assert {key: getattr(params, key) for key in kept} == kept


# Other threads


def test_a_point_that_is_deleted_while_it_is_grouped_is_left_out(client, monkeypatch):
    fill(client)
    read = client._client.retrieve

    def deleted_first(name, ids, *args):
        client.delete(name, ids[:1])
        return read(name, ids, *args)

    asked = {"query": VECTOR, "group_by": "n", "limit": 2}
    assert [group.id for group in client.query_points_groups("c", **asked).groups] == [0, 1]
    monkeypatch.setattr(client._client, "retrieve", deleted_first)
    assert [group.id for group in client.query_points_groups("c", **asked).groups] == [1]


def test_a_collection_that_another_thread_closed_says_so(client):
    fill(client)
    collection = client._client._open("c")
    client.delete_collection("c")
    for use in (collection.shard.count, collection.shard.flush, collection.shard.info):
        with pytest.raises(StorageError, match="'c' was closed meanwhile"):
            use()
