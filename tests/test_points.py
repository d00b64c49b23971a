"""Records as points: identity, payload, and what LlamaIndex reads of it."""

import json
import math
from pathlib import Path

import pytest
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from clip_qdrant import ClipCollection, Record
from clip_qdrant.errors import InvalidPointError
from clip_qdrant.storage.points import document_id, hit_of, payload_of, point_id, point_of
from clip_qdrant.testing import FakeEncoder

BEAR = Record("/photos/bear.jpg", Path("/photos/bear.jpg"), text="a brown bear", metadata={"year": 2023})


def test_ids_stay_what_they_are():
    """Pinned: another id would index everything a second time."""
    assert (
        point_id(BEAR) == point_id(Record("/photos/bear.jpg", text="other")) == "7627c0c3-4b60-5e20-a799-f8ca051d2785"
    )
    page = Record("/photos/bear.jpg", fragment="page 2")
    assert point_id(page) == "e485b398-de64-50bd-b31b-c0ef9f53366d"
    assert document_id(page) == document_id(BEAR) == point_id(BEAR)


def test_the_name_of_a_file_that_is_no_text_is_not_its_path():
    """JSON takes nothing else; the record's source shows the name with escapes."""
    record = Record("/photos/caf\\xe9.png", Path("/photos/caf\udce9.png"))
    assert json.loads(payload_of(record, "hash")["_node_content"])["image_path"] is None


def test_scope_and_fragment_are_part_of_the_identity():
    variants = [
        Record("s"), Record("s", scope="a"), Record("s", fragment="a"), Record("s", fragment="b"), Record("sa"),
        Record('s", "', fragment=""), Record("s", scope='", "'),
    ]  # fmt: skip
    assert len({point_id(record) for record in variants}) == len(variants)


def test_fragments_of_a_source_share_a_document():
    pages = [Record("book.pdf", fragment=f"page={n}") for n in range(3)]
    assert len({document_id(page) for page in pages}) == 1
    assert document_id(Record("book.pdf", scope="other")) != document_id(pages[0])


def test_an_id_of_its_own_is_kept():
    own = "12345678-1234-5678-1234-567812345678"
    assert point_id(Record("s", id=own)) == own
    with pytest.raises(InvalidPointError, match="has the id 'seven', which is not a UUID"):
        point_id(Record("s", id="seven"))


@pytest.mark.parametrize("key", ["source", "text", "content_hash", "doc_id", "_node_content"])
def test_reserved_keys_are_refused(key):
    with pytest.raises(InvalidPointError, match=rf"uses reserved keys: \['{key}'\]"):
        payload_of(Record("s", metadata={key: 1}), "hash")


@pytest.mark.parametrize("value", [math.nan, math.inf, b"bytes", object()])
def test_metadata_that_is_no_json_is_refused(value):
    with pytest.raises(InvalidPointError, match="metadata of 's' is not JSON"):
        payload_of(Record("s", metadata={"value": value}), "hash")


def test_llamaindex_reads_an_image_node():
    node = metadata_dict_to_node(payload_of(BEAR, "hash"))
    assert isinstance(node, ImageNode)
    assert (node.node_id, node.image_path, node.text) == (point_id(BEAR), "/photos/bear.jpg", "a brown bear")
    assert node.metadata == {"year": 2023, "source": "/photos/bear.jpg", "modality": "image", "content_hash": "hash"}
    assert node.ref_doc_id == document_id(BEAR)
    assert "hash" not in node.get_content(metadata_mode="llm")


def test_llamaindex_reads_a_text_node():
    node = metadata_dict_to_node(payload_of(Record("note", text="a note"), "hash"))
    assert type(node) is TextNode
    assert node.text == "a note"


@pytest.mark.parametrize("image", [b"x" * 100_000, "data:image/png;base64," + "A" * 100_000, "https://host/a.png"])
def test_the_payload_holds_no_picture(image):
    payload = payload_of(Record("s", image=image), "hash")
    assert len(str(payload)) < 2_000
    assert metadata_dict_to_node(payload).image_path is None


def test_a_point_becomes_the_hit_of_its_record():
    point = point_of(BEAR, "hash", {"image": [1.0, 0.0], "text": [0.0, 1.0]})
    hit = hit_of(point)
    assert (hit.id, hit.source, hit.text, hit.score) == (point_id(BEAR), BEAR.source, BEAR.text, 0.0)
    assert hit.metadata == {"synthetic": False, "year": 2023, "modality": "image", "content_hash": "hash"}
    assert (hit.vector.tolist(), hit_of(point, "text").vector.tolist()) == ([1, 0], [0, 1])


def test_llamaindex_own_vector_store_searches_what_we_wrote(client, name, swatches):
    store_module = pytest.importorskip("llama_index.vector_stores.qdrant")
    encoder = FakeEncoder()
    collection = ClipCollection(client, name, encoder)
    collection.add(Record(str(path), path, text=path.stem) for path in sorted(swatches.iterdir()))
    store = store_module.QdrantVectorStore(name, client=client, dense_vector_name="image")
    (query,) = encoder.embed_texts(["red"])
    result = store.query(VectorStoreQuery(query_embedding=query.tolist(), similarity_top_k=1))
    (node,) = result.nodes
    assert isinstance(node, ImageNode)
    assert (node.text, Path(node.image_path).name) == ("red", "red.png")
    assert result.similarities[0] == pytest.approx(collection.search("red", limit=1)[0].score, abs=1e-5)
    store.delete(node.ref_doc_id)
    assert collection.count() == 3
