"""The vectors of pictures with captions, of which LlamaIndex's own index embeds the caption and calls it the picture.

A plain `VectorStoreIndex` embeds every node by its text. That such a vector is the caption's shows when the caption is
embedded here: no picture is as near to its caption as that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clip_qdrant.errors import ImageError
from clip_qdrant.images import open_image
from clip_qdrant.llamaindex.nodes import image_of, kind_of, text_of
from clip_qdrant.storage.points import IMAGE, TEXT

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode
    from PIL import Image

    from clip_qdrant.storage.points import Leg
    from clip_qdrant.types import Encoder

_logger = logging.getLogger(__name__)
_THE_SAME = 0.9999


def vectors_of_captioned(nodes: Sequence[BaseNode], encoder: Encoder) -> dict[int, dict[Leg, list[float]]]:
    """The vectors of the pictures with captions among nodes, by their places: of the picture, and of the caption.

    A picture whose embedding is its caption's is embedded anew; one that cannot be opened then has that of its caption
    alone, as text, which is logged.

    Args:
        nodes: one batch, each with its embedding.
        encoder: of the embeddings.
    """
    captions = {at: text for at, node in enumerate(nodes) if kind_of(node) == IMAGE and (text := text_of(node))}
    texts = encoder.embed_texts(list(captions.values()))
    vectors: dict[int, dict[Leg, list[float]]] = {}
    opened: dict[int, Image.Image] = {}
    for at, text in zip(captions, texts, strict=True):
        given = np.asarray(nodes[at].embedding, dtype=np.float32)
        vectors[at] = {TEXT: text.tolist()}
        if given @ text / np.linalg.norm(given) < _THE_SAME:
            vectors[at][IMAGE] = given.tolist()
        elif (image := _opened(nodes[at], encoder)) is not None:
            opened[at] = image
    for at, vector in zip(opened, encoder.embed_images(opened.values()), strict=True):
        vectors[at][IMAGE] = vector.tolist()
    return vectors


def _opened(node: BaseNode, encoder: Encoder) -> Image.Image | None:
    try:
        source = image_of(node)
        if source is not None:
            return open_image(source, min_side=encoder.image_side)
        reason = "it is not there"
    except ImageError as error:
        reason = error.reason
    _logger.warning(
        "Picture node %r came with the embedding of its caption, and its picture cannot be opened: %s. "
        "It is found by its caption alone.", node.node_id, reason,
    )  # fmt: skip
    return None
