"""What a Qdrant server does for us, over REST and gRPC, with and without a key; memory and a folder do the same."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import pytest
from PIL import Image
from qdrant_client import models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from clip_qdrant import ClipCollection, Record, connect
from clip_qdrant.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    ServerAccessError,
    ServerUnreachableError,
)
from clip_qdrant.storage.connect import connect_async
from clip_qdrant.storage.vectors import VectorCollection
from clip_qdrant.testing import FakeEncoder
from tests import servers

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

UNIT = models.VectorParams(size=2, distance=models.Distance.COSINE)
SERVED = [
    pytest.param((kind, prefer_grpc), id=f"{kind}-{'grpc' if prefer_grpc else 'rest'}", marks=pytest.mark.server)
    for kind in ("open", "key")
    for prefer_grpc in (False, True)
]


@pytest.fixture(params=["memory", "embedded", *SERVED])
def served(request, tmp_path, name):
    """A client of each backend and, of a server, over each way to it."""
    if isinstance(request.param, str):
        with connect(":memory:" if request.param == "memory" else tmp_path / "qdrant") as client:
            yield client
        return
    kind, prefer_grpc = request.param
    server = request.getfixturevalue(f"{kind}_server")
    with server.connect(prefer_grpc=prefer_grpc) as client:
        yield client
    server.drop_collections(name)


@pytest.fixture
def points(served, name):
    """Five points on a quarter of a circle, from (1, 0) on."""
    served.create_collection(name, vectors_config=UNIT)
    served.create_payload_index(name, "kind", models.PayloadSchemaType.KEYWORD)
    served.upsert(
        name,
        [
            models.PointStruct(
                id=i, vector=[np.cos(i / 4), np.sin(i / 4)], payload={"kind": "even" if i % 2 == 0 else "odd", "n": i}
            )
            for i in range(5)
        ],
        wait=True,
    )
    return name


def ids(found):
    return [point.id for point in found]


def having(**conditions):
    return models.Filter(
        must=[models.FieldCondition(key=key, match=models.MatchValue(value=value)) for key, value in conditions.items()]
    )


def square(colour):
    return Image.new("RGB", (8, 8), colour)


def test_a_query_ranks_by_cosine(served, points):
    found = served.query_points(points, query=[1.0, 0.0], limit=3, with_payload=True).points
    assert ids(found) == [0, 1, 2]
    assert [point.score for point in found] == pytest.approx(np.cos([0, 0.25, 0.5]), abs=1e-5)
    assert found[1].payload == {"kind": "odd", "n": 1}


def test_a_filter_narrows(served, points):
    assert ids(served.query_points(points, query=[1.0, 0.0], query_filter=having(kind="odd")).points) == [1, 3]
    above = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gt=1, lte=3))])
    assert ids(served.query_points(points, query=[1.0, 0.0], query_filter=above).points) == [2, 3]
    assert served.query_points(points, query=[1.0, 0.0], query_filter=having(kind="neither")).points == []


def test_scrolling_pages_through_everything_once(served, points):
    first, after = served.scroll(points, limit=3, with_vectors=True)
    rest, end = served.scroll(points, limit=3, offset=after)
    assert (ids(first), after, ids(rest), end) == ([0, 1, 2], 3, [3, 4], None)
    np.testing.assert_allclose(first[2].vector, [np.cos(0.5), np.sin(0.5)], atol=1e-6)


def test_what_is_written_again_is_replaced(served, points):
    served.upsert(points, [models.PointStruct(id=1, vector=[0.0, 1.0], payload={"kind": "new"})], wait=True)
    (record,) = served.retrieve(points, [1], with_vectors=True)
    assert record.payload == {"kind": "new"}
    assert record.vector == pytest.approx([0.0, 1.0])
    assert served.count(points).count == 5


def test_what_is_deleted_is_gone(served, points):
    served.delete(points, [0, 99], wait=True)
    served.delete(points, models.FilterSelector(filter=having(kind="odd")), wait=True)
    assert ids(served.scroll(points)[0]) == [2, 4]
    served.delete_collection(points)
    assert not served.collection_exists(points)


def test_many_points_arrive(served, name):
    served.create_collection(name, vectors_config=UNIT)
    vectors = np.random.default_rng(0).normal(size=(2_000, 2)).astype(np.float32)
    served.upload_collection(name, vectors, ids=range(2_000), batch_size=300, wait=True)
    assert served.count(name, exact=True).count == 2_000


def test_a_collection_of_pictures_from_first_to_last(served, name):
    collection = ClipCollection(served, name, FakeEncoder())
    assert collection.search("red") == []
    records = [
        Record(colour, square(colour), metadata={"warm": colour == "red"}) for colour in ("red", "green", "blue")
    ]
    records.append(Record("note", text="a red note", metadata={"pages": 3, "tags": ["ä", "b"]}))
    assert collection.add(records).embedded == 4
    assert collection.add(records).embedded == 0

    (best,) = collection.search("something red", limit=1)
    assert (best.source, best.metadata["warm"]) == ("red", True)
    assert {hit.source for hit in collection.search("red", where="warm == false", limit=9)} == {"green", "blue"}
    assert {hit.source for hit in collection.search("red", using="both", limit=2)} == {"red", "note"}
    (note,) = collection.search("red", using="text", limit=1, with_vectors=True)
    assert note.metadata["tags"] == ["ä", "b"]
    np.testing.assert_allclose(note.vector, collection.encoder.embed_texts(["a red note"])[0], atol=1e-6)
    assert {hit.source for hit in collection.recommend([best.id], where={"warm": False})} == {"green", "blue"}

    assert collection.delete([best.id]) == 1
    assert collection.delete(where={"pages": {"gte": 3}}) == 1
    assert sorted(hit.source for hit in VectorCollection(served, name).scan()) == ["blue", "green"]


def test_a_collection_remembers_its_encoder(served, name):
    ClipCollection(served, name, FakeEncoder())
    assert VectorCollection(served, name).fingerprint == FakeEncoder().fingerprint
    ClipCollection(served, name, FakeEncoder())
    for other in (FakeEncoder(name="other"), FakeEncoder(dim=48)):
        with pytest.raises(CollectionMismatchError, match=name):
            ClipCollection(served, name, other)


def test_a_collection_that_is_not_there(served, name):
    with pytest.raises(CollectionNotFoundError, match=name):
        VectorCollection(served, name)


@pytest.mark.server
def test_the_container_runs_the_pinned_version(request):
    if servers.named_server():
        pytest.skip("the server at QDRANT_URL may be of any version")
    with request.getfixturevalue("open_server").connect() as client:
        assert f"qdrant/qdrant:v{client.info().version}" == servers.pinned_image()


WRONG = "wr0ng-key-of-this-test"


def complaint(server, caplog, *, prefer_grpc):
    """What one sees of a refused request: the error's text, with those under it, the client and the log."""
    caplog.set_level(logging.DEBUG)
    with server.connect(prefer_grpc=prefer_grpc, timeout=5) as client:
        with pytest.raises(Exception) as raised:
            ClipCollection(client, "any", FakeEncoder())
        seen = [str(raised.value), repr(raised.value), str(raised.value.__cause__), repr(client), repr(server)]
    return "\n".join(seen) + caplog.text


@pytest.mark.server
@pytest.mark.parametrize("prefer_grpc", [False, True], ids=["rest", "grpc"])
@pytest.mark.parametrize(("key", "reason"), [(WRONG, "Invalid API key"), (None, "provide an API key")])
def test_a_server_says_what_is_wrong_with_the_key(key_server, caplog, prefer_grpc, key, reason):
    said = complaint(replace(key_server, api_key=key), caplog, prefer_grpc=prefer_grpc)
    assert reason in said
    assert WRONG not in said
    assert key_server.api_key not in said


@contextmanager
def refusing(reason, keys):
    """A REST and a gRPC endpoint that refuse all requests as Qdrant does, and note by which way which keys came."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self):
            keys.append(("rest", self.headers["api-key"]))
            self.send_response(401)
            self.send_header("Content-Length", str(len(reason)))
            self.end_headers()
            self.wfile.write(reason.encode())

        do_PUT = do_POST = do_GET

        def log_message(self, *_):
            pass

    class RefuseCalls(grpc.GenericRpcHandler):
        def service(self, call):
            keys.append(("grpc", dict(call.invocation_metadata).get("api-key")))
            return grpc.unary_unary_rpc_method_handler(
                lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)
            )

    rest = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=rest.serve_forever, args=(0.01,), daemon=True).start()
    calls = grpc.server(ThreadPoolExecutor(1), handlers=[RefuseCalls()])
    port = calls.add_insecure_port("127.0.0.1:0")
    calls.start()
    try:
        yield servers.Server(f"http://127.0.0.1:{rest.server_port}", port)
    finally:
        calls.stop(None).wait()
        rest.shutdown()
        rest.server_close()


@pytest.mark.parametrize("prefer_grpc", [False, True], ids=["rest", "grpc"])
@pytest.mark.parametrize("key", [WRONG, None])
def test_a_refusal_is_passed_on_without_the_key(caplog, prefer_grpc, key):
    keys = []
    with refusing("Invalid API key or JWT", keys) as server:
        said = complaint(replace(server, api_key=key), caplog, prefer_grpc=prefer_grpc)
    assert "Invalid API key or JWT" in said
    assert WRONG not in said
    assert set(keys) == {("grpc" if prefer_grpc else "rest", key)}


@pytest.mark.parametrize("prefer_grpc", [False, True], ids=["rest", "grpc"])
def test_nobody_there_is_an_error_without_the_key(caplog, prefer_grpc):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, but it does not listen
        port = bound.getsockname()[1]
        server = servers.Server(f"http://127.0.0.1:{port}", port, WRONG)
        said = complaint(server, caplog, prefer_grpc=prefer_grpc)
    assert "refused" in said
    assert WRONG not in said


async def ask_async(location, **options):
    async with connect_async(location, check_compatibility=False, **options) as client:
        await client.get_collections()


def ask(location, **options):
    with connect(location, check_compatibility=False, **options) as client:
        client.get_collections()


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
@pytest.mark.parametrize("asked", [ask, lambda *args, **options: asyncio.run(ask_async(*args, **options))])
def test_a_refused_key_and_a_silent_server_are_errors_of_ours_and_of_the_stock_client(asked):
    with refusing("Invalid API key or JWT", []) as server:
        with_password = server.url.replace("//", "//user:secret@")
        with pytest.raises(ServerAccessError, match=r"\(401: Invalid API key or JWT\)\. Give its key:") as refused:
            asked(with_password, api_key=WRONG)
    assert isinstance(refused.value, UnexpectedResponse)
    assert refused.value.status_code == 401
    assert server.url in str(refused.value)
    assert "secret" not in str(refused.value)
    with pytest.raises(ServerUnreachableError, match=rf"{server.url} does not answer: .+ Check the URL") as silent:
        asked(server.url)
    assert isinstance(silent.value, ResponseHandlingException)


def test_the_environment_names_a_server(monkeypatch):
    for variable in ("QDRANT_URL", "QDRANT_API_KEY", "QDRANT_GRPC_PORT"):
        monkeypatch.delenv(variable, raising=False)
    assert servers.named_server() is None
    monkeypatch.setenv("QDRANT_URL", "http://example.org:7000")
    monkeypatch.setenv("QDRANT_API_KEY", "")
    assert servers.named_server() == servers.Server("http://example.org:7000", 6334, None)
    monkeypatch.setenv("QDRANT_API_KEY", WRONG)
    monkeypatch.setenv("QDRANT_GRPC_PORT", "7001")
    assert servers.named_server() == servers.Server("http://example.org:7000", 7001, WRONG)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs a Unix socket")
@pytest.mark.parametrize("listens", [False, True])
def test_asking_a_docker_that_does_not_answer_is_quick_and_silent(monkeypatch, tmp_path, listens):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "docker.sock"))
        if listens:
            silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        began = time.monotonic()
        assert servers.trouble_with_docker.__wrapped__(timeout=0.2) == "Docker does not answer"
        assert time.monotonic() - began < 10
        if listens:
            silent.setblocking(False)
            silent.accept()[0].close()  # it was asked
