"""What the commands open: a client, an encoder, a collection."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from clip_qdrant.cli import output
from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.errors import ConfigError
from clip_qdrant.models.encoder import DEFAULT_MODEL, ClipEncoder, download_size
from clip_qdrant.storage.connect import connect
from clip_qdrant.storage.schema import stored_fingerprint
from clip_qdrant.storage.vectors import VectorCollection

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from clip_qdrant.storage.edge.client import ManagedQdrantClient
    from clip_qdrant.types import Encoder


def open_client(location: str, *, existing: bool = False) -> ManagedQdrantClient:
    """Connect, and say to what; the key of a server is QDRANT_API_KEY's.

    Args:
        location: a folder or a URL.
        existing: refuse a folder that is not there, rather than make it.
    """
    if existing and "://" not in location and not Path(location).expanduser().exists():
        raise ConfigError(f"There is nothing at {location!r} yet. Index a folder first, or give another --location.")
    output.note(f"Location: {without_credentials(location)}")
    return connect_with_key(location, os.environ.get("QDRANT_API_KEY") or None)


def connect_with_key(location: str, api_key: str | None) -> ManagedQdrantClient:
    """Connect; a key is for a server, and goes over http with a word of warning."""
    if "://" not in location:
        return connect(location)
    with warnings.catch_warnings():
        # Said here in one line; qdrant-client would show its own source. Nor does it need to ask for the server's
        # version in a thread: where the server does not answer, the command's own request says so.
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection", UserWarning)
        if api_key and location.lower().startswith("http://"):
            output.note("The API key goes over http, unencrypted; use https where others can listen.")
        return connect(location, api_key=api_key, check_compatibility=False)


def open_encoder(model: str) -> Encoder:
    """Load a model, and announce what has to be downloaded for it."""
    announce(model)
    return ClipEncoder(model)


def announce(model: str) -> None:
    """Say what has to be downloaded for a model, if anything."""
    size = download_size(model)
    if size != 0:
        output.note(f"Model: {model} ({'of unknown size' if size is None else f'{size / 1e6:,.0f} MB'} to download)")


def open_collection(
    client: QdrantClient, name: str, model: str | None, *, existing: bool = False, new: str = DEFAULT_MODEL
) -> ClipCollection:
    """A collection with the model that was asked for, or else the one that it was made with.

    Args:
        client: where it is.
        name: of the collection.
        model: what was asked for, if anything was.
        existing: it has to be there.
        new: the model for one that is not.

    Raises:
        CollectionNotFoundError: it is not there, and `existing` says it must be.
    """
    stored = None
    if existing or client.collection_exists(name):
        stored = VectorCollection(client, name).fingerprint
    return ClipCollection(client, name, open_encoder(model or (stored.model if stored else new)))


def describe(client: QdrantClient) -> list[dict[str, Any]]:
    """What there is to say of each collection, in plain JSON types."""
    described = []
    for name in sorted(collection.name for collection in client.get_collections().collections):
        information = client.get_collection(name)
        fingerprint = stored_fingerprint(information)
        described.append(
            {
                "collection": name,
                "points": client.count(name, exact=True).count,
                "model": fingerprint.model if fingerprint else None,
                "dimension": fingerprint.dim if fingerprint else None,
                "indexes": sorted(information.payload_schema),
            }
        )
    return described


def without_credentials(location: str) -> str:
    """A location without the password that a URL may have."""
    if "://" not in location:
        return location
    parts = urlsplit(location)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
