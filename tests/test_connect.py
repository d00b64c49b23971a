"""`connect`: what a location means, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from clip_qdrant.errors import ConfigError, StorageError
from clip_qdrant.storage.connect import connect, connect_async
from clip_qdrant.storage.edge import store
from clip_qdrant.storage.edge.client import EmbeddedAsyncQdrantClient, EmbeddedQdrantClient

UNIT = models.VectorParams(size=2, distance=models.Distance.COSINE)


def test_a_url_gives_the_stock_client_with_all_it_was_given():
    with connect("https://example.org:6333", api_key="s3cret", timeout=7, check_compatibility=False) as client:
        assert isinstance(client, QdrantClient)
        assert client.init_options["url"] == "https://example.org:6333"
        assert client.init_options["api_key"] == "s3cret"
        assert client.init_options["timeout"] == 7


def test_the_api_key_is_not_shown(caplog):
    caplog.set_level(logging.DEBUG)
    with connect("https://example.org", api_key="s3cret", check_compatibility=False) as client:
        assert "s3cret" not in repr(client)
    assert "s3cret" not in caplog.text


def test_memory_is_the_stock_local_mode():
    with connect(":memory:") as client:
        client.create_collection("c", vectors_config=UNIT)
    with pytest.raises(RuntimeError, match="closed"):
        client.count("c")


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_folder_is_made_and_kept(tmp_path, kind):
    folder = tmp_path / "not" / "there"
    with connect(kind(folder)) as client:
        assert isinstance(client, EmbeddedQdrantClient)
        assert repr(client) == f"EmbeddedQdrantClient({str(folder)!r})"
        client.create_collection("c", vectors_config=UNIT)
    with connect(kind(folder)) as client:
        assert client.collection_exists("c")


def test_the_default_is_a_folder_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with connect():
        assert (tmp_path / ".clip_qdrant").is_dir()


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with connect("~/db"):
        assert (tmp_path / "db").is_dir()


@pytest.mark.parametrize("location", ["", "  "])
def test_an_empty_location(location):
    with pytest.raises(ConfigError, match="location is empty"):
        connect(location)


@pytest.mark.parametrize("location", ["ftp://example.org", "file:///tmp/db", "grpc://localhost:6334"])
def test_an_unknown_scheme(location):
    with pytest.raises(ConfigError, match="unknown scheme"):
        connect(location)


def test_a_server_without_a_scheme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="http://localhost:6333"):
        connect("localhost:6333")
    assert list(tmp_path.iterdir()) == []


def test_options_need_a_url(tmp_path):
    with pytest.raises(ConfigError, match="prefer_grpc"):
        connect(tmp_path, prefer_grpc=True)
    with connect(tmp_path, api_key="not needed"):
        pass


def test_a_file_is_not_a_location(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        connect(file)
    with pytest.raises(StorageError, match="Cannot make the storage folder"):
        connect(file / "below")
    assert file.read_text() == "mine"


def test_an_unwritable_folder(tmp_path):
    (tmp_path / ".lock").mkdir()  # cannot be opened, whoever runs the tests
    with pytest.raises(StorageError, match="Cannot write to the storage folder"):
        connect(tmp_path)


def test_collections_that_are_in_no_manifest_are_left_alone(tmp_path):
    """A server's storage, or a folder that lost its manifest: a collection of the same name would be removed."""
    theirs = tmp_path / "collections" / "photos" / "0" / "segments"
    theirs.mkdir(parents=True)
    with pytest.raises(StorageError, match=r"a Qdrant server wrote it, or the file was lost\..*migrate URL FOLDER"):
        connect(tmp_path)
    assert theirs.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["collections"]


def test_a_folder_of_the_stock_local_mode_is_left_alone(tmp_path):
    stock = QdrantClient(path=str(tmp_path))
    stock.create_collection("c", vectors_config=UNIT)
    stock.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0])])
    stock.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(StorageError, match="local mode"):
        connect(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "collections": {"c": 3}, "aliases": {}}']
)
def test_a_broken_manifest_is_an_error_and_stays(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StorageError, match="cannot be read as a manifest"):
        connect(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == text


def test_a_later_format_is_not_touched(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(StorageError, match="Upgrade"):
        connect(tmp_path)


def test_closing_twice_is_fine_and_using_after_is_not(tmp_path):
    client = connect(tmp_path)
    client.create_collection("c", vectors_config=UNIT)
    client.close()
    client.close()
    for call in (
        lambda: client.count("c"),
        client.get_collections,
        lambda: client.collection_exists("c"),
        client.flush,
    ):
        with pytest.raises(StorageError, match="is closed"):
            call()


def test_clients_of_one_folder_share_it_until_the_last_closes(tmp_path):
    first, second = connect(tmp_path), connect(str(tmp_path) + "/../" + tmp_path.name)
    first.create_collection("c", vectors_config=UNIT)
    second.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0])])
    first.close()
    assert second.count("c").count == 1
    second.close()
    with connect(tmp_path) as third:
        assert third.count("c").count == 1


def test_options_of_an_embedded_client_make_no_other_client(tmp_path):
    with connect(tmp_path) as client, pytest.raises(NotImplementedError, match="connect_async"):
        _ = client.init_options


@pytest.mark.parametrize("location", [":memory:", "folder"])
def test_the_async_twin(location, tmp_path):
    async def run():
        async with connect_async(location if location == ":memory:" else tmp_path) as client:
            assert isinstance(client, AsyncQdrantClient)
            await client.create_collection("c", vectors_config=UNIT)
            await client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0], payload={"a": 1})])
            client.upload_points("c", [models.PointStruct(id=2, vector=[0.0, 1.0])])
            answer = await client.query_points("c", query=[0.1, 1.0], limit=1)
            records, _ = await client.scroll("c", limit=1)
            with pytest.raises(ValueError, match="not found"):
                await client.count("none")
            return answer.points[0].id, records[0].payload, (await client.count("c")).count

    assert asyncio.run(run()) == (2, {"a": 1}, 2)


def test_sync_and_async_share_one_engine(tmp_path):
    async def run():
        async with connect_async(tmp_path) as client:
            assert isinstance(client, EmbeddedAsyncQdrantClient)
            with connect(tmp_path) as sync_client:
                sync_client.create_collection("c", vectors_config=UNIT)
                await client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0])])
                assert sync_client.count("c").count == 1
            await client.flush("c")
            assert not await client.optimize("c")
            return (await client.count("c")).count

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize("opening", [connect, connect_async])
def test_a_client_that_is_dropped_lets_go_of_the_folder(tmp_path, opening):
    client = opening(tmp_path)
    assert tmp_path.resolve() in store._registry
    del client
    gc.collect()
    assert tmp_path.resolve() not in store._registry


def test_an_async_url_gives_the_stock_client():
    async def run():
        async with connect_async("http://example.org:6333", check_compatibility=False) as client:
            return client.init_options["url"]

    assert asyncio.run(run()) == "http://example.org:6333"


def test_importing_connect_loads_no_client():
    code = (
        "import sys, clip_qdrant.storage.connect; print('qdrant_client' in sys.modules, 'qdrant_edge' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_root())
    assert result.stdout.split() == ["False", "False"]


def _root():
    import clip_qdrant

    return os.path.dirname(os.path.dirname(clip_qdrant.__file__))
