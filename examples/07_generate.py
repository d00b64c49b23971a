"""From words to a picture, into the collection, and found again. Run: python examples/07_generate.py [FOLDER].

The pocket generator draws emoji of 64 pixels. With a GPU, a real one takes its place: "stabilityai/sd-turbo", say.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from drawings import draw_all

from clip_qdrant import ClipCollection, ClipEncoder, DiffusionGenerator, connect, records_in
from clip_qdrant.collection.synthetic import store
from clip_qdrant.models.best_of import best_of

PROMPT = "a red apple, noto style"


def main() -> None:
    """Index the sixteen drawings, make one more, and search with and without it."""
    made = Path(sys.argv[1] if len(sys.argv) > 1 else "made")
    with tempfile.TemporaryDirectory() as folder, connect(":memory:") as client:
        draw_all(Path(folder))
        collection = ClipCollection(client, "pictures", ClipEncoder("pocket"))
        collection.add(records_in(folder))
        pictures = best_of(DiffusionGenerator("pocket").generate, PROMPT, collection.encoder, of=4, seed=1)
        (kept,) = store(collection, pictures, made)
        print(f"made {kept.source}, seed {kept.metadata['seed']}")
        for where in (None, {"synthetic": True}, {"synthetic": False}):
            hits = collection.search("a red apple", limit=1, where=where)
            print(where or "all", [Path(str(hit.source)).name for hit in hits])


if __name__ == "__main__":
    main()
