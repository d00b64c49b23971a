"""A plain LlamaIndex app that answers from pictures. Run: python examples/02_llamaindex_app.py.

The query engine, the node postprocessor and the index are LlamaIndex's own. The mock LLM repeats what it was shown;
put your own in its place.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from drawings import draw_all
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode

from clip_qdrant import ClipCollection, ClipEmbedding, ClipRetriever, Record, connect


def main() -> None:
    """Index captioned pictures, ask a query engine about them, and use the embedding model in a stock index."""
    embedding = ClipEmbedding("pocket")
    with tempfile.TemporaryDirectory() as folder, connect(Path(folder, "qdrant")) as client:
        pictures = draw_all(Path(folder, "pictures"))
        collection = ClipCollection(client, "pictures", embedding.encoder)
        collection.add(Record(str(path), path, text=f"A drawing named {path.stem}.") for path in pictures)

        retriever = ClipRetriever(collection, similarity_top_k=2)
        engine = RetrieverQueryEngine.from_args(
            retriever, llm=MockLLM(), node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.2)]
        )
        response = engine.query("a red fruit")
        for source in response.source_nodes:
            print(f"{Path(source.node.image_path).name} {source.score:.2f} {source.node.text}")

        Settings.embed_model = embedding
        notes = [TextNode(text="a yellow star"), TextNode(text="a blue fish"), TextNode(text="a red apple")]
        (best,) = VectorStoreIndex(notes).as_retriever(similarity_top_k=1).retrieve("a star")
        print(f"text index: {best.node.text}")


if __name__ == "__main__":
    main()
