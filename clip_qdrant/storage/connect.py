"""One way in: a URL, a folder or memory to a `QdrantClient`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.storage.edge.client import ManagedAsyncQdrantClient, ManagedQdrantClient

DEFAULT_LOCATION = "./.clip_qdrant"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+")


def connect(
    location: str | Path = DEFAULT_LOCATION, *, api_key: str | None = None, timeout: int | None = None, **options: Any
) -> ManagedQdrantClient:
    """A client of a Qdrant server, of a folder, or of memory; also a context manager, which closes it.

    Args:
        location: an http(s) URL for a server; ":memory:" for the stock local mode, gone when closed; anything else is
            a folder, made if it is not there, that Qdrant's engine serves in this process (one process at a time).
        api_key: for a server; never logged.
        timeout: for a server, in seconds; None is the stock client's.
        **options: for a server, more arguments of `qdrant_client.QdrantClient`.

    Returns:
        A `QdrantClient` in every case; for a folder an `EmbeddedQdrantClient`, which also has `flush` and `optimize`.

    Raises:
        ConfigError: the location is empty, a file, of an unknown scheme, or options were given without a URL.
        StorageLockedError: another process has the folder open.
        StorageError: the folder cannot be written, or holds what qdrant-client's `path=` or a server wrote.

    Over REST, calls on a server that refuses the key raise ServerAccessError, on one that does not answer
    ServerUnreachableError.
    """
    kind, place = _locate(location, options)
    from clip_qdrant.storage.edge import client
    from clip_qdrant.storage.server_errors import explain

    if kind == "url":
        served = client.ManagedQdrantClient(url=place, api_key=api_key, timeout=timeout, **options)
        served.http.client.add_middleware(explain)
        return served
    if kind == "memory":
        return client.ManagedQdrantClient(location=place)
    return client.EmbeddedQdrantClient(Path(place).expanduser())


def connect_async(
    location: str | Path = DEFAULT_LOCATION, *, api_key: str | None = None, timeout: int | None = None, **options: Any
) -> ManagedAsyncQdrantClient:
    """The asynchronous twin of `connect`: same arguments, same errors.

    On a folder it shares the engine with every other client of that folder in this process.
    """
    kind, place = _locate(location, options)
    from clip_qdrant.storage.edge import client
    from clip_qdrant.storage.server_errors import explain_async

    if kind == "url":
        served = client.ManagedAsyncQdrantClient(url=place, api_key=api_key, timeout=timeout, **options)
        served.http.client.add_middleware(explain_async)
        return served
    if kind == "memory":
        return client.ManagedAsyncQdrantClient(location=place)
    return client.EmbeddedAsyncQdrantClient(Path(place).expanduser())


def _locate(location: str | Path, options: dict[str, Any]) -> tuple[Literal["url", "memory", "folder"], str]:
    place = str(location)
    if isinstance(location, str) and not location.strip():
        raise ConfigError("The location is empty. Give a URL, a folder, or ':memory:'.")
    scheme = _SCHEME.match(place) if isinstance(location, str) else None
    if scheme is not None:
        if scheme[1].lower() in ("http", "https"):
            return "url", place
        raise ConfigError(
            f"The location has the unknown scheme {scheme[1]!r}. Use http:// or https:// for a server, or a plain path."
        )
    if isinstance(location, str) and _HOST_AND_PORT.fullmatch(place):
        raise ConfigError(
            f"The location {place!r} looks like a server. Write 'http://{place}', or './{place}' for a folder."
        )
    if options:
        raise ConfigError(f"{', '.join(sorted(options))} are for a server, but {place!r} is not a URL. Leave them out.")
    if place == ":memory:":
        return "memory", place
    if Path(place).expanduser().is_file():
        raise ConfigError(f"The location {place!r} is a file. Give a folder, or a path where to make one.")
    return "folder", place
