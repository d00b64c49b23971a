"""Draw queries and their answers as one picture. Run: python examples/03_contact_sheet.py [FILE].

This is how the picture in the README was made.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from drawings import draw_all

from clip_qdrant import ClipCollection, ClipEncoder, connect, records_in
from clip_qdrant.cli.contact_sheet import Row, draw_sheet, save_sheet

TEXTS = ("a red fruit", "a Christmas tree", "happy face")


def main() -> None:
    """Index the sixteen drawings, ask four times, and write the sheet."""
    sheet = Path(sys.argv[1] if len(sys.argv) > 1 else "search.png")
    with tempfile.TemporaryDirectory() as folder, connect(":memory:") as client:
        pictures = Path(folder)
        draw_all(pictures)
        collection = ClipCollection(client, "pictures", ClipEncoder("pocket"))
        collection.add(records_in(pictures))
        queries = [(text, None, text) for text in TEXTS] + [("like this", pictures / "star.png", pictures / "star.png")]
        rows = []
        for title, picture, query in queries:
            hits = collection.search(query, limit=8)
            cells = [(Path(hit.source or ""), hit.metadata["file_name"], f"{hit.score:.2f}") for hit in hits]
            rows.append(Row(title, picture, cells))
        save_sheet(draw_sheet(rows, "Sixteen drawings, searched", "Drawn by examples/drawings.py"), sheet)
    print(sheet)


if __name__ == "__main__":
    main()
