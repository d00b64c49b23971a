"""clip-qdrant's selectors, where LlamaIndex's integrations live."""

from clip_qdrant.llamaindex.modality import ModalitySelector
from clip_qdrant.llamaindex.router import ZeroShotRouter
from clip_qdrant.llamaindex.selector import ZeroShotSelector

__all__ = ["ModalitySelector", "ZeroShotRouter", "ZeroShotSelector"]
