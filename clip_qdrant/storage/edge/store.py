"""One folder of collections, opened once in this process and shared by all its clients."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ClipQdrantError, ConfigError, StorageError
from clip_qdrant.storage.edge.collection import EdgeCollection
from clip_qdrant.storage.edge.convert_config import to_edge_config
from clip_qdrant.storage.edge.errors import CollectionExistsError, MissingCollectionError, engine_errors
from clip_qdrant.storage.edge.lock import FolderLock
from clip_qdrant.storage.edge.manifest import (
    COLLECTIONS_NAME,
    CollectionEntry,
    Manifest,
    folder_name,
    sync_names,
    validate_name,
)
from clip_qdrant.storage.edge.shard import Shard
from clip_qdrant.storage.edge.space import VectorSpace
from clip_qdrant.storage.edge.strict import Rules, check_strict_mode

if TYPE_CHECKING:
    from qdrant_client import models

logger = logging.getLogger(__name__)


class EdgeStore:
    """The collections of one folder. Use `acquire` and `release`, not the constructor."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ConfigError(
                f"{str(folder)!r} is a file, not a folder. Give a folder, or a path to make one."
            ) from error
        except OSError as error:
            raise StorageError(
                f"Cannot make the storage folder {str(folder)!r}: {error.strerror}. Use a path you may write to."
            ) from error
        self.folder = folder
        self.pid = os.getpid()
        self.closed = False
        Manifest.load(folder)  # refuses a folder of another format before the lock writes into it
        self._lock_file = FolderLock(folder)
        try:
            self.manifest = Manifest.load(folder)
            self.manifest.save(folder)
        except ClipQdrantError:
            self._lock_file.release()
            raise
        self.lock = threading.RLock()
        self._opened: dict[str, EdgeCollection] = {}

    def resolve(self, name: str) -> str:
        """The collection that a name or an alias means.

        Raises:
            MissingCollectionError: neither.
        """
        with self.lock:
            target = name if name in self.manifest.collections else self.manifest.aliases.get(name)
            if target is None:
                raise MissingCollectionError(name)
            return target

    def open(self, name: str) -> EdgeCollection:
        """A collection, loaded at its first use."""
        with self.lock:
            target = self.resolve(name)
            if target not in self._opened:
                space, rules = VectorSpace.from_config(target, self.config(target)), self._rules(target)
                self._opened[target] = EdgeCollection(Shard.load(target, self._path(target)), space, rules)
            return self._opened[target]

    def config(self, name: str) -> models.CreateCollection:
        """The definition that the collection was made with."""
        from qdrant_client import models

        return models.CreateCollection(**self.manifest.collections[name].config)

    def create(self, name: str, config: models.CreateCollection) -> None:
        """Make a collection: first the shard, then its entry, so that a crash leaves none or all of it."""
        with self.lock:
            validate_name(name)
            if name in self.manifest.collections or name in self.manifest.aliases:
                raise CollectionExistsError(
                    f"Collection {name!r} already exists. Use another name, or delete it first."
                )
            check_strict_mode(config.strict_mode_config)
            space = VectorSpace.from_config(name, config)
            path = self._path(name)
            with engine_errors(f"The folder of collection {name!r} cannot be made"):
                shutil.rmtree(path, ignore_errors=True)  # of a creation or deletion that was interrupted
                path.mkdir(parents=True)
                sync_names(path.parent)
            shard = Shard.create(name, path, to_edge_config(config))
            shard.flush()
            self.manifest.collections[name] = CollectionEntry(config.model_dump(mode="json", exclude_none=True))
            try:
                self.save()
            except StorageError:
                shard.close()
                raise
            self._opened[name] = EdgeCollection(shard, space, self._rules(name))

    def redefine(self, name: str, config: models.CreateCollection) -> None:
        """Replace the definition of a collection; its shard is the caller's."""
        with self.lock:
            collection = self.open(name)
            check_strict_mode(config.strict_mode_config)
            space = VectorSpace.from_config(collection.name, config)
            self.manifest.collections[collection.name].config = config.model_dump(mode="json", exclude_none=True)
            self.save()
            collection.space, collection.rules = space, self._rules(collection.name)

    def set_index(self, name: str, field: str, schema: Any | None) -> None:
        """Note a payload index, or that there is none any more."""
        with self.lock:
            collection = self.open(name)
            indexes = self.manifest.collections[collection.name].indexes
            indexes.pop(field, None)
            if schema is not None:
                indexes[field] = schema
            self.save()
            collection.rules = self._rules(collection.name)

    def delete(self, name: str) -> bool:
        """Remove a collection and its aliases: first the entry, then the files."""
        with self.lock:
            if self.manifest.collections.pop(name, None) is None:
                return False
            self.manifest.aliases = {alias: to for alias, to in self.manifest.aliases.items() if to != name}
            self.save()
            opened = self._opened.pop(name, None)
            if opened is not None:
                opened.shard.close()
            shutil.rmtree(self._path(name), ignore_errors=True)
            return True

    def save(self) -> None:
        """Write the manifest. Where that fails, nothing has changed here either: a retry meets what is on disk."""
        with self.lock:
            try:
                self.manifest.save(self.folder)
            except StorageError:
                self.manifest = Manifest.load(self.folder)
                raise

    def close(self) -> None:
        """Flush and close every shard, then let other processes in, whatever failed."""
        with self.lock:
            closed = [_close_shard(collection.shard) for collection in self._opened.values()]
            failures = [error for error in closed if error is not None]
            self._opened.clear()
            self._lock_file.release()
            self.closed = True
        if failures:
            raise failures[0]

    def abandon(self) -> None:
        """In a forked child: close the child's copy of the lock file, so that the lock ends with the parent."""
        self._lock_file.release()
        self.closed = True

    def _rules(self, name: str) -> Rules:
        earlier = self._opened.get(name)
        warned = set() if earlier is None else earlier.rules.warned
        return Rules(name, self.config(name).strict_mode_config, self.manifest.collections[name].indexes, warned)

    def _path(self, name: str) -> Path:
        return self.folder / COLLECTIONS_NAME / folder_name(name)


def _close_shard(shard: Shard) -> StorageError | None:
    try:
        shard.close()
    except StorageError as error:
        return error
    return None


_registry: dict[Path, tuple[EdgeStore, int]] = {}
# Reentrant: a client that is collected as garbage releases its store, at any moment of any thread.
_registry_lock = threading.RLock()
_inherited: list[Any] = []


def acquire(folder: Path) -> EdgeStore:
    """The process's one store of that folder, opened if it is the first; `release` it once for each call."""
    key = folder.resolve()
    with _registry_lock:
        store, users = _registry[key] if key in _registry else (EdgeStore(key), 0)
        _registry[key] = (store, users + 1)
        return store


def release(store: EdgeStore) -> None:
    """Give back what `acquire` gave; the last one closes the store."""
    with _registry_lock:
        if store.folder not in _registry or _registry[store.folder][0] is not store:
            return
        users = _registry[store.folder][1] - 1
        if users:
            _registry[store.folder] = (store, users)
            return
        del _registry[store.folder]
        store.close()


def _close_all() -> None:
    with _registry_lock:
        stores = [store for store, _ in _registry.values()]
        _registry.clear()
    for store in stores:
        try:
            store.close()
        except StorageError:
            logger.exception("Closing %s at the end of the process failed", store.folder)


def _forget_after_fork() -> None:
    # The parent owns the folder. The child keeps the handles alive, unused: dropping them would touch the files.
    global _registry_lock
    _registry_lock = threading.RLock()
    for store, _ in _registry.values():
        store.abandon()
        _inherited.append(store)
    _registry.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
