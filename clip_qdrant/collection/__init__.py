"""An encoder married to a Qdrant collection."""

from clip_qdrant.collection.clip import ClipCollection, Query
from clip_qdrant.collection.ingest import Failure, IngestReport

__all__ = ["ClipCollection", "Failure", "IngestReport", "Query"]
