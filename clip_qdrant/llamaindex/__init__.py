"""LlamaIndex components over a `ClipCollection`."""

from clip_qdrant.llamaindex.embedding import ClipEmbedding
from clip_qdrant.llamaindex.retrievers import ClipRetriever

__all__ = ["ClipEmbedding", "ClipRetriever"]
