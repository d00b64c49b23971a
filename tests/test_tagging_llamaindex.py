"""Tags as LlamaIndex sees them: in a node's metadata, in its filters, and kept when a node is written again."""

import json

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from PIL import Image

from clip_qdrant import ClipCollection, ClipEmbedding, ClipQdrantVectorStore, ClipRetriever
from clip_qdrant.collection.tagging import tag, untag
from clip_qdrant.testing import PALETTE, FakeEncoder
from clip_qdrant.types import Record

TREE = {"warm": ["red", "yellow"], "cold": ["green", "blue"]}


@pytest.fixture
def collection(client, name):
    found = ClipCollection(client, name, FakeEncoder())
    found.add([Record(f"{colour}-picture", Image.new("RGB", (8, 8), PALETTE[colour])) for colour in ("red", "blue")])
    found.add([Record(f"{colour}-text", text=f"a {colour} page") for colour in ("yellow", "green")])
    return found


@pytest.fixture
def index(collection):
    """LlamaIndex's own, over nodes that it wrote itself."""
    store = ClipQdrantVectorStore(collection.name, collection.vectors.client)
    nodes = [TextNode(text=f"a {colour} note", id_=colour, metadata={"by": "ann"}) for colour in ("red", "green")]
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(nodes, storage_context=context, embed_model=ClipEmbedding(encoder=FakeEncoder()))


def filters(key, value, operator=FilterOperator.EQ):
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def test_a_retriever_shows_and_filters_by_tags(collection):
    tag(collection, TREE)
    for wanted, expected in (
        (filters("kind", "blue"), {"blue"}),
        (filters("kind", ["blue", "green"], FilterOperator.IN), {"blue", "green"}),
        (filters("kind", "blue", FilterOperator.NE), {"red", "yellow", "green"}),
        (filters("kind_path", "warm", FilterOperator.CONTAINS), {"red", "yellow"}),
        (filters("kind_confidence", 0.5, FilterOperator.GT), {"red", "yellow", "green", "blue"}),
        (filters("kind_confidence", 0.5, FilterOperator.LT), set()),
    ):
        nodes = [one.node for one in ClipRetriever(collection, filters=wanted, using="both").retrieve("a page")]
        assert {node.metadata["kind"] for node in nodes} == expected
        for node in nodes:
            assert node.metadata["kind_path"][-1] == node.metadata["kind"] and node.metadata["kind_confidence"] > 0.5


def test_tags_are_for_readers_and_not_for_the_vector(collection, index):
    tag(collection, TREE)
    (found,) = index.as_retriever(filters=filters("kind", "green"), similarity_top_k=5).retrieve("note")[:1]
    node = found.node
    assert node.node_id == "green" and node.metadata["by"] == "ann" and node.metadata["kind_path"] == ["cold", "green"]
    assert node.get_content(metadata_mode=MetadataMode.EMBED) == "by: ann\n\na green note"
    shown = node.get_content(metadata_mode=MetadataMode.LLM)
    assert "kind: green" in shown and "_tags" not in shown


def test_tags_that_go_or_change_are_seen_at_once(collection, index):
    tag(collection, TREE)
    (node,) = index.vector_store.get_nodes(["green"])
    node.metadata["by"] = "bob"
    node.embedding = FakeEncoder().embed_texts(["a green note"])[0].tolist()
    index.vector_store.add([node])  # with its tags, which must not become metadata
    tag(collection, {"shades": ["green", "blue"], "others": ["red", "yellow"]})
    (again,) = index.vector_store.get_nodes(["green"])
    assert again.metadata["kind_path"] == ["shades", "green"] and again.metadata["by"] == "bob"
    assert untag(collection) == 6
    (bare,) = index.vector_store.get_nodes(["green"])
    assert bare.metadata == {"by": "bob"} and bare.excluded_embed_metadata_keys == bare.excluded_llm_metadata_keys == []


def test_a_node_that_is_written_again_is_tagged_anew(collection, index):
    tag(collection, ["red", "green", "blue"])
    (node,) = index.vector_store.get_nodes(["green"])
    node.text = "a red note"
    node.embedding = FakeEncoder().embed_texts(["a red note"])[0].tolist()
    index.vector_store.add([node])
    (point,) = collection.vectors.scan(where={"by": "ann", "kind": "green"})
    assert "kind" not in json.loads(point.payload["_node_content"])["metadata"]
    report = tag(collection, ["red", "green", "blue"])
    assert (report.written, report.unchanged) == (1, 5)
    assert index.vector_store.get_nodes(["green"])[0].metadata["kind"] == "red"
