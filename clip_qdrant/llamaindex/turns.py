"""Blocking calls in threads, such that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_Result = TypeVar("_Result")


class Turns:
    """Who may call a client next.

    An engine in this process holds Python's lock during a call, and many threads that wait for that lock keep the event
    loop waiting with them. So its calls take turns, one at a time on each loop, and all are answered as soon; those to
    a server go at once.

    Args:
        client: that the calls are made on.
    """

    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def run(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """The result of a function that calls the client, in a thread."""
        from qdrant_client.qdrant_remote import QdrantRemote

        if isinstance(self._client._client, QdrantRemote):
            return await asyncio.to_thread(function, *arguments)
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            return await asyncio.to_thread(function, *arguments)
