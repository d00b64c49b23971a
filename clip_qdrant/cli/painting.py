"""`clip-qdrant paint`: what words, a picture or a point look like to the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from clip_qdrant.cli import output
from clip_qdrant.cli.guard import guarded
from clip_qdrant.cli.options import DEFAULT_COLLECTION, DEFAULT_LOCATION, AsJson, Collection, Debug, Location
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from clip_qdrant.models.painter import EmbeddingPainter


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(
        epilog="Examples:  clip-qdrant paint 'a red apple'   |   clip-qdrant paint star.png --side 256   |   "
        "clip-qdrant paint --point 5f0c… -c pictures"
    )(paint)


@guarded
def paint(
    query: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Words, or the path of a picture; may be given again.", show_default=False),
    ] = None,
    point: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--point", help="The id of a point of the collection; may be given again."),
    ] = None,
    collection: Collection = DEFAULT_COLLECTION,
    location: Location = DEFAULT_LOCATION,
    model: Annotated[str, typer.Option("--model", "-m", help="A folder of a painter, or 'pocket'.")] = "pocket",
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the pictures.")] = Path("painted"),
    side: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--side", min=1, help="Scale the pictures to so many pixels."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Paint what the model sees in words, in a picture or in a point: in milliseconds, small and blurred."""
    from clip_qdrant.models.painter import EmbeddingPainter

    if bool(query) == bool(point):
        raise ConfigError("Give words or pictures to paint, or points with --point; one of both.")
    painter = EmbeddingPainter(model)
    if query:
        made = _of_queries(query, painter)
    else:
        made = _of_points(point or [], painter, collection, location)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, picture in made:
        path = out / f"{_file_name(name)}.png"
        (picture if side is None else picture.resize((side, side))).save(path)
        rows.append([name, str(path)])
    if as_json:
        output.document([{"query": name, "file": file} for name, file in rows])
    else:
        output.table(["query", "file"], rows)


def _of_queries(queries: list[str], painter: EmbeddingPainter) -> list[tuple[str, Image.Image]]:
    import numpy as np

    from clip_qdrant.cli.session import open_encoder
    from clip_qdrant.cli.words import words_or_picture
    from clip_qdrant.collection.query import query_vector

    asked = [words_or_picture(query) for query in queries]
    encoder = open_encoder(painter.encoder.model)
    painter.check(encoder.fingerprint)
    vectors = np.stack([query_vector(encoder, one) for one in asked])
    return list(zip(queries, painter.paint(vectors), strict=True))


def _of_points(
    points: list[str], painter: EmbeddingPainter, collection: str, location: str
) -> list[tuple[str, Image.Image]]:
    from clip_qdrant.cli.session import open_client, open_collection
    from clip_qdrant.collection.preview import preview

    with open_client(location, existing=True) as client:
        pictures = preview(open_collection(client, collection, None, existing=True), points, painter)
    return list(zip(points, pictures, strict=True))


def _file_name(name: str) -> str:
    """Of any text one that every file system takes, and that two texts do not share."""
    import hashlib

    plain = "".join(letter if letter.isalnum() else "-" for letter in name.lower())[:40].strip("-")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
