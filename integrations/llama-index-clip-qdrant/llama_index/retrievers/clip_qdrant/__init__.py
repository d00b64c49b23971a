"""clip-qdrant's retriever, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.retrievers import ClipRetriever

__all__ = ["ClipRetriever"]
