"""How the embedded engine grows: time, memory, disk and recall by number of points, before and after `optimize`.

Run: python benchmarks/scale.py 10000 100000 300000 [--quantization int8] [--work FOLDER]; on Linux, as memory is read
from /proc.

The points are the made-up embeddings of embeddings.py, with a payload of three fields; the filter takes one in a
hundred, by a keyword index. Every stage runs in a process of its own, so that memory is that of a process which opened
the folder and searched, not what uploading left behind. A stage that is done is noted in FOLDER/results.json and not
run again: after an interruption the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from embeddings import ClusteredEmbeddings
from qdrant_client import models
from scale_report import report

from clip_qdrant import connect
from clip_qdrant.storage.edge.client import EmbeddedQdrantClient

BATCH = 500
GROUPS = 100
GROUP = 7
LIMIT = 10
QUERIES = 200
EMBEDDINGS = ClusteredEmbeddings()
QUANTIZATIONS = {
    "int8": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    ),
    "turbo": models.TurboQuantization(
        turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4, always_ram=True)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
}
Figures = dict[str, float]


def upload(folder: Path, count: int, quantization: str | None) -> Figures:
    """Upsert all points; the time is of the client alone, not of making embeddings and points."""
    shutil.rmtree(folder, ignore_errors=True)
    before, seconds = memory(), 0.0
    with open_client(folder) as client:
        client.create_collection(
            "scale",
            vectors_config=models.VectorParams(size=EMBEDDINGS.dim, distance=models.Distance.COSINE),
            quantization_config=QUANTIZATIONS[quantization] if quantization else None,
        )
        client.create_payload_index("scale", "group", field_schema=models.PayloadSchemaType.KEYWORD)
        for points in made_points(count):
            start = perf_counter()
            client.upsert("scale", points, wait=True)
            seconds += perf_counter() - start
        start = perf_counter()
    seconds += perf_counter() - start
    return {"seconds": seconds, "peak": memory()["peak"] - before["resident"]}


def truth(folder: Path, count: int, quantization: str | None) -> Figures:
    """The exact answers, by numpy, without and with the filter; kept beside the folder."""
    queries = EMBEDDINGS.queries(QUERIES)
    best = {name: (np.empty((QUERIES, 0), np.float32), np.empty((QUERIES, 0), np.int64)) for name in ("all", "group")}
    start = 0
    for vectors in EMBEDDINGS.chunks(count):
        ids = np.arange(start, start + len(vectors))
        start += len(vectors)
        for name, chosen in (("all", slice(None)), ("group", ids % GROUPS == GROUP)):
            scores = np.hstack([best[name][0], queries @ vectors[chosen].T])
            found = np.hstack([best[name][1], np.broadcast_to(ids[chosen], (QUERIES, len(ids[chosen])))])
            order = np.argsort(-scores, axis=1, kind="stable")[:, :LIMIT]
            best[name] = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
    np.savez(truth_file(folder), all=best["all"][1], group=best["group"][1])
    return {}


def search(folder: Path, count: int, quantization: str | None) -> Figures:
    """Open the folder, search all queries once to warm up and for recall, and once more for time."""
    exact = np.load(truth_file(folder))
    queries = EMBEDDINGS.queries(QUERIES).tolist()
    one_group = models.Filter(must=[models.FieldCondition(key="group", match=models.MatchValue(value=f"g{GROUP}"))])
    rescored = models.SearchParams(quantization=models.QuantizationSearchParams(rescore=True, oversampling=3.0))
    params = rescored if quantization else None
    before, figures = memory(), {}
    start = perf_counter()
    with open_client(folder) as client:
        figures["indexed"] = float(client.get_collection("scale").indexed_vectors_count or 0)
        figures["reopen"] = 1_000 * (perf_counter() - start)
        for name, wanted in (("all", None), ("group", one_group)):

            def query(vector: list[float], wanted: models.Filter | None = wanted) -> list[models.ScoredPoint]:
                return client.query_points(
                    "scale", query=vector, query_filter=wanted, limit=LIMIT, search_params=params
                ).points

            found = [{point.id for point in query(vector)} for vector in queries]
            shares = [len(ids & set(row)) / len(row) for ids, row in zip(found, exact[name].tolist(), strict=True)]
            figures[f"{name} recall"] = float(np.mean(shares))
            taken = [milliseconds(query, vector) for vector in queries]
            figures |= {f"{name} p50": float(np.median(taken)), f"{name} p99": float(np.percentile(taken, 99))}
        after = memory()
    figures |= {kind: after[kind] - before[kind] for kind in ("resident", "anonymous")}
    return figures | {"disk": disk(folder)}


def optimize(folder: Path, count: int, quantization: str | None) -> Figures:
    """Build the indexes."""
    before = memory()
    with open_client(folder) as client:
        start = perf_counter()
        client.optimize("scale")
        seconds = perf_counter() - start
    return {"seconds": seconds, "peak": memory()["peak"] - before["resident"]}


STAGES: dict[str, Callable[[Path, int, str | None], Figures]] = {
    "upload": upload,
    "truth": truth,
    "before": search,
    "optimize": optimize,
    "after": search,
}


def open_client(folder: Path) -> EmbeddedQdrantClient:
    """The embedded client of a folder."""
    client = connect(folder)
    assert isinstance(client, EmbeddedQdrantClient)
    return client


def made_points(count: int) -> Iterator[list[models.PointStruct]]:
    """Batches of points to upsert."""
    start = 0
    for vectors in EMBEDDINGS.chunks(count):
        for at in range(0, len(vectors), BATCH):
            rows = enumerate(vectors[at : at + BATCH].tolist(), start + at)
            yield [models.PointStruct(id=number, vector=row, payload=payload(number)) for number, row in rows]
        start += len(vectors)


def payload(number: int) -> dict[str, Any]:
    """What goes with a point."""
    return {"group": f"g{number % GROUPS}", "number": number, "source": f"/pictures/2024/album/{number:09}.jpg"}


def milliseconds(action: Callable[[list[float]], object], vector: list[float]) -> float:
    """The time of one query."""
    start = perf_counter()
    action(vector)
    return 1_000 * (perf_counter() - start)


def memory() -> Figures:
    """Bytes in memory: all now, those that are not pages of files (which the system may take back), and all at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {key: value.split()[0] for key, _, value in (line.partition(":") for line in lines) if "kB" in value}
    keys = {"resident": "VmRSS", "anonymous": "RssAnon", "peak": "VmHWM"}
    return {name: 1024.0 * int(kilobytes[key]) for name, key in keys.items()}


def disk(folder: Path) -> float:
    """Bytes of the disk that the folder takes: its files are sparse, so their lengths say more than is there."""
    return 512.0 * sum(path.lstat().st_blocks for path in folder.rglob("*"))


def truth_file(folder: Path) -> Path:
    """Where the exact answers are kept."""
    return folder.with_suffix(".npz")


def folder_name(count: int, quantization: str | None) -> str:
    """Of one size in the work folder, and in results.json."""
    return f"{count}-{quantization}" if quantization else str(count)


def run(work: Path, count: int, quantization: str | None, keep: bool) -> dict[str, Figures]:
    """All stages of one size; those that are noted as done are not run again."""
    results = work / "results.json"
    name = folder_name(count, quantization)
    for stage in STAGES:
        known = json.loads(results.read_text()) if results.exists() else {}
        if stage in known.get(name, {}):
            continue
        print(f"{name}: {stage}", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, str(count), "--work", str(work), "--stage", stage]
        command += ["--quantization", quantization] if quantization else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        known.setdefault(name, {})[stage] = json.loads(done.stdout)
        temporary = results.with_suffix(".tmp")
        temporary.write_text(json.dumps(known, indent=1))
        temporary.replace(results)
    if not keep:
        shutil.rmtree(work / name, ignore_errors=True)
        truth_file(work / name).unlink(missing_ok=True)
    stages: dict[str, Figures] = json.loads(results.read_text())[name]
    return stages


def main() -> None:
    """Measure every size, and print the report."""
    parser = argparse.ArgumentParser(description="Time, memory, disk and recall by number of points.")
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, help="search small copies, rescored; default: none")
    parser.add_argument("--work", type=Path, default=Path("scale-work"), help="where folders and results are kept")
    parser.add_argument("--keep", action="store_true", help="keep the folders of finished sizes")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if min(given.sizes) < LIMIT * GROUPS:
        parser.error(
            f"a size must be at least {LIMIT * GROUPS}, so that the filter leaves {LIMIT}; got {min(given.sizes)}"
        )
    given.work.mkdir(parents=True, exist_ok=True)
    if given.stage:
        folder = given.work / folder_name(given.sizes[0], given.quantization)
        print(json.dumps(STAGES[given.stage](folder, given.sizes[0], given.quantization)))
        return
    found = {count: run(given.work, count, given.quantization, given.keep) for count in sorted(given.sizes)}
    searched = f"{given.quantization}, rescored, " if given.quantization else ""
    print(f"{EMBEDDINGS.dim} dimensions, {searched}{os.cpu_count()} cores\n")
    print(report(found))


if __name__ == "__main__":
    main()
