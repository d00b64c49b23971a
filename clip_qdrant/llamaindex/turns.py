"""Blocking calls in threads, such that the event loop goes on and no two get in each other's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_Result = TypeVar("_Result")

# Of the client, so that all that use one take turns with each other.
_TURNS: WeakKeyDictionary[QdrantClient, WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]]
_TURNS = WeakKeyDictionary()
_REPLACING: WeakKeyDictionary[QdrantClient, dict[str, Lock]] = WeakKeyDictionary()


class Turns:
    """Who may call a client next.

    An engine in this process holds Python's lock during a call, and many threads that wait for that lock keep the event
    loop waiting with them. So its queries take turns, one at a time on each loop, and all are answered as soon; those
    to a server go at once. A long write keeps no query waiting, except in local mode, which is not safe in threads.

    Args:
        client: that the calls are made on.
    """

    def __init__(self, client: QdrantClient) -> None:
        self._client = client

    async def run(self, function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        """The result of a function that queries the client, in a thread."""
        from qdrant_client.qdrant_remote import QdrantRemote

        if isinstance(self._client._client, QdrantRemote):
            return await asyncio.to_thread(function, *arguments, **options)
        loops = _TURNS.setdefault(self._client, WeakKeyDictionary())
        async with loops.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            return await asyncio.to_thread(function, *arguments, **options)

    async def write(self, function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        """The result of a function that writes, or reads a lot, in a thread."""
        from qdrant_client.local.qdrant_local import QdrantLocal

        if isinstance(self._client._client, QdrantLocal):
            return await self.run(function, *arguments, **options)
        return await asyncio.to_thread(function, *arguments, **options)


def replacing(client: QdrantClient, collection: str) -> Lock:
    """What to hold while documents are replaced: of two at a time each would leave the other's nodes, unseen."""
    return _REPLACING.setdefault(client, {}).setdefault(collection, Lock())
