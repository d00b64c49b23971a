"""The embedded engine against qdrant-client's `path=` mode, in one run, through one interface.

Run: python benchmarks/storage.py [POINTS]. Prints milliseconds and the ratio; quote the ratio.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from qdrant_client import QdrantClient, models

from clip_qdrant import connect

DIM = 512
QUERIES = 50


def milliseconds(action: Callable[[], object], times: int) -> float:
    """The median time of an action."""
    taken = []
    for _ in range(times):
        start = perf_counter()
        action()
        taken.append(perf_counter() - start)
    return 1_000 * float(np.median(taken))


def measure(client: QdrantClient, vectors: np.ndarray) -> dict[str, float]:
    """Times of one client, by operation."""
    client.create_collection("bench", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    client.create_payload_index("bench", "group", field_schema=models.PayloadSchemaType.KEYWORD)
    points = [
        models.PointStruct(id=i, vector=vector.tolist(), payload={"group": f"g{i % 100}", "number": i})
        for i, vector in enumerate(vectors)
    ]

    def upsert() -> None:
        for at in range(0, len(points), 500):
            client.upsert("bench", points[at : at + 500], wait=True)

    one_group = models.Filter(must=[models.FieldCondition(key="group", match=models.MatchValue(value="g7"))])
    query = vectors[0].tolist()
    return {
        "upsert": milliseconds(upsert, 1),
        "query": milliseconds(lambda: client.query_points("bench", query=query, limit=10), QUERIES),
        "query with filter": milliseconds(
            lambda: client.query_points("bench", query=query, query_filter=one_group, limit=10), QUERIES
        ),
    }


def main() -> None:
    """Measure both and print a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    vectors = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
    warnings.filterwarnings("ignore", "Payload indexes have no effect", UserWarning)
    with tempfile.TemporaryDirectory() as folder:
        with connect(Path(folder, "ours")) as client:
            ours = measure(client, vectors)
        stock_client = QdrantClient(path=str(Path(folder, "stock")))
        stock = measure(stock_client, vectors)
        stock_client.close()
    print(f"{count:,} points of {DIM} dimensions, medians in ms")
    print(f"{'':20}{'ours':>12}{'path=':>12}{'ratio':>10}")
    for name, time in ours.items():
        print(f"{name:20}{time:12.2f}{stock[name]:12.2f}{stock[name] / time:9.1f}x")


if __name__ == "__main__":
    main()
