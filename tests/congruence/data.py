"""Collections, vectors, ids and payloads that the congruence tests draw from."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field

from hypothesis import strategies as st
from qdrant_client import models

V = models.VectorParams
_MULTI = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)


@dataclass(frozen=True)
class Shape:
    """The vectors of a collection; the unnamed one has the name ""."""

    dense: dict[str, models.VectorParams]
    sparse: dict[str, models.SparseVectorParams] = field(default_factory=dict)

    @property
    def config(self):
        """Arguments of `create_collection`."""
        vectors = self.dense[""] if "" in self.dense else self.dense
        return {"vectors_config": vectors, "sparse_vectors_config": self.sparse or None}

    @property
    def names(self):
        """All its vectors."""
        return [*self.dense, *self.sparse]

    def is_multi(self, name):
        """Whether a point has many vectors of that name."""
        return name in self.dense and self.dense[name].multivector_config is not None


SHAPES = {
    "unnamed": Shape({"": V(size=4, distance=models.Distance.COSINE)}),
    "dense": Shape(
        {
            distance.value.lower(): V(size=3, distance=distance)
            for distance in (
                models.Distance.COSINE,
                models.Distance.DOT,
                models.Distance.EUCLID,
                models.Distance.MANHATTAN,
            )
        }
    ),
    "hybrid": Shape(
        {
            "image": V(size=4, distance=models.Distance.COSINE),
            "multi": V(size=3, distance=models.Distance.COSINE, multivector_config=_MULTI),
            "multidot": V(size=2, distance=models.Distance.DOT, multivector_config=_MULTI),
        },
        {"lexical": models.SparseVectorParams(), "idf": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    ),
}

UUIDS = [
    "6da33aeb-c595-4959-a74b-74bd4e62e5f4",
    "0a3c1c1e-3a5f-4d8f-9f4e-3f1f0e6b7a10",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479",
]
ALL_IDS = [0, 1, 2, 3, 4, 5, 6, 7, 2**64 - 1, *UUIDS]
IDS = st.sampled_from(ALL_IDS)
SPELLED_IDS = st.one_of(IDS, st.sampled_from([UUIDS[0].upper(), UUIDS[1].replace("-", "")]))


def plain_id(given):
    """An id however it is spelled."""
    return given if isinstance(given, int) else str(uuid.UUID(given))


SEEDS = st.integers(0, 2**24)


def _normals(seed, count):
    generator = random.Random(seed)
    return [round(generator.gauss(0, 1), 4) for _ in range(count)]


def _sparse(seed):
    generator = random.Random(seed)
    indices = generator.sample([0, 1, 2, 3, 5, 8, 2**32 - 1], generator.randint(1, 5))
    return models.SparseVector(indices=indices, values=[round(generator.gauss(1, 1), 4) or 1.0 for _ in indices])


def _rows(seed, size):
    return [_normals(seed + row, size) for row in range(random.Random(seed).randint(1, 3))]


def vectors(shape, name):
    """Vectors of one name."""
    if name in shape.sparse:
        return SEEDS.map(_sparse)
    size = shape.dense[name].size
    return SEEDS.map(lambda seed: _rows(seed, size) if shape.is_multi(name) else _normals(seed, size))


def point_vectors(shape):
    """What one point brings: each of its named vectors, or only some."""
    if "" in shape.dense:
        return vectors(shape, "")
    named = {name: vectors(shape, name) for name in shape.names}
    return st.one_of(st.fixed_dictionaries(named), st.fixed_dictionaries({}, optional=named))


# Payloads: fields that hold what their index is for, and two ("x", "y") that hold anything.
WORDS = st.sampled_from(["a", "b", "a b", "B c", "", "naïve ☃", "red fox", "The RED fox, jumping", "fox-red"])
NUMBERS = st.integers(-3, 3)
FLOATS = st.sampled_from([-1.5, -0.25, 0.0, 0.5, 1.0, 2.0, 2.5])
MOMENTS = st.sampled_from(
    [
        "2024-01-01T00:00:00Z",
        "2024-01-02T00:00:00+02:00",
        "2024-01-02",
        "2024-01-03 12:30:00",
        "2024-01-03T12:30:00.250Z",
        "2023-12-31T23:59:59Z",
    ]
)
PLACES = st.builds(lambda lat, lon: {"lat": lat / 4, "lon": lon / 4}, st.integers(-12, 12), st.integers(-12, 12))
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(NUMBERS, WORDS, st.none()),
        "b": st.one_of(NUMBERS, st.lists(NUMBERS, max_size=2)),
        "n": NUMBERS,
        "kind": WORDS,
    },
)
ANYTHING = st.recursive(
    st.one_of(WORDS, NUMBERS, FLOATS, st.booleans(), st.none(), MOMENTS, PLACES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["x", "y", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=4,
)


def _or_several(values):
    return st.one_of(values, values, st.lists(values, max_size=3), st.none())


PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "n": _or_several(NUMBERS),
        "f": _or_several(st.one_of(FLOATS, NUMBERS)),
        "kind": _or_several(WORDS),
        "ok": _or_several(st.booleans()),
        "at": _or_several(MOMENTS),
        "place": _or_several(PLACES),
        "text": _or_several(WORDS),
        "uid": _or_several(st.sampled_from(UUIDS)),
        "obj": OBJECTS,
        "arr": st.lists(OBJECTS, max_size=3),
        "x": ANYTHING,
        "y": ANYTHING,
    },
)
INDEXES = {
    "n": "integer",
    "f": "float",
    "kind": "keyword",
    "ok": "bool",
    "at": "datetime",
    "place": "geo",
    "uid": "uuid",
    "obj.n": "integer",
    "arr[].kind": "keyword",
}
"""Only of fields whose values are all of one kind: an index sees no others, which docs/embedded.md lists."""
ORDERED = ("n", "f", "at", "obj.n")
"""Fields that can be ordered by, with an index."""


def points(shape, max_size=10):
    """Points of a collection."""
    one = st.builds(models.PointStruct, id=IDS, vector=point_vectors(shape), payload=PAYLOADS)
    return st.lists(one, max_size=max_size, unique_by=lambda point: point.id)
