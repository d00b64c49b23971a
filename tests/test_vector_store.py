"""ClipQdrantVectorStore: nodes in, nodes out, on every backend."""

from __future__ import annotations

import base64
from io import BytesIO

import pytest
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import VectorStoreQuery, VectorStoreQueryResult
from llama_index.core.vector_stores.types import VectorStoreQueryMode as Mode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from PIL import Image
from qdrant_client import models

from clip_qdrant import ClipCollection, ClipEmbedding, CollectionSchema, Record, connect
from clip_qdrant.errors import (
    CollectionMismatchError,
    CollectionNotFoundError,
    ConfigError,
    FilterError,
    InvalidPointError,
)
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder

ENCODER = FakeEncoder()
COLOURS = ("red", "green", "blue", "yellow")
UUID = "6da33aeb-c595-4959-a74b-74bd4e62e5f4"


def picture(path, *, text="", id=None, doc=None, **metadata):
    (vector,) = ENCODER.embed_images([path]).tolist()
    return ImageNode(
        id_=id or path.stem, image_path=str(path), text=text, embedding=vector, metadata=metadata,
        relationships={} if doc is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=doc)},
    )  # fmt: skip


def passage(text, *, id=None, doc=None, **metadata):
    (vector,) = ENCODER.embed_texts([text]).tolist()
    return TextNode(
        id_=id or text, text=text, embedding=vector, metadata=metadata,
        relationships={} if doc is None else {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=doc)},
    )  # fmt: skip


@pytest.fixture
def pictures(swatches):
    return [picture(swatches / f"{colour}.png", number=number) for number, colour in enumerate(COLOURS)]


@pytest.fixture
def passages():
    return [passage(f"a {colour} thing", number=number, doc=f"doc-{colour}") for number, colour in enumerate(COLOURS)]


def ask(text, **options):
    (vector,) = ENCODER.embed_texts([text]).tolist()
    return VectorStoreQuery(query_embedding=vector, query_str=text, **{"similarity_top_k": 2, **options})


def ids(nodes):
    return [node.node_id for node in nodes]


def test_it_is_a_stock_store_for_whoever_asks(client, name):
    store = ClipQdrantVectorStore(name, client=client)
    assert isinstance(store, QdrantVectorStore)
    assert store.stores_text and store.is_embedding_query and not store.flat_metadata
    assert (store.client, store.aclient) == (client, None)


def test_pictures_and_texts_of_one_collection(client, name, pictures, passages):
    store = ClipQdrantVectorStore(name, client=client)
    assert store.add([*pictures, *passages]) == [*COLOURS, *(f"a {colour} thing" for colour in COLOURS)]
    found = store.query(ask("blue"))
    assert set(found.ids) == {"blue", "a blue thing"}
    assert {type(node) for node in found.nodes} == {ImageNode, TextNode}
    assert [node.metadata["number"] for node in found.nodes] == [2, 2]
    assert store.query(ask("blue"), using="image").ids[0] == "blue"
    assert store.query(ask("blue"), using="text").ids[0] == "a blue thing"
    assert ClipQdrantVectorStore(name, client=client, using="text").query(ask("red")).ids[0] == "a red thing"


def test_pictures_alone_are_found_by_cosine(client, name, pictures):
    store = ClipQdrantVectorStore(name, client=client)
    store.add(pictures)
    found = store.query(ask("blue", similarity_top_k=10))
    assert found.ids[0] == "blue" and len(found.ids) == 4
    cosine = ENCODER.embed_texts(["blue"])[0] @ ENCODER.embed_images([pictures[2].image_path])[0]
    assert found.similarities[0] == pytest.approx(cosine, abs=1e-5)


def test_with_an_encoder_captions_have_vectors_too(client, name, swatches):
    store = ClipQdrantVectorStore(name, client=client, encoder=ENCODER)
    store.add([picture(swatches / "red.png", text="a blue moon"), picture(swatches / "green.png")])
    assert store.query(ask("blue"), using="text").ids == ["red"]
    assert store.query(ask("red", similarity_top_k=1), using="image").ids == ["red"]
    (point,) = client.scroll(name, with_vectors=["text"], scroll_filter=models.Filter(
        must=[models.HasVectorCondition(has_vector="text")]))[0]  # fmt: skip
    assert point.vector["text"] == pytest.approx(ENCODER.embed_texts(["a blue moon"])[0].tolist(), abs=1e-6)


def test_a_collection_is_one_for_all_parts_of_the_package(client, name, pictures, passages, swatches):
    store = ClipQdrantVectorStore(name, client=client, encoder=ClipEmbedding(encoder=ENCODER))
    store.add([*pictures, *passages])
    collection = ClipCollection(client, name, ENCODER)
    assert collection.search("yellow")[0].source == str(swatches / "yellow.png")
    assert collection.search("yellow", using="text")[0].text == "a yellow thing"
    collection.add([Record(source="/x/black.png", image=Image.new("RGB", (9, 9)), text="a hole", metadata={"n": 1})])
    (node,) = store.query(ask("black", similarity_top_k=1), using="image").nodes
    assert (type(node), node.text, node.metadata["n"]) == (ImageNode, "a hole", 1)


def test_another_encoders_collection_is_refused(client, name, pictures):
    ClipQdrantVectorStore(name, client=client, encoder=ENCODER).add(pictures)
    with pytest.raises(CollectionMismatchError, match="of 'fake', but 'other' makes 32-d of another space"):
        ClipQdrantVectorStore(name, client=client, encoder=FakeEncoder(name="other"))
    with pytest.raises(CollectionMismatchError, match="32-d vectors of 'fake', but 'fake' makes 64-d"):
        ClipQdrantVectorStore(name, client=client, encoder=FakeEncoder(64))


def test_any_id_comes_back_as_it_was(client, name):
    given = [UUID, UUID.replace("6d", "7e").upper(), "3", "Ünï cödé/#1", "x" * 500]
    store = ClipQdrantVectorStore(name, client=client)
    assert store.add([passage(f"thing {number}", id=id) for number, id in enumerate(given)]) == given
    assert set(ids(store.get_nodes(given))) == set(given)
    assert sorted(store.query(ask("thing", similarity_top_k=9)).ids) == sorted(given)
    store.add([passage("another thing", id="3")])
    assert store.get_nodes(["3"])[0].text == "another thing"
    assert len(store.get_nodes()) == 5
    assert client.retrieve(name, [UUID])[0].id == UUID
    store.delete_nodes(["3", UUID])
    assert set(ids(store.get_nodes())) == set(given) - {"3", UUID}


def test_documents_are_deleted_whole(client, name, passages):
    store = ClipQdrantVectorStore(name, client=client)
    store.delete("doc-red")  # of a collection that is not there yet
    store.add([*passages, passage("red again", doc="doc-red")])
    store.delete("doc-red")
    assert set(ids(store.get_nodes())) == {"a green thing", "a blue thing", "a yellow thing"}
    store.delete("no such document")
    assert len(store.get_nodes()) == 3


def test_clear_and_begin_anew(client, name, passages):
    store = ClipQdrantVectorStore(name, client=client)
    store.add(passages)
    store.clear()
    assert not client.collection_exists(name)
    other = FakeEncoder(16)
    node = TextNode(text="x", embedding=other.embed_texts(["x"])[0].tolist())
    assert store.add([node]) == [node.node_id]
    assert len(store.get_nodes()[0].embedding) == 16


def test_nodes_come_back_with_their_embeddings(client, name, pictures, passages):
    store = ClipQdrantVectorStore(name, client=client, encoder=ENCODER)
    pictures[0].text = "a caption, which has a vector of its own"
    store.add([pictures[0], passages[0]])
    by_id = {node.node_id: node.embedding for node in store.get_nodes()}
    assert by_id["red"] == pytest.approx(pictures[0].embedding, abs=1e-6)
    assert by_id["a red thing"] == pytest.approx(passages[0].embedding, abs=1e-6)
    assert store.query(ask("red")).nodes[0].embedding is None


def test_bytes_and_vectors_are_not_in_the_payload(client, name):
    file = BytesIO()
    Image.effect_noise((400, 400), 50).save(file, "PNG")
    node = ImageNode(image=base64.b64encode(file.getvalue()).decode(), embedding=[0.5] * 32)
    ClipQdrantVectorStore(name, client=client).add([node])
    payload = client.scroll(name)[0][0].payload
    assert len(file.getvalue()) > 100_000 and len(str(payload)) < 2_000
    assert "content_hash" in payload


BAD = {
    "none": (None, InvalidPointError, "node 'b' has no embedding"),
    "nan": ([float("nan")] * 32, InvalidPointError, "the embedding of node 'b' is zero, has a NaN"),
    "zero": ([0.0] * 32, InvalidPointError, "the embedding of node 'b' is zero"),
    "text": (["x"] * 32, InvalidPointError, "the embedding of node 'b' is"),
    "ragged": ([[1.0], [1.0, 2.0]], InvalidPointError, "the embedding of node 'b' is"),
    "short": ([1.0] * 3, CollectionMismatchError, "holds 32-d vectors.*, but the embedding of node 'b' is 3-d"),
    "empty": ([], InvalidPointError, "the embedding of node 'b' is"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_written_of_nodes_with_one_bad_embedding(client, name, passages, case, there):
    store = ClipQdrantVectorStore(name, client=client, batch_size=1)
    if there:
        store.add(passages[:1])
    bad, error, message = BAD[case]
    node = TextNode(id_="b", text="b")
    object.__setattr__(node, "embedding", bad)
    with pytest.raises(error, match=f"Nothing was written: .*{message}"):
        store.add([passages[1], node])
    assert client.collection_exists(name) is there
    if there:
        assert len(store.get_nodes()) == 1


def test_nothing_to_add_makes_no_collection(client, name):
    assert ClipQdrantVectorStore(name, client=client).add([]) == []
    assert not client.collection_exists(name)


def test_a_collection_that_is_not_there(client, name):
    store = ClipQdrantVectorStore(name, client=client)
    assert store.query(ask("red")) == VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
    with pytest.raises(CollectionNotFoundError, match=f"There is no collection '{name}'"):
        store.get_nodes()
    store.delete_nodes(["x"])
    assert not client.collection_exists(name)


def test_a_collection_that_another_store_made_meanwhile_is_found(client, name, passages):
    early = ClipQdrantVectorStore(name, client=client)
    ClipQdrantVectorStore(name, client=client).add(passages)
    assert early.query(ask("green", similarity_top_k=1)).ids == ["a green thing"]


def test_queries_are_limited_to_documents_nodes_and_filters(client, name, passages):
    store = ClipQdrantVectorStore(name, client=client)
    store.add(passages)

    def found(**options):
        return set(store.query(ask("thing", similarity_top_k=9, **options)).ids)

    everything = {f"a {colour} thing" for colour in COLOURS}
    assert found() == found(doc_ids=[], node_ids=[]) == everything
    assert found(doc_ids=["doc-red", "doc-blue"]) == {"a red thing", "a blue thing"}
    assert found(node_ids=["a red thing", "a green thing"], doc_ids=["doc-red"]) == {"a red thing"}
    assert found(filters={"number": {"gte": 2}}, node_ids=["a red thing", "a blue thing"]) == {"a blue thing"}
    assert found(filters="number >= 3") == {"a yellow thing"}
    own = models.Filter(must=[models.FieldCondition(key="number", match=models.MatchValue(value=1))])
    query = ask("thing", similarity_top_k=9, filters={"number": [1, 2]})
    assert store.query(query, qdrant_filters=own).ids == ["a green thing"]
    assert store.query(query, where="number = 2").ids == ["a blue thing"]
    assert store.query(query, qdrant_filters=own, where={"number": 2}).ids == []
    with pytest.raises(FilterError, match="number"):
        found(filters={"number": {"about": 2}})


def test_a_filter_that_finds_nothing_gives_an_empty_answer(client, name, pictures, passages):
    store = ClipQdrantVectorStore(name, client=client)
    store.add([*pictures, *passages])
    empty = VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
    assert store.query(ask("red", filters={"number": 99})) == empty


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ({"similarity_top_k": 0}, ConfigError, "similarity_top_k must be at least 1"),
        ({"mode": Mode.SVM}, ConfigError, "no query mode 'svm' here. There is default, mmr, hybrid, sparse"),
        ({"mode": Mode.SEMANTIC_HYBRID}, ConfigError, "no query mode 'semantic_hybrid'"),
        ({"query_embedding": None}, InvalidPointError, "mode 'default' needs a query_embedding, got None"),
        ({"query_embedding": None, "mode": Mode.MMR}, InvalidPointError, "mode 'mmr' needs a query_embedding"),
        ({"query_embedding": [0.0] * 32}, InvalidPointError, "zero or has a NaN"),
        ({"query_embedding": [1.0] * 8}, CollectionMismatchError, "holds 32-d vectors.*but the query is 8-d"),
        ({"mode": Mode.HYBRID}, ConfigError, "no sparse vectors, so mode 'hybrid'.*enable_hybrid=True"),
        ({"mode": Mode.TEXT_SEARCH}, ConfigError, "no sparse vectors, so mode 'text_search'"),
        ({"mode": Mode.MMR, "mmr_threshold": 1.5}, ConfigError, "mmr_threshold must be from 0 to 1, got 1.5"),
    ],
)
def test_queries_that_cannot_be_are_refused(query, error, message, passages):
    store = ClipQdrantVectorStore("c", client=connect(":memory:"))
    store.add(passages)
    with pytest.raises(error, match=message):
        store.query(ask("red", **query) if "query_embedding" not in query else VectorStoreQuery(**query))


def test_options_that_there_are_not_are_refused(passages):
    store = ClipQdrantVectorStore("c", client=connect(":memory:"))
    store.add(passages)
    with pytest.raises(ConfigError, match=r"query has no option 'top_k'. It has qdrant_filters, where"):
        store.query(ask("red"), top_k=3)
    with pytest.raises(ConfigError, match="using must be 'image', 'text' or 'both', got 'sound'"):
        store.query(ask("red"), using="sound")
    with pytest.raises(ConfigError, match=r"add does not take shard_identifier. Use a filter"):
        store.add(passages, shard_identifier="x")
    with pytest.raises(ConfigError, match="delete has no argument 'force'"):
        store.delete("x", force=True)


def test_a_large_input_goes_in_by_batches(client, name):
    batches = []

    class Watched(ClipQdrantVectorStore):
        def _build_points(self, nodes, sparse_vector_name):
            batches.append(len(nodes))
            return super()._build_points(nodes, sparse_vector_name)

    store = Watched(name, client=client, batch_size=100)
    nodes = [TextNode(id_=f"n{number}", text="x", embedding=[1.0, number / 1000]) for number in range(1_050)]
    assert store.add(nodes) == [f"n{number}" for number in range(1_050)]
    assert batches == [100] * 10 + [50]
    assert client.count(name).count == 1_050


def test_an_interrupted_write_is_made_whole_by_the_same_call(client, name, pictures):
    class Failing(FakeEncoder):
        calls = 0

        def embed_texts(self, texts):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().embed_texts(texts)

    store = ClipQdrantVectorStore(name, client=client, encoder=Failing(), batch_size=1)
    for node in pictures:
        node.text = "a caption"
    with pytest.raises(KeyboardInterrupt):
        store.add(pictures)
    assert ids(store.get_nodes()) in (["green", "red"], ["red", "green"]), "what was written a batch at a time stays"
    assert store.add(pictures) == list(COLOURS)
    assert sorted(ids(store.get_nodes())) == sorted(COLOURS)


def test_of_two_nodes_of_one_id_the_later_counts(client, name):
    store = ClipQdrantVectorStore(name, client=client, batch_size=2)
    assert store.add([passage("first", id="n"), passage("second", id="n")]) == ["n", "n"]
    assert [node.text for node in store.get_nodes()] == ["second"]


def test_a_picture_that_is_gone_is_stored_for_it_has_its_vector(client, name, swatches):
    node = picture(swatches / "red.png")
    (swatches / "red.png").unlink()
    broken = ImageNode(id_="broken", image="no base64!", embedding=node.embedding)
    store = ClipQdrantVectorStore(name, client=client)
    assert store.add([node, broken]) == ["red", "broken"]
    assert set(store.query(ask("red")).ids) == {"red", "broken"}
    assert all("content_hash" not in point.payload for point in client.scroll(name)[0])
    store.delete_nodes(["broken"])
    node.metadata["content_hash"] = "f" * 64
    store.add([node])
    assert client.scroll(name)[0][0].payload["content_hash"] == "f" * 64


def test_metadata_that_json_cannot_hold_is_refused_by_name(client, name):
    node = passage("x", id="n", bad=object())
    with pytest.raises(InvalidPointError, match="'n' cannot be written as JSON"):
        ClipQdrantVectorStore(name, client=client).add([node])


def test_a_schema_is_made_and_held_to(client, name, passages):
    schema = CollectionSchema(dim=32, distance="dot", indexes={"number": "integer"})
    ClipQdrantVectorStore(name, client=client, schema=schema).add(passages)
    info = client.get_collection(name)
    assert {vector.distance for vector in info.config.params.vectors.values()} == {models.Distance.DOT}
    assert ClipQdrantVectorStore(name, client=client).query(ask("red")).ids[0] == "a red thing"
    with pytest.raises(CollectionMismatchError, match="the distance of 'image' is 'dot', not 'cosine'"):
        ClipQdrantVectorStore(name, client=client, schema=CollectionSchema())
