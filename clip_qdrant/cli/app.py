"""`clip-qdrant`: the commands. Whatever is slow to import is imported by the command that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from clip_qdrant import __version__
from clip_qdrant.cli import generating, labelling, model_commands, output, painting
from clip_qdrant.cli.guard import guarded
from clip_qdrant.cli.options import (
    DEFAULT_COLLECTION,
    DEFAULT_LOCATION,
    AsJson,
    Collection,
    Debug,
    Location,
    Model,
    Where,
)
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.collection.query import Query

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search pictures by words and by pictures: CLIP embeddings in Qdrant.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clip-qdrant {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    """Search pictures by words and by pictures: CLIP embeddings in Qdrant."""


@app.command(epilog="Examples:  clip-qdrant index ~/Pictures   |   clip-qdrant index art --model pocket --strict")
@guarded
def index(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures, or one picture.", show_default=False)],
    collection: Collection = DEFAULT_COLLECTION,
    location: Location = DEFAULT_LOCATION,
    model: Model = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if any picture cannot be indexed.")] = False,
    optimize: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--optimize/--no-optimize",
            help="In a folder, build the vector index afterwards; otherwise offered from 50,000 points.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Index the pictures of a folder. What is indexed already, unchanged, is not embedded again."""
    from clip_qdrant.cli import optimizing
    from clip_qdrant.cli.session import open_client, open_collection
    from clip_qdrant.sources import records_in

    count = sum(1 for _ in records_in(folder, exif=False, sidecars=False))
    if not count:
        raise ConfigError(f"There are no pictures in {str(folder)!r}.")
    with open_client(location) as client:
        clip = open_collection(client, collection, model)
        with output.progress(count) as show:
            report = clip.add(records_in(folder), on_progress=lambda so_far: show(so_far.total))
        optimizing.offer(client, collection, optimize)
    output.report(report, as_json=as_json)
    if strict and report.failed:
        raise typer.Exit(1)


@app.command(
    epilog="Examples:  clip-qdrant search 'a red fruit'   |   clip-qdrant search bear.jpg -n 3 --where 'year >= 2023'"
)
@guarded
def search(
    query: Annotated[str, typer.Argument(help="Words, or the path of a picture.", show_default=False)],
    collection: Collection = DEFAULT_COLLECTION,
    location: Location = DEFAULT_LOCATION,
    model: Model = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many answers.")] = 10,
    where: Where = None,
    negative: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--negative", help="Words that the answers should be unlike."),
    ] = None,
    using: Annotated[
        Literal["image", "text", "both"], typer.Option("--using", help="Compare with pictures, captions, or both.")
    ] = "image",
    kind: Annotated[
        Literal["auto", "text", "image"],
        typer.Option("--as", help="What the query is; auto takes the path of a file for a picture."),
    ] = "auto",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Search by words or by a picture."""
    from clip_qdrant.cli.session import open_client, open_collection
    from clip_qdrant.cli.words import words_or_picture

    asked: Query = query
    if kind != "text":
        asked = Path(query).expanduser() if kind == "image" else words_or_picture(query)
    with open_client(location, existing=True) as client:
        clip = open_collection(client, collection, model, existing=True)
        hits = clip.search(asked, limit=limit, where=where, negative=negative, using=using)
    output.hits(query, hits, as_json=as_json)


@app.command(epilog="Example:  clip-qdrant info --location http://localhost:6333")
@guarded
def info(location: Location = DEFAULT_LOCATION, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show the collections at a location."""
    from clip_qdrant.cli.session import describe, open_client

    with open_client(location, existing=True) as client:
        output.collections(describe(client), as_json=as_json)


@app.command(epilog="Example:  clip-qdrant optimize --collection photos")
@guarded
def optimize(
    collection: Collection = DEFAULT_COLLECTION, location: Location = DEFAULT_LOCATION, debug: Debug = False
) -> None:
    """Build a folder's vector index, which makes large collections fast, and measure its recall."""
    from clip_qdrant.cli import optimizing
    from clip_qdrant.cli.session import open_client
    from clip_qdrant.storage.edge.client import EmbeddedQdrantClient
    from clip_qdrant.storage.vectors import VectorCollection

    with open_client(location, existing=True) as client:
        if not isinstance(client, EmbeddedQdrantClient):
            raise ConfigError("Only a folder is optimized by hand; a Qdrant server does it by itself.")
        optimizing.build(client, VectorCollection(client, collection).name)


@app.command(epilog="Examples:  clip-qdrant delete --where 'folder == \"old\"'   |   clip-qdrant delete --all --yes")
@guarded
def delete(
    collection: Collection = DEFAULT_COLLECTION,
    location: Location = DEFAULT_LOCATION,
    where: Where = None,
    id: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--id", help="The id of a point; may be given again."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete the collection itself.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Delete points by id or by a filter, or a whole collection."""
    from clip_qdrant.cli.session import open_client
    from clip_qdrant.storage.vectors import VectorCollection

    if [bool(where), bool(id), everything].count(True) != 1:
        raise ConfigError("Give one of --where, --id and --all.")
    with open_client(location, existing=True) as client:
        vectors = VectorCollection(client, collection)
        count = len(id) if id else vectors.count(where=where)
        if not yes:
            typer.confirm(f"Delete {count:,} points of {collection!r}?", abort=True, err=True)
        if everything:
            client.delete_collection(collection)
        gone = count if everything else vectors.delete(id, where=where)
    typer.echo(f"{gone:,} deleted")


@app.command(
    epilog="Examples:  clip-qdrant migrate ./.clip_qdrant http://localhost:6333   |   clip-qdrant migrate OLD_PATH NEW"
)
@guarded
def migrate(
    source: Annotated[
        str, typer.Argument(help="A folder, of qdrant-client's path= too, or the URL of a server.", show_default=False)
    ],
    target: Annotated[str, typer.Argument(help="A folder, or the URL of a server.", show_default=False)],
    collections: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--collection", "-c", help="A collection's name; may be given again. Otherwise all."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Points a request at most.")] = 1_000,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace points that have another content in the target.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Copy collections from one place to another, and verify the copy; goes on from where it was interrupted.

    Nothing is deleted on either side. A server's key is read from QDRANT_API_KEY; with two servers from
    QDRANT_SOURCE_API_KEY and QDRANT_TARGET_API_KEY. The exit code is 1 where a copy is not verified.
    """
    from clip_qdrant.cli import migrate as migration
    from clip_qdrant.storage.migrate import migrate as copy

    migration.check_locations(source, target)
    with (
        migration.open_side(source, "source", other=target) as old,
        migration.open_side(target, "target", other=source) as new,
        migration.progress() as show,
    ):
        report = copy(old, new, collections, batch_size=batch_size, overwrite=overwrite, on_progress=show)
    migration.report(report, as_json=as_json)
    if not report.verified:
        raise typer.Exit(1)


@app.command(epilog="Example:  clip-qdrant demo")
@guarded
def demo(
    location: Location = DEFAULT_LOCATION,
    sheet: Annotated[Path, typer.Option("--sheet", help="Where to write the contact sheet.")] = Path(
        "clip-qdrant-demo.png"
    ),
    debug: Debug = False,
) -> None:
    """Draw 1,400 OpenMoji pictures, index them with the pocket model, search them, and write a contact sheet."""
    from clip_qdrant.cli.art import ATTRIBUTION
    from clip_qdrant.cli.contact_sheet import check_place, draw_sheet, save_sheet
    from clip_qdrant.cli.demo import run
    from clip_qdrant.cli.session import open_client, open_encoder

    check_place(sheet)
    with open_client(location) as client:
        shown = run(client, open_encoder("pocket"), progress=output.progress)
    output.demo(shown)
    save_sheet(draw_sheet(shown.rows, "Search by words and pictures, with the pocket model", ATTRIBUTION), sheet)
    output.note(f"Contact sheet: {sheet}")


model_commands.register(app)
labelling.register(app)
generating.register(app)
painting.register(app)


def main() -> Any:
    """The entry point."""
    return app()
