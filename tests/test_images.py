from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from clip_qdrant.errors import ConfigError, ImageDecodeError, ImageNotFoundError, ImageReadError, ImageTooLargeError
from clip_qdrant.images import content_hash, describe_source, open_image
from tests.image_corpus import BLUE, CASES, GOLD, GREEN, RED, Case, encode, exif, gray, noise, quadrants

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"


def corners(image: Image.Image) -> list[tuple[int, int, int]]:
    width, height = image.size
    points = [(width // 4, height // 4), (width * 3 // 4, height // 4)]
    return [image.getpixel(point) for point in [*points, *((x, height * 3 // 4) for x, _ in points)]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One for all cases: two hundred folders take longer to remove than the tests take to run."""
    return tmp_path_factory.mktemp("images")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_image_of_the_corpus_has_its_exact_outcome(case: Case, folder: Path):
    source = case.make(folder)
    if case.error is not None:
        with pytest.raises(case.error) as caught:
            open_image(source, **case.options)
        assert type(caught.value) is case.error
        assert caught.value.reason == case.reason
        assert caught.value.source == describe_source(source)
        assert len(caught.value.source) <= 220
        assert caught.value.source.isprintable()
        return
    image = open_image(source, **case.options)
    assert (type(image), image.mode, image.size, image.info) == (Image.Image, "RGB", case.size, {})
    assert np.abs(np.array(corners(image)) - np.array(case.corners)).max() <= case.tolerance


def test_the_corpus_is_large_and_named_apart():
    assert len({case.name for case in CASES}) == len(CASES) >= 100


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the sample photos are not beside the repository")
def test_every_real_photo_opens_as_pillow_opens_it():
    paths = sorted(PHOTOS.glob("*.jpg"))
    assert len(paths) == 111
    for path in paths:
        assert open_image(path).tobytes() == Image.open(path).convert("RGB").tobytes()
        assert min(open_image(path, min_side=64).size) >= 128


@pytest.mark.parametrize(
    ("min_side", "size"),
    [
        (None, (1200, 800)),
        (400, (1200, 800)),
        (201, (1200, 800)),
        (200, (600, 400)),
        (100, (300, 200)),
        (1, (150, 100)),
    ],
)
def test_a_jpeg_is_scaled_by_halves_and_stays_at_twice_the_side(min_side, size):
    image = open_image(encode(quadrants(1200, 800), "JPEG", quality=95), min_side=min_side)
    assert image.size == size
    assert np.abs(np.array(corners(image)) - np.array([RED, GREEN, BLUE, GOLD])).max() <= 4


def test_scaling_goes_with_orientation_and_leaves_other_formats_alone():
    assert open_image(encode(quadrants(1200, 800), "JPEG", exif=exif(6)), min_side=100).size == (200, 300)
    assert open_image(encode(quadrants(1200, 800), "PNG"), min_side=100).size == (1200, 800)


@pytest.mark.parametrize("option", ["min_side", "max_pixels", "url_timeout", "url_max_bytes"])
def test_a_limit_must_be_positive(option):
    with pytest.raises(ConfigError, match=f"^{option} must be positive, got 0.$"):
        open_image(b"", **{option: 0})


def test_the_pixel_limit_is_inclusive_and_holds_for_every_kind_of_source():
    picture = quadrants(10, 10)
    for source in (encode(picture, "PNG"), picture, np.asarray(picture)):
        assert open_image(source, max_pixels=100).size == (10, 10)
        with pytest.raises(ImageTooLargeError, match=r"10x10 pixels are more than the limit of 99\."):
            open_image(source, max_pixels=99)


def test_pillows_own_limit_has_no_say(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # over ten pixels Pillow itself would warn, and over twenty fail
    for form in ("PNG", "GIF", "WEBP", "TIFF", "JPEG", "AVIF", "BMP", "PPM"):
        assert open_image(encode(quadrants(), form)).size == (64, 48)
    assert open_image(encode(quadrants(64, 64), "ICO", sizes=[(64, 64)])).size == (64, 64)


ARRAYS = {
    "gray": (np.array([[0, 255]], np.uint8), gray(0, 255)),
    "gray, one channel": (np.array([[[0], [255]]], np.uint8), gray(0, 255)),
    "rgb": (np.array([[RED, GREEN]], np.uint8), (RED, GREEN)),
    "rgba": (np.array([[(*RED, 0), (*GREEN, 255)]], np.uint8), ((255, 255, 255), GREEN)),
    "bool": (np.array([[False, True]]), gray(0, 255)),
    "uint16": (np.array([[200, 65535]], np.uint16), gray(1, 255)),
    "uint16, big-endian": (np.array([[200, 65535]], ">u2"), gray(1, 255)),
    "uint16 rgb": (np.array([[(0, 32768, 65535), (65535, 0, 0)]], np.uint16), ((0, 128, 255), (255, 0, 0))),
    "float32": (np.array([[0.2, 1.00005]], np.float32), gray(51, 255)),
    "float64 rgb": (np.array([[(0, 0.5, 1.0), (1.0, 0, 0)]]), ((0, 128, 255), (255, 0, 0))),
    "float16": (np.array([[0.0, 1.0]], np.float16), gray(0, 255)),
    "not contiguous": (np.array([[RED, BLUE, GREEN]], np.uint8)[:, ::2], (RED, GREEN)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_open_pixel_by_pixel(name):
    array, expected = ARRAYS[name]
    before = array.copy()
    image = open_image(array)
    assert (image.mode, image.size) == ("RGB", (2, 1))
    assert tuple(image.getpixel((x, 0)) for x in range(2)) == tuple(expected)
    assert (array == before).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(4, np.uint8), "shape (4,) is none of (H, W), (H, W, 1), (H, W, 3), (H, W, 4). Transpose it"),
        (np.zeros((3, 8, 8), np.uint8), "shape (3, 8, 8) is none of"),
        (np.zeros((8, 8, 2), np.uint8), "shape (8, 8, 2) is none of"),
        (np.zeros((0, 8, 3), np.uint8), "shape (0, 8, 3) has no pixels"),
        (np.zeros((8, 8), np.int64), "type int64 is none of uint8, uint16, bool and float in [0, 1]. Convert it with"),
        (np.zeros((8, 8), object), "type object is none of"),
        (np.full((8, 8), 255.0), "floats must be in [0, 1], got 255 to 255. Divide by 255, or undo"),
        (np.full((8, 8), -0.5), "floats must be in [0, 1], got -0.5 to -0.5."),
        (np.full((8, 8), np.nan), "floats must be in [0, 1], got nan to nan."),
    ],
)
def test_other_arrays_are_refused_with_the_reason(array, reason):
    with pytest.raises(ImageDecodeError) as caught:
        open_image(array)
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize("text", ["http://127.0.0.1/a.png", "data:image/png;base64,AAAA", "file:///a.png"])
def test_a_path_object_is_always_a_path(text):
    with pytest.raises(ImageNotFoundError, match="no such file"):
        open_image(Path(text), allow_url=True)


@pytest.mark.parametrize("source", [None, 7, [1, 2], bytearray(b"x"), io.StringIO("x")])
def test_what_is_no_source_says_what_is_one(source):
    with pytest.raises(
        ImageDecodeError, match="give a path, bytes, a BytesIO, a data URI, a PIL image or a numpy array"
    ):
        open_image(source)


@pytest.mark.parametrize("mode", ["RGB", "P", "PA", "RGBA", "RGBa", "La", "I;16", "CMYK", "1"])
def test_a_given_pil_image_is_never_changed(mode):
    if mode == "P":
        image = quadrants().quantize(4)
        image.info["transparency"] = bytes([0, 255, 255, 255])
    else:
        image = quadrants().convert("LA" if mode in ("La", "PA") else "RGBA" if mode == "RGBa" else "L").convert(mode)
    image.info["exif"] = exif(3)

    def state():
        palette = image.im.getpalette("RGBA", "RGBA") if image.mode in ("P", "PA") else None
        return image.mode, image.size, image.tobytes(), dict(image.info), palette

    before = state()
    opened = open_image(image)
    opened.paste((1, 2, 3), (0, 0, 64, 48))
    assert state() == before


def test_a_pil_image_keeps_its_frame_and_is_turned_upright_once():
    frames = {"save_all": True, "append_images": [Image.new("RGB", (64, 48), GOLD)], "lossless": True}
    lazy = Image.open(io.BytesIO(encode(quadrants(), "WEBP", **frames)))
    lazy.seek(1)
    assert corners(open_image(lazy)) == [GOLD] * 4
    turned = open_image(Image.open(io.BytesIO(encode(quadrants(), "PNG", exif=exif(6)))))
    assert corners(turned) == [BLUE, RED, GOLD, GREEN]
    assert corners(open_image(turned)) == [BLUE, RED, GOLD, GREEN]


def test_a_pil_image_that_cannot_be_used_is_a_typed_error():
    data = encode(noise(), "JPEG")
    with pytest.raises(ImageDecodeError, match="PIL image 64x48 RGB: its data is broken, cut short or closed"):
        open_image(Image.open(io.BytesIO(data[:-500])))
    closed = quadrants()
    closed.close()
    with pytest.raises(ImageDecodeError, match="closed"):
        open_image(closed)
    with pytest.raises(ImageDecodeError, match="PIL image 0x5 RGB: it has no pixels"):
        open_image(Image.new("RGB", (0, 5)))


def test_a_bytesio_keeps_its_position_and_stays_open():
    buffer = io.BytesIO(encode(quadrants(), "TIFF", compression="tiff_lzw"))
    buffer.seek(7)
    content_hash(buffer)
    open_image(buffer)
    assert (buffer.closed, buffer.tell()) == (False, 7)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every file, whatever its mode")
def test_a_file_without_permission_is_a_read_error(tmp_path):
    path = tmp_path / "a.png"
    path.touch(mode=0)
    with pytest.raises(ImageReadError, match="permission denied"):
        open_image(path)


def test_the_systems_errors_are_read_errors(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encode(quadrants(), "PNG"))

    def fail(*_args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ImageFile, "_safe_read", fail)
    with pytest.raises(ImageReadError) as caught:
        open_image(path)
    assert (caught.value.source, caught.value.reason) == (str(path), "reading it failed: Input/output error")
    monkeypatch.setattr(os, "open", lambda *_args: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(ImageReadError) as caught:
        open_image(path)
    assert caught.value.reason == "permission denied. Make it readable for this user"


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that opens and cannot be read")
@pytest.mark.parametrize("use", [open_image, content_hash])
def test_a_file_that_opens_and_cannot_be_read_is_a_read_error(use):
    with pytest.raises(ImageReadError) as caught:
        use("/proc/self/mem")
    assert caught.value.reason == "reading it failed: Input/output error"


def test_running_out_of_memory_is_not_the_images_fault(monkeypatch):
    def fail(*_args):
        raise MemoryError

    monkeypatch.setattr(ImageFile, "_safe_read", fail)
    with pytest.raises(MemoryError):
        open_image(encode(quadrants(), "PNG"))


def test_content_hash_is_of_the_bytes_wherever_they_are(tmp_path):
    data = encode(noise(), "PNG") + b"\0" * (1 << 20)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    uri = "data:image/png," + "".join(f"%{byte:02x}" for byte in data)
    expected = hashlib.sha256(data).hexdigest()
    assert {content_hash(source) for source in (path, str(path), path.as_uri(), data, io.BytesIO(data), uri)} == {
        expected
    }
    assert content_hash(b"") == hashlib.sha256(b"").hexdigest()


def test_content_hash_of_pixels_is_of_the_picture():
    picture = quadrants()
    same = {content_hash(picture), content_hash(np.asarray(picture)), content_hash(picture.quantize(4))}
    assert same == {hashlib.sha256(b"RGB 64x48 " + picture.tobytes()).hexdigest()}
    recoloured = picture.quantize(4)
    recoloured.putpalette(recoloured.getpalette()[::-1])
    turned = picture.copy()
    turned.info["exif"] = exif(3)
    others = [recoloured, turned, Image.new("RGB", (6, 4)), Image.new("RGB", (4, 6)), Image.new("RGB", (8, 3))]
    assert len({content_hash(image) for image in others} - same) == len(others)


def test_descriptions_are_short_and_keep_secrets():
    assert describe_source(b"x" * 1024) == "bytes (1,024)"
    assert describe_source(io.BytesIO(b"x" * 1024)) == "BytesIO (1,024)"
    assert describe_source("data:image/png;base64," + "A" * 10000) == "data URI (image/png, 10,022 characters)"
    assert describe_source("data:,x") == "data URI (no type, 7 characters)"
    assert describe_source(quadrants()) == "PIL image 64x48 RGB"
    assert describe_source(np.zeros((64, 64, 3), np.uint8)) == "array (64, 64, 3) uint8"
    assert describe_source("https://me:secret@host:8443/a.png?token=secret#x") == "https://host:8443/a.png"
    assert describe_source("https://[me:secret@host/a.png") == "https URL"
    assert describe_source(Path("http://me:secret@host/a.png")) == "http:/me:secret@host/a.png"
    assert describe_source("a\nb\0.jpg") == r"'a\nb\x00.jpg'"
    assert describe_source("x" * 5000) == "x" * 100 + "…" + "x" * 100


def test_importing_it_loads_no_model():
    code = "import sys, clip_qdrant.images; print({'torch', 'transformers', 'qdrant_client'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
