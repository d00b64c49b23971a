"""`EdgeEngine`: everything that a `QdrantClient` asks of its `_client`, on one folder."""

from __future__ import annotations

from qdrant_client.client_base import QdrantBase
from qdrant_client.migrate.migrate import migrate

from clip_qdrant.storage.edge.collections import CollectionsMixin
from clip_qdrant.storage.edge.groups import GroupsMixin
from clip_qdrant.storage.edge.matrix import MatrixMixin
from clip_qdrant.storage.edge.unsupported import UnsupportedMixin
from clip_qdrant.storage.edge.vector_names import VectorNamesMixin
from clip_qdrant.storage.edge.writes import WritesMixin


class EdgeEngine(CollectionsMixin, VectorNamesMixin, WritesMixin, GroupsMixin, MatrixMixin, UnsupportedMixin):
    """The embedded engine on a folder. Any number of them share one folder in one process; threads may share one."""

    def migrate(
        self,
        dest_client: QdrantBase,
        collection_names: list[str] | None = None,
        batch_size: int = 100,
        recreate_on_collision: bool = False,
    ) -> None:
        """Copy collections to another client."""
        migrate(self, dest_client, collection_names, recreate_on_collision, batch_size)
