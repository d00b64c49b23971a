"""What every test shares: no network, and a client of each backend."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # tests run in parallel, on models so small that threads only cost

import asyncio
import uuid
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from clip_qdrant import connect
from tests import servers

PHOTOS = Path(__file__).parents[2] / "shared" / "photos"


@pytest.fixture
def one_thread():
    """Sums in another order end in other bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def photos():
    """The folder of sample photos beside the checkout."""
    if not PHOTOS.is_dir():
        pytest.skip("the sample photos are not beside this checkout")
    return PHOTOS


@pytest.fixture(scope="session")
def open_server():
    """A server that asks for no key. pytest remembers the skip, or the failure, for all tests of the session."""
    named = servers.named_server()
    if named and named.api_key:
        pytest.skip("the server at QDRANT_URL has a key: no server without one")
    with nullcontext(named) if named else _container(with_key=False) as server:
        yield server


@pytest.fixture(scope="session")
def key_server():
    """A server that asks for a key."""
    named = servers.named_server()
    if named and not named.api_key:
        pytest.skip("no server with a key: QDRANT_URL is set without QDRANT_API_KEY")
    with nullcontext(named) if named else _container(with_key=True) as server:
        yield server


def _container(*, with_key):
    trouble = servers.trouble_with_docker()
    if trouble:
        pytest.skip(f"no Qdrant server: QDRANT_URL is not set, and {trouble}")
    return servers.container(with_key=with_key)


@pytest.fixture
def server(request):
    """A server, whether it has a key or not."""
    named = servers.named_server()
    return named or request.getfixturevalue("open_server")


@pytest.fixture(params=["memory", "embedded", pytest.param("server", marks=pytest.mark.server)])
def client(request, tmp_path, name):
    """A client of each backend; a server outlives the test, so its collections are dropped."""
    if request.param == "server":
        server = request.getfixturevalue("server")
        with server.connect() as client:
            yield client
        server.drop_collections(name)
    else:
        with connect(":memory:" if request.param == "memory" else tmp_path / "qdrant") as client:
            yield client


@pytest.fixture
def name():
    """A collection's name that no other test uses, on a server either."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def swatches(tmp_path):
    """A folder of pictures of one colour each, named after it."""
    folder = tmp_path / "swatches"
    folder.mkdir()
    for colour in ("red", "green", "blue", "yellow"):
        Image.new("RGB", (16, 16), colour).save(folder / f"{colour}.png")
    return folder


@pytest.fixture
def event_loop_of_the_thread():
    """For LlamaIndex, which makes an event loop where the thread has none, and never closes it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
