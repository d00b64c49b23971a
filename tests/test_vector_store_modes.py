"""The query modes of ClipQdrantVectorStore: MMR, words, and both fused."""

from __future__ import annotations

import pytest
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.vector_stores import VectorStoreQuery, VectorStoreQueryResult
from llama_index.core.vector_stores.types import VectorStoreQueryMode as Mode
from qdrant_client import models

from clip_qdrant import connect
from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore

# Along the first axis lies what is like the query; the words say something else.
NODES = {
    "near": ([1.0, 0.3, 0.0], "the zebra"),
    "twin": ([1.0, 0.32, 0.0], "a cat"),
    "other": ([0.9, -0.5, 0.0], "Ein ÄPFEL-Baum"),
    "far": ([0.0, 0.3, 1.0], "the cat and the other cat"),
    "blank": ([-1.0, 0.1, 0.0], " "),
}


def make_nodes(cls=TextNode):
    return [cls(id_=id, text=text, embedding=vector) for id, (vector, text) in NODES.items()]


@pytest.fixture
def store(client, name):
    store = ClipQdrantVectorStore(name, client=client, enable_hybrid=True)
    store.add(make_nodes())
    return store


def ask(mode, text="cat", **options):
    options = {"similarity_top_k": 3, "query_embedding": [1.0, 0.0, 0.0], **options}
    return VectorStoreQuery(mode=mode, query_str=text, **options)


def test_words_alone(store):
    for mode in (Mode.SPARSE, Mode.TEXT_SEARCH):
        assert store.query(ask(mode, query_embedding=None)).ids == ["far", "twin"]
        assert store.query(ask(mode, "äpfel", query_embedding=None)).ids == ["other"]
        assert store.query(ask(mode, "cat", sparse_top_k=1)).ids == ["far"]
        assert store.query(ask(mode, "…")) == VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        assert store.query(ask(mode, "cat", filters={"$id": []})).ids == []
    with pytest.raises(ConfigError, match="Mode 'sparse' searches words: the query needs a query_str, got None"):
        store.query(ask(Mode.SPARSE, None))


def test_hybrid_fuses_ranks(store):
    found = store.query(ask(Mode.HYBRID, similarity_top_k=3))
    # Of the vectors near, twin, other; of the words far, twin; a half each is the plain sum of 1 / (1 + rank).
    assert found.ids[:1] == ["twin"] and set(found.ids[1:]) == {"near", "far"}
    assert found.similarities == pytest.approx([1 / 3 + 1 / 3, 1 / 2, 1 / 2])
    assert store.query(ask(Mode.HYBRID, hybrid_top_k=1)).ids == ["twin"]
    assert len(store.query(ask(Mode.HYBRID, hybrid_top_k=9)).ids) == 4
    for words, expected in {1: {"near", "far"}, 2: {"near", "far", "twin"}}.items():
        query = ask(Mode.HYBRID, similarity_top_k=1, sparse_top_k=words, hybrid_top_k=9)
        assert set(store.query(query).ids) == expected


def test_alpha_weighs_vectors_against_words(store):
    def order(alpha):
        return store.query(ask(Mode.HYBRID, alpha=alpha, hybrid_top_k=9)).ids

    assert order(0) == order(0.0) == ["far", "twin"]
    assert order(1) == store.query(ask(Mode.DEFAULT)).ids == ["near", "twin", "other"]
    assert order(0.9).index("near") < order(0.9).index("far")
    assert order(0.1).index("far") < order(0.1).index("near")
    for wrong in (-0.1, 1.1):
        with pytest.raises(ConfigError, match=f"alpha must be from 0 to 1, got {wrong}"):
            order(wrong)


def test_without_a_word_in_common_hybrid_is_a_plain_search(store):
    plain = store.query(ask(Mode.DEFAULT))
    assert store.query(ask(Mode.HYBRID, "unheard")) == plain
    assert store.query(ask(Mode.HYBRID, "")) == plain


def test_a_fusion_of_the_callers_is_called(client, name):
    calls = []

    def fusion(dense, sparse, alpha, top_k):
        calls.append((dense.ids, sparse.ids, alpha, top_k))
        return sparse

    store = ClipQdrantVectorStore(name, client=client, enable_hybrid=True, hybrid_fusion_fn=fusion)
    store.add(make_nodes())
    assert store.query(ask(Mode.HYBRID, alpha=0.25)).ids == ["far", "twin"]
    assert calls == [(["near", "twin", "other"], ["far", "twin"], 0.25, 3)]


def test_mmr_takes_what_is_unlike_the_first(store):
    assert store.query(ask(Mode.MMR, similarity_top_k=2, mmr_threshold=0.5)).ids == ["near", "other"]
    assert store.query(ask(Mode.MMR, similarity_top_k=2, mmr_threshold=1.0)).ids == ["near", "twin"]
    assert store.query(ask(Mode.MMR, similarity_top_k=2)).ids == ["near", "other"]
    of_two = ask(Mode.MMR, similarity_top_k=2, mmr_threshold=0.5)
    assert store.query(of_two, mmr_prefetch_k=2).ids == ["near", "twin"]
    assert store.query(of_two, mmr_prefetch_factor=1).ids == ["near", "twin"]
    assert store.query(ask(Mode.MMR, similarity_top_k=2), mmr_threshold=1.0).ids == ["near", "twin"]
    assert store.query(ask(Mode.MMR, filters={"$id": []})).ids == []


def test_mmr_of_pictures_and_texts_takes_of_both(store):
    store.add([ImageNode(id_=f"{id} picture", image_url="https://x.example/p.png", embedding=vector)
               for id, (vector, _) in NODES.items()])  # fmt: skip
    found = store.query(ask(Mode.MMR, similarity_top_k=4, mmr_threshold=0.5))
    assert set(found.ids) == {"near", "other", "near picture", "other picture"}


def test_the_second_of_both_kinds_may_be_the_best_of_all(client, name):
    store = ClipQdrantVectorStore(name, client=client)
    store.add(make_nodes()[:1])
    near, middle = [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]
    vectors = {1: {"image": near}, 2: {"image": middle, "text": middle}, 3: {"text": near}}
    client.upsert(name, [models.PointStruct(id=id, vector=vector) for id, vector in vectors.items()])
    store.delete_nodes(["near"])
    found = store.query(ask(Mode.DEFAULT, similarity_top_k=1))
    assert found.ids == ["2"]
    assert found.similarities == pytest.approx([1 / 3 + 1 / 3])


def test_words_of_a_collection_without_any_are_refused_with_what_to_do():
    store = ClipQdrantVectorStore("c", client=connect(":memory:"))
    store.add(make_nodes())
    with pytest.raises(ConfigError, match=r"no sparse vectors, so mode 'sparse'.*enable_hybrid=True"):
        store.query(ask(Mode.SPARSE))
    assert len(store.get_nodes()) == 5


def test_a_collection_with_words_gets_them_from_every_store(client, name, store):
    another = ClipQdrantVectorStore(name, client=client)
    another.add([TextNode(id_="late", text="ocelot", embedding=[0.0, 1.0, 0.0])])
    assert another.query(ask(Mode.HYBRID, "ocelot", alpha=0)).ids == ["late"]


def test_pictures_captions_are_words_too(store):
    url = "https://x.example/p.png"
    store.add([ImageNode(id_="picture", text="an ocelot", image_url=url, embedding=[0.0, 1.0, 0.0])])
    assert store.query(ask(Mode.TEXT_SEARCH, "ocelot")).ids == ["picture"]
