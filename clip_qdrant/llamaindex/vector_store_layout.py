"""Where a collection keeps its vectors: ours, or as LlamaIndex's own store has written it.

    made by                    dense vectors           sparse vector
    this package               image, text             lexical, if any
    the stock store            one without a name      none
    the stock store, hybrid    text-dense              text-sparse-new, in older versions text-sparse
    either, by wish            one of any name         of any name

Where there is but one dense vector, it is that of pictures and of texts alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from llama_index.core.schema import BaseNode

from clip_qdrant.errors import CollectionMismatchError, InvalidPointError
from clip_qdrant.storage.points import IMAGE, TEXT
from clip_qdrant.storage.schema import LEXICAL, dense_vectors, search_params
from clip_qdrant.storage.vectors_checks import Space

if TYPE_CHECKING:
    from qdrant_client import models

    from clip_qdrant.storage.points import Leg

Legs: TypeAlias = Literal["image", "text", "both"]
"""Which vectors a search compares with: of the pictures, of the texts, or both."""

_STOCK_DENSE = "text-dense"
_STOCK_SPARSE = ("text-sparse-new", "text-sparse")


@dataclass(frozen=True, slots=True)
class Layout:
    """The vectors of one collection.

    Attributes:
        space: the dense ones, and their dimensions.
        legs: the name of the pictures' vectors and that of the texts'; it may be the same.
        sparse: the name of the words' vectors, or None.
        params: how to search the dense ones well.
        distance: that the pictures' vectors are compared by, as `CollectionSchema` spells it.
    """

    space: Space
    legs: Mapping[Leg, str]
    sparse: str | None
    params: models.SearchParams | None
    distance: str

    @classmethod
    def of(cls, collection: str, info: models.CollectionInfo, dense: str | None, sparse: str | None) -> Layout:
        """The layout of an existing collection.

        Args:
            collection: its name.
            info: what Qdrant says of it.
            dense: the dense vector that was asked for, or None.
            sparse: the sparse vector that was asked for, or None.

        Raises:
            CollectionMismatchError: it does not have what was asked for, or has several and none is known.
        """
        vectors = dense_vectors(info)
        legs = _legs(collection, list(vectors), dense)
        return cls(
            space=Space.of(collection, info),
            legs=legs,
            sparse=_sparse(collection, list(info.config.params.sparse_vectors or {}), sparse),
            params=search_params(info),
            distance=vectors[legs[IMAGE]].distance.value.lower(),
        )

    @property
    def dim(self) -> int:
        """The dimension of the dense vectors."""
        return self.space.sizes[self.legs[IMAGE]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the dense vectors, each once."""
        return tuple(dict.fromkeys(self.legs.values()))

    def searched(self, using: Legs) -> tuple[str, ...]:
        """The names of the vectors that a search compares with."""
        return self.names if using == "both" else (self.legs[using],)

    def vector_of(self, point: models.ScoredPoint | models.Record, kind: Leg) -> list[float] | None:
        """The vector of a point's kind, else the other's; None where the point came without its vectors."""
        given: Any = point.vector
        vectors: Mapping[str, list[float]] = given if isinstance(given, dict) else {"": given}
        order = (self.legs[kind], *self.legs.values())
        return next((vectors[name] for name in order if name in vectors), None)


def check_embeddings(collection: str, nodes: Sequence[BaseNode], dim: int | None, maker: str | None = None) -> int:
    """The dimension that all nodes' embeddings have.

    Args:
        collection: its name, for messages.
        nodes: at least one.
        dim: of the collection, or None where there is none yet.
        maker: whose vectors the collection holds, where that is known.

    Raises:
        InvalidPointError: one is no node, or has no embedding, or one that is zero, has a NaN, or is not one vector.
        CollectionMismatchError: one is of another dimension.
    """
    for node in nodes:
        if not isinstance(node, BaseNode):
            raise InvalidPointError(f"Nothing was written: nodes are a list of nodes, got {type(node).__name__} in it.")
        if node.embedding is None:
            raise InvalidPointError(
                f"Nothing was written: node {node.node_id!r} has no embedding. Embed it first, as an index or an "
                "IngestionPipeline with an embedding model does."
            )
        try:
            vector = np.asarray(node.embedding, dtype=np.float32)
        except (TypeError, ValueError):
            vector = np.empty(0, dtype=np.float32)
        if vector.ndim != 1 or not np.isfinite(vector).all() or not vector.any():
            raise InvalidPointError(
                f"Nothing was written: the embedding of node {node.node_id!r} is zero, has a NaN, or is not one vector."
            )
        dim = dim or len(vector)
        if len(vector) != dim:
            of = f" of {maker!r}" if maker else ""
            raise CollectionMismatchError(
                f"Nothing was written: collection {collection!r} holds {dim}-d vectors{of}, but the embedding of node "
                f"{node.node_id!r} is {len(vector)}-d. Use the model of the collection, or another collection."
            )
    if dim is None:
        raise InvalidPointError("There is no node to write.")
    return dim


def _legs(collection: str, names: Sequence[str], wanted: str | None) -> Mapping[Leg, str]:
    if wanted is None and IMAGE in names and TEXT in names:
        return {IMAGE: IMAGE, TEXT: TEXT}
    if names == [""] or (len(names) == 1 and wanted is None):  # what has no name cannot be called by one
        wanted = names[0]
    elif wanted is None and _STOCK_DENSE in names:
        wanted = _STOCK_DENSE
    elif wanted not in names:
        asked = "is not known to be searched" if wanted is None else f"has no dense vector {wanted!r}"
        raise CollectionMismatchError(
            f"Collection {collection!r} {asked}; it has {sorted(names)}. "
            "Name one of these as dense_vector_name, or use another collection."
        )
    return {IMAGE: str(wanted), TEXT: str(wanted)}


def _sparse(collection: str, names: Sequence[str], wanted: str | None) -> str | None:
    if wanted is not None and wanted not in names:
        raise CollectionMismatchError(
            f"Collection {collection!r} has no sparse vector {wanted!r} but {sorted(names) or 'none at all'}. "
            "Leave sparse_vector_name out, or use another collection."
        )
    return wanted or next((name for name in (LEXICAL, *_STOCK_SPARSE) if name in names), None)
