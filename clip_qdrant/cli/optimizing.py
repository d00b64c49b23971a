"""Building the embedded engine's vector index: offered after a large `index`, or asked for by `optimize`."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from clip_qdrant.cli import output
from clip_qdrant.storage.edge.client import EmbeddedQdrantClient
from clip_qdrant.storage.points import IMAGE, TEXT
from clip_qdrant.storage.recall import measured_recall

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

OFFER_FROM = 50_000
"""Points from which a search without an index is slow enough to be noticed."""

_INDEXED = 0.8


def offer(client: QdrantClient, collection: str, wanted: bool | None) -> None:
    """Build the index of a large collection in a folder, where that was wanted or is agreed to.

    Args:
        client: of the collection.
        collection: its name.
        wanted: yes, no, or None to ask on a terminal and to say how elsewhere.
    """
    if not isinstance(client, EmbeddedQdrantClient) or wanted is False:
        return
    if wanted is None:
        information = client.get_collection(collection)
        points, indexed = information.points_count or 0, information.indexed_vectors_count or 0
        if points < OFFER_FROM or indexed >= _INDEXED * points:
            return
        if not sys.stdin.isatty():
            output.note(f"{points:,} points have no vector index yet; build it with: clip-qdrant optimize")
            return
        wanted = typer.confirm(f"{points:,} points have no vector index yet. Build it (minutes)?", err=True)
    if wanted:
        build(client, collection)


def build(client: EmbeddedQdrantClient, collection: str) -> None:
    """Build the index, and say how much of the truth it finds."""
    start = perf_counter()
    built = client.optimize(collection)
    done = f"Optimized in {perf_counter() - start:,.1f} s" if built else "There is nothing to optimize"
    vectors = client.get_collection(collection).config.params.vectors
    legs = [leg for leg in (IMAGE, TEXT) if isinstance(vectors, dict) and leg in vectors]
    measured = ", ".join(f"{leg} {measured_recall(client, collection, leg):.3f}" for leg in legs)
    output.note(f"{done}. Recall at 10, measured on 100 of the stored vectors: {measured or 'no such vectors'}.")
