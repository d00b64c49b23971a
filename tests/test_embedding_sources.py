"""Base64 without the head of a data URI, as an image for `ClipEmbedding`."""

import asyncio
import base64
import os

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.callbacks.schema import CBEventType, EventPayload

from clip_qdrant import ClipEmbedding
from clip_qdrant.errors import ImageDecodeError, ImageError, ImageFetchError, ImageNotFoundError
from clip_qdrant.testing import FakeEncoder
from tests.nodes import BASE64, DATA_URI, RED, URL, png

EMBEDDING = ClipEmbedding(encoder=FakeEncoder())
WANTED = FakeEncoder().embed_images([RED])[0].tolist()

ways = pytest.mark.parametrize(
    "way",
    [
        EMBEDDING.get_image_embedding,
        lambda image: EMBEDDING.get_image_embedding_batch([image])[0],
        lambda image: asyncio.run(EMBEDDING.aget_image_embedding(image)),
        EMBEDDING._get_image_embedding,
    ],
    ids=["one", "batch", "async", "hook"],
)


@ways
@pytest.mark.parametrize(
    "image",
    [BASE64, base64.encodebytes(RED).decode(), f" {BASE64}\n", DATA_URI],
    ids=["plain", "lines", "space", "URI"],
)
def test_base64_of_an_image_is_that_image(way, image):
    assert way(image) == WANTED


def test_base64_longer_than_any_path_is_an_image():
    image = os.urandom(9_000)
    noisy = png("red", 16) + image  # what comes after a PNG's end is not looked at
    assert EMBEDDING.get_image_embedding(base64.b64encode(noisy).decode()) == WANTED


def test_what_is_a_path_stays_a_path(tmp_path, monkeypatch):
    """Also where it would be base64 of another image."""
    monkeypatch.chdir(tmp_path)
    small = "Qk1" + "A" * 9  # which begins as a BMP does
    (tmp_path / small).write_bytes(RED)
    assert EMBEDDING.get_image_embedding(small) == WANTED
    (tmp_path / small).unlink()
    os.symlink("nowhere", small)
    with pytest.raises(ImageNotFoundError, match=f"Cannot open image {small}: no such file$"):
        EMBEDDING.get_image_embedding(small)


@ways
@pytest.mark.parametrize("image", ["bear.png", "images/bear", "abcd", "", "~", "bär", "a\0b"])
def test_what_is_nothing_of_it_names_all_that_it_could_be(way, image):
    with pytest.raises(ImageNotFoundError, match=r"no such file, and no base64 of an image.*base64, a data URI, a PIL"):
        way(image)


def test_base64_of_what_is_no_image_or_half_of_one_is_an_error_without_the_base64():
    for content in (os.urandom(9_000), RED[:45]):
        encoded = base64.b64encode(content).decode()
        with pytest.raises(ImageError) as error:
            EMBEDDING.get_image_embedding(encoded)
        assert encoded[:40] not in str(error.value)
    with pytest.raises(ImageDecodeError):
        EMBEDDING.get_image_embedding(base64.b64encode(RED[:45]).decode())


def test_a_url_is_still_a_url():
    with pytest.raises(ImageFetchError, match="URLs are not opened"):
        EMBEDDING.get_image_embedding(URL)
    with pytest.raises(ImageNotFoundError, match=r"nowhere\.png: no such file$"):
        EMBEDDING.get_image_embedding("file:///nowhere.png")


def test_events_name_base64_and_do_not_show_it():
    handler = LlamaDebugHandler(print_trace_on_end=False)
    embedding = ClipEmbedding(encoder=FakeEncoder(), callback_manager=CallbackManager([handler]))
    embedding.get_image_embedding_batch([BASE64, RED])
    ((_, end),) = handler.get_event_pairs(CBEventType.EMBEDDING)
    assert end.payload[EventPayload.CHUNKS] == [f"base64 ({len(BASE64):,} characters)", f"bytes ({len(RED):,})"]
