"""What LlamaIndex keeps of a `ClipIndex`, by which `load_index_from_storage` knows whose it is.

Its registries are plain mappings of names. Ours is one name more, so that the indices of others are loaded as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS
from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS

if TYPE_CHECKING:
    from llama_index.core.indices.base import BaseIndex

TYPE = "clip_qdrant"


@dataclass
class ClipIndexStruct(IndexDict):
    """An index whose nodes are all in its vector store."""

    @classmethod
    def get_type(cls) -> Any:
        """The name that the index is stored by."""
        return TYPE


def register(index_class: type[BaseIndex[Any]]) -> None:
    """Let `load_index_from_storage` make indices of this class."""
    structs: dict[Any, Any] = INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS
    indices: dict[Any, Any] = INDEX_STRUCT_TYPE_TO_INDEX_CLASS
    structs[TYPE], indices[TYPE] = ClipIndexStruct, index_class
