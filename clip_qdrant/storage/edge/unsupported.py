"""What the embedded engine does not have: each method says what to use instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import UnsupportedError

_SERVER = "Run a Qdrant server, and connect to its URL."
_SNAPSHOT = "Copy the folder while no client is open (the files are sparse), or use client.migrate(other_client)."

INSTEAD = {
    **dict.fromkeys(
        (
            "list_snapshots",
            "create_snapshot",
            "delete_snapshot",
            "list_full_snapshots",
            "create_full_snapshot",
            "delete_full_snapshot",
            "recover_snapshot",
            "list_shard_snapshots",
            "create_shard_snapshot",
            "delete_shard_snapshot",
            "recover_shard_snapshot",
        ),
        _SNAPSHOT,
    ),
    **dict.fromkeys(
        (
            "create_shard_key",
            "delete_shard_key",
            "list_shard_keys",
            "cluster_collection_update",
            "collection_cluster_info",
            "cluster_status",
            "cluster_telemetry",
            "recover_current_peer",
            "remove_peer",
        ),
        _SERVER,
    ),
    "get_optimizations": "Call client.optimize(collection_name), which waits for its end.",
}
"""Method of `QdrantBase` to what to do instead."""


def _refusal(name: str, instead: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(f"{name} is not supported by the embedded engine. {instead}")

    refuse.__name__ = name
    refuse.__doc__ = f"Not supported by the embedded engine. {instead}"
    return refuse


class UnsupportedMixin(QdrantBase):
    """Refuses what the table names."""


for _name, _instead in INSTEAD.items():
    setattr(UnsupportedMixin, _name, _refusal(_name, _instead))
