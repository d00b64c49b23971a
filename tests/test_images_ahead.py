from __future__ import annotations

import threading
import warnings

import pytest
from PIL import Image

from clip_qdrant.errors import ConfigError, ImageDecodeError, ImageNotFoundError, ImageTooLargeError
from clip_qdrant.images import ahead, decode_ahead
from tests.image_corpus import encode, quadrants, tiff


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_order_is_kept_and_errors_stand_in_their_places():
    sources = [encode(Image.new("RGB", (side, 1)), "PNG") for side in range(1, 41)]
    sources[3], sources[7] = b"", "missing.jpg"
    results = list(decode_ahead(sources, threads=4))
    assert [type(results[i]) for i in (3, 7)] == [ImageDecodeError, ImageNotFoundError]
    assert [image.width for i, image in enumerate(results) if i not in (3, 7)] == [
        side for side in range(1, 41) if side not in (4, 8)
    ]


def test_empty():
    assert list(decode_ahead([])) == []


def test_options_reach_every_image():
    jpeg = encode(quadrants(800, 600), "JPEG")
    assert [image.size for image in decode_ahead([jpeg] * 3, min_side=100)] == [(400, 300)] * 3
    assert [type(error) for error in decode_ahead([jpeg], max_pixels=100)] == [ImageTooLargeError]


def test_the_sources_are_read_a_bounded_number_ahead():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield encode(quadrants(4, 4), "PNG")

    images = decode_ahead(endless(), threads=2, ahead=5)
    assert taken == 0
    for read in range(1, 20):
        assert next(images).size == (4, 4)
        assert taken == read + 4
    images.close()
    assert decoding_threads() == []


def test_closing_early_cancels_what_has_not_begun(monkeypatch):
    begun, release = [], threading.Event()

    def slow(source, **_options):
        begun.append(source)
        if source != b"0":
            release.wait(5)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(ahead, "open_image", slow)
    images = decode_ahead((str(i).encode() for i in range(1000)), threads=1, ahead=50)
    next(images)
    threading.Timer(0.05, release.set).start()
    images.close()
    assert len(begun) <= 3
    assert decoding_threads() == []


def test_other_exceptions_are_raised_and_end_the_threads(monkeypatch):
    def sources():
        yield encode(quadrants(4, 4), "PNG")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(decode_ahead(sources(), ahead=1))
    assert decoding_threads() == []

    def out_of_memory(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(ahead, "open_image", out_of_memory)
    with pytest.raises(MemoryError):
        list(decode_ahead([b""]))
    assert decoding_threads() == []


@pytest.mark.parametrize("option", ["threads", "ahead"])
def test_a_number_must_be_at_least_one_and_is_checked_at_once(option):
    with pytest.raises(ConfigError, match=f"^{option} must be at least 1, got 0.$"):
        decode_ahead([], **{option: 0})


def test_many_threads_neither_warn_nor_touch_the_filters():
    filters = list(warnings.filters)
    odd = tiff((257, 3, 2, 2 | 2 << 16))  # Pillow warns of it
    results = list(decode_ahead([odd] * 200, threads=8))
    assert [image.size for image in results] == [(2, 2)] * 200
    assert warnings.filters == filters
