"""What every test shares: no network, and a client of each backend."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # tests run in parallel, on models so small that threads only cost

import uuid
from pathlib import Path

import pytest
from PIL import Image

from clip_qdrant import connect

PHOTOS = Path(__file__).parents[2] / "shared" / "photos"


@pytest.fixture(scope="session")
def photos():
    """The folder of sample photos beside the checkout."""
    if not PHOTOS.is_dir():
        pytest.skip("the sample photos are not beside this checkout")
    return PHOTOS


@pytest.fixture(params=["memory", "embedded", pytest.param("server", marks=pytest.mark.server)])
def client(request, tmp_path):
    """A client of each backend; the server is the one at QDRANT_URL."""
    if request.param == "server":
        url = os.environ.get("QDRANT_URL")
        if not url:
            pytest.skip("no Qdrant server: set QDRANT_URL")
        location = url
    else:
        location = ":memory:" if request.param == "memory" else tmp_path / "qdrant"
    with connect(location, api_key=os.environ.get("QDRANT_API_KEY") if request.param == "server" else None) as client:
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
