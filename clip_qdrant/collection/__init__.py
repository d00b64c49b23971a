"""An encoder married to a Qdrant collection."""

from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.collection.ingest import Failure, IngestReport
from clip_qdrant.collection.query import Query

__all__ = ["ClipCollection", "Failure", "IngestReport", "Query"]
