"""Answers from pictures with captions: the model sees both. Run: python examples/05_multimodal_rag.py.

The mock LLM repeats the text of what it was shown; put a chat model that takes pictures in its place.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from drawings import draw_all
from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.llms import LLM
from llama_index.core.llms.mock import MockFunctionCallingLLM

from clip_qdrant import ClipCollection, ClipEncoder, ClipIndex, connect
from clip_qdrant.llamaindex import ClipReranker, ImageBudget, NearDuplicateFilter, multimodal_query_engine


def main(llm: LLM) -> RESPONSE_TYPE:
    """Index pictures with captions beside them, and ask about them."""
    with tempfile.TemporaryDirectory() as folder, connect(Path(folder, "qdrant")) as client:
        for path in draw_all(Path(folder, "pictures")):
            path.with_suffix(".txt").write_text(f"Plate {path.stem}: drawn by hand.")
        collection = ClipCollection(client, "pictures", ClipEncoder("pocket"))
        index = ClipIndex.from_folder(Path(folder, "pictures"), collection)
        engine = multimodal_query_engine(
            index.as_retriever(using="image", similarity_top_k=4),
            llm,
            node_postprocessors=[NearDuplicateFilter(collection.encoder), ClipReranker(collection.encoder, top_n=2)],
            budget=ImageBudget(max_side=128),
        )
        response = engine.query("a red fruit")
        for source in response.source_nodes:
            print(f"{Path(source.node.image_path).name} {source.score:.2f}")
        return response


if __name__ == "__main__":
    print(main(MockFunctionCallingLLM(is_chat_model=True)))
