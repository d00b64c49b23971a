"""Migrating in every direction: what arrives, what is kept, and what is refused."""

import json
import math

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from clip_qdrant import connect
from clip_qdrant.errors import CollectionMismatchError, CollectionNotFoundError, ConfigError, UnsupportedError
from clip_qdrant.storage.migrate import MigrationProgress, migrate, open_local_mode
from clip_qdrant.storage.schema import stored_fingerprint
from tests.migrate_data import (
    FINGERPRINT,
    METADATA,
    PAYLOADS,
    POINTS_VECTORS,
    SPARSE,
    VECTORS,
    alias,
    everything,
    make_plain,
    make_rich,
    plain_point,
)


@pytest.fixture(params=["memory", "embedded", "local mode's folder"])
def rich(request, tmp_path, name):
    """A source of each kind with the rich collection."""
    if request.param == "local mode's folder":
        with_data = QdrantClient(path=str(tmp_path / "old"))
        make_rich(with_data, name)
        with_data.close()
        with open_local_mode(tmp_path / "old") as client:
            yield client
    else:
        with connect(":memory:" if request.param == "memory" else tmp_path / "source") as client:
            make_rich(client, name)
            yield client


@pytest.fixture
def source(tmp_path):
    with connect(tmp_path / "from") as client:
        yield client


def assert_vectors_arrived(found, given):
    assert found.keys() == given.keys()
    for name, wanted in given.items():
        if name == "lexical":
            there = dict(zip(found[name].indices, found[name].values, strict=True))
            assert there == pytest.approx(dict(zip(wanted.indices, wanted.values, strict=True)))
        else:
            length = math.hypot(*wanted) if name == "image" else 1.0
            np.testing.assert_allclose(found[name], np.asarray(wanted) / length, rtol=1e-6)


def test_every_kind_of_point_arrives_in_every_direction(rich, client, name):
    (report,) = migrate(rich, client).collections
    assert (report.points, report.copied, report.already_there) == (6, 6, 0)
    assert (report.missing, report.differing, report.extra, report.verified) == (0, 0, 0, True)
    records = everything(client, name)
    assert [record.id for record in records] == list(PAYLOADS)
    # As text, since in Python 1 == 1.0 == True.
    as_text = [json.dumps(record.payload, sort_keys=True) for record in records]
    assert as_text == [json.dumps(payload, sort_keys=True) for payload in PAYLOADS.values()]
    for record in records:
        assert_vectors_arrived(record.vector, POINTS_VECTORS[record.id])


def test_the_definition_arrives(rich, client, name):
    assert migrate(rich, client).collections[0].left_out == ()
    info = client.get_collection(name)
    assert info.config.params.vectors == VECTORS
    assert info.config.params.sparse_vectors == SPARSE
    assert info.config.metadata == METADATA
    assert stored_fingerprint(info) == FINGERPRINT


def test_the_same_again_finds_all_there_and_the_same_checksum(rich, client, name):
    first = migrate(rich, client).collections[0]
    second = migrate(rich, client).collections[0]
    assert (second.copied, second.already_there, second.verified) == (0, 6, True)
    assert second.checksum == first.checksum


def test_there_and_back_again(rich, client, name, tmp_path):
    there = migrate(rich, client).collections[0]
    with connect(tmp_path / "back") as back:
        report = migrate(client, back, [name]).collections[0]
        assert report.checksum == there.checksum
        assert migrate(rich, back).collections[0].already_there == 6


def make_tuned(client, name):
    client.create_collection(
        name,
        vectors_config={
            "image": models.VectorParams(
                size=4,
                distance=models.Distance.COSINE,
                on_disk=True,
                datatype=models.Datatype.FLOAT16,
                hnsw_config=models.HnswConfigDiff(m=24),
            )
        },
        hnsw_config=models.HnswConfigDiff(m=12, ef_construct=40),
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.95)
        ),
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=9, upsert_max_batchsize=4),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=123),
        on_disk_payload=True,
    )
    client.create_payload_index(name, "year", models.PayloadSchemaType.INTEGER)
    tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
    client.create_payload_index(name, "owner", tenant)
    for start in range(0, 30, 3):
        numbers = range(start, start + 3)
        vectors = [[math.sin(number), 0.1, 0.2, 0.3] for number in numbers]
        client.upsert(
            name,
            [
                models.PointStruct(id=number, vector={"image": vector}, payload={"year": number, "owner": "me"})
                for number, vector in zip(numbers, vectors, strict=True)
            ],
        )


def test_parameters_and_indexes_arrive_and_strict_mode_is_kept_to(source, tmp_path, name):
    make_tuned(source, name)
    with connect(tmp_path / "to") as target:
        report = migrate(source, target).collections[0]
        assert (report.points, report.verified, report.left_out) == (30, True, ())
        ours, theirs = source.get_collection(name), target.get_collection(name)
        assert theirs.config == ours.config
        assert theirs.config.hnsw_config.m == 12
        assert theirs.payload_schema == ours.payload_schema
        assert theirs.payload_schema["owner"].params.is_tenant


def test_the_made_up_parameters_of_local_mode_stay_there(tmp_path, name):
    with connect(":memory:") as source, connect(tmp_path / "to") as target:
        make_plain(source, name, 3)
        assert source.get_collection(name).config.optimizer_config.max_optimization_threads == 1
        assert migrate(source, target).collections[0].left_out == ()
        assert target.get_collection(name).config.optimizer_config.max_optimization_threads is None


def test_what_the_target_cannot_keep_is_said(source, name):
    make_tuned(source, name)
    with connect(":memory:") as target:
        report = migrate(source, target).collections[0]
    assert report.verified
    assert "hnsw_config.m is 16, not 12" in report.left_out
    assert "payload index.owner.params.is_tenant is None, not True" in report.left_out


def test_an_index_that_an_interruption_left_out_is_made(source, tmp_path, name):
    make_tuned(source, name)
    with connect(tmp_path / "to") as target:
        migrate(source, target)
        target.delete_payload_index(name, "year")
        assert migrate(source, target).verified
        assert set(target.get_collection(name).payload_schema) == {"year", "owner"}


def test_limits_that_only_a_server_keeps_are_left_out_of_a_folder(source, tmp_path, name, monkeypatch):
    make_plain(source, name, 3)
    real = source.get_collection

    def as_a_server(*args, **kwargs):
        info = real(*args, **kwargs)
        info.config.strict_mode_config = models.StrictModeConfigOutput(enabled=True, max_timeout=5, max_query_limit=2)
        return info

    monkeypatch.setattr(source, "get_collection", as_a_server)
    with connect(tmp_path / "to") as target:
        report = migrate(source, target).collections[0]
        assert report.left_out == ("strict_mode_config.max_timeout is None, not 5",)
        assert target.get_collection(name).config.strict_mode_config.max_query_limit == 2


AS_A_SERVER_REPORTS_IT = {
    "params": {
        "vectors": {"image": {"size": 4, "distance": "Cosine", "on_disk": True, "hnsw_config": {"m": 0}}},
        "shard_number": 2,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
        "sparse_vectors": {"lexical": {"index": {"on_disk": False}, "modifier": "idf"}},
    },
    "hnsw_config": {
        "m": 16,
        "ef_construct": 100,
        "full_scan_threshold": 10000,
        "max_indexing_threads": 0,
        "on_disk": False,
        "payload_m": 8,
    },
    "optimizer_config": {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "max_segment_size": None,
        "memmap_threshold": None,
        "indexing_threshold": 10000,
        "flush_interval_sec": 5,
        "max_optimization_threads": None,
    },
    "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
    "quantization_config": {"binary": {"always_ram": True}},
    "strict_mode_config": {"enabled": False},
    "metadata": {"owner": "me"},
}


def test_a_definition_of_a_server_arrives_in_a_folder(tmp_path, name, monkeypatch):
    config = models.CollectionConfig(**AS_A_SERVER_REPORTS_IT)
    with connect(tmp_path / "a") as source, connect(tmp_path / "b") as target:
        vectors, sparse = config.params.vectors, config.params.sparse_vectors
        source.create_collection(name, vectors_config=vectors, sparse_vectors_config=sparse)
        info = source.get_collection(name).model_copy(update={"config": config})
        monkeypatch.setattr(source, "get_collection", lambda *_: info)
        report = migrate(source, target).collections[0]
        assert (report.verified, report.left_out) == (True, ())
        assert target.get_collection(name).config.params == config.params


def test_aliases_arrive_with_a_verified_collection_only(source, client, name):
    make_plain(source, name, 5)
    source.update_collection_aliases([alias(name, f"{name}-a"), alias(name, f"{name}-b")])

    def tamper(now):
        if now.step == "copy":
            client.delete(name, [1])

    bad = migrate(source, client, on_progress=tamper).collections[0]
    assert bad.left_out == (f"alias '{name}-a' does not lead to it", f"alias '{name}-b' does not lead to it")
    assert migrate(source, client).collections[0].left_out == ()
    assert client.count(f"{name}-b").count == 5


def test_an_alias_that_leads_elsewhere_is_kept(source, client, name):
    make_plain(source, name, 2)
    source.update_collection_aliases([alias(name, f"{name}-now")])
    make_plain(client, f"{name}-older", 3)
    client.update_collection_aliases([alias(f"{name}-older", f"{name}-now")])
    report = migrate(source, client, [name]).collections[0]
    assert (report.verified, report.left_out) == (True, (f"alias '{name}-now' does not lead to it",))
    assert client.count(f"{name}-now").count == 3


def test_points_of_the_target_are_kept_and_counted(source, client, name):
    make_plain(source, name, 10)
    make_plain(client, name, 4)
    client.upsert(name, [plain_point(100), plain_point(101)])
    report = migrate(source, client).collections[0]
    assert (report.copied, report.already_there, report.extra, report.verified) == (6, 4, 2, True)
    assert client.count(name).count == 12


def test_another_content_under_the_same_id_is_kept_unless_overwritten(source, client, name):
    make_plain(source, name, 10)
    make_plain(client, name, 4)
    client.overwrite_payload(name, {"n": 3.0}, [3])
    client.update_vectors(name, [models.PointVectors(id=2, vector=[1.0, 0.0, 0.0, 0.0])])
    kept = migrate(source, client).collections[0]
    assert (kept.copied, kept.already_there, kept.differing, kept.missing) == (6, 2, 2, 0)
    assert (kept.examples, kept.verified) == ((2, 3), False)
    assert client.retrieve(name, [3])[0].payload == {"n": 3.0}
    replaced = migrate(source, client, overwrite=True).collections[0]
    assert (replaced.copied, replaced.already_there, replaced.verified) == (2, 8, True)
    assert str(client.retrieve(name, [3])[0].payload) == "{'n': 3}"


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"size": 3}, "vector '': size is 3, not 4"),
        ({"distance": models.Distance.DOT}, "vector '': distance is 'Dot', not 'Cosine'"),
        ({"datatype": models.Datatype.FLOAT16}, "vector '': datatype is 'float16', not 'float32'"),
    ],
)
def test_a_target_of_another_shape_is_refused_before_anything_is_written(source, client, name, definition, message):
    make_plain(source, f"{name}-a", 3)
    make_plain(source, f"{name}-b", 3)
    vector = models.VectorParams(**{"size": 4, "distance": models.Distance.COSINE, **definition})
    client.create_collection(f"{name}-b", vectors_config=vector)
    with pytest.raises(CollectionMismatchError) as caught:
        migrate(source, client)
    assert f"Collection '{name}-b' of the target is another than the source's: {message}." in str(caught.value)
    assert not client.collection_exists(f"{name}-a")
    assert client.count(f"{name}-b").count == 0


def test_other_vector_names_and_encoders_are_refused(rich, client, name):
    vectors = {"image": VECTORS["image"], "photo": VECTORS["raw"]}
    client.create_collection(name, vectors_config=vectors)
    with pytest.raises(CollectionMismatchError) as caught:
        migrate(rich, client)
    assert "vector 'photo': size is 2, not None" in str(caught.value)
    assert "vector 'late': multivector is None, not 'max_sim'" in str(caught.value)
    assert "sparse vector 'lexical': modifier is None, not 'idf'" in str(caught.value)
    assert "its vectors are of an unknown encoder, not of 'pocket'" in str(caught.value)


def test_a_collection_that_is_an_alias_in_the_target_is_refused(source, client, name):
    make_plain(source, name, 2)
    make_plain(client, f"{name}-real", 2)
    client.update_collection_aliases([alias(f"{name}-real", name)])
    with pytest.raises(CollectionMismatchError, match=f"is an alias of '{name}-real' in the target"):
        migrate(source, client)


def test_only_the_collections_asked_for_and_those_there_are(source, client, name):
    make_plain(source, f"{name}-a", 2)
    make_plain(source, f"{name}-b", 2)
    assert [one.collection for one in migrate(source, client, [f"{name}-b", f"{name}-b"]).collections] == [f"{name}-b"]
    assert not client.collection_exists(f"{name}-a")
    with pytest.raises(CollectionNotFoundError, match=f"has no collection 'c'; it has '{name}-a', '{name}-b'"):
        migrate(source, client, ["c"])
    with pytest.raises(ConfigError, match=r"Write \['c'\]"):
        migrate(source, client, "c")
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        migrate(source, client, batch_size=0)


def test_an_empty_source_and_an_empty_collection_are_fine(source, client, name):
    assert migrate(source, client).collections == ()
    assert migrate(source, client).verified
    make_plain(source, name, 0)
    report = migrate(source, client).collections[0]
    assert (report.points, report.copied, report.verified) == (0, 0, True)
    assert client.count(name).count == 0


def test_source_and_target_may_not_be_the_same(client, source, tmp_path):
    with pytest.raises(ConfigError, match="Source and target are the same"):
        migrate(client, client)
    with connect(tmp_path / "." / "from") as twin, pytest.raises(ConfigError, match="Source and target are the same"):
        migrate(source, twin)
    with connect("http://one.test:1", check_compatibility=False) as one:
        with connect("http://one.test:1", check_compatibility=False) as other:
            with pytest.raises(ConfigError, match="Source and target are the same"):
                migrate(one, other)


def test_shard_keys_go_to_a_folder_but_not_to_a_server(source, tmp_path, name, monkeypatch):
    make_plain(source, name, 3)
    real = source.get_collection

    def sharded(*args, **kwargs):
        info = real(*args, **kwargs)
        info.config.params.sharding_method = models.ShardingMethod.CUSTOM
        return info

    monkeypatch.setattr(source, "get_collection", sharded)
    with connect("http://one.test:1", check_compatibility=False) as server:
        with pytest.raises(UnsupportedError, match="sharded by keys of its own"):
            migrate(source, server)
    with connect(tmp_path / "to") as target:
        report = migrate(source, target).collections[0]
    assert (report.verified, report.left_out) == (True, ("params.sharding_method is None, not 'custom'",))


def test_progress_is_told_after_each_page(source, client, name):
    make_plain(source, name, 25)
    seen = []
    migrate(source, client, batch_size=10, on_progress=seen.append)
    wanted = [(step, done) for step in ("copy", "verify") for done in (10, 20, 25)]
    assert seen == [MigrationProgress(name, step, done, 25) for step, done in wanted]
