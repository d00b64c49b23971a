"""clip-qdrant's reader, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.reader import ClipReader

__all__ = ["ClipReader"]
