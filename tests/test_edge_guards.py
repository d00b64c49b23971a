"""What the embedded engine must never see, whom it must not share a folder with, and what it keeps."""

from __future__ import annotations

import inspect
import shutil
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models
from qdrant_client.async_client_base import AsyncQdrantBase
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import (
    CollectionNotFoundError,
    ConfigError,
    InvalidPointError,
    StorageError,
    UnsupportedError,
)
from clip_qdrant.storage.connect import connect
from clip_qdrant.storage.edge.async_engine import AsyncEdgeEngine
from clip_qdrant.storage.edge.engine import EdgeEngine
from clip_qdrant.storage.edge.manifest import folder_name
from clip_qdrant.storage.edge.unsupported import INSTEAD

UNIT = models.VectorParams(size=2, distance=models.Distance.COSINE)
DOT = models.VectorParams(size=2, distance=models.Distance.DOT)


@pytest.fixture
def client(tmp_path):
    with connect(tmp_path) as opened:
        opened.create_collection(
            "c", vectors_config={"v": UNIT, "d": DOT}, sparse_vectors_config={"s": models.SparseVectorParams()}
        )
        yield opened


def point(point_id=1, vector=None, payload=None):
    return models.PointStruct.model_construct(
        id=point_id, vector={"v": [1.0, 0.0]} if vector is None else vector, payload=payload
    )


def nested(depth):
    payload = 0
    for _ in range(depth):
        payload = {"a": payload}
    return payload


NAN, INF = float("nan"), float("inf")


def sparse(indices, values):
    return {"s": models.SparseVector.model_construct(indices=indices, values=values)}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (point(-1), "id -1"),
        (point(2**64), "id 18446744073709551616"),
        (point("abc"), "id 'abc'"),
        (point(True), "id True"),
        (point(1.5), "id 1.5"),
        (point(7, {"v": [1.0]}), r"id 7\).*2 dimensions, got 1"),
        (point(7, {"v": []}), "2 dimensions, got 0"),
        (point(7, {"v": [NAN, 1.0]}), "NaN"),
        (point(7, {"v": [INF, 1.0]}), "infinity"),
        (point(7, {"v": [1e39, 1.0]}), "float32"),
        (point(7, {"v": [0.0, 0.0]}), "no direction"),
        (point(7, {"v": [1e-30, 0.0]}), "no direction"),
        (point(7, {"v": [1e30, 1e30]}), "no direction"),
        (point(7, {"v": [[1.0], [2.0]]}), "flat list"),
        (point(7, {"v": ["a", "b"]}), "flat list"),
        (point(7, {"v": "ab"}), "is dense, got str"),
        (point(7, {"v": models.SparseVector(indices=[1], values=[1.0])}), "is dense, got SparseVector"),
        (point(7, {"w": [1.0, 0.0]}), "no vector 'w'.*'v'.*'s'"),
        (point(7, [1.0, 0.0]), "no vector ''"),
        (point(7, "text"), "is a str"),
        (point(7, {"s": [1.0, 0.0]}), "is sparse, got list"),
        (point(7, sparse([1], [1.0, 2.0])), "1 indices, but 2 values"),
        (point(7, sparse([1, 1], [1.0, 2.0])), "unique"),
        (point(7, sparse([-1], [1.0])), "index outside"),
        (point(7, sparse([2**32], [1.0])), "index outside"),
        (point(7, sparse([1], [NAN])), "NaN"),
        (point(7, payload={"a": NAN}), "payload cannot be stored"),
        (point(7, payload={"a": [INF]}), "payload cannot be stored"),
        (point(7, payload={"a": object()}), "payload cannot be stored"),
        (point(7, payload={"a": "\ud800"}), "payload cannot be stored"),
        (point(7, payload=[1]), "must be a mapping"),
        (point(7, payload=nested(101)), "deeper than 100"),
        (point(7, payload=nested(5000)), "payload cannot be stored"),
    ],
)
def test_a_bad_point_is_named_and_nothing_is_written(client, bad, reason):
    batch = [point(100), bad, point(101)]
    with pytest.raises(InvalidPointError, match=f"^Point 1.*{reason}"):
        client.upsert("c", batch)
    with pytest.raises(InvalidPointError, match=reason):
        client.upload_points("c", batch)
    assert client.count("c").count == 0


def test_what_is_just_allowed_is_stored(client):
    client.upsert(
        "c", [point(2**64 - 1, {"d": [0.0, 0.0], "s": models.SparseVector(indices=[], values=[])}, nested(100))]
    )
    record = client.retrieve("c", [2**64 - 1], with_vectors=["d"])[0]
    assert record.payload == nested(100)
    assert record.vector == {"d": [0.0, 0.0]}


def test_numpy_numbers_and_rows_are_stored(client):
    payload = {"f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)}
    client.upsert("c", [point(np.int64(4), {"v": np.array([0.6, 0.8])}, payload)])
    record = client.retrieve("c", [4], with_vectors=["v"])[0]
    assert record.payload == {"f": 0.5, "i": 3, "b": True}
    assert record.vector["v"] == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("query", [[1.0], [NAN, 0.0], [1.0, 0.0, 0.0]])
def test_a_bad_query_vector_is_refused(client, query):
    with pytest.raises(InvalidPointError, match="The query: vector 'v'"):
        client.query_points("c", query=query, using="v")


def test_a_query_names_its_vector(client):
    with pytest.raises(InvalidPointError, match="no vector ''"):
        client.query_points("c", query=[1.0, 0.0])
    with pytest.raises(InvalidPointError, match="no vector 'w'"):
        client.query_points("c", query=[1.0, 0.0], using="w")


def test_a_zero_query_is_allowed(client):
    client.upsert("c", [point(1)])
    assert client.query_points("c", query=[0.0, 0.0], using="v").points[0].score == 0.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"prefetch": models.Prefetch(query=[1.0, 0.0], using="v")},
        {"score_threshold": 0.5},
        {"query": models.OrderByQuery(order_by="n"), "score_threshold": 0.5},
        {"query": models.FusionQuery(fusion=models.Fusion.RRF)},
        {"query": [1.0, 0.0], "using": "v", "offset": -1},
        {"query": [1.0, 0.0], "using": "v", "limit": 2.5},
        {"query": [1.0, 0.0], "using": "v", "limit": 2**70},
        {"query": [1.0, 0.0], "using": "v", "score_threshold": "0.5"},
        {"query": [1.0, 0.0], "using": "v", "search_params": models.SearchParams(hnsw_ef=-1)},
        {"query": models.ContextQuery(context=[]), "using": "v"},
        {"query": [1.0, 0.0], "using": "v", "with_payload": "key"},
        {"query": [1.0, 0.0], "using": "v", "with_vectors": "v"},
        {"query": [1.0, 0.0], "using": "v", "prefetch": models.Prefetch(query=[1.0, 0.0], using="v", limit=0)},
    ],
)
def test_arguments_that_do_not_go_together(client, arguments):
    with pytest.raises(ConfigError, match=r".+"):
        client.query_points("c", **arguments)


def test_order_by_and_facet_name_the_missing_index(client):
    client.upsert("c", [point(1, payload={"n": 1})])
    with pytest.raises(StorageError, match=r"'c'.*order_by.*Please create one"):
        client.scroll("c", order_by="n")
    with pytest.raises(StorageError, match=r"'c'.*facet.*Please create one"):
        client.facet("c", "n")


def test_a_missing_collection_is_both_errors(client):
    with pytest.raises(CollectionNotFoundError, match="'none' not found") as caught:
        client.get_collection("none")
    assert isinstance(caught.value, ValueError)


def test_a_missing_point_is_both_errors(client):
    with pytest.raises(StorageError, match="no point 9 ") as caught:
        client.set_payload("c", {"a": 1}, [9])
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../up", "a\\b", "a\0b", "a:b", "x" * 256, "a\nb"])
def test_a_collection_name_cannot_leave_the_folder(client, tmp_path, name):
    with pytest.raises(ConfigError, match="name"):
        client.create_collection(name, vectors_config=UNIT)
    with pytest.raises(ConfigError, match="name"):
        client.create_collection("ok", vectors_config={name or "..": UNIT})
    assert [found.name for found in client.get_collections().collections] == ["c"]
    assert [path.name for path in (tmp_path / "collections").iterdir()] == ["c"]


@pytest.mark.parametrize("name", ["Photos", "photos", "с кириллицей", "emoji 🦊", "dots..in.it", "~", "%2e", "é" * 200])
def test_odd_names_are_kept_apart(tmp_path, name):
    with connect(tmp_path) as client:
        client.create_collection(name, vectors_config=UNIT)
        client.create_collection(name + "2", vectors_config=UNIT)
        client.upsert(name, [models.PointStruct(id=1, vector=[1.0, 0.0])])
    with connect(tmp_path) as client:
        assert [client.count(known).count for known in (name, name + "2")] == [1, 0]
        client.delete_collection(name)
        assert [found.name for found in client.get_collections().collections] == [name + "2"]


@given(st.text(min_size=1, max_size=255), st.text(min_size=1, max_size=255))
def test_folder_names_are_safe_and_differ_on_any_file_system(one, other):
    one, other = (text.encode("utf-8", "replace").decode() for text in (one, other))
    assert set(folder_name(one)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-%~")
    assert 1 <= len(folder_name(one)) <= 255
    assert (folder_name(one) == folder_name(other)) == (one == other)


def test_a_collection_needs_a_vector(client):
    with pytest.raises(UnsupportedError, match="no vectors"):
        client.create_collection("none", vectors_config={})


def test_a_definition_the_engine_refuses_leaves_nothing(client):
    for bad in (0, 65537):
        with pytest.raises(ConfigError, match="size"):
            client.create_collection(
                "bad",
                vectors_config=models.VectorParams.model_construct(
                    size=bad, distance=models.Distance.DOT, multivector_config=None
                ),
            )
    with pytest.raises(ConfigError, match="field_schema"):
        client.create_payload_index("c", "n")
    with pytest.raises(ConfigError, match="'number' is not a"):
        client.create_payload_index("c", "n", "number")
    assert not client.collection_exists("bad")


def test_every_method_is_there_or_says_what_to_use(client):
    for name, method in inspect.getmembers(QdrantBase, inspect.isfunction):
        if name.startswith("_"):
            continue
        assert getattr(EdgeEngine, name) is not method, name
        if name in INSTEAD:
            with pytest.raises(UnsupportedError, match=f"^{name} .*engine. .+"):
                getattr(client._client, name)("c")
    for name, method in inspect.getmembers(AsyncQdrantBase, inspect.isfunction):
        if not name.startswith("_") and name != "migrate":
            assert getattr(AsyncEdgeEngine, name) is not method, name


def test_options_come_back_and_survive_reopening(tmp_path):
    quantization = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8", always_ram=True))
    index = models.TextIndexParams(type="text", tokenizer="word", lowercase=True)
    with connect(tmp_path) as client:
        client.create_collection(
            "c",
            vectors_config=models.VectorParams(
                size=2, distance="Cosine", on_disk=True, datatype="float16", hnsw_config=models.HnswConfigDiff(m=8)
            ),
            sparse_vectors_config={
                "s": models.SparseVectorParams(modifier="idf", index=models.SparseIndexParams(on_disk=True))
            },
            hnsw_config=models.HnswConfigDiff(ef_construct=50),
            quantization_config=quantization,
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=100),
            on_disk_payload=True,
            metadata={"encoder": "pocket"},
        )
        client.create_payload_index("c", "title", index)
        client.create_payload_index("c", "n", models.PayloadSchemaType.INTEGER)
        client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"n": 3})])
        before = client.get_collection("c")
    with connect(tmp_path) as client:
        info = client.get_collection("c")
    assert info == before
    assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (16, 50)
    assert info.config.quantization_config == quantization
    assert info.config.params.vectors.hnsw_config.m == 8
    assert info.config.params.on_disk_payload
    assert info.config.optimizer_config.indexing_threshold == 100
    assert info.config.metadata == {"encoder": "pocket"}
    assert info.payload_schema["title"].params == index
    assert info.payload_schema["n"].points == 1


def test_an_interrupted_creation_leaves_no_obstacle(client, tmp_path):
    (tmp_path / "collections" / "new").mkdir()
    (tmp_path / "collections" / "new" / "rubbish").write_text("of a crash")
    client.create_collection("new", vectors_config=UNIT)
    assert client.count("new").count == 0


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: _empty(folder / "edge_config.json")])
def test_a_damaged_collection_is_named_and_leaves_the_others(tmp_path, damage):
    with connect(tmp_path) as client:
        for name in ("bad", "good"):
            client.create_collection(name, vectors_config=UNIT)
    damage(tmp_path / "collections" / "bad")
    with connect(tmp_path) as client:
        with pytest.raises(StorageError, match="'bad' cannot be opened"):
            client.count("bad")
        assert client.count("good").count == 0
        assert client.delete_collection("bad")


def _empty(file):
    assert file.stat().st_size
    file.write_bytes(b"")


def test_threads_share_a_client(client):
    failures = []

    def work(start):
        try:
            for row in range(start, start + 50):
                client.upsert("c", [point(row)])
                client.query_points("c", query=[1.0, 0.0], using="v", limit=3)
                client.set_payload("c", {"row": row}, [row])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    records, _ = client.scroll("c", limit=1000)
    assert [(record.id, record.payload) for record in records] == [
        (row, {"row": row}) for start in range(0, 400, 100) for row in range(start, start + 50)
    ]


def test_optimize_builds_the_index(tmp_path):
    with connect(tmp_path) as client:
        client.create_collection(
            "c",
            vectors_config=models.VectorParams(size=32, distance="Dot"),
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1, default_segment_number=1),
            hnsw_config=models.HnswConfigDiff(full_scan_threshold=10),
        )
        vectors = np.random.default_rng(0).normal(size=(500, 32))
        client.upload_collection("c", vectors=vectors, ids=range(500))
        assert client.optimize("c")
        assert not client.optimize("c")
        exact = np.argsort(-(vectors @ vectors[3]))[:5].tolist()
        assert [hit.id for hit in client.query_points("c", query=vectors[3], limit=5).points] == exact


def test_a_flat_payload_put_at_a_deep_key_is_not_too_deep_to_read_again(client):
    client.upsert("c", [point(1)])
    for levels, fits in ((99, True), (100, False), (120, False)):
        key = ".".join(["a"] * levels)
        if fits:
            client.set_payload("c", {"b": 1}, [1], key=key)
        else:
            with pytest.raises(InvalidPointError, match="deeper than 100"):
                client.set_payload("c", {"b": 1}, [1], key=key)
        assert client.retrieve("c", [1])[0].id == 1


@pytest.mark.parametrize("wrong", [["no such field"], models.PayloadSelectorExclude(exclude=["a..b"])])
def test_a_payload_selector_that_is_no_path_is_refused(client, wrong):
    client.upsert("c", [point(1)])
    for read in (
        lambda: client.retrieve("c", [1], with_payload=wrong),
        lambda: client.scroll("c", with_payload=wrong),
        lambda: client.query_points("c", query=[1.0, 0.0], using="v", with_payload=wrong),
    ):
        with pytest.raises(ConfigError, match="with_payload"):
            read()
    with pytest.raises(ConfigError, match=r"^group_by 'no such field' is refused"):
        client.query_points_groups("c", group_by="no such field", query=[1.0, 0.0], using="v")
