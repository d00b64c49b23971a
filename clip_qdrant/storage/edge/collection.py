"""One open collection: its shard, what vectors it holds, and what its strict mode allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clip_qdrant.storage.edge.convert_filters import to_edge_filter
from clip_qdrant.storage.edge.shard import Shard
from clip_qdrant.storage.edge.space import VectorSpace
from clip_qdrant.storage.edge.strict import Rules

if TYPE_CHECKING:
    from qdrant_client import models


@dataclass
class EdgeCollection:
    """What every call on a collection needs; the store replaces `space` and `rules` when the definition changes."""

    shard: Shard
    space: VectorSpace
    rules: Rules

    @property
    def name(self) -> str:
        """The collection's own name, which may have been reached by an alias."""
        return self.shard.name

    def filter_to_read(self, given: models.Filter | None) -> Any:
        """The engine's filter for a search or a count.

        Raises:
            FilterError: the engine or strict mode refuses it.
        """
        converted = to_edge_filter(given)
        self.rules.check_filter(given, self.shard.count)
        return converted

    def filter_to_update(self, given: models.Filter | None) -> Any:
        """The engine's filter for what is to be changed.

        Raises:
            FilterError: the engine or strict mode refuses it.
        """
        converted = to_edge_filter(given)
        self.rules.check_filter(given, self.shard.count, updating=True)
        return converted
