"""A picture's file as a record: what every source of pictures ends in."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from clip_qdrant.sources.exif import read_exif
from clip_qdrant.types import Record


def picture_record(
    path: Path,
    root: Path,
    *,
    scope: str = "",
    exif: bool = True,
    text: str | None = None,
    written: Mapping[str, Any] | None = None,
) -> Record:
    """The record of one picture; a file that is not there is one too, and opening it says so.

    Args:
        path: of the picture, absolute.
        root: the folder that `folder` is relative to.
        scope: of the record.
        exif: open the file for what it says of itself (see `read_exif`).
        text: its caption.
        written: metadata that people wrote about it, which counts before what the file says.
    """
    metadata: dict[str, Any] = {
        "file_name": printable(path.name),
        "folder": printable(os.path.relpath(path.parent, root)),
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
        metadata |= {"file_size": status.st_size, **_modified(status.st_mtime)}
        metadata |= read_exif(path) if exif else {}
    if "taken" in metadata:
        metadata["year"] = int(metadata["taken"][:4])
    return Record(
        source=printable(str(path)), image=path, text=text, metadata={**metadata, **(written or {})}, scope=scope
    )


def _modified(seconds: float) -> dict[str, Any]:
    try:
        moment = datetime.fromtimestamp(int(seconds), tz=timezone.utc)
    except (ValueError, OverflowError, OSError):  # file systems know years beyond 9999, dates do not
        return {}
    return {"modified": moment.isoformat(), "year": moment.year}


def printable(name: str) -> str:
    """File names are bytes; those that are no UTF-8 are shown with escapes, since JSON takes nothing else."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
