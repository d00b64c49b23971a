"""Weights are hashed once: the hash of a file is kept by its path, size and time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_logger = logging.getLogger(__name__)


def hash_weights(files: Sequence[Path]) -> str:
    """SHA-256 (hex) over the contents of files, in this order; their names and places do not count."""
    cache = _read_cache()
    digests = []
    for file in files:
        status = file.stat()
        key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        if key not in cache:
            cache[key] = hash_file(file)
            _write_cache(cache)
        digests.append(cache[key])
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def hash_file(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def hash_settings(settings: Any) -> str:
    """SHA-256 (hex) of settings, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "clip-qdrant" / "weights.json"


def _read_cache() -> dict[str, str]:
    try:
        content = json.loads(_cache_file().read_text("utf-8"))
    except (OSError, ValueError) as error:
        _logger.debug("No cache of weight hashes: %s", error)
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(cache: dict[str, str]) -> None:
    """Replace the cache in one step; without it the weights are hashed again next time, and no more."""
    file = _cache_file()
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(cache), "utf-8")
        partial.replace(file)
    except OSError as error:
        _logger.debug("The weight hashes cannot be cached: %s", error)
