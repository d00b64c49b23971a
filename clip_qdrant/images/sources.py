"""Which source is what, what to call it in a message, and how to get at its bytes."""

from __future__ import annotations

import base64
import binascii
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import IO, TYPE_CHECKING, Literal
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit
from urllib.request import url2pathname

import numpy as np
from PIL import Image

from clip_qdrant.errors import ImageDecodeError, ImageNotFoundError, ImageReadError

if TYPE_CHECKING:
    from clip_qdrant.types import ImageSource

_LONGEST = 200
_WHY = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file: a part of its path is a file, not a folder",
    errno.EISDIR: "it is a folder. Give the files in it",
    errno.EACCES: "permission denied. Make it readable for this user",
    errno.EPERM: "permission denied. Make it readable for this user",
    errno.ELOOP: "its symbolic links form a loop",
    errno.ENAMETOOLONG: "its name is longer than the file system allows",
    errno.ENXIO: "it is a socket or a device, not a file",
}


def kind_of(text: str) -> Literal["data", "url", "path"]:
    """Which kind of source a str is: "data:" begins a data URI, "http://" and "https://" a URL, all else is a path."""
    scheme = text[:8].lower()
    if scheme.startswith("data:"):
        return "data"
    return "url" if scheme.startswith(("http://", "https://")) else "path"


def describe_source(source: ImageSource) -> str:
    """A short, printable name of a source: no pixels, no base64, and of a URL no credentials and no query."""
    if isinstance(source, bytes):
        return f"bytes ({len(source):,})"
    if isinstance(source, BytesIO):
        return "BytesIO (closed)" if source.closed else f"BytesIO ({source.getbuffer().nbytes:,})"
    if isinstance(source, Image.Image):
        return f"PIL image {source.width}x{source.height} {source.mode}"
    if isinstance(source, np.ndarray):
        return f"array {source.shape} {source.dtype}"
    if isinstance(source, str) and kind_of(source) == "data":
        media = source[5:105].partition(",")[0].partition(";")[0]
        return f"data URI ({_printable(media) or 'no type'}, {len(source):,} characters)"
    if isinstance(source, str) and kind_of(source) == "url":
        return _printable(_bare_url(source))
    if isinstance(source, (str, os.PathLike)):
        return _printable(os.fsdecode(source))
    return type(source).__name__


def _bare_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # an unclosed IPv6 bracket; it cannot be taken apart, so nothing of it is safe to show
        return f"{url.partition(':')[0]} URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _printable(text: str) -> str:
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"
    return text if text.isprintable() else repr(text)


@contextmanager
def open_encoded(source: str | os.PathLike[str] | bytes | BytesIO) -> Iterator[IO[bytes]]:
    """A source's encoded bytes as a file to read, at its beginning; the source itself is neither moved nor closed.

    Raises:
        ImageNotFoundError: no such file.
        ImageReadError: a folder, a pipe, a loop of links, no permission, an impossible name, a closed BytesIO.
        ImageDecodeError: a malformed data URI.
    """
    if isinstance(source, bytes):
        yield BytesIO(source)
    elif isinstance(source, BytesIO):
        if source.closed:
            raise ImageReadError(describe_source(source), "the BytesIO is closed")
        yield BytesIO(source.getvalue())
    elif isinstance(source, str) and kind_of(source) == "data":
        yield BytesIO(_data_uri_bytes(source))
    else:
        with _open_regular(source) as file:
            yield file


def _data_uri_bytes(uri: str) -> bytes:
    header, comma, data = uri[5:].partition(",")
    if not comma:
        raise ImageDecodeError(describe_source(uri), "the data URI has no comma between its type and its data")
    content = unquote_to_bytes(data)
    if not header.lower().rstrip().endswith(";base64"):
        return content
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error as error:
        raise ImageDecodeError(describe_source(uri), "the data URI is not valid base64") from error


def _open_regular(source: str | os.PathLike[str]) -> IO[bytes]:
    """Open a path or a file:// URL, unless it is something that could block or never end."""
    name, path = describe_source(source), _path_of(source)
    try:
        file = open(path, "rb", opener=_open_without_waiting)
    except FileNotFoundError as error:
        raise ImageNotFoundError(name, _WHY[errno.ENOENT]) from error
    except OSError as error:
        raise _read_error(name, error) from error
    except ValueError as error:  # a NUL, or a character that the file system's encoding does not have
        raise ImageReadError(name, f"it is not a possible file name: {error}") from error
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ImageReadError(name, "it is a pipe or a device, not a file")
    return file


def _path_of(source: str | os.PathLike[str]) -> str | os.PathLike[str]:
    if not isinstance(source, str) or not source[:7].lower() == "file://":
        return source
    parts = urlsplit(source)
    if parts.netloc not in ("", "localhost"):
        raise ImageReadError(describe_source(source), f"a file URL of another host, {parts.netloc!r}. Give a path")
    return Path(url2pathname(parts.path))


def _open_without_waiting(path: str, flags: int) -> int:
    """Opening a pipe waits for its other end, and O_NONBLOCK says not to; it changes nothing for a file."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_error(name: str, error: OSError) -> ImageNotFoundError | ImageReadError:
    why = _WHY.get(error.errno or 0, error.strerror or str(error))
    return ImageNotFoundError(name, why) if error.errno == errno.ENOTDIR else ImageReadError(name, why)
