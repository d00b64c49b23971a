"""The asynchronous twin of `EdgeEngine`, generated: every method runs the engine's in a thread.

The engine holds the interpreter's lock during a call, so the loop stays responsive between calls, not within one.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qdrant_client.async_client_base import AsyncQdrantBase

from clip_qdrant.storage.edge.engine import EdgeEngine


class AsyncEdgeEngine(AsyncQdrantBase):
    """`EdgeEngine` behind `AsyncQdrantBase`; shares the folder with the process's other clients of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.engine = EdgeEngine(folder)

    async def flush(self, collection_name: str | None = None) -> None:
        """See `EdgeEngine.flush`."""
        await asyncio.to_thread(self.engine.flush, collection_name)

    async def optimize(self, collection_name: str) -> bool:
        """See `EdgeEngine.optimize`."""
        return await asyncio.to_thread(self.engine.optimize, collection_name)


def _in_thread(name: str) -> Callable[..., Any]:
    async def call(self: AsyncEdgeEngine, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(getattr(self.engine, name), *args, **kwargs)

    return call


def _directly(name: str) -> Callable[..., Any]:
    def call(self: AsyncEdgeEngine, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.engine, name)(*args, **kwargs)

    return call


def _generate() -> None:
    for name, method in inspect.getmembers(AsyncQdrantBase, inspect.isfunction):
        if not name.startswith("_") and name != "migrate":
            make = _in_thread if inspect.iscoroutinefunction(method) else _directly
            generated = make(name)
            generated.__name__, generated.__doc__ = name, getattr(EdgeEngine, name).__doc__
            setattr(AsyncEdgeEngine, name, generated)


_generate()
