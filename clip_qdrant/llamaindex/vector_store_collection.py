"""The collection of a vector store, which may not be there yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.vector_store_layout import Layout
from clip_qdrant.storage.schema import LEXICAL
from clip_qdrant.storage.vectors import VectorCollection

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from clip_qdrant.storage.schema import CollectionSchema
    from clip_qdrant.types import Encoder

_Result = TypeVar("_Result")


class LazyCollection:
    """A collection that is looked up and checked once it is there, and made when the first nodes come.

    Args:
        client: where it is, or will be.
        name: its name.
        schema: what it gets when it is made, and what is asked of it when it is there.
        sparse: the name of its sparse vector that was asked for, or None.
        any_distance: whether one that is there may compare by whatever distance it does.
        own_words: whether its sparse vectors are made by functions of the caller's.
    """

    def __init__(
        self,
        client: QdrantClient,
        name: str,
        schema: CollectionSchema,
        *,
        sparse: str | None,
        any_distance: bool,
        own_words: bool,
    ) -> None:
        self.schema = schema
        self._client = client
        self._name = name
        self._dense = schema.vectors[0] if len(schema.vectors) == 1 else None
        self._sparse = sparse
        self._any_distance = any_distance
        self._own_words = own_words
        self.known: Layout | None = None

    def find(self) -> Layout | None:
        """Its layout, or None where there is no collection.

        Raises:
            CollectionMismatchError: it is another than was asked for.
            ConfigError: it has sparse vectors that nobody here can make.
        """
        if self.known is None:
            self.known = self._look()
        return self.known

    def again(self, operation: Callable[[], _Result]) -> _Result:
        """What an operation gives; once more where it fails on a collection that others have changed meanwhile."""
        try:
            return operation()
        except Exception:
            if not self.has_changed():
                raise
        return operation()

    def has_changed(self) -> bool:
        """Look again: whether what was known of it no longer holds, for others have deleted it or made it anew.

        Raises:
            As `find`.
        """
        before, self.known = self.known, self._look()
        return before is not None and self.known != before

    def take(self, encoder: Encoder) -> None:
        """Be of this encoder from now on, and checked for it.

        Raises:
            CollectionMismatchError: it is there, and of another.
        """
        self.schema = self.schema.model_copy(update={"dim": encoder.dim, "fingerprint": encoder.fingerprint})
        self.known = None
        self.find()

    def layout(self) -> Layout:
        """Its layout.

        Raises:
            CollectionNotFoundError: there is no collection; it names those that there are.
            As `find`.
        """
        while (layout := self.find()) is None:
            VectorCollection(self._client, self._name)  # raises, unless it was made just now
        return layout

    def make(self, dim: int) -> None:
        """Make it, for vectors of this dimension.

        Raises:
            ConfigError: a name for its sparse vector was asked for, which is of existing collections.
        """
        if self._sparse is not None:
            raise ConfigError(
                f"The sparse vector of a new collection is {LEXICAL!r}, not {self._sparse!r}. Leave it out."
            )
        self.schema.model_copy(update={"dim": dim}).ensure(self._client, self._name)

    def drop(self) -> None:
        """Delete it."""
        self._client.delete_collection(self._name)
        self.known = None

    def _look(self) -> Layout | None:
        if not self._client.collection_exists(self._name):
            return None
        layout = Layout.of(self._name, self._client.get_collection(self._name), self._dense, self._sparse)
        self._check(layout)
        return layout

    def _check(self, layout: Layout) -> None:
        foreign = layout.sparse not in (None, LEXICAL)
        if foreign and self.schema.lexical and not self._own_words:
            raise ConfigError(
                f"Collection {self._name!r} has the sparse vector {layout.sparse!r} of another encoder. "
                "Give that encoder as sparse_doc_fn and sparse_query_fn, or leave enable_hybrid out."
            )
        asked: dict[str, Any] = {"vectors": layout.names, "lexical": self.schema.lexical and not foreign}
        if self._any_distance:
            asked["distance"] = layout.distance
        schema = self.schema.model_copy(update=asked)
        (schema.ensure if schema.indexes else schema.check)(self._client, self._name)
