"""What can change in an embedded collection: its named vectors and its parameters."""

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from clip_qdrant import connect
from clip_qdrant.errors import ConfigError, InvalidPointError, UnsupportedError
from clip_qdrant.storage.edge.native import edge
from tests.edge_data import UNIT, fill_named, ids

DENSE = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=2, distance=models.Distance.EUCLID))
SPARSE = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF))


@pytest.fixture
def client(tmp_path):
    with connect(tmp_path) as client:
        yield fill_named(client)


def both(tmp_path):
    return [connect(tmp_path / "both"), QdrantClient(":memory:")]


@pytest.mark.parametrize("reopen", [False, True])
def test_a_new_vector_can_be_filled_and_searched_with(client, tmp_path, reopen):
    client.create_vector_name("c", "shape", DENSE)
    client.create_vector_name("c", "words", SPARSE)
    if reopen:
        client.close()
        client = connect(tmp_path)
    words = models.SparseVector(indices=[5], values=[1.0])
    client.update_vectors("c", [models.PointVectors(id=1, vector={"shape": [3.0, 4.0], "words": words})])
    found = client.query_points("c", query=[0.0, 0.0], using="shape", with_vectors=["shape", "image"]).points
    assert [(hit.id, hit.score) for hit in found] == [(1, 5.0)]
    assert found[0].vector == {"shape": [3.0, 4.0], "image": [0.0, 1.0, 0.0]}
    assert ids(client.query_points("c", query=words, using="words")) == [1]
    info = client.get_collection("c").config.params
    assert info.vectors["shape"] == models.VectorParams(size=2, distance=models.Distance.EUCLID)
    assert info.sparse_vectors["words"].modifier == models.Modifier.IDF
    client.close()


def test_creating_the_same_vector_twice_changes_nothing_and_another_is_refused(client):
    client.create_vector_name("c", "shape", DENSE)
    client.update_vectors("c", [models.PointVectors(id=0, vector={"shape": [1.0, 1.0]})])
    client.create_vector_name("c", "shape", DENSE)
    assert client.retrieve("c", [0], with_vectors=["shape"])[0].vector == {"shape": [1.0, 1.0]}
    larger = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance=models.Distance.EUCLID))
    for other in (larger, SPARSE):
        with pytest.raises(ConfigError, match="'shape' of collection 'c' already exists with a different"):
            client.create_vector_name("c", "shape", other)


@pytest.mark.parametrize("bad", ["a/b", "", "x" * 256])
def test_a_vector_needs_a_name(client, bad):
    with pytest.raises(ConfigError, match="Vector name"):
        client.create_vector_name("c", bad, DENSE)


def test_a_dropped_vector_is_gone_from_definition_points_and_search(client, tmp_path):
    client.delete_vector_name("c", "text")
    for _ in range(2):
        assert client.retrieve("c", [2], with_vectors=True)[0].vector == {"image": pytest.approx([0.6, 0.8, 0.0])}
        assert client.count("c").count == 3
        with pytest.raises(InvalidPointError, match="has no vector 'text'"):
            client.query_points("c", query=[1.0, 1.0], using="text")
        with pytest.raises(InvalidPointError, match="has no vector 'text'"):
            client.upsert("c", [models.PointStruct(id=9, vector={"text": [1.0, 1.0]})])
        client.close()
        client = connect(tmp_path)
    client.close()


def test_a_dropped_name_can_be_used_again_for_another_vector(client):
    client.delete_vector_name("c", "text")
    client.create_vector_name("c", "text", SPARSE)
    client.update_vectors(
        "c", [models.PointVectors(id=2, vector={"text": models.SparseVector(indices=[1], values=[1.0])})]
    )
    assert set(client.retrieve("c", [2], with_vectors=True)[0].vector) == {"image", "text"}
    assert set(client.retrieve("c", [0], with_vectors=True)[0].vector) == {"image", "lexical"}


def test_points_that_held_only_the_dropped_vector_stay(client, tmp_path):
    client.upsert("c", [models.PointStruct(id=9, vector={"text": [1.0, 1.0]}, payload={"n": 9})])
    client.delete_vector_name("c", "text")
    client.close()
    with connect(tmp_path) as again:
        (record,) = again.retrieve("c", [9], with_vectors=True)
        assert (record.payload, record.vector) == ({"n": 9}, {})


def test_dropping_what_is_not_there_changes_nothing(client):
    client.delete_vector_name("c", "nothing")
    assert sorted(client.get_collection("c").config.params.vectors) == ["image", "text"]


def test_the_last_vector_and_the_unnamed_one_stay(client):
    client.create_collection("one", vectors_config={"only": UNIT})
    client.create_collection("unnamed", vectors_config=UNIT, sparse_vectors_config={"s": models.SparseVectorParams()})
    for collection, vector in (("one", "only"), ("unnamed", "")):
        with pytest.raises(ConfigError, match="cannot be deleted"):
            client.delete_vector_name(collection, vector)


def test_a_leftover_of_a_crash_while_dropping_is_no_obstacle(client, tmp_path):
    client.create_vector_name("c", "shape", DENSE)
    client.update_vectors("c", [models.PointVectors(id=0, vector={"shape": [1.0, 1.0]})])
    # As if the process had died between the definition's change and the shard's.
    store = client._client._store
    config = store.config("c")
    definition = config.model_copy(update={"vectors": {name: config.vectors[name] for name in ("image", "text")}})
    store.redefine("c", definition)
    client.create_vector_name("c", "shape", SPARSE)
    assert set(client.retrieve("c", [0], with_vectors=True)[0].vector) == {"image", "text", "lexical"}


def test_a_write_checked_before_a_drop_is_checked_again(client, monkeypatch):
    """The engine would log a point with a vector that is no more, and replay it."""
    from clip_qdrant.storage.edge import writes

    prepare = writes.prepare_upsert

    def prepare_while_another_drops(target, *args):
        monkeypatch.setattr(writes, "prepare_upsert", prepare)
        write = prepare(target, *args)
        client.delete_vector_name("c", "text")
        return write

    monkeypatch.setattr(writes, "prepare_upsert", prepare_while_another_drops)
    with pytest.raises(InvalidPointError, match="has no vector 'text'"):
        client.upsert("c", [models.PointStruct(id=9, vector={"text": [1.0, 1.0]})])
    assert client.retrieve("c", [9]) == []


def test_parameters_change_and_are_built_by_optimize(tmp_path):
    with connect(tmp_path) as client:
        client.create_collection(
            "c",
            vectors_config=models.VectorParams(size=32, distance="Cosine"),
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1, default_segment_number=1),
        )
        vectors = np.random.default_rng(0).normal(size=(500, 32))
        client.upload_collection("c", vectors=vectors, ids=range(500))
        client.optimize("c")
        before = client.query_points("c", query=vectors[3], limit=5).points
        quantization = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8"))
        assert client.update_collection(
            "c", hnsw_config=models.HnswConfigDiff(m=8), quantization_config=quantization, metadata={"a": 1}
        )
        assert client.optimize("c")
        assert list((tmp_path / "collections" / "c").rglob("quantized.*"))
    with connect(tmp_path) as client:
        config = client.get_collection("c").config
        assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (8, 100)
        assert config.quantization_config == quantization
        assert config.metadata == {"a": 1}
        rescored = models.SearchParams(quantization=models.QuantizationSearchParams(rescore=True, oversampling=3.0))
        after = client.query_points("c", query=vectors[3], limit=5, search_params=rescored).points
        assert [hit.id for hit in after] == [hit.id for hit in before]
        client.update_collection("c", quantization_config=models.Disabled.DISABLED)
        assert client.get_collection("c").config.quantization_config is None


def test_a_vectors_own_parameters_change(client):
    diff = models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=4), on_disk=True)
    client.update_collection("c", vectors_config={"image": diff})
    params = client.get_collection("c").config.params.vectors
    assert (params["image"].hnsw_config.m, params["image"].on_disk) == (4, True)
    assert params["text"].hnsw_config is None
    assert client.count("c").count == 3
    assert ids(client.query_points("c", query=[1.0, 0.0, 0.0], using="image", limit=1)) == [0]


@pytest.mark.parametrize(
    "change",
    [
        {"vectors_config": {"nothing": models.VectorParamsDiff(on_disk=True)}},
        {"sparse_vectors_config": {"nothing": models.SparseVectorParams()}},
    ],
)
def test_a_change_of_an_unknown_vector_changes_nothing(client, change):
    with pytest.raises(ConfigError, match="'nothing'"):
        client.update_collection("c", metadata={"a": 1}, **change)
    assert client.get_collection("c").config.metadata is None


def test_parameters_that_the_engine_refuses_leave_the_collection_as_it_was(client, monkeypatch):
    load = edge.EdgeShard.load

    def refuse(path, config=None):
        if config is not None:
            raise Exception("no such thing")
        return load(path)

    shard = client._client._open("c").shard
    monkeypatch.setattr(
        "clip_qdrant.storage.edge.shard.edge",
        type("E", (), {"EdgeShard": type("S", (), {"load": refuse}), "CountRequest": edge.CountRequest}),
    )
    with pytest.raises(ConfigError, match="no such thing"):
        client.update_collection("c", hnsw_config=models.HnswConfigDiff(m=4))
    assert shard.count() == 3
    monkeypatch.undo()
    assert client.get_collection("c").config.hnsw_config.m == 16


def test_an_update_of_nothing_changes_nothing(client):
    before = client.get_collection("c").config
    assert not client.update_collection("c")
    assert client.get_collection("c").config == before
    # No metadata at all become none of them, as local mode has it.
    assert client.update_collection("c", metadata={})
    assert client.get_collection("c").config == before.model_copy(update={"metadata": {}})


def test_limits_that_only_a_server_can_keep_are_refused(client):
    with pytest.raises(UnsupportedError, match="read_rate_limit"):
        client.update_collection("c", strict_mode_config=models.StrictModeConfig(enabled=True, read_rate_limit=5))
    with pytest.raises(UnsupportedError, match="max_timeout"):
        client.create_collection(
            "d", vectors_config=UNIT, strict_mode_config=models.StrictModeConfig(enabled=True, max_timeout=5)
        )
    assert not client.collection_exists("d")
