"""clip-qdrant's embedding model, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.embedding import ClipEmbedding

__all__ = ["ClipEmbedding"]
