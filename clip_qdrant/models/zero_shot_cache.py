"""Prototypes are made once: kept in memory and, when asked, in a folder."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.zero_shot_prototypes import Prototypes

_logger = logging.getLogger(__name__)


class PrototypeCache:
    """Prototypes by the digest of what they are made of; threads may share it.

    Files are safetensors with a checksum, and appear whole or not at all. One that is damaged is made again.

    Args:
        folder: where to keep them beyond this process; made where it is missing. None: in memory only.
        capacity: how many sets of labels stay in memory, those used last.

    Raises:
        ConfigError: the folder cannot be made, or a capacity below 1.
    """

    def __init__(self, folder: str | Path | None = None, *, capacity: int = 16) -> None:
        if capacity < 1:
            raise ConfigError(f"capacity must be at least 1, got {capacity!r}.")
        self._folder = None if folder is None else Path(folder).expanduser()
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"Cannot make the folder {str(folder)!r} for prototypes: {error}.") from error
        self._capacity = capacity
        self._known: OrderedDict[str, Prototypes] = OrderedDict()
        self._lock = Lock()

    def get(self, digest: str, labels: int, make: Callable[[], Prototypes]) -> Prototypes:
        """The prototypes of a digest, made where they are not known.

        Args:
            digest: what they are made of.
            labels: how many there must be.
            make: how to make them.
        """
        with self._lock:  # held while they are made, so that two threads do not make the same
            found = self._known.get(digest) or self._read(digest, labels)
            if found is None:
                found = make()
                self._write(digest, found)
            self._known[digest] = found
            self._known.move_to_end(digest)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
            return found

    def clear(self) -> None:
        """Forget what is in memory; files stay."""
        with self._lock:
            self._known.clear()

    def _read(self, digest: str, labels: int) -> Prototypes | None:
        if self._folder is None:
            return None
        from safetensors import SafetensorError, safe_open

        path = self._path(self._folder, digest)
        try:
            with safe_open(str(path), framework="numpy") as file:
                parts = {name: file.get_tensor(name) for name in ("texts", "images", "background")}
                whole = (file.metadata() or {}).get("sha256") == _checksum(parts)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError) as error:
            _logger.warning("The prototypes in %s cannot be read (%s), and are made again.", path, error)
            return None
        if not whole or len(parts["texts"]) != labels:
            _logger.warning("The prototypes in %s are damaged, and are made again.", path)
            return None
        return Prototypes(**parts)

    def _write(self, digest: str, prototypes: Prototypes) -> None:
        if self._folder is None:
            return
        from safetensors.numpy import save

        names = ("texts", "images", "background")
        parts = {name: np.ascontiguousarray(getattr(prototypes, name)) for name in names}
        path = self._path(self._folder, digest)
        partial = path.with_suffix(f".{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")
        try:
            partial.write_bytes(save(parts, metadata={"sha256": _checksum(parts)}))
            partial.replace(path)
        except OSError as error:  # the answers do not depend on it, only the time of the next start
            _logger.warning("Prototypes cannot be kept in %s: %s.", path, error)
            partial.unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, digest: str) -> Path:
        return folder / f"{digest}.safetensors"


def _checksum(parts: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(f"{name} {parts[name].shape} {parts[name].dtype} ".encode() + parts[name].tobytes())
    return digest.hexdigest()
