"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

# Optional[...] rather than | None: typer reads these at run time, on Python 3.10 too.
Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection's name.")]
Location = Annotated[
    str,
    typer.Option(
        "--location",
        "-l",
        envvar="QDRANT_URL",
        help="A folder, or the http(s) URL of a Qdrant server, whose key is read from QDRANT_API_KEY.",
    ),
]
Model = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--model",
        "-m",
        help="A Hub id, a folder, or 'pocket', which comes with the package. Otherwise the one that the collection "
        "was made with, and for a new collection laion/CLIP-ViT-B-32-laion2B-s34B-b79K.",
    ),
]
Where = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--where", "-w", help="A filter: year >= 2023 and not file_type == 'image/gif'"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

DEFAULT_COLLECTION = "images"
DEFAULT_LOCATION = "./.clip_qdrant"
