"""Two small collections that the tests of the embedded engine ask."""

from qdrant_client import models

UNIT = models.VectorParams(size=3, distance=models.Distance.COSINE)
UUID_ID = "6da33aeb-c595-4959-a74b-74bd4e62e5f4"
IDS = [1, 2, 3, 5, UUID_ID]
VECTORS = [[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [0.0, 1.0, 0.2], [0.1, 0.2, 1.0], [0.5, 0.5, 0.4]]
KINDS = ["cat", "cat", "dog", "dog", "fish"]


def fill(client):
    """Five points with one vector, a number and a kind each, in the collection "c"."""
    client.create_collection("c", vectors_config=UNIT)
    client.upsert(
        "c",
        [
            models.PointStruct(id=point_id, vector=vector, payload={"n": rank, "kind": kind})
            for rank, (point_id, vector, kind) in enumerate(zip(IDS, VECTORS, KINDS, strict=True))
        ],
    )
    return client


def fill_named(client):
    """Three points with named vectors, sparse ones among them, in the collection "c"."""
    client.create_collection(
        "c",
        vectors_config={"image": UNIT, "text": models.VectorParams(size=2, distance=models.Distance.DOT)},
        sparse_vectors_config={"lexical": models.SparseVectorParams()},
    )
    rows = [
        {
            "image": [1.0, 0.0, 0.0],
            "text": [1.0, 2.0],
            "lexical": models.SparseVector(indices=[7, 1], values=[1.0, 2.0]),
        },
        {"image": [0.0, 1.0, 0.0], "lexical": models.SparseVector(indices=[7], values=[3.0])},
        {"image": [0.6, 0.8, 0.0], "text": [3.0, 0.5]},
    ]
    client.upsert("c", [models.PointStruct(id=rank, vector=row) for rank, row in enumerate(rows)])
    return client


def ids(response):
    return [point.id for point in getattr(response, "points", response)]
