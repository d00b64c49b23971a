"""What do points of a collection look like to its encoder? A painted picture of each vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clip_qdrant.errors import ConfigError
from clip_qdrant.storage.vectors_checks import point_ids

if TYPE_CHECKING:
    from PIL.Image import Image

    from clip_qdrant.collection.clip import ClipCollection
    from clip_qdrant.models.painter import EmbeddingPainter


def preview(collection: ClipCollection, ids: Sequence[str], painter: EmbeddingPainter) -> list[Image]:
    """Paint the vectors of points: of a picture what the encoder saw in it, of a text what it means to the encoder.

    It needs no file: points whose pictures are gone can be looked at too.

    Args:
        collection: where the points are.
        ids: of points, in any order, repeated if you like.
        painter: for the collection's encoder.

    Returns:
        A picture for each id, in this order.

    Raises:
        ConfigError: a painter for another encoder, or an id that is not in the collection or has no vector.
        InvalidPointError: an id that no point can have, or one id instead of many.
    """
    painter.check(collection.encoder.fingerprint)
    wanted = [str(id) for id in point_ids(ids)]
    found = {hit.id: hit.vector for hit in collection.get(list(dict.fromkeys(wanted)), with_vectors=True)}
    vectors = []
    for id in wanted:
        vector = found.get(id)
        if vector is None:
            what = "has no vector" if id in found else "is not there"
            raise ConfigError(f"The point {id!r} of {collection.name!r} {what}, and cannot be painted. Leave it out.")
        vectors.append(vector)
    return painter.paint(vectors)
