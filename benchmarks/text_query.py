"""The whole way of a text query with a filter, ours against the stock route, in one run.

Run: python benchmarks/text_query.py [POINTS]. Both are the same LlamaIndex code: an embedding model, a vector store, a
`VectorStoreIndex` and its retriever with a filter that takes one point in a hundred. Stock is HuggingFaceEmbedding with
QdrantVectorStore on `path=`; ours is ClipEmbedding with ClipQdrantVectorStore on a folder. The model is a ViT-B/32 of
full size with random weights, made here, whose time is that of a published one. Each runs in a process of its own, one
after the other. Quote the ratio, not the times.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
DIM = 512
QUERIES = 200
WARM = 20
GROUPS = 100
BAR = 8.0
WORDS = "red green blue old new small large cat dog house tree river street bird boat photo painting".split()


def make_model(folder: Path) -> None:
    """CLIP ViT-B/32 with random weights, and the tokenizer of the tests."""
    sys.path.insert(0, str(ROOT))
    from transformers import CLIPConfig, CLIPModel

    from tests.checkpoints import make_clip

    text: dict[str, Any] = json.loads((make_clip(folder) / "config.json").read_text())["text_config"]
    ids = {name: text[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    CLIPModel(CLIPConfig(text_config={**ids, "vocab_size": 49_408})).save_pretrained(folder)
    shape = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    settings = folder / "preprocessor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | shape))


def contender(name: str, model: Path, folder: Path) -> tuple[Any, Any]:
    """An embedding model and a vector store."""
    if name == "stock":
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient

        client = QdrantClient(path=str(folder))
        return HuggingFaceEmbedding(str(model)), QdrantVectorStore("bench", client=client)
    from clip_qdrant import ClipEmbedding, connect
    from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore

    embedding = ClipEmbedding(str(model))
    indexes = [{"field_name": "group", "field_schema": "keyword"}]
    store = ClipQdrantVectorStore("bench", client=connect(folder), encoder=embedding, payload_indexes=indexes)
    return embedding, store


def measure(name: str, model: Path, folder: Path, count: int) -> dict[str, float]:
    """Add points, then ask."""
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

    embedding, store = contender(name, model, folder)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nodes = [
        TextNode(text=f"note {number}", metadata={"group": f"g{number % GROUPS}"}, embedding=vector)
        for number, vector in enumerate(vectors.tolist())
    ]
    start = perf_counter()
    store.add(nodes)
    added = perf_counter() - start
    filters = MetadataFilters(filters=[MetadataFilter(key="group", value="g7")])
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    retriever = index.as_retriever(similarity_top_k=10, filters=filters)
    texts = [" ".join(rng.choice(WORDS, size=4)) for _ in range(QUERIES + WARM)]
    seconds = []
    for text in texts:
        start = perf_counter()
        found = retriever.retrieve(text)
        seconds.append(perf_counter() - start)
        assert {node.metadata["group"] for node in found} == {"g7"} and len(found) == 10
    start = perf_counter()
    for text in texts[:QUERIES]:
        embedding.get_query_embedding(text)
    embedded = (perf_counter() - start) / QUERIES
    p50, p99 = np.percentile(seconds[WARM:], [50, 99])
    return {"add": added, "p50": 1_000 * p50, "p99": 1_000 * p99, "embedding": 1_000 * embedded}


def main() -> None:
    """Both contenders, and how many times as fast ours is."""
    if len(sys.argv) > 2:
        name, model, folder, count = sys.argv[1:]
        print(json.dumps(measure(name, Path(model), Path(folder), int(count))))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as work:
        make_model(Path(work, "model"))
        for name in ("ours", "stock"):
            arguments = [sys.executable, "-W", "ignore", __file__, name, f"{work}/model", f"{work}/{name}", str(count)]
            done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"{count:,} points, {DIM} dimensions, {QUERIES} queries\n")
    print(f"{'':12}{'ours':>12}{'stock':>12}{'ratio':>8}")
    for figure, unit in (("p50", "ms"), ("p99", "ms"), ("embedding", "ms"), ("add", "s")):
        ours, stock = found["ours"][figure], found["stock"][figure]
        print(f"{figure:12}{ours:>9.2f} {unit:2}{stock:>9.2f} {unit:2}{stock / ours:>8.1f}")
    ratio = found["stock"]["p50"] / found["ours"]["p50"]
    print(f"\nbar: p50 at least {BAR} times faster: {'met' if ratio >= BAR else 'missed'} ({ratio:.1f})")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
