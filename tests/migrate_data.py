"""A collection with some of everything, and ways to read it back without the code under test."""

from __future__ import annotations

from qdrant_client import models

from clip_qdrant.types import Fingerprint

FINGERPRINT = Fingerprint("pocket", "a" * 64, "b" * 64, 2)
METADATA = {"clip_qdrant": {"format": 1, "fingerprint": FINGERPRINT.to_dict()}, "owner": "Ångström", "n": 2**53 + 1}

VECTORS = {
    "image": models.VectorParams(size=2, distance=models.Distance.COSINE),
    "raw": models.VectorParams(size=2, distance=models.Distance.EUCLID),
    "late": models.VectorParams(
        size=2,
        distance=models.Distance.DOT,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    ),
}
SPARSE = {"lexical": models.SparseVectorParams(modifier=models.Modifier.IDF)}

UUIDS = ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-4fff-bfff-ffffffffffff"]
PAYLOADS = {
    0: {},
    7: {"large": 2**63 - 1, "larger": 2**64 - 1, "small": -(2**63), "zero": 0, "yes": True, "none": None},
    2**63: {"text": 'naïve 日本語 🦊 \u0000 "quoted" \\', "empty": "", "": "no name", "dotted.key": 1},
    2**64 - 1: {"one": 1.0, "quarter": 0.25, "minus": -0.0, "tiny": 1e-300, "huge": 1e300},
    UUIDS[0]: {"date": "2024-02-29T23:59:59.999999+14:00", "list": [], "nested": {"a": [1, [2.5, {"b": None}]]}},
    UUIDS[1]: {"list": [1, 1.0, True, "1", None], "geo": {"lon": 13.5, "lat": 52.5}},
}
POINTS_VECTORS = {
    0: {},
    7: {"image": [3.0, 4.0], "raw": [3.0, 4.0], "late": [[1.0, 2.0], [3.0, 4.0], [0.5, 0.25]]},
    2**63: {"lexical": models.SparseVector(indices=[2**32 - 1, 3], values=[0.1, -2.0])},
    2**64 - 1: {"image": [1e-3, -1e-3], "lexical": models.SparseVector(indices=[], values=[])},
    UUIDS[0]: {"raw": [1e30, 1e-30]},
    UUIDS[1]: {"image": [-1.0, 0.0], "late": [[0.0, 0.0]]},
}


def points():
    """The points, in the order of their ids."""
    return [models.PointStruct(id=key, vector=POINTS_VECTORS[key], payload=PAYLOADS[key]) for key in PAYLOADS]


def make_rich(client, name):
    """The collection with some of everything."""
    client.create_collection(name, vectors_config=VECTORS, sparse_vectors_config=SPARSE, metadata=METADATA)
    client.upsert(name, points())


def make_plain(client, name, count, size=4):
    """A collection with many points that have one unnamed vector."""
    client.create_collection(name, vectors_config=models.VectorParams(size=size, distance=models.Distance.COSINE))
    if count:
        client.upsert(name, [plain_point(number, size) for number in range(count)])


def plain_point(number, size=4):
    """One of these points."""
    return models.PointStruct(id=number, vector=[1.0, *[number + 0.5] * (size - 1)], payload={"n": number})


def alias(name, other):
    """The operation that lets `other` stand for `name`."""
    return models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=other))


def everything(client, name):
    """All records of a small collection, in order."""
    return client.scroll(name, limit=1_000, with_payload=True, with_vectors=True)[0]
