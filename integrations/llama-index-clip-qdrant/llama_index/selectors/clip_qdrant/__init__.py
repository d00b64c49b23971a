"""clip-qdrant's selector, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.selector import ZeroShotRouter, ZeroShotSelector

__all__ = ["ZeroShotRouter", "ZeroShotSelector"]
