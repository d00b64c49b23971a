"""A LlamaIndex index of pictures and texts in one collection: in place of `MultiModalVectorStoreIndex`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from llama_index.core import StorageContext
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.ingestion import run_transformations
from llama_index.core.llms.utils import resolve_llm
from llama_index.core.schema import BaseNode, Document, IndexNode, NodeRelationship
from llama_index.core.settings import Settings
from llama_index.core.utils import iter_batch
from llama_index.core.vector_stores.simple import DEFAULT_VECTOR_STORE

from clip_qdrant.collection.clip import ClipCollection
from clip_qdrant.errors import ConfigError, ImageError
from clip_qdrant.llamaindex.embedding import ClipEmbedding
from clip_qdrant.llamaindex.engines import CHAT_ENGINES, chat_mode_of, with_budget, with_pictures
from clip_qdrant.llamaindex.index_arguments import (
    check_image_store,
    check_index_arguments,
    check_retriever_arguments,
    clip_arguments,
    store_arguments,
)
from clip_qdrant.llamaindex.index_documents import counted, is_unchanged, node_list, stored_nodes
from clip_qdrant.llamaindex.index_struct import ClipIndexStruct, register
from clip_qdrant.llamaindex.nodes import image_of, is_blank
from clip_qdrant.llamaindex.reader import ClipReader
from clip_qdrant.llamaindex.retriever_ways import Using
from clip_qdrant.llamaindex.retrievers import ClipRetriever
from clip_qdrant.llamaindex.store_retriever import StoreRetriever
from clip_qdrant.llamaindex.turns import Turns, replacing
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.sources import Problem, log_problem

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from llama_index.core.base.base_query_engine import BaseQueryEngine
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.chat_engine.types import BaseChatEngine
    from llama_index.core.data_structs.data_structs import IndexDict
    from llama_index.core.embeddings.utils import EmbedType
    from llama_index.core.llms.utils import LLMType
    from llama_index.core.schema import TransformComponent
    from typing_extensions import Self

    from clip_qdrant.llamaindex.retriever_ways import RetrieverOfBothKinds
    from clip_qdrant.sources import OnProblem

_logger = logging.getLogger(__name__)
_REFRESH_BATCH = 500


class ClipIndex(VectorStoreIndex):
    """Pictures and texts in one collection, each with the vectors it has; a captioned picture has both.

    All that is known is in the collection: an index opened again, by `from_collection` or `from_vector_store`, knows
    what it holds and refreshes only what has changed; so does one of LlamaIndex's `load_index_from_storage`, whose
    storage context needs the `vector_store`. A picture is one node, whatever the length of its caption; texts are split
    by the transformations.

    Args:
        nodes: to insert at once.
        storage_context: with a `ClipQdrantVectorStore`.
        embed_model: a `ClipEmbedding`; `Settings.embed_model` if None.
        image_embed_model: the same by the name that `MultiModalVectorStoreIndex` has for it; it goes before the other.
        **kwargs: of LlamaIndex's `VectorStoreIndex`.

    Raises:
        ConfigError: another vector store, another embedding model, or an argument that there is not.
    """

    index_struct_cls = ClipIndexStruct

    def __init__(
        self,
        nodes: Sequence[BaseNode] | None = None,
        *,
        storage_context: StorageContext | None = None,
        embed_model: EmbedType | None = None,
        image_embed_model: ClipEmbedding | None = None,
        **kwargs: Any,
    ) -> None:
        check_index_arguments(kwargs)
        store = storage_context.vector_stores.get(DEFAULT_VECTOR_STORE) if storage_context is not None else None
        if storage_context is None or not isinstance(store, ClipQdrantVectorStore):
            raise ConfigError(
                f"ClipIndex needs a ClipQdrantVectorStore, got {type(store).__name__}. Use "
                "ClipIndex.from_collection(collection), or storage_context=StorageContext.from_defaults("
                "vector_store=ClipQdrantVectorStore(…))."
            )
        model = image_embed_model or embed_model or Settings.embed_model
        if not isinstance(model, ClipEmbedding):
            raise ConfigError(f"ClipIndex needs a ClipEmbedding as embed_model, got {type(model).__name__}.")
        store.use_encoder(model.encoder)
        check_image_store(storage_context.vector_stores.get("image"), store)
        if nodes is None and kwargs.get("index_struct") is None:
            nodes = []
        if kwargs.get("objects"):  # LlamaIndex takes the object out of each
            kwargs["objects"] = [node.model_copy() for node in kwargs["objects"]]
        super().__init__(nodes, storage_context=storage_context, embed_model=model, **kwargs)

    @classmethod
    def from_collection(cls, collection: ClipCollection, *, using: Using = "both", **kwargs: Any) -> Self:
        """An index of what a collection holds, whoever put it there."""
        store = ClipQdrantVectorStore(
            collection.name, client=collection.vectors.client, encoder=collection.encoder, using=using
        )
        context = StorageContext.from_defaults(vector_store=store)
        return cls(storage_context=context, embed_model=ClipEmbedding(encoder=collection.encoder), **kwargs)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], collection: ClipCollection, **kwargs: Any) -> Self:
        """An index of a collection, with the pictures of a folder; those that it has, unchanged, are not embedded.

        A picture that cannot be opened is logged, and the others go in.
        """
        index = cls.from_collection(collection, **kwargs)
        index._refresh(ClipReader().lazy_load_data(folder), on_problem=log_problem)
        return index

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        storage_context: StorageContext | None = None,
        show_progress: bool = False,
        callback_manager: CallbackManager | None = None,
        transformations: list[TransformComponent] | None = None,
        **kwargs: Any,
    ) -> Self:
        """An index of documents: a picture's becomes one node, a text's what the transformations make of it."""
        index = cls(
            storage_context=storage_context,
            show_progress=show_progress,
            callback_manager=callback_manager,
            transformations=transformations,
            **kwargs,
        )
        index.insert_nodes(index._nodes_of(documents))
        return index

    @property
    def collection(self) -> ClipCollection:
        """The collection underneath.

        Raises:
            CollectionMismatchError: it has one vector for pictures and texts alike, as LlamaIndex's own store makes it.
        """
        store = self._store
        return ClipCollection(store.client, store.collection_name, self._model.encoder, schema=store.collection_schema)

    def as_retriever(self, **kwargs: Any) -> RetrieverOfBothKinds:
        """A `ClipRetriever` of pictures and texts, with its arguments.

        Where no number is given it finds two by their pictures and two by their texts, as LlamaIndex's own index does.
        Arguments of LlamaIndex's query modes (`vector_store_query_mode="hybrid"`, …) give a `StoreRetriever`, and so
        does a collection with one vector for pictures and texts alike. Those of engines are left to the engine around
        it, which hands all its arguments on.

        Raises:
            ConfigError: an argument that neither has, or that has no meaning together with the others.
            FilterError: filters that cannot be understood.
        """
        check_retriever_arguments(kwargs)
        own: dict[str, Any] = {"callback_manager": self._callback_manager, "object_map": self._object_map}
        of_store = store_arguments(kwargs, is_by_kind=self._store.is_by_kind)
        if of_store is not None:
            return StoreRetriever(self, **{"embed_model": self._model, **own, **of_store})
        own |= {"using": self._store.using, "query_instruction": self._model.query_instruction}
        return ClipRetriever(self.collection, **own | clip_arguments(kwargs))

    def as_query_engine(self, llm: LLMType | None = None, **kwargs: Any) -> BaseQueryEngine:
        """A query engine over `as_retriever`, whose model sees the pictures found, each with its caption.

        A model that completes text gets the text alone; so does a chat model that takes no pictures, with
        `multimodal=False`. An `ImageBudget` among the `node_postprocessors` says how large and how many pictures may
        be; it is last if it is not given. See `engines` for the response modes.

        Raises:
            ConfigError: `multimodal=True`, and what else is given shows no pictures; or an unknown argument.
        """
        model = resolve_llm(llm, callback_manager=self._callback_manager) if llm else Settings.llm
        return super().as_query_engine(model, **with_pictures(model, kwargs))

    def as_chat_engine(
        self, chat_mode: ChatMode = ChatMode.BEST, llm: LLMType | None = None, **kwargs: Any
    ) -> BaseChatEngine:
        """A chat engine over `as_retriever`, whose model sees the pictures found, as of `as_query_engine`.

        Raises:
            ConfigError: a mode that there is not, or that shows no pictures, with `multimodal=True`.
        """
        model = resolve_llm(llm, callback_manager=self._callback_manager) if llm else Settings.llm
        asked = kwargs.get("multimodal")
        mode = chat_mode_of(chat_mode, asked)
        engine = CHAT_ENGINES.get(mode)
        if engine is None or not (model.metadata.is_chat_model if asked is None else asked):
            return super().as_chat_engine(mode, model, **kwargs)
        kwargs["node_postprocessors"] = with_budget(kwargs.get("node_postprocessors"))
        return engine.from_defaults(retriever=self.as_retriever(**kwargs), llm=model, **kwargs)

    def insert_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> None:
        """Insert nodes; those given stay as they are."""
        # LlamaIndex takes the object out of an IndexNode that cannot be written as JSON.
        copies = [node.model_copy() if isinstance(node, IndexNode) else node for node in node_list(nodes)]
        super().insert_nodes(copies, **insert_kwargs)

    def insert(self, document: Document, **insert_kwargs: Any) -> None:
        """Insert a document."""
        with self._callback_manager.as_trace("insert"):
            self.insert_nodes(self._nodes_of([document]), **insert_kwargs)

    async def ainsert(self, document: Document, **insert_kwargs: Any) -> None:
        """`insert` in a thread."""
        await Turns(self._store.client).write(self.insert, document, **insert_kwargs)

    async def ainsert_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> None:
        """`insert_nodes` in a thread."""
        await Turns(self._store.client).write(self.insert_nodes, nodes, **insert_kwargs)

    def update_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """Put a document in the place of the one with its id; should it fail, the old one is still there.

        All indices over one client and collection take turns. Of two processes that update one document at once each
        may leave its version; the next update or refresh leaves one.
        """
        with self._callback_manager.as_trace("update_ref_doc"):
            self._replace([document], **update_kwargs)

    async def aupdate_ref_doc(self, document: Document, **update_kwargs: Any) -> None:
        """`update_ref_doc` in a thread."""
        await Turns(self._store.client).write(self.update_ref_doc, document, **update_kwargs)

    def refresh_ref_docs(self, documents: Iterable[Document], **update_kwargs: Any) -> list[bool]:
        """Insert what is new and update what has changed; whether each document was either.

        Read lazily, some hundred at a time. What a document was is known from the collection.
        """
        return self._refresh(documents, **update_kwargs)

    async def arefresh_ref_docs(self, documents: Iterable[Document], **update_kwargs: Any) -> list[bool]:
        """`refresh_ref_docs` in a thread."""
        return await Turns(self._store.client).write(self.refresh_ref_docs, documents, **update_kwargs)

    @property
    def _store(self) -> ClipQdrantVectorStore:
        assert isinstance(self._vector_store, ClipQdrantVectorStore)
        return self._vector_store

    @property
    def _model(self) -> ClipEmbedding:
        assert isinstance(self._embed_model, ClipEmbedding)
        return self._embed_model

    def build_index_from_nodes(self, nodes: Sequence[BaseNode], **insert_kwargs: Any) -> IndexDict:
        """Write nodes, pictures without words too, which LlamaIndex would drop; in batches, `use_async` or not."""
        index_struct = self.index_struct_cls()
        self._add_nodes_to_index(index_struct, nodes, show_progress=self._show_progress, **insert_kwargs)
        return index_struct

    def _add_nodes_to_index(
        self, index_struct: IndexDict, nodes: Sequence[BaseNode], show_progress: bool = False, **insert_kwargs: Any
    ) -> None:
        for batch in iter_batch(nodes, self._insert_batch_size):
            self._store.add(self._embedded(batch), **insert_kwargs)

    async def _async_add_nodes_to_index(
        self, index_struct: IndexDict, nodes: Sequence[BaseNode], show_progress: bool = False, **insert_kwargs: Any
    ) -> None:
        await Turns(self._store.client).write(
            self._add_nodes_to_index, index_struct, nodes, show_progress, **insert_kwargs
        )

    def _embedded(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Copies of nodes with their vectors; those that bring theirs keep it, those without content are left out."""
        copies = [node.model_copy() for node in nodes]
        missing = [node for node in copies if node.embedding is None]
        empty = {node.node_id for node in missing if is_blank(node)}
        if empty:
            _logger.warning("%d nodes have neither a picture nor a text, and are left out: %s", len(empty), min(empty))
        self._model([node for node in missing if node.node_id not in empty])
        return [node for node in copies if node.node_id not in empty]

    def _nodes_of(self, documents: Sequence[Document]) -> list[BaseNode]:
        """A picture as one node with its document's id; texts as the transformations make them."""
        documents = node_list(documents)
        pictures = {id(document) for document in documents if image_of(document) is not None}
        texts = [document for document in documents if id(document) not in pictures]
        nodes: list[BaseNode] = []
        for document in documents:
            if id(document) in pictures:
                source = {NodeRelationship.SOURCE: document.as_related_node_info()}
                nodes.append(document.model_copy(update={"relationships": {**document.relationships, **source}}))
        chunks = run_transformations(texts, self._transformations, show_progress=self._show_progress)
        return [*nodes, *counted(chunks)]

    def _refresh(
        self, documents: Iterable[Document], on_problem: OnProblem | None = None, **update_kwargs: Any
    ) -> list[bool]:
        """As `refresh_ref_docs`; with `on_problem` a picture that cannot be opened costs its document alone."""
        refreshed: list[bool] = []
        remaining = iter(documents)
        with self._callback_manager.as_trace("refresh_ref_docs"):
            while batch := list(islice(remaining, _REFRESH_BATCH)):
                stored = stored_nodes(self._store, node_list(batch))
                changed = [not is_unchanged(document, stored.get(document.id_, [])) for document in batch]
                new = [document for document, is_new in zip(batch, changed, strict=True) if is_new]
                try:
                    self._replace(new, **update_kwargs)
                except ImageError:
                    if on_problem is None:
                        raise
                    self._replace_each(new, on_problem, **update_kwargs)
                refreshed += changed
        return refreshed

    def _replace_each(self, documents: Sequence[Document], on_problem: OnProblem, **update_kwargs: Any) -> None:
        for document in documents:
            try:
                self._replace([document], **update_kwargs)
            except ImageError as error:
                on_problem(Problem(error.source, error.reason))

    def _replace(self, documents: Sequence[Document], **update_kwargs: Any) -> None:
        """Write documents, of two with one id the later, and only then delete what else their ids had."""
        documents = list({document.id_: document for document in node_list(documents)}.values())
        if not documents:
            return
        nodes = self._nodes_of(documents)
        with replacing(self._store.client, self._store.collection_name):
            before = {node.node_id for stored in stored_nodes(self._store, documents).values() for node in stored}
            self.insert_nodes(nodes, **update_kwargs.get("insert_kwargs", {}))
            gone = before - {node.node_id for node in nodes}
            if gone:
                self.delete_nodes(sorted(gone), **update_kwargs.get("delete_kwargs", {}))


register(ClipIndex)
