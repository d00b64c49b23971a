"""The async methods: one client, the same answers, and an event loop that goes on."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode as Mode
from qdrant_client import AsyncQdrantClient

from clip_qdrant import connect, connect_async
from clip_qdrant.errors import ConfigError, InvalidPointError
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from tests.heartbeat import ROUNDS, Heartbeat, least_missed


def make_nodes(count=3):
    return [
        TextNode(id_=f"n{number}", text=f"text {number}", embedding=[1.0, number / count]) for number in range(count)
    ]


def ask(**options):
    return VectorStoreQuery(query_embedding=[1.0, 0.0], **{"similarity_top_k": 2, **options})


def test_every_async_method_does_as_its_twin(client, name):
    async def run():
        store = ClipQdrantVectorStore(name, client=client, enable_hybrid=True)
        assert await store.async_add(make_nodes()) == ["n0", "n1", "n2"]
        assert await store.async_add([]) == []
        for query in (ask(), ask(mode=Mode.MMR), ask(mode=Mode.HYBRID, query_str="text 2"), ask(filters={"$id": []})):
            assert await store.aquery(query) == store.query(query)
        assert [node.node_id for node in await store.aget_nodes(["n1"])] == ["n1"]
        await store.adelete_nodes(filters={"$id": [store.client.scroll(name)[0][0].id]})
        assert len(await store.aget_nodes(limit=9)) == 2
        await store.aclear()
        assert not client.collection_exists(name)

    asyncio.run(run())


def test_errors_are_those_of_the_twins():
    async def run():
        store = ClipQdrantVectorStore("c", client=connect(":memory:"))
        await store.async_add(make_nodes())
        with pytest.raises(InvalidPointError, match="needs a query_embedding"):
            await store.aquery(VectorStoreQuery())
        with pytest.raises(ConfigError, match="delete_nodes needs node_ids"):
            await store.adelete_nodes()
        with pytest.raises(ConfigError, match="add does not take shard_identifier"):
            await store.async_add(make_nodes(), shard_identifier="x")

    asyncio.run(run())


def test_queries_go_through_a_servers_async_client_where_there_is_one(monkeypatch):
    client, aclient = connect(":memory:"), AsyncQdrantClient(url="http://localhost:1", check_compatibility=False)
    asked = []

    async def answer(name, requests):
        asked.append(len(requests))
        return memory(name, requests)

    async def run():
        early = ClipQdrantVectorStore("c", client=client, aclient=aclient)
        ClipQdrantVectorStore("c", client=client, enable_hybrid=True).add(make_nodes())
        expected = early.query(ask())
        monkeypatch.setattr(client, "query_batch_points", None)
        assert await early.aquery(ask()) == expected
        assert (await early.aquery(ask(mode=Mode.TEXT_SEARCH, query_str="…"))).ids == []

    memory = client.query_batch_points
    monkeypatch.setattr(aclient, "query_batch_points", answer)
    asyncio.run(run())
    assert asked == [2]


def test_an_async_query_of_a_servers_collection_that_others_deleted_finds_nothing(monkeypatch):
    client, aclient = connect(":memory:"), AsyncQdrantClient(url="http://localhost:1", check_compatibility=False)
    store = ClipQdrantVectorStore("c", client=client, aclient=aclient)
    store.add(make_nodes())

    async def answer(name, requests):
        return client.query_batch_points(name, requests)

    monkeypatch.setattr(aclient, "query_batch_points", answer)
    assert asyncio.run(store.aquery(ask())).ids == ["n0", "n1"]
    client.delete_collection("c")
    assert asyncio.run(store.aquery(ask())).ids == []
    store.add(make_nodes(1))
    monkeypatch.setattr(client, "query_batch_points", None)
    with pytest.raises(TypeError):
        asyncio.run(store.aquery(ask()))


def test_a_folders_async_client_is_taken_and_its_queries_take_turns_all_the_same(tmp_path, monkeypatch):
    async def run():
        async with connect_async(tmp_path) as aclient:
            with connect(tmp_path) as client:
                early = ClipQdrantVectorStore("c", client=client, aclient=aclient)
                ClipQdrantVectorStore("c", client=client).add(make_nodes())
                monkeypatch.setattr(aclient, "query_batch_points", None)
                assert await early.aquery(ask()) == await early.aquery(ask())
                return (await early.aquery(ask())).ids

    assert asyncio.run(run()) == ["n0", "n1"]


def test_in_local_mode_which_is_not_safe_in_threads_all_calls_take_turns(monkeypatch):
    active, most = [], []

    def busy(*arguments, **options):
        active.append(1)
        most.append(len(active))
        threading.Event().wait(0.01)
        active.pop()

    for name in ("add", "query", "get_nodes", "delete", "delete_nodes", "clear"):
        monkeypatch.setattr(ClipQdrantVectorStore, name, busy)

    async def run():
        client = connect(":memory:")
        for _ in range(2):
            stores = [ClipQdrantVectorStore("c", client=client) for _ in range(2)]
            await asyncio.gather(
                *(store.async_add([]) for store in stores), *(store.aquery(ask()) for store in stores),
                *(store.aget_nodes() for store in stores), *(store.adelete("d") for store in stores),
                *(store.adelete_nodes() for store in stores), *(store.aclear() for store in stores),
            )  # fmt: skip

    asyncio.run(run())
    assert len(most) == 24
    assert max(most) == 1


def test_one_store_serves_several_event_loops():
    store = ClipQdrantVectorStore("c", client=connect(":memory:"))
    store.add(make_nodes())

    async def run():
        return [answer.ids for answer in await asyncio.gather(*(store.aquery(ask()) for _ in range(3)))]

    assert asyncio.run(run()) == asyncio.run(run()) == [["n0", "n1"]] * 3


@pytest.mark.parametrize("backend", ["memory", "embedded"])
def test_the_loop_goes_on_while_two_hundred_queries_are_answered(tmp_path, backend):
    async def run():
        with connect(":memory:" if backend == "memory" else tmp_path) as client:
            store = ClipQdrantVectorStore("c", client=client)
            await store.async_add(make_nodes(200))
            await store.aquery(ask())

            async def work():
                for _ in range(ROUNDS):
                    answers = await asyncio.gather(*(store.aquery(ask()) for _ in range(200)))
                    assert [answer.ids for answer in answers] == [["n0", "n1"]] * 200

            assert await least_missed(work) <= 0.1

    asyncio.run(run())


def test_the_heartbeat_misses_what_blocks_the_loop():
    async def run():
        async with Heartbeat() as heart:
            for _ in range(4):
                time.sleep(0.1)
                await asyncio.sleep(0)
        async with Heartbeat() as free:
            await asyncio.sleep(0.3)
        return heart.missed, free.missed

    blocked, free = asyncio.run(run())
    assert blocked > 0.8 and free < 0.1
