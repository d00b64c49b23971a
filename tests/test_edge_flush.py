"""When an embedded collection's writes are put on disk, and who is told where that fails."""

from __future__ import annotations

import threading

import pytest
from qdrant_client import models

from clip_qdrant.errors import StorageError
from clip_qdrant.storage.connect import connect
from clip_qdrant.storage.edge import base
from clip_qdrant.storage.edge import shard as shard_module

UNIT = models.VectorParams(size=2, distance=models.Distance.COSINE)


@pytest.fixture
def client(tmp_path):
    with connect(tmp_path) as opened:
        opened.create_collection("c", vectors_config=UNIT)
        yield opened


def point(point_id):
    return models.PointStruct(id=point_id, vector=[1.0, 0.0])


def test_writes_flush_what_is_old(client, monkeypatch):
    opened = client._client._open("c").shard
    flushed = []
    monkeypatch.setattr(opened, "flush", lambda: flushed.append(True))
    client.upsert("c", [point(1)])
    client.upsert("c", [point(2)])
    assert flushed == []
    monkeypatch.setattr(shard_module.time, "monotonic", lambda: opened._flush_due + 1)
    client.upsert("c", [point(3)])
    assert flushed == [True]


def test_a_write_is_flushed_when_no_other_follows(client, monkeypatch):
    opened, flushed = client._client._open("c").shard, threading.Event()
    flush = opened.flush

    def flush_and_tell():
        flush()
        flushed.set()

    opened.flush()
    monkeypatch.setattr(opened, "flush", flush_and_tell)
    monkeypatch.setattr(shard_module, "FLUSH_SECONDS", 0.0)
    client.upsert("c", [point(1)])
    assert flushed.wait(10)


def test_a_flush_that_failed_in_the_background_is_told_to_the_next_writer(client, monkeypatch, caplog):
    opened, failed = client._client._open("c").shard, threading.Event()

    def fail():
        failed.set()
        raise StorageError("disk full")

    opened.flush()
    with monkeypatch.context() as patch:
        patch.setattr(opened, "flush", fail)
        patch.setattr(shard_module, "FLUSH_SECONDS", 0.0)
        client.upsert("c", [point(1)])
        assert failed.wait(10)
        with pytest.raises(StorageError, match="disk full"):
            client.upsert("c", [point(2)])
    assert "A flush in the background failed" in caplog.text
    assert client.count("c").count == 2


def test_a_failed_flush_is_told_on_close_and_the_folder_is_free(tmp_path, monkeypatch):
    client = connect(tmp_path)
    client.create_collection("c", vectors_config=UNIT)
    opened = client._client._open("c").shard

    def fail():
        raise StorageError("disk full")

    monkeypatch.setattr(opened, "flush", fail)
    with pytest.raises(StorageError, match="disk full"):
        client.close()
    with connect(tmp_path) as again:
        assert again.count("c").count == 0


def test_a_client_that_outlives_its_store_closes_in_silence(tmp_path, monkeypatch):
    """As at the end of the process, where stores are closed first, and modules emptied before the last client."""
    client = connect(tmp_path)
    client._client._store.close()
    for name in ("os", "release"):
        monkeypatch.setattr(base, name, None)
    client.close()
