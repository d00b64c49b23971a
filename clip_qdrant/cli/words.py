"""What a user typed where words and the name of a file are both meant: which of the two it is."""

from __future__ import annotations

import os
from pathlib import Path

from clip_qdrant.errors import ConfigError
from clip_qdrant.sources.folders import IMAGE_SUFFIXES


def file_named(text: str) -> Path | None:
    """The file of that name, if there is one."""
    # Of os, not of pathlib: words may begin with a tilde, and be longer than a name can be.
    path = os.path.expanduser(text)
    return Path(path) if os.path.isfile(path) else None


def words_or_picture(query: str) -> str | Path:
    """What a user gave as a query: the path of a picture if there is such a file, else words.

    Raises:
        ConfigError: it is named like a picture, and is not there.
    """
    path = file_named(query)
    if path is None and Path(query).suffix.lower() in IMAGE_SUFFIXES:
        raise ConfigError(
            f"There is no picture {query!r}. Check the path, or say in words what it shows (in a search, --as text "
            "takes it for words)."
        )
    return path or query
