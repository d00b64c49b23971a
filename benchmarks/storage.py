"""The embedded engine against qdrant-client's `path=` mode, and against the engine called directly, in one run.

Run: python benchmarks/storage.py [POINTS]. Each contender runs in a process of its own, one after the other, with the
same points: PointStructs made beforehand, 512 dimensions, three payload fields, one keyword index, upserts of 500. For
the engine called directly making its own points of the PointStructs is part of the upsert, as nothing else can be
written; filters and requests are made for each query, as ours are. Quote the ratios, not the times.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from qdrant_client import QdrantClient, models

DIM = 512
BATCH = 500
QUERIES = 200
GROUPS = 100
VECTOR = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
CONTENDERS = ("ours", "engine", "path=")
BARS = {
    ("upsert", "path="): 15.0,
    ("filtered p50", "path="): 200.0,
    ("query p50", "engine"): 1 / 1.3,
    ("filtered p50", "engine"): 1 / 3,
    ("upsert", "engine"): 1 / 1.5,
}
"""How many times as fast as a contender ours shall at least be."""


class Contender(Protocol):
    """What is measured."""

    def upsert(self, points: list[models.PointStruct]) -> None:
        """Write points."""

    def query(self, vector: list[float], group: str | None = None) -> object:
        """The ten nearest, of a group or of all."""

    def close(self) -> None:
        """Let go of the folder."""


class Client:
    """Ours, or qdrant-client's local mode."""

    def __init__(self, client: QdrantClient) -> None:
        self.client = client
        if not client.collection_exists("bench"):
            client.create_collection("bench", vectors_config=VECTOR)
            client.create_payload_index("bench", "group", field_schema=models.PayloadSchemaType.KEYWORD)

    def upsert(self, points: list[models.PointStruct]) -> None:
        """Write points."""
        self.client.upsert("bench", points, wait=True)

    def query(self, vector: list[float], group: str | None = None) -> object:
        """The ten nearest, of a group or of all."""
        wanted = None
        if group is not None:
            match = models.MatchValue(value=group)
            wanted = models.Filter(must=[models.FieldCondition(key="group", match=match)])
        return self.client.query_points("bench", query=vector, query_filter=wanted, limit=10)

    def close(self) -> None:
        """Let go of the folder."""
        self.client.close()


class Engine:
    """qdrant-edge, called directly."""

    def __init__(self, folder: Path) -> None:
        import qdrant_edge

        self.edge: Any = qdrant_edge
        if folder.exists():
            self.shard = self.edge.EdgeShard.load(str(folder))
            return
        folder.mkdir(parents=True)
        params = self.edge.EdgeVectorParams(size=DIM, distance=self.edge.Distance.Cosine)
        self.shard = self.edge.EdgeShard.create(str(folder), self.edge.EdgeConfig(vectors={"": params}))
        keyword = self.edge.PayloadSchemaType.Keyword
        self.shard.update(self.edge.UpdateOperation.create_field_index("group", keyword))

    def upsert(self, points: list[models.PointStruct]) -> None:
        """Write points."""
        converted = [self.edge.Point(point.id, point.vector, point.payload) for point in points]
        self.shard.update(self.edge.UpdateOperation.upsert_points(converted))

    def query(self, vector: list[float], group: str | None = None) -> object:
        """The ten nearest, of a group or of all."""
        wanted = None
        if group is not None:
            match = self.edge.MatchValue(group)
            wanted = self.edge.Filter(must=[self.edge.FieldCondition("group", match=match)])
        nearest = self.edge.Query.Nearest(vector, "")
        return self.shard.query(self.edge.QueryRequest(limit=10, query=nearest, with_payload=True, filter=wanted))

    def close(self) -> None:
        """Let go of the folder."""
        self.shard.flush()
        self.shard.close()


def open_contender(kind: str, folder: Path) -> Contender:
    """A contender on a folder."""
    if kind == "engine":
        return Engine(folder / "shard")
    if kind == "path=":
        return Client(QdrantClient(path=str(folder)))
    from clip_qdrant import connect

    return Client(connect(folder))


def times(action: Callable[[], object]) -> np.ndarray:
    """Milliseconds of each of some runs, after a few to warm up."""
    taken = []
    for _ in range(QUERIES + 5):
        start = perf_counter()
        action()
        taken.append(1_000 * (perf_counter() - start))
    return np.array(taken[5:])


def megabytes() -> float:
    """Of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kind: str, count: int) -> dict[str, float]:
    """One contender's figures, in milliseconds and megabytes."""
    warnings.filterwarnings("ignore", "Payload indexes have no effect", UserWarning)
    vectors = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
    points = [
        models.PointStruct(
            id=i, vector=row.tolist(), payload={"group": f"g{i % GROUPS}", "number": i, "title": f"picture {i}"}
        )
        for i, row in enumerate(vectors)
    ]
    with tempfile.TemporaryDirectory() as folder:
        contender, before = open_contender(kind, Path(folder, "store")), megabytes()
        start = perf_counter()
        for at in range(0, count, BATCH):
            contender.upsert(points[at : at + BATCH])
        figures = {"upsert": 1_000 * (perf_counter() - start)}
        query = vectors[0].tolist()
        for name, group in (("query", None), ("filtered", "g7")):
            taken = times(lambda group=group: contender.query(query, group))
            figures |= {f"{name} p50": float(np.median(taken)), f"{name} p99": float(np.percentile(taken, 99))}
        figures["memory, MB"] = megabytes() - before
        contender.close()
        start = perf_counter()
        contender = open_contender(kind, Path(folder, "store"))
        contender.query(query)
        figures["reopen"] = 1_000 * (perf_counter() - start)
        contender.close()
    return figures


def main() -> None:
    """Measure all in turn, and print a table."""
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    found = {}
    for kind in CONTENDERS:
        command = [sys.executable, __file__, kind, str(count)]
        found[kind] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(f"{count:,} points of {DIM} dimensions; milliseconds, and ratios to ours")
    print(f"{'':14}{'ours':>10}{'engine':>10}{'':>8}{'path=':>12}{'':>9}")
    for name, ours in found["ours"].items():
        engine, stock = found["engine"][name], found["path="][name]
        print(f"{name:14}{ours:10.2f}{engine:10.2f}{engine / ours:7.2f}x{stock:12.2f}{stock / ours:8.1f}x")
    for (name, kind), bar in BARS.items():
        ratio = found[kind][name] / found["ours"][name]
        print(f"{'met' if ratio >= bar else 'MISSED':7} {name} against {kind}: {ratio:.2f}x, at least {bar:.2f}x")


if __name__ == "__main__":
    main()
