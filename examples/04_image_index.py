"""An index of pictures alone: by words, by a picture, and with a filter. Run: python examples/04_image_index.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

from drawings import draw_all

from clip_qdrant import ClipCollection, ClipEncoder, ClipIndex, connect


def main() -> None:
    """Index a folder twice, the second time for nothing, and search it."""
    with tempfile.TemporaryDirectory() as folder, connect(Path(folder, "qdrant")) as client:
        pictures = draw_all(Path(folder, "pictures"))
        collection = ClipCollection(client, "pictures", ClipEncoder("pocket"))
        ClipIndex.from_folder(Path(folder, "pictures"), collection)
        index = ClipIndex.from_folder(Path(folder, "pictures"), collection)
        print(collection.count(), "pictures")

        retriever = index.as_retriever(using="image", similarity_top_k=2)
        print([found.node.metadata["file_name"] for found in retriever.retrieve("a red fruit")])
        star = next(path for path in pictures if path.stem == "star")
        print([found.node.metadata["file_name"] for found in retriever.retrieve(star)])
        others = index.as_retriever(using="image", similarity_top_k=1, filters={"file_name": {"ne": "star.png"}})
        print([found.node.metadata["file_name"] for found in others.retrieve(star)])


if __name__ == "__main__":
    main()
