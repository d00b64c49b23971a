"""Pillow's readers of the formats we trust, with our pixel limit and without their warnings.

Decoding runs in threads, and both of Pillow's own switches are global: `Image.MAX_IMAGE_PIXELS`, and the warning
filters that `warnings.catch_warnings` swaps for the whole process. So the readers are subclassed instead: `_detached`
copies a class's methods with globals in which `warnings` is silent and the check for decompression bombs is ours, for
this thread. Pillow's own classes, and whoever uses them in the same process, notice nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType, SimpleNamespace
from typing import IO, Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clip_qdrant.images.orientation import ORIENTATION_TAG, exif_orientation

_pixel_limit: ContextVar[int] = ContextVar("pixel_limit")


class TooManyPixels(Exception):
    """The image's header claims more pixels than the limit."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size)
        self.size = size


def check_pixels(size: tuple[int, int], *, error_only: bool = False) -> None:
    """Raise TooManyPixels over the limit. It has the signature of Pillow's check, which it stands in for."""
    if size[0] * size[1] > _pixel_limit.get():
        raise TooManyPixels(size)


@contextmanager
def pixel_limit(max_pixels: int) -> Iterator[None]:
    """Set the limit of `check_pixels`, in this thread only."""
    token = _pixel_limit.set(max_pixels)
    try:
        yield
    finally:
        _pixel_limit.reset(token)


class _Orientation(dict[int, int]):
    """Stands in for `Image.Exif` inside the readers: the orientation is all they need, and this one never warns."""

    def load(self, exif: bytes) -> None:
        self[ORIENTATION_TAG] = exif_orientation(exif) or 1

    def tobytes(self) -> bytes:
        exif = Image.Exif()
        exif.update(self)
        return exif.tobytes()


_SILENT = SimpleNamespace(warn=lambda *_args, **_kwargs: None)
_IMAGE = SimpleNamespace(**vars(Image) | {"_decompression_bomb_check": check_pixels, "Exif": _Orientation})


def _detached(cls: type, /, **names: Any) -> Any:
    """A subclass whose methods see `names`, a silent `warnings` and our pixel check in place of their own globals."""
    replaced = {"warnings": _SILENT, "Image": _IMAGE, **names}
    body: dict[str, Any] = {"__doc__": cls.__doc__, "__module__": __name__}
    for name, method in vars(cls).items():
        if isinstance(method, FunctionType):
            code, closure = method.__code__, method.__closure__
            body[name] = FunctionType(code, method.__globals__ | replaced, name, method.__defaults__, closure)
            body[name].__kwdefaults__ = method.__kwdefaults__
    if issubclass(cls, ImageFile.ImageFile):
        body["getexif"] = lambda self: _Orientation()  # decode.py reads the orientation, and nothing else of it
    return type(cls.__name__, (cls,), body)


_Png = _detached(PngImagePlugin.PngImageFile, PngStream=_detached(PngImagePlugin.PngStream))
_Dib = _detached(BmpImagePlugin.DibImageFile)
_Ico = _detached(
    IcoImagePlugin.IcoImageFile,
    IcoFile=_detached(
        IcoImagePlugin.IcoFile,
        PngImagePlugin=SimpleNamespace(**vars(PngImagePlugin) | {"PngImageFile": _Png}),
        BmpImagePlugin=SimpleNamespace(**vars(BmpImagePlugin) | {"DibImageFile": _Dib}),
    ),
)
_Tiff = _detached(TiffImagePlugin.TiffImageFile, ImageFileDirectory_v2=_detached(TiffImagePlugin.ImageFileDirectory_v2))
_Jpeg = _detached(JpegImagePlugin.JpegImageFile)  # of an MPO, too: its first picture is a plain JPEG
_Gif = _detached(GifImagePlugin.GifImageFile)
_WebP = _detached(WebPImagePlugin.WebPImageFile)
_Bmp = _detached(BmpImagePlugin.BmpImageFile)
_Ppm = _detached(PpmImagePlugin.PpmImageFile)
_Avif = _detached(AvifImagePlugin.AvifImageFile)

_READERS: dict[str, tuple[bytes, Any]] = {
    "JPEG": (rb"\xff\xd8\xff", _Jpeg),
    "PNG": (rb"\x89PNG\r\n\x1a\n", _Png),
    "GIF": (rb"GIF8[79]a", _Gif),
    "WebP": (rb"RIFF....WEBP", _WebP),
    "AVIF": (rb"....ftyp(avi[fs]|m[is]f1.*avi[fs])", _Avif),
    "TIFF": (rb"II[*+]\x00|MM\x00[*+]", _Tiff),
    "BMP": (rb"BM", _Bmp),
    "ICO": (rb"\x00\x00\x01\x00", _Ico),
    "PPM": (rb"P[1-6f]\s", _Ppm),
}
_NOT_READ = {
    "HEIC": rb"....ftyp(he[iv][cxms]|m[is]f1)",
    "JPEG 2000": rb"\x00\x00\x00\x0cjP  ",
    "EPS": rb"%!PS|\xc5\xd0\xd3\xc6",
    "PDF": rb"%PDF",
    "Photoshop": rb"8BPS",
    "SVG": rb"\s*<(svg|\?xml)",
    "HTML": rb"\s*<(!doctype html|html)",
}
FORMATS = tuple(_READERS)


def identify(file: IO[bytes]) -> tuple[str, Any] | str:
    """The format's name and its reader class, or the reason why there is none; by content, never by the file's name."""
    file.seek(0)
    start = file.read(40)
    file.seek(0)
    if not start:
        return "it is empty (0 bytes)"
    for name, (pattern, reader) in _READERS.items():
        if re.match(pattern, start, re.DOTALL):
            return name, reader
    known = f"Save it as one of {', '.join(FORMATS)}"
    for name, pattern in _NOT_READ.items():
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            return f"{name} is not read. {known}"
    return f"its first bytes {start[:8]!r} are of no known image format. {known}"
