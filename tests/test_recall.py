"""Recall against exact search, and what the command line makes of it."""

import sys

import numpy as np
import pytest
from qdrant_client import models
from typer.testing import CliRunner

from clip_qdrant import connect
from clip_qdrant.cli import optimizing
from clip_qdrant.cli.app import app
from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.recall import measured_recall
from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors import VectorCollection


@pytest.fixture
def folder(tmp_path):
    """300 random pictures' vectors in the collection "images"."""
    with connect(tmp_path) as client:
        VectorCollection(client, "images", CollectionSchema(dim=32))
        rows = np.random.default_rng(0).normal(size=(300, 32)).tolist()
        client.upload_points("images", [models.PointStruct(id=i, vector={"image": row}) for i, row in enumerate(rows)])
    return tmp_path


def test_exact_search_has_full_recall(folder):
    with connect(folder) as client:
        assert measured_recall(client, "images", "image") == 1.0
        assert measured_recall(client, "images", "text") == 1.0


def test_what_approximate_search_misses_is_counted(folder, monkeypatch):
    """Half of the approximate answers are taken for others."""
    with connect(folder) as client:
        ask = client.query_points

        def miss(*args, **kwargs):
            answer = ask(*args, **kwargs)
            params = kwargs.get("search_params")
            if params is not None and not params.exact:
                for hit in answer.points[5:]:
                    hit.score -= 1.0
            return answer

        monkeypatch.setattr(client, "query_points", miss)
        assert measured_recall(client, "images", "image", k=10, sample=20) == 0.5


def test_equals_are_as_good_as_each_other(tmp_path):
    with connect(tmp_path) as client:
        VectorCollection(client, "images", CollectionSchema(dim=2))
        client.upload_points("images", [models.PointStruct(id=i, vector={"image": [1.0, 0.0]}) for i in range(50)])
        assert measured_recall(client, "images", "image", k=3) == 1.0


@pytest.mark.parametrize("distance", ["cosine", "dot", "euclid", "manhattan"])
def test_exact_search_has_full_recall_by_every_distance(tmp_path, distance):
    with connect(tmp_path) as client:
        VectorCollection(client, "images", CollectionSchema(dim=8, distance=distance))
        rows = np.random.default_rng(0).normal(size=(100, 8)).tolist()
        client.upload_points("images", [models.PointStruct(id=i, vector={"image": row}) for i, row in enumerate(rows)])
        assert measured_recall(client, "images", "image", sample=20) == 1.0


@pytest.mark.parametrize("wrong", [{"k": 0}, {"sample": 0}])
def test_nothing_cannot_be_measured(folder, wrong):
    with connect(folder) as client, pytest.raises(ConfigError, match="at least 1"):
        measured_recall(client, "images", "image", **wrong)


def run(*arguments, stdin=None):
    return CliRunner(env={"QDRANT_URL": None}).invoke(app, [*map(str, arguments)], input=stdin)


def test_optimize_says_what_it_did_and_the_recall(folder):
    result = run("optimize", "--location", folder)
    assert result.exit_code == 0
    assert "There is nothing to optimize. Recall at 10, measured on 100 of the stored vectors: image 1.000, text" in (
        result.stderr
    )


def test_optimize_of_another_collection_or_a_server_fails_in_a_line(folder):
    assert "no collection 'other'" in run("optimize", "--location", folder, "--collection", "other").stderr
    result = run("optimize", "--location", "http://localhost:1")
    assert (result.exit_code, "Only a folder" in result.stderr) == (1, True)


@pytest.fixture
def built(monkeypatch):
    calls = []
    monkeypatch.setattr(optimizing, "build", lambda client, collection: calls.append(collection))
    return calls


@pytest.mark.parametrize(
    ("points", "terminal", "answer", "wanted", "builds"),
    [
        (299, True, "y", None, True),
        (299, True, "n", None, False),
        (299, False, None, None, False),
        (301, True, "y", None, False),
        (301, False, None, True, True),
        (299, True, "y", False, False),
    ],
)
def test_the_offer(folder, built, monkeypatch, capsys, points, terminal, answer, wanted, builds):
    monkeypatch.setattr(optimizing, "OFFER_FROM", points)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(optimizing.typer, "confirm", lambda *_, **__: answer == "y")
    with connect(folder) as client:
        optimizing.offer(client, "images", wanted)
    assert built == (["images"] if builds else [])
    told = "clip-qdrant optimize" in capsys.readouterr().err
    assert told == (not terminal and points <= 300)


def test_what_is_indexed_already_is_not_offered(folder, built, monkeypatch):
    monkeypatch.setattr(optimizing, "OFFER_FROM", 1)
    with connect(folder) as client:
        info = client.get_collection("images")
        info.indexed_vectors_count = 300
        monkeypatch.setattr(client, "get_collection", lambda name: info)
        monkeypatch.setattr(optimizing.typer, "confirm", lambda *_, **__: True)
        optimizing.offer(client, "images", None)
    assert built == []


def test_memory_has_no_index_to_build(built):
    with connect(":memory:") as client:
        optimizing.offer(client, "images", True)
    assert built == []
