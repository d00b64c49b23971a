"""LangChain's own vector store, unmodified, on the embedded engine; memory is the oracle."""

from __future__ import annotations

import asyncio
import math

import pytest
from qdrant_client import models

from clip_qdrant import ClipCollection, Record, connect
from clip_qdrant.errors import InvalidPointError
from clip_qdrant.testing import FakeEncoder

pytest.importorskip("langchain_qdrant", reason="langchain-qdrant is not installed")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore, RetrievalMode, SparseEmbeddings, SparseVector
from langchain_qdrant.qdrant import QdrantVectorStoreError

VECTORS = {"cat": [1.0, 0.0, 0.0], "dog": [0.8, 0.6, 0.0], "fox": [0.6, 0.8, 0.0], "owl": [0.0, 0.0, 1.0]}
METADATA = [
    {"legs": 4, "tame": True},
    {"legs": 4, "tame": True},
    {"legs": 4, "tame": False},
    {"legs": 2, "tame": False},
]
IDS = [f"00000000-0000-0000-0000-00000000000{number}" for number in range(4)]


class Animals(Embeddings):
    """A text's vector is that of the animal in it."""

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        return next((vector for name, vector in VECTORS.items() if name in text), [0.5, 0.5, math.sqrt(0.5)])


class Words(SparseEmbeddings):
    """One for each animal that a text names."""

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        found = [number for number, name in enumerate(VECTORS) if name in text]
        return SparseVector(indices=found, values=[1.0] * len(found))


@pytest.fixture(params=["memory", "embedded"])
def client(request, tmp_path):
    with connect(":memory:" if request.param == "memory" else tmp_path) as opened:
        yield opened


def make_store(client, mode=RetrievalMode.DENSE, vector_name=""):
    dense = models.VectorParams(size=3, distance=models.Distance.COSINE)
    client.create_collection(
        "c",
        vectors_config={} if mode is RetrievalMode.SPARSE else {vector_name: dense} if vector_name else dense,
        sparse_vectors_config=None if mode is RetrievalMode.DENSE else {"words": models.SparseVectorParams()},
    )
    return QdrantVectorStore(
        client,
        "c",
        None if mode is RetrievalMode.SPARSE else Animals(),
        retrieval_mode=mode,
        vector_name=vector_name,
        sparse_embedding=None if mode is RetrievalMode.DENSE else Words(),
        sparse_vector_name="words",
    )


@pytest.fixture
def store(client):
    store = make_store(client)
    assert store.add_texts([f"a {name}" for name in VECTORS], METADATA, ids=IDS) == IDS
    return store


def texts(documents):
    return [document.page_content for document in documents]


def is_tame(value):
    return models.Filter(must=[models.FieldCondition(key="metadata.tame", match=models.MatchValue(value=value))])


def test_finds_what_is_similar(store):
    assert texts(store.similarity_search("cat", k=2)) == ["a cat", "a dog"]
    assert texts(store.similarity_search("cat", k=2, offset=1)) == ["a dog", "a fox"]
    ((document, score),) = store.similarity_search_with_score("a fox", k=1)
    assert score == pytest.approx(1.0, abs=1e-5)
    assert document.metadata == {"legs": 4, "tame": False, "_id": IDS[2], "_collection_name": "c"}
    assert texts(store.similarity_search_by_vector([0.0, 0.1, 1.0], k=1)) == ["a owl"]
    scored = store.similarity_search_with_relevance_scores("cat", k=3, score_threshold=0.5)
    assert [(document.page_content, round(score, 3)) for document, score in scored] == [
        ("a cat", 1.0),
        ("a dog", 0.9),
        ("a fox", 0.8),
    ]
    assert texts(store.similarity_search("cat", k=4, score_threshold=0.7)) == ["a cat", "a dog"]


def test_filters(store):
    assert texts(store.similarity_search("cat", k=4, filter=is_tame(False))) == ["a fox", "a owl"]
    few = models.Filter(must_not=[models.FieldCondition(key="metadata.legs", range=models.Range(gt=2))])
    assert texts(store.similarity_search("cat", k=4, filter=few)) == ["a owl"]
    nothing = models.Filter(must=[models.FieldCondition(key="metadata.legs", range=models.Range(gt=8))])
    assert store.similarity_search("cat", filter=nothing) == []


def test_diverse_answers(store):
    # LangChain hands its lambda_mult on as Qdrant's diversity.
    assert texts(store.max_marginal_relevance_search("cat", k=2, fetch_k=4, lambda_mult=0.0)) == ["a cat", "a dog"]
    assert texts(store.max_marginal_relevance_search("cat", k=2, fetch_k=4, lambda_mult=0.9)) == ["a cat", "a owl"]
    assert texts(store.max_marginal_relevance_search("cat", k=2, fetch_k=2, lambda_mult=0.9)) == ["a cat", "a dog"]
    wild = store.max_marginal_relevance_search_by_vector([1.0, 0.0, 0.0], k=3, filter=is_tame(False))
    assert texts(wild) == ["a fox", "a owl"]


def test_gets_replaces_and_deletes(store):
    assert texts(store.get_by_ids([IDS[3], IDS[0]])) == ["a owl", "a cat"]
    store.add_documents([Document("a cat and more", metadata={"legs": 3})], ids=[IDS[0]])
    assert texts(store.similarity_search("cat", k=4)) == ["a cat and more", "a dog", "a fox", "a owl"]
    assert store.delete([IDS[0], IDS[1]]) is True
    assert texts(store.similarity_search("cat", k=4)) == ["a fox", "a owl"]
    assert store.get_by_ids([IDS[0]]) == []


def test_many_texts_get_ids_of_their_own(client):
    store = make_store(client)
    ids = store.add_texts([f"{number} dogs" for number in range(500)], batch_size=64)
    assert len(set(ids)) == 500
    assert client.count("c").count == 500
    assert texts(store.get_by_ids(ids[-2:])) == ["498 dogs", "499 dogs"]
    assert store.add_texts([]) == []


def test_serves_as_a_retriever(store):
    found = store.as_retriever(search_kwargs={"k": 1, "filter": is_tame(False)}).invoke("cat")
    assert texts(found) == ["a fox"]
    diverse = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 4, "lambda_mult": 0.9})
    assert texts(diverse.invoke("cat")) == ["a cat", "a owl"]
    near = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.89})
    assert texts(near.invoke("cat")) == ["a cat", "a dog"]


def test_sparse_vectors_alone(client):
    store = make_store(client, RetrievalMode.SPARSE)
    store.add_texts(["a cat", "a cat and a dog", "an owl"], ids=IDS[:3])
    found = store.similarity_search_with_score("cat or dog", k=3)
    assert [(document.page_content, score) for document, score in found] == [("a cat and a dog", 2.0), ("a cat", 1.0)]


@pytest.mark.parametrize("fusion", [None, models.FusionQuery(fusion=models.Fusion.DBSF)])
def test_dense_and_sparse_vectors_fused(client, fusion):
    store = make_store(client, RetrievalMode.HYBRID, vector_name="dense")
    store.add_texts(["a fox", "a dog", "an owl, a cat", "a cat"], METADATA, ids=IDS)
    found = store.similarity_search("cat", k=3, hybrid_fusion=fusion)
    # The cats are the best of both; dog is third by its vector alone.
    assert set(texts(found)[:2]) == {"a cat", "an owl, a cat"}
    assert texts(found)[2:] == ["a dog"]
    assert texts(store.similarity_search("cat", k=3, hybrid_fusion=fusion, filter=is_tame(True)))[0] == "a dog"


def test_what_does_not_fit_is_refused_by_one_or_the_other(client):
    store = make_store(client, vector_name="dense")
    with pytest.raises(QdrantVectorStoreError, match="does not contain dense vector named other"):
        QdrantVectorStore(client, "c", Animals(), vector_name="other")
    with pytest.raises(QdrantVectorStoreError, match="configured for COSINE similarity"):
        QdrantVectorStore(client, "c", Animals(), vector_name="dense", distance=models.Distance.DOT)
    with pytest.raises(QdrantVectorStoreError, match="does not contain sparse vectors named words"):
        QdrantVectorStore(client, "c", sparse_embedding=Words(), retrieval_mode="sparse", sparse_vector_name="words")
    assert store.similarity_search("cat") == []


def test_an_id_that_cannot_be_is_refused_before_anything_is_written(tmp_path):
    with connect(tmp_path) as client:
        store = make_store(client)
        with pytest.raises(InvalidPointError, match="'two' is not a valid UUID"):
            store.add_texts(["a cat", "a dog"], ids=[IDS[0], "two"])
        assert client.count("c").count == 0


def test_async_methods_answer_the_same(client):
    store = make_store(client)

    async def run():
        await store.aadd_texts([f"a {name}" for name in VECTORS], METADATA, ids=IDS)
        plain = await store.asimilarity_search("cat", k=2)
        ((_, score),) = await store.asimilarity_search_with_score("cat", k=1)
        by_vector = await store.asimilarity_search_by_vector([0.0, 0.0, 1.0], k=1)
        diverse = await store.amax_marginal_relevance_search("cat", k=2, fetch_k=4, lambda_mult=0.9)
        wild = await store.asimilarity_search("cat", k=4, filter=is_tame(False))
        got = await store.aget_by_ids([IDS[1]])
        many = await asyncio.gather(*(store.asimilarity_search(name, k=1) for name in VECTORS))
        await store.adelete([IDS[0]])
        left = await store.asimilarity_search("cat", k=4)
        return score, *map(texts, (plain, by_vector, diverse, wild, got, left)), [texts(found)[0] for found in many]

    score, plain, by_vector, diverse, wild, got, left, many = asyncio.run(run())
    assert score == pytest.approx(1.0, abs=1e-5)
    assert (plain, by_vector, diverse) == (["a cat", "a dog"], ["a owl"], ["a cat", "a owl"])
    assert (wild, got, left) == (["a fox", "a owl"], ["a dog"], ["a dog", "a fox", "a owl"])
    assert many == ["a cat", "a dog", "a fox", "a owl"]


def test_what_was_stored_is_there_after_opening_again(tmp_path):
    with connect(tmp_path) as client:
        make_store(client).add_texts(["a cat", "a dog"], ids=IDS[:2])
    with connect(tmp_path) as client:
        assert texts(QdrantVectorStore(client, "c", Animals()).similarity_search("dog", k=1)) == ["a dog"]


def test_reads_a_collection_of_ours(client):
    """LangChain finds what this package indexed, given the names of our vectors and payload."""
    encoder = FakeEncoder()
    collection = ClipCollection(client, "ours", encoder)
    collection.add([Record("1", text="a red note", metadata={"warm": True}), Record("2", text="a blue note")])

    class Ours(Embeddings):
        def embed_documents(self, texts):
            return encoder.embed_texts(texts).tolist()

        def embed_query(self, text):
            return self.embed_documents([text])[0]

    store = QdrantVectorStore(client, "ours", Ours(), vector_name="text", content_payload_key="text")
    assert texts(store.similarity_search("red", k=1)) == ["a red note"]
    warm = models.Filter(must=[models.FieldCondition(key="warm", match=models.MatchValue(value=True))])
    assert texts(store.similarity_search("blue", k=2, filter=warm)) == ["a red note"]
