"""What the engine's errors become, and errors that are also what users of qdrant-client catch today."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clip_qdrant.errors import ClipQdrantError, CollectionNotFoundError, StorageError


class MissingCollectionError(CollectionNotFoundError, ValueError):
    """No such collection; qdrant-client's local mode raises ValueError, so this is one too."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Collection {name!r} not found. Make it with create_collection, or check the folder.")
        self.name = name

    def __reduce__(self) -> tuple[type[MissingCollectionError], tuple[str]]:
        """The default would call __init__ with the message."""
        return type(self), (self.name,)


class CollectionExistsError(StorageError, ValueError):
    """The name is taken; callers look for "already exists" in the message."""


class PointNotFoundError(StorageError, KeyError):
    """An update names points that the collection does not hold; all others were updated, as on a server."""

    __str__ = Exception.__str__  # KeyError shows the repr of its message


class RefusedError(StorageError, ValueError):
    """The engine refused a request that passed our own checks; qdrant-client's local mode raises ValueError."""


class ClientClosedError(StorageError, RuntimeError):
    """The client was closed, or came into this process by a fork."""


_CLEARER = {
    "Operation cancelled: process cancelled by service": "the engine gave up. For a formula this means: a variable has "
    "no value in a payload nor in `defaults`, or a result is not finite."
}


@contextmanager
def engine_errors(doing: str, kind: type[ClipQdrantError] = StorageError) -> Iterator[None]:
    """The one place where the engine's plain `Exception`s become ours.

    Args:
        doing: what was being done, for the message.
        kind: the error to raise.
    """
    try:
        yield
    except ClipQdrantError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].removeprefix("Service runtime error: ")
        raise kind(f"{doing}: {_CLEARER.get(reason, reason)}") from error
