"""The pictures of a folder as records."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.types import Record

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .webp .avif .bmp .dib .tif .tiff .ico .ppm .pgm .pbm .mpo".split()
)
"""What counts as a picture by its name; what the file really holds is found out when it is opened."""


def records_in(place: str | os.PathLike[str], *, recursive: bool = True, scope: str = "") -> Iterator[Record]:
    """The pictures of a folder, or the one picture of a path, sorted by path.

    A broken picture is a record too: the one who opens it says why it cannot be. Hidden files and folders are left
    out, and links to folders are not followed. The metadata to filter on: `file_name`, `folder` (relative to the
    place), `file_type` (mime), `file_size` (bytes), `modified` (RFC 3339) and its `year`.

    Args:
        place: a folder, or an image file.
        recursive: look into folders within it.
        scope: of the records (see `Record`).

    Raises:
        ConfigError: there is nothing at that path. Raised at the call, not at the first record.
    """
    root = Path(place).expanduser().absolute()
    if root.is_file():
        return iter([_record(root, root.parent, scope)])
    if not root.is_dir():
        raise ConfigError(f"There is no folder or file {str(place)!r}. Check the path.")
    return (_record(path, root, scope) for path in _pictures(root, recursive))


def _pictures(root: Path, recursive: bool) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(folder, name)


def _record(path: Path, root: Path, scope: str) -> Record:
    metadata: dict[str, Any] = {
        "file_name": _printable(path.name),
        "folder": _printable(str(path.parent.relative_to(root))),
    }
    kind, _ = mimetypes.guess_type(path.name)
    if kind is not None:
        metadata["file_type"] = kind
    try:
        status = path.stat()
    except OSError:
        # A dangling link, or gone since it was listed: opening it will say so.
        status = None
    if status is not None:
        modified = datetime.fromtimestamp(int(status.st_mtime), tz=timezone.utc)
        metadata |= {"file_size": status.st_size, "modified": modified.isoformat(), "year": modified.year}
    return Record(source=_printable(str(path)), image=path, metadata=metadata, scope=scope)


def _printable(name: str) -> str:
    """File names are bytes; those that are no UTF-8 are shown with escapes, since JSON takes nothing else."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
