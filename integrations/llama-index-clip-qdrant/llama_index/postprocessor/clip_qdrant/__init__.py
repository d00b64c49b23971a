"""clip-qdrant's postprocessors, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.postprocessors import ClipReranker, NearDuplicateFilter

__all__ = ["ClipReranker", "NearDuplicateFilter"]
