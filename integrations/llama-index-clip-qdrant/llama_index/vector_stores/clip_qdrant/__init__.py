"""clip-qdrant's vector store, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore

__all__ = ["ClipQdrantVectorStore"]
