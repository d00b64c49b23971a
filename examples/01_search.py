"""Index a folder of pictures and search it by words, by a picture, and by both. Run: python examples/01_search.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

from drawings import draw_all

from clip_qdrant import ClipCollection, ClipEncoder, connect, records_in
from clip_qdrant.collection import Query


def main() -> None:
    """Draw sixteen pictures, index them, and ask."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        draw_all(pictures)
        with connect(Path(folder, "qdrant")) as client:
            collection = ClipCollection(client, "pictures", ClipEncoder("pocket"))
            report = collection.add(records_in(pictures))
            print(f"{report.embedded} pictures embedded")

            queries: dict[str, Query] = {
                "a red fruit": "a red fruit",
                "a Christmas tree": "a Christmas tree",
                "like the star": pictures / "star.png",
                "the tree, but for Christmas": [pictures / "tree.png", ("a Christmas tree", 2.0)],
            }
            for name, query in queries.items():
                hits = collection.search(query, limit=3)
                print(f"{name}: " + ", ".join(f"{hit.metadata['file_name']} {hit.score:.2f}" for hit in hits))

            hits = collection.search("a tree", limit=3, where={"file_name": {"ne": "tree.png"}})
            print("a tree, but not tree.png: " + ", ".join(hit.metadata["file_name"] for hit in hits))


if __name__ == "__main__":
    main()
