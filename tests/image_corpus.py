"""Good, odd and bad images, made on the fly, each with the exact outcome of opening it."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clip_qdrant.errors import (
    ImageDecodeError,
    ImageError,
    ImageFetchError,
    ImageNotFoundError,
    ImageReadError,
    ImageTooLargeError,
)

Color = tuple[int, int, int]
RED, GREEN, BLUE, GOLD = (200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 200, 30)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FORMATS = "JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, ICO, PPM"


@dataclass(frozen=True)
class Case:
    """One source. `corners` are the colours a quarter in from top left, top right, bottom left, bottom right."""

    name: str
    make: Callable[[Path], Any]
    size: tuple[int, int] = (64, 48)
    corners: tuple[Color, Color, Color, Color] = (RED, GREEN, BLUE, GOLD)
    tolerance: int = 0
    error: type[ImageError] | None = None
    reason: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def quadrants(width: int = 64, height: int = 48) -> Image.Image:
    """Four colours, so that every way of turning it over is told apart."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(GOLD, (width // 2, height // 2, width, height))
    return image


def noise(width: int = 64, height: int = 48) -> Image.Image:
    """Pixels that do not compress, so that a file cut anywhere is a picture cut somewhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand; `rows` has a filter byte before each row, `extra` chunks stand before the pixels."""
    header = struct.pack(">LLBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + b"".join(
        struct.pack(">L", len(data)) + tag + data + struct.pack(">L", zlib.crc32(tag + data)) for tag, data in chunks
    )


def tiff(*tags: tuple[int, int, int, int], pixels: bytes = b"\x80" * 4) -> bytes:
    """A 2x2 gray TIFF by hand, with more tags (tag, type, count, value)."""
    base = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    base += [(273, 4, 1, 8), (278, 3, 1, 2), (279, 4, 1, 4)]
    rows = sorted({row[0]: row for row in [*base, *tags]}.values())
    entries = b"".join(struct.pack("<HHLL", *row) for row in rows)
    return b"II*\0" + struct.pack("<L", 12) + pixels + struct.pack("<H", len(rows)) + entries + struct.pack("<L", 0)


def deep(values: tuple[int, int, int, int]) -> np.ndarray:
    """A 64x48 array of four 16-bit grays."""
    rows = np.repeat(np.array(values, dtype=np.uint16).reshape(2, 2), 24, axis=0)
    return np.repeat(rows, 32, axis=1)


def named(data: bytes, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def given(value: Any) -> Callable[[Path], Any]:
    return lambda folder: value


def gray(*values: int) -> tuple[Color, Color, Color, Color]:
    return tuple((value,) * 3 for value in values)  # type: ignore[return-value]


def broken(form: str) -> dict[str, Any]:
    return {"error": ImageDecodeError, "reason": f"the {form} data is broken or cut short"}


def refused(form: str) -> dict[str, Any]:
    return {"error": ImageDecodeError, "reason": f"{form} is not read. Save it as one of {FORMATS}"}


def _formats() -> Iterator[Case]:
    picture = quadrants()
    animation = {"save_all": True, "append_images": [Image.new("RGB", (64, 48), WHITE)] * 2, "duration": 50}
    yield Case("jpeg", named(encode(picture, "JPEG", quality=95), "a.jpg"), tolerance=4)
    yield Case("progressive jpeg", given(encode(picture, "JPEG", quality=95, progressive=True)), tolerance=4)
    yield Case("mpo", given(encode(picture, "MPO", save_all=True, append_images=[picture], quality=95)), tolerance=4)
    yield Case("png", named(encode(picture, "PNG"), "a.png"))
    yield Case("interlaced size 1x1", given(encode(Image.new("RGB", (1, 1), GOLD), "PNG")), (1, 1), (GOLD,) * 4)
    yield Case("20,000x1", given(encode(Image.new("RGB", (20000, 1), GOLD), "PNG")), (20000, 1), (GOLD,) * 4)
    for form, options in {
        "BMP": {},
        "TIFF": {},
        "PPM": {},
        "WEBP": {"lossless": True},
        "GIF": {},
    }.items():
        yield Case(form.lower(), given(encode(picture, form, **options)))
    yield Case("lzw tiff on disk", named(encode(picture, "TIFF", compression="tiff_lzw"), "a.tiff"))
    yield Case("deflated tiff in memory", given(encode(picture, "TIFF", compression="tiff_adobe_deflate")))
    yield Case("avif", given(encode(picture, "AVIF", quality=95)), tolerance=8)
    icon = quadrants(32, 32)
    yield Case("ico with a png", given(encode(icon, "ICO", sizes=[(32, 32)])), (32, 32))
    yield Case("ico with a bmp", given(encode(icon, "ICO", sizes=[(32, 32)], bitmap_format="bmp")), (32, 32))
    yield Case("animated gif", given(encode(picture, "GIF", **animation)))
    yield Case("animated webp", given(encode(picture, "WEBP", lossless=True, **animation)))
    yield Case("animated png", given(encode(picture, "PNG", **animation)))
    yield Case("wrong extension", named(encode(picture, "PNG"), "a.jpg"))
    yield Case("no extension", named(encode(picture, "PNG"), "picture"))
    yield Case("name not in ascii", named(encode(picture, "PNG"), "дом 家 🏠.png"))


def _modes() -> Iterator[Case]:
    picture = quadrants()
    luma = gray(88, 134, 58, 187)
    yield Case("gray", given(encode(picture.convert("L"), "PNG")), corners=luma)
    alpha = Image.new("L", (64, 48), 255)
    alpha.paste(0, (0, 0, 32, 24))
    alpha.paste(128, (32, 0, 64, 24))
    clear = picture.copy()
    clear.putalpha(alpha)
    over = (WHITE, (147, 227, 147), BLUE, GOLD)
    yield Case("rgba png", given(encode(clear, "PNG")), corners=over, tolerance=1)
    yield Case("rgba webp", given(encode(clear, "WEBP", lossless=True, exact=True)), corners=over, tolerance=1)
    over_gray = (WHITE, gray(194)[0], gray(58)[0], gray(187)[0])
    yield Case("gray and alpha", given(encode(clear.convert("LA"), "PNG")), corners=over_gray, tolerance=1)
    palette = picture.quantize(4)
    index = palette.getpixel((0, 0))
    yield Case("palette", given(encode(palette, "PNG")))
    yield Case(
        "palette, one clear", given(encode(palette, "PNG", transparency=index)), corners=(WHITE, GREEN, BLUE, GOLD)
    )
    steps = bytes(0 if i == index else 255 for i in range(4))
    yield Case(
        "palette of alphas", given(encode(palette, "PNG", transparency=steps)), corners=(WHITE, GREEN, BLUE, GOLD)
    )
    yield Case(
        "gif with a clear colour", given(encode(palette, "GIF", transparency=index)), corners=(WHITE, GREEN, BLUE, GOLD)
    )
    yield Case("clear rgb colour", given(encode(picture, "PNG", transparency=RED)), corners=(WHITE, GREEN, BLUE, GOLD))
    bits = Image.fromarray(deep((0, 1, 1, 0)) > 0)
    yield Case("1 bit png", given(encode(bits, "PNG")), corners=(BLACK, WHITE, WHITE, BLACK))
    fax = encode(bits, "TIFF", compression="group4")
    yield Case("1 bit fax tiff", given(fax), corners=(BLACK, WHITE, WHITE, BLACK))
    cmyk = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 200, 30))
    yield Case(
        "cmyk jpeg, adobe inverted",
        given(encode(picture.convert("CMYK"), "JPEG", quality=95)),
        corners=cmyk,
        tolerance=6,
    )
    yield Case("cmyk tiff", given(encode(picture.convert("CMYK"), "TIFF")), corners=cmyk)
    yield Case("lab tiff", given(encode(lab(picture), "TIFF")), tolerance=6)
    sixteen = Image.fromarray(deep((0, 65535, 32768, 300)))
    scaled = gray(0, 255, 128, 1)
    yield Case("16-bit gray png", given(encode(sixteen, "PNG")), corners=scaled)
    yield Case("16-bit gray tiff", given(encode(sixteen, "TIFF")), corners=scaled)
    yield Case("16-bit gray pgm", given(encode(sixteen, "PPM")), corners=scaled)
    clear_deep = encode(sixteen, "PNG", transparency=32768)
    yield Case("16-bit gray, one clear", given(clear_deep), corners=gray(0, 255, 255, 1))
    row = b"\0" + struct.pack(">6H", 0xC8C8, 0x2828, 0x2828, 0x2828, 0xC8C8, 0x2828)
    yield Case("16-bit rgb png", given(png(2, 2, 16, 2, row * 2)), (2, 2), (RED, GREEN, RED, GREEN))
    unit = Image.fromarray(deep((0, 65535, 32768, 13107)).astype(np.float32) / 65535)
    yield Case("float tiff in [0, 1]", given(encode(unit, "TIFF")), corners=gray(0, 255, 128, 51))
    bytes_as_floats = picture.convert("L").convert("F")
    yield Case("float tiff in [0, 255]", given(encode(bytes_as_floats, "TIFF")), corners=luma)
    wild = Image.fromarray(np.array([[-3.0, 900.0]], dtype=np.float32))
    yield Case(
        "float tiff of anything",
        given(encode(wild, "TIFF")),
        error=ImageDecodeError,
        reason="mode F with values -3 to 900 has no known black and white. Scale it to 0 to 255 first",
    )


def avif_with_corrupt_exif() -> bytes:
    block = Image.Exif()
    block[0x010E] = "a text to spoil"
    whole = encode(quadrants(), "AVIF", quality=95, exif=block.tobytes())
    entry = struct.pack("<HHL", 0x010E, 2, 16) if b"II*\0" in whole else struct.pack(">HHL", 0x010E, 2, 16)
    assert whole.count(entry) == 1
    return whole.replace(entry, entry[:4] + b"\x7f\x7f\x7f\x7f")


def lab(image: Image.Image) -> Image.Image:
    return image.convert("LAB")


def _metadata() -> Iterator[Case]:
    orders = {1: "RGBY", 2: "GRYB", 3: "YBGR", 4: "BYRG", 5: "RBGY", 6: "BRYG", 7: "YGBR", 8: "GYRB"}
    colors = dict(zip("RGBY", (RED, GREEN, BLUE, GOLD), strict=True))
    for orientation, order in orders.items():
        size = (64, 48) if orientation < 5 else (48, 64)
        corners = tuple(colors[letter] for letter in order)
        for form, options, tolerance in (("JPEG", {"quality": 95}, 4), ("PNG", {}, 0), ("WEBP", {"lossless": True}, 0)):
            data = encode(quadrants(), form, exif=exif(orientation), **options)
            yield Case(f"{form.lower()}, orientation {orientation}", given(data), size, corners, tolerance)
        turned = encode(quadrants(), "TIFF", tiffinfo={0x0112: orientation})
        yield Case(f"tiff, orientation {orientation}", given(turned), size, corners)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    upside_down = (GOLD, BLUE, GREEN, RED)
    yield Case("orientation in xmp", given(encode(quadrants(), "WEBP", lossless=True, xmp=xmp)), corners=upside_down)
    both = encode(quadrants(), "WEBP", lossless=True, xmp=xmp, exif=exif(9))
    yield Case("orientation 9 in exif, 3 in xmp", given(both), corners=upside_down)
    spoilt = {
        "length beyond the end": exif(6)[:20],
        "no directory": b"Exif\0\0II*\0\xff\xff\xff\xff",
        "text": b"Exif\0\0no",
    }
    for name, block in spoilt.items():
        yield Case(f"exif: {name}", given(encode(quadrants(), "JPEG", quality=95, exif=block)), tolerance=4)
    yield Case("exif: orientation 9", given(encode(quadrants(), "PNG", exif=exif(9))))
    yield Case("exif: corrupt in avif", given(avif_with_corrupt_exif()), tolerance=8)
    yield Case(
        "icc: not a profile", given(encode(quadrants(), "JPEG", quality=95, icc_profile=b"junk" * 9)), tolerance=4
    )
    yield Case("tiff: a tag beyond the end", given(tiff((33432, 2, 100, 9999))), (2, 2), gray(128, 128, 128, 128))
    yield Case("tiff: a tag larger than the file", given(tiff((305, 2, 1 << 30, 8))), (2, 2), gray(128, 128, 128, 128))
    yield Case("tiff: two heights", given(tiff((257, 3, 2, 2 | 2 << 16))), (2, 2), gray(128, 128, 128, 128))
    rows = (b"\0" + bytes(RED + GREEN)) * 2
    actl = (b"acTL", struct.pack(">LL", 0, 0))
    yield Case("apng of no frames", given(png(2, 2, 8, 2, rows, actl)), (2, 2), (RED, GREEN, RED, GREEN))


def _cut() -> Iterator[Case]:
    for form in ("JPEG", "PNG"):
        data = encode(noise(), form)
        for tenth in range(10):
            kept = 1 + (len(data) - 30) * tenth // 9 if tenth else 12
            yield Case(f"{form.lower()} cut at {kept} of {len(data)}", given(data[:kept]), **broken(form))
    for form, name in {
        "GIF": "GIF",
        "WEBP": "WebP",
        "BMP": "BMP",
        "TIFF": "TIFF",
        "PPM": "PPM",
        "AVIF": "AVIF",
    }.items():
        data = encode(noise(), form)
        yield Case(f"{form.lower()} cut in half", given(data[: len(data) // 2]), **broken(name))
    scaled = encode(noise(640, 480), "JPEG")
    yield Case("jpeg cut, scaled", given(scaled[:-500]), options={"min_side": 16}, **broken("JPEG"))
    yield Case("png without its end", given(encode(quadrants(), "PNG")[:-12]))


def _bad() -> Iterator[Case]:
    empty = {"error": ImageDecodeError, "reason": "it is empty (0 bytes)"}
    yield Case("no bytes", given(b""), **empty)
    yield Case("empty file", named(b"", "empty.jpg"), **empty)
    text = {"error": ImageDecodeError}
    text["reason"] = f"its first bytes b'dear dia' are of no known image format. Save it as one of {FORMATS}"
    yield Case("text named .jpg", named(b"dear diary", "a.jpg"), **text)
    yield Case("svg", named(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a.svg"), **refused("SVG"))
    yield Case("eps", named(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.eps"), **refused("EPS"))
    yield Case("pdf", named(b"%PDF-1.7\n", "a.pdf"), **refused("PDF"))
    yield Case("heic", given(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), **refused("HEIC"))
    yield Case("heic under its container's name", given(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"), **refused("HEIC"))
    yield Case("html named .png", named(b"<!doctype html><title>404</title>", "a.png"), **refused("HTML"))
    yield Case("psd", given(b"8BPS\0\1" + bytes(40)), **refused("Photoshop"))
    yield Case("jpeg header alone", given(b"\xff\xd8\xff\xe0"), **broken("JPEG"))
    yield Case("png of nothing by nothing", given(png(0, 0, 8, 2, b"")), **broken("PNG"))
    bomb = {"error": ImageTooLargeError}
    bomb["reason"] = "100,000x100,000 pixels are more than the limit of 178,956,970. Raise max_pixels to open it"
    yield Case("png claiming 100,000x100,000", given(png(100_000, 100_000, 8, 2, b"")), **bomb)
    real = {"error": ImageTooLargeError, "options": {"max_pixels": 1_000_000}}
    real["reason"] = "2,000x1,000 pixels are more than the limit of 1,000,000. Raise max_pixels to open it"
    wide = Image.new("1", (2000, 1000))
    for form, options in {"PNG": {}, "GIF": {}, "WEBP": {"lossless": True}, "TIFF": {"compression": "group4"}}.items():
        yield Case(f"{form.lower()} bomb", given(encode(wide, form, **options)), **real)
    yield Case(
        "jpeg bomb, scaled",
        given(encode(wide.convert("L"), "JPEG")),
        **real | {"options": {"max_pixels": 1_000_000, "min_side": 8}},
    )


def _files() -> Iterator[Case]:
    def loop(folder: Path) -> Path:
        (folder / "loop.jpg").symlink_to("loop.jpg")
        return folder / "loop.jpg"

    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "pipe.jpg")
        return folder / "pipe.jpg"

    missing, read = {"error": ImageNotFoundError}, {"error": ImageReadError}
    yield Case("missing", lambda folder: folder / "none.jpg", **missing, reason="no such file")
    yield Case("empty str", given(""), **missing, reason="no such file")
    under = "no such file: a part of its path is a file, not a folder"
    yield Case("under a file", lambda folder: named(b"x", "f")(folder) / "a.jpg", **missing, reason=under)
    yield Case("folder", lambda folder: str(folder), **read, reason="it is a folder. Give the files in it")
    yield Case("loop of links", loop, **read, reason="its symbolic links form a loop")
    yield Case("pipe", pipe, **read, reason="it is a pipe or a device, not a file")
    yield Case("device", given("/dev/zero"), **read, reason="it is a pipe or a device, not a file")
    yield Case("long name", given("a" * 5000 + ".jpg"), **read, reason="its name is longer than the file system allows")
    yield Case("NUL", given("a\0.jpg"), **read, reason="it is not a possible file name: embedded null byte")
    other = "a file URL of another host, 'server'. Give a path"
    yield Case("file URL elsewhere", given("file://server/a.jpg"), **read, reason=other)
    good = named(encode(quadrants(), "PNG"), "a b.png")
    yield Case("path as str", lambda folder: str(good(folder)))
    yield Case("file URL", lambda folder: good(folder).as_uri())
    yield Case("BytesIO", given(io.BytesIO(encode(quadrants(), "PNG"))))
    closed = io.BytesIO(b"")
    closed.close()
    yield Case("closed BytesIO", given(closed), **read, reason="the BytesIO is closed")


def _uris() -> Iterator[Case]:
    data = encode(quadrants(), "PNG")
    text = base64.b64encode(data).decode()
    yield Case("base64 data URI", given(f"data:image/png;base64,{text}"))
    yield Case("data URI with a parameter", given(f"DATA:image/png;charset=utf-8;BASE64,{text}"))
    yield Case("base64 in lines", given(f"data:image/png;base64,{base64.encodebytes(data).decode()}"))
    percent = "".join(f"%{byte:02x}" for byte in data)
    yield Case("percent data URI", given(f"data:image/png,{percent}"))
    yield Case(
        "escaped base64", given("data:;base64," + text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"))
    )
    bad = {"error": ImageDecodeError}
    yield Case("data URI of nothing", given("data:,"), **bad, reason="it is empty (0 bytes)")
    comma = "the data URI has no comma between its type and its data"
    yield Case("data URI without a comma", given("data:image/png;base64"), **bad, reason=comma)
    padding = "the data URI is not valid base64"
    yield Case("base64 cut short", given("data:image/png;base64," + text[:-1]), **bad, reason=padding)
    alphabet = "the data URI is not valid base64"
    yield Case("base64 with other letters", given(f"data:image/png;base64,!{text}"), **bad, reason=alphabet)
    asked = "URLs are not opened unless asked. Pass allow_url=True"
    yield Case("URL", given("https://example.com/a.png"), error=ImageFetchError, reason=asked)
    yield Case("URL in capitals", given("HTTP://example.com/a.png"), error=ImageFetchError, reason=asked)


CASES = [*_formats(), *_modes(), *_metadata(), *_cut(), *_bad(), *_files(), *_uris()]
