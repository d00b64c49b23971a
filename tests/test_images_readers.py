"""What the readers promise about threads and warnings: nothing outside of them is touched."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import threading
import warnings
from pathlib import Path

import pytest
from PIL import (
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clip_qdrant.errors import ImageTooLargeError
from clip_qdrant.images import open_image
from clip_qdrant.images.readers import TooManyPixels, check_pixels, pixel_limit
from tests.image_corpus import CASES, encode, quadrants, tiff

WARNING_PLACES = {
    "TiffImagePlugin": {"_setitem", "load"},
    "PngImagePlugin": {"chunk_acTL"},
    "IcoImagePlugin": {"load"},
    "JpegImagePlugin": {"jpeg_factory"},  # not used: the class is, and an MPO is read as the JPEG that it begins with
}


@pytest.mark.parametrize("name", ["Jpeg", "Png", "Gif", "WebP", "Avif", "Tiff", "Bmp", "Ico", "Ppm"])
def test_pillow_warns_only_where_the_readers_are_known_to_be_silent(name):
    module = importlib.import_module(f"PIL.{name}ImagePlugin")
    places = {
        function.name
        for function in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(function, ast.FunctionDef) and "warnings.warn" in ast.unparse(function)
    }
    assert places == WARNING_PLACES.get(f"{name}ImagePlugin", set())


def test_the_corpus_makes_pillow_itself_warn():
    odd = ["tiff: a tag beyond the end", "tiff: a tag larger than the file", "tiff: two heights", "apng of no frames"]
    odd += ["exif: length beyond the end", "exif: corrupt in avif"]
    for case in CASES:
        if case.name in odd:
            with pytest.warns(UserWarning), Image.open(io.BytesIO(case.make(Path()))) as image:
                image.load()
                image.getexif()
            odd.remove(case.name)
    assert odd == []


def test_pillows_own_classes_still_warn_afterwards():
    data = tiff((257, 3, 2, 2 | 2 << 16))
    filters = list(warnings.filters)
    open_image(data)
    assert warnings.filters == filters
    assert TiffImagePlugin.warnings is PngImagePlugin.warnings is IcoImagePlugin.warnings is warnings
    assert JpegImagePlugin.Image is GifImagePlugin.Image is Image
    assert Image.OPEN["TIFF"][0] is TiffImagePlugin.TiffImageFile


def test_the_pixel_limit_is_of_one_thread():
    seen = []

    def other():
        with pixel_limit(10):
            entered.set()
            inner_done.wait(5)
            try:
                check_pixels((4, 4))
            except TooManyPixels as error:
                seen.append(error.size)

    entered, inner_done = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(5)
    with pixel_limit(100):
        check_pixels((10, 10))
    inner_done.set()
    thread.join()
    assert seen == [(4, 4)]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "ICO"])
def test_what_a_reader_allocates_when_it_is_made_is_checked_before(form, monkeypatch):
    """These make a canvas in their constructor, where a check of the opened image's size would come too late."""
    data = bytearray(encode(quadrants(), form, **({"disposal": 2} if form == "GIF" else {})))
    if form == "GIF":
        place = data.index(b"\x2c\0\0\0\0")
        data[place + 5 : place + 9] = b"\xff\xff\xff\xff"  # one frame of 65,535 by 65,535
    made = []
    monkeypatch.setattr(Image.core, "fill", lambda *size: made.append(size))
    monkeypatch.setattr(WebPImagePlugin._webp, "WebPAnimDecoder", made.append)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: made.append(self.size))
    with pytest.raises(ImageTooLargeError, match="pixels are more than the limit of 1,000"):
        open_image(bytes(data), max_pixels=1000)
    assert made == []
