"""What a folder holds: its collections with their definitions, and aliases; JSON, replaced atomically."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clip_qdrant.errors import ConfigError, StorageError

MANIFEST_NAME = "manifest.json"
COLLECTIONS_NAME = "collections"
FORMAT = 1
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_FORBIDDEN = '<>:"/\\|?*\0\x1f'
_LONGEST_FOLDER = 120


@dataclass
class CollectionEntry:
    """A collection as the manifest has it.

    Attributes:
        config: `qdrant_client.models.CreateCollection` as JSON.
        indexes: payload field to its index, `PayloadSchemaType` or params as JSON.
    """

    config: dict[str, Any]
    indexes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Manifest:
    """Everything the folder holds, by name."""

    collections: dict[str, CollectionEntry] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The folder's manifest, or an empty one for a new folder.

        Raises:
            StorageError: the folder belongs to something else, or the manifest is broken or of a later version.
        """
        path = folder / MANIFEST_NAME
        if not path.exists():
            _refuse_what_is_not_ours(folder)
            return cls()
        try:
            data = json.loads(path.read_text("utf-8"))
            if data["format"] > FORMAT:
                raise StorageError(
                    f"{str(path)!r} has format {data['format']}, and this version reads up to {FORMAT}. "
                    "Upgrade clip-qdrant."
                )
            return cls({name: CollectionEntry(**entry) for name, entry in data["collections"].items()}, data["aliases"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{str(path)!r} cannot be read as a manifest: {error}. Restore it from a backup, or use another folder."
            ) from error

    def save(self, folder: Path) -> None:
        """Replace the manifest on disk, whole or not at all."""
        collections = {name: vars(entry) for name, entry in self.collections.items()}
        text = json.dumps({"format": FORMAT, "collections": collections, "aliases": self.aliases}, indent=1)
        temporary = folder / (MANIFEST_NAME + ".tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / MANIFEST_NAME)
            sync_names(folder)
        except OSError as error:
            raise StorageError(
                f"Cannot write the manifest of {str(folder)!r}: {error.strerror}. Check space and permissions."
            ) from error


def sync_names(folder: Path) -> None:
    """Put a folder's own list of files on disk, without which a power loss may bring the old file back."""
    if os.name == "nt":  # which has no such call, and writes the list through
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def validate_name(name: str, what: str = "Collection") -> None:
    """Refuse the names that a Qdrant server refuses; they would be folders there.

    Raises:
        ConfigError: empty, too long, a dot name, or with a character no file name may have.
    """
    bad = next((char for char in _FORBIDDEN if char in name), None)
    if bad is not None:
        raise ConfigError(f"{what} name {name!r} cannot contain {bad!r}. Use letters, digits, '_', '-' or '.'.")
    if name in (".", "..") or not 1 <= len(name) <= 255 or not name.isprintable():
        raise ConfigError(f"{what} name {name!r} is not allowed. Use 1 to 255 printable characters, not '.' or '..'.")


def folder_name(name: str) -> str:
    """A file name that is safe everywhere and differs for names that differ in case only."""
    encoded = "".join(chr(byte) if byte in _SAFE else f"%{byte:02x}" for byte in name.encode())
    if len(encoded) <= _LONGEST_FOLDER:
        return encoded
    return f"{encoded[:_LONGEST_FOLDER]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def is_local_mode_folder(folder: Path) -> bool:
    """Whether qdrant-client's local mode wrote this folder."""
    if (folder / MANIFEST_NAME).exists():
        return False
    return (folder / "meta.json").exists() or any(folder.glob("collection/*/storage.sqlite"))


def _refuse_what_is_not_ours(folder: Path) -> None:
    """Refuse collections that are not in a manifest: making one of the same name would remove its files."""
    if is_local_mode_folder(folder):
        raise StorageError(
            f"{str(folder)!r} was written by qdrant-client's local mode (path=...), which is another format. "
            f"Move it to a new folder: clip-qdrant migrate '{folder}' '{folder}-moved', and use that one."
        )
    if any(folder.glob(f"{COLLECTIONS_NAME}/*")):
        raise StorageError(
            f"{str(folder)!r} has collections, but no {MANIFEST_NAME}: a Qdrant server wrote it, or the file was lost. "
            "Migrate from the running server (clip-qdrant migrate URL FOLDER), restore the file, or use another folder."
        )
