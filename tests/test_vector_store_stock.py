"""Collections that LlamaIndex's own store has written, read, searched, filtered, added to and deleted from by ours."""

from __future__ import annotations

import pytest
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode as Mode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import models

from clip_qdrant import CollectionSchema, connect
from clip_qdrant.errors import CollectionMismatchError, ConfigError
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.testing import FakeEncoder

pytestmark = pytest.mark.filterwarnings(
    "ignore:Payload indexes have no effect:UserWarning", "ignore::DeprecationWarning:llama_index"
)
ID = "00000000-0000-0000-0000-00000000000{}"
ANIMALS = {"cat": [1.0, 0.0, 0.0], "dog": [0.0, 1.0, 0.0], "fox": [0.6, 0.8, 0.0]}


def words(texts):
    """A sparse encoder of another kind than ours: one dimension an animal."""
    names = list(ANIMALS)
    indices = [[names.index(name) for name in names if name in text] for text in texts]
    return indices, [[1.0] * len(each) for each in indices]


WORDS = {"enable_hybrid": True, "sparse_doc_fn": words, "sparse_query_fn": words}


def make_nodes():
    return [
        TextNode(
            id_=ID.format(number), text=f"a {animal}", embedding=vector, metadata={"year": 2020 + number},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{animal}")},
        )
        for number, (animal, vector) in enumerate(ANIMALS.items())
    ]  # fmt: skip


def named(client, name):
    vector = models.VectorParams(size=3, distance=models.Distance.COSINE)
    client.create_collection(name, vectors_config={"text-dense": vector})


def old_hybrid(client, name):
    vector = models.VectorParams(size=3, distance=models.Distance.COSINE)
    sparse = {"text-sparse": models.SparseVectorParams()}
    client.create_collection(name, vectors_config={"text-dense": vector}, sparse_vectors_config=sparse)


LAYOUTS = {
    "unnamed": (lambda client, name: None, {}, ""),
    "named": (named, {}, "text-dense"),
    "hybrid": (lambda client, name: None, WORDS, "text-dense"),
    "old hybrid": (old_hybrid, {**WORDS, "sparse_vector_name": "text-sparse"}, "text-dense"),
}


@pytest.fixture(params=LAYOUTS)
def written(request, client, name):
    """The arguments of the stock store that wrote the collection, and its dense vector's name."""
    prepare, options, dense = LAYOUTS[request.param]
    prepare(client, name)
    QdrantVectorStore(name, client=client, **options).add(make_nodes())
    return options, dense


def ask(vector=(1.0, 0.1, 0.0), **options):
    return VectorStoreQuery(query_embedding=list(vector), **{"similarity_top_k": 2, **options})


def numbers(nodes):
    return [int(node.node_id[-1]) for node in nodes]


def test_a_stock_collection_is_searched_filtered_and_deleted_from(client, name, written):
    store = ClipQdrantVectorStore(name, client=client)
    assert store.dense_vector_name == written[1]
    found = store.query(ask())
    assert numbers(found.nodes) == [0, 2]
    assert found.similarities == pytest.approx([0.99504, 0.67663], abs=1e-4)
    assert [node.text for node in found.nodes] == ["a cat", "a fox"]
    for using in ("image", "text"):
        assert store.query(ask(), using=using).ids == found.ids
    assert numbers(store.query(ask(filters={"year": {"gte": 2021}})).nodes) == [2, 1]
    assert numbers(store.query(ask(doc_ids=["doc-dog"])).nodes) == [1]
    assert numbers(store.query(ask(mode=Mode.MMR, mmr_threshold=0.1)).nodes) == [0, 1]
    assert {node.node_id: node.embedding for node in store.get_nodes()}[ID.format(1)] == [0.0, 1.0, 0.0]
    store.delete("doc-cat")
    store.delete_nodes([ID.format(1)])
    assert numbers(store.get_nodes()) == [2]


def test_a_stock_collection_is_added_to_and_the_stock_store_reads_it(client, name, written):
    options, _ = written
    ours = ClipQdrantVectorStore(name, client=client, **options)
    picture = ImageNode(
        id_=ID.format(7), image_url="https://x.example/p.png", text="a picture", embedding=[0.0, 0.0, 1.0]
    )
    ours.add([picture, TextNode(id_=ID.format(8), text="another dog", embedding=[0.1, 0.0, 1.0])])
    stock = QdrantVectorStore(name, client=client, **options)
    for store in (ours, stock):
        found = store.query(ask([0.0, 0.0, 1.0]))
        assert numbers(found.nodes) == [7, 8]
        assert (type(found.nodes[0]), found.nodes[0].image_url) == (ImageNode, "https://x.example/p.png")
        if options:
            sparse = ask(query_str="a dog", mode=Mode.SPARSE, similarity_top_k=9)
            assert sorted(numbers(store.query(sparse).nodes)) == [1, 8]


def test_the_words_of_another_encoder_need_that_encoder(client, name):
    QdrantVectorStore(name, client=client, **WORDS).add(make_nodes())
    store = ClipQdrantVectorStore(name, client=client)
    with pytest.raises(ConfigError, match=r"the sparse vector 'text-sparse-new' of another encoder. Give the store"):
        store.query(ask(query_str="dog", mode=Mode.HYBRID))
    with pytest.raises(ConfigError, match=r"'text-sparse-new' of another encoder. Give that encoder as sparse_doc_fn"):
        ClipQdrantVectorStore(name, client=client, enable_hybrid=True)
    fused = ClipQdrantVectorStore(name, client=client, **WORDS).query(ask(query_str="a dog", mode=Mode.HYBRID))
    assert set(numbers(fused.nodes)) == {0, 1}


def test_an_encoder_must_fit_and_a_stock_collection_is_not_made_ours(client, name):
    QdrantVectorStore(name, client=client).add(make_nodes())
    with pytest.raises(CollectionMismatchError, match="holds 3-d vectors, but 'fake' makes 32-d"):
        ClipQdrantVectorStore(name, client=client, encoder=FakeEncoder())
    with pytest.raises(CollectionMismatchError, match="there is no sparse vector 'lexical'"):
        ClipQdrantVectorStore(name, client=client, enable_hybrid=True)


def test_with_an_encoder_a_collection_of_one_vector_keeps_one(client, name):
    encoder = FakeEncoder()
    (vector,) = encoder.embed_texts(["red"]).tolist()
    QdrantVectorStore(name, client=client).add([TextNode(text="red", embedding=vector)])
    store = ClipQdrantVectorStore(name, client=client, encoder=encoder)
    store.add([ImageNode(id_="p", image_url="https://x.example/p.png", text="a caption", embedding=vector)])
    assert store.get_nodes(["p"])[0].embedding == pytest.approx(vector, abs=1e-6)


def test_payload_indexes_are_made_in_a_collection_that_is_there(client, name):
    QdrantVectorStore(name, client=client).add(make_nodes())
    indexes = [{"field_name": "year", "field_schema": models.PayloadSchemaType.INTEGER}]
    store = ClipQdrantVectorStore(name, client=client, payload_indexes=indexes)
    assert numbers(store.query(ask(filters="year = 2022")).nodes) == [2]
    schema = client.get_collection(name).payload_schema
    assert "year" in schema or not schema  # local mode has none


def test_a_collection_of_several_vectors_must_be_told_which():
    client = connect(":memory:")
    vector = models.VectorParams(size=3, distance=models.Distance.EUCLID)
    client.create_collection("c", vectors_config={"a": vector, "b": vector})
    with pytest.raises(CollectionMismatchError, match=r"is not known to be searched; it has \['a', 'b'\]. Name one"):
        ClipQdrantVectorStore("c", client=client)
    with pytest.raises(CollectionMismatchError, match=r"has no dense vector 'z'; it has \['a', 'b'\]"):
        ClipQdrantVectorStore("c", client=client, dense_vector_name="z")
    with pytest.raises(CollectionMismatchError, match="has no sparse vector 's' but none at all"):
        ClipQdrantVectorStore("c", client=client, dense_vector_name="a", sparse_vector_name="s")
    store = ClipQdrantVectorStore("c", client=client, dense_vector_name="b")
    store.add(make_nodes())
    assert numbers(store.query(ask(similarity_top_k=1)).nodes) == [0]
    assert set(client.scroll("c", with_vectors=True)[0][0].vector) == {"b"}
    with pytest.raises(CollectionMismatchError, match="distance of 'b' is 'euclid', not 'cosine'"):
        ClipQdrantVectorStore("c", client=client, schema=CollectionSchema(vectors=("b",)))


def test_the_text_of_points_that_no_llamaindex_wrote_has_the_key_that_is_given():
    client = connect(":memory:")
    client.create_collection("c", vectors_config=models.VectorParams(size=3, distance=models.Distance.COSINE))
    payload = {"body": "hello", "text": "no", "lang": "en"}
    client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0, 0.0], payload=payload)])
    (node,) = ClipQdrantVectorStore("c", client=client, text_key="body").query(ask()).nodes
    assert (node.text, node.node_id, node.metadata["lang"]) == ("hello", "1", "en")
