"""A small collection by hand, a larger one by chance, and what numpy says that a search of them answers."""

import uuid

import numpy as np
from qdrant_client import models

from clip_qdrant.storage.schema import CollectionSchema
from clip_qdrant.storage.vectors import VectorCollection

ROWS = {
    "cat": {"image": [1.0, 0.0, 0.0], "text": [0.0, 1.0, 0.0]},
    "dog": {"image": [0.8, 0.6, 0.0], "text": [1.0, 0.0, 0.0]},
    "fox": {"image": [0.6, 0.8, 0.0]},
    "owl": {"image": [0.0, 0.0, 1.0]},
    "note": {"text": [0.6, 0.0, 0.8]},
}
NO_FIELDS = ["", "two words", "a..b", "a.", "a[x]", '"a', "a\n", None]
FIELDS = {"doc_id": "keyword", "year": "integer", "day": "datetime", "weight": "float", "tame": "bool"}


def id_of(name):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(name)))


def small(client, name):
    """The rows above: two documents, and years from 2020 on."""
    collection = VectorCollection(client, name, CollectionSchema(dim=3, indexes=FIELDS))
    collection.upsert(
        [
            models.PointStruct(
                id=id_of(source),
                vector=vectors,
                payload={
                    "source": source,
                    "year": 2020 + number,
                    "doc_id": "wild" if source in ("fox", "owl") else "home",
                    "tame": source in ("cat", "dog"),
                },
            )
            for number, (source, vectors) in enumerate(ROWS.items())
        ]
    )
    return collection


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random(client, name, count=60, dim=8, seed=1):
    """Points numbered from 0, and their image and text vectors (count, dim)."""
    rng = np.random.default_rng(seed)
    images, texts = unit(rng, count, dim), unit(rng, count, dim)
    collection = VectorCollection(client, name, CollectionSchema(dim=dim, indexes=FIELDS))
    collection.upsert(
        [
            models.PointStruct(
                id=number,
                vector={"image": images[number].tolist(), "text": texts[number].tolist()},
                payload={"source": str(number), "doc_id": f"doc {number % 7}", "year": number % 3},
            )
            for number in range(count)
        ]
    )
    return collection, images, texts, rng


def sources(hits):
    return [hit.source for hit in hits]


def numbers(hits):
    return [int(hit.id) for hit in hits]


def best(scores, limit):
    """Positions of the largest scores, best first."""
    return [int(position) for position in np.argsort(-np.asarray(scores), kind="stable")[:limit]]


def mmr(vectors, query, candidates, diversity, limit):
    """Maximal marginal relevance, greedily: of the candidates nearest to the query the most like it come first, each
    paying for its likeness to what was chosen before."""
    relevance = vectors @ query
    pending, chosen = best(relevance, candidates), []
    while pending and len(chosen) < limit:
        worth = [
            (1 - diversity) * relevance[item]
            - diversity * max((float(vectors[item] @ vectors[other]) for other in chosen), default=0.0)
            for item in pending
        ]
        chosen.append(pending.pop(int(np.argmax(worth))))
    return chosen


def rrf(rankings, weights, k):
    """Reciprocal rank fusion, as {position: score}."""
    scores = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1 / (k - 1 + rank / weight)
    return scores


def dbsf(legs):
    """Distribution-based score fusion of {position: score} each."""
    fused = {}
    for leg in legs:
        values = np.array(list(leg.values()))
        low, high = (values.mean() + sign * 3 * values.std(ddof=1) for sign in (-1, 1))
        for item, score in leg.items():
            fused[item] = fused.get(item, 0.0) + (score - low) / (high - low)
    return fused
