"""`clip-qdrant`: the commands. Whatever is slow to import is imported by the command that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from clip_qdrant import __version__
from clip_qdrant.cli import output
from clip_qdrant.cli.guard import INTERRUPTED, guarded
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

    is_image = kind == "image" or (kind == "auto" and Path(query).expanduser().is_file())
    asked: Query = Path(query).expanduser() if is_image else query
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


@app.command(
    epilog="Examples:  clip-qdrant train birds/ --base pocket --out birds-clip   |   clip-qdrant train captions.jsonl "
    "--base ViT-B/32 --out mine --freeze image --epochs 5"
)
@guarded
def train(
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder of pictures with captions beside them, or a manifest. With --collection: the folder that "
            "its pictures are in.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder for the model.", show_default=False)],
    base: Annotated[str, typer.Option("--base", "-b", help="The model to start from.", show_default=False)],
    collection: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--collection", "-c", help="Take pictures and captions from this collection."),
    ] = None,
    location: Location = DEFAULT_LOCATION,
    caption_field: Annotated[str, typer.Option(help="Of a collection's payload: its captions.")] = "text",
    concept_field: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A field; pictures with the same value of it show the same."),
    ] = None,
    epochs: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="How often to see every picture; 10 if nothing else is said."),
    ] = None,
    steps: Annotated[Optional[int], typer.Option(help="A budget in steps instead.")] = None,  # noqa: UP045
    minutes: Annotated[Optional[float], typer.Option(help="A budget in minutes instead.")] = None,  # noqa: UP045
    batch: Annotated[int, typer.Option(help="Pairs a step compares; more is better.")] = 64,
    chunk: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Pairs that go through the model at once, where memory is short; the result is the same."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 5e-5,
    loss: Annotated[Literal["info_nce", "sigmoid"], typer.Option(help="CLIP's or SigLIP's.")] = "info_nce",
    freeze: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A tower to leave as it is: image or text."),
    ] = None,
    keep: Annotated[
        float, typer.Option(help="The share of the training to keep; 0.5 forgets less of what the base model knew.")
    ] = 1.0,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    test_share: Annotated[float, typer.Option(help="Held out for the figures.")] = 0.1,
    judge_share: Annotated[float, typer.Option(help="Held out to stop by.")] = 0.1,
    judge_every: Annotated[int, typer.Option(help="Steps between judgements.")] = 100,
    patience: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Stop after so many judgements without a better one."),
    ] = None,
    hard_negatives: Annotated[
        bool, typer.Option("--hard-negatives", help="Also set captions apart that the collection has near by.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Store the weights in half the space.")] = False,
    seed: Annotated[int, typer.Option(help="Of all random choices, the split among them.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was interrupted.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Adapt a CLIP or SigLIP model to your own pictures and captions, and measure what it gained."""
    from clip_qdrant.cli import train as training
    from clip_qdrant.collection.finetune import finetune
    from clip_qdrant.collection.pairs import split
    from clip_qdrant.models.training import TrainingOptions
    from clip_qdrant.models.training_model import check_free

    if [epochs, steps, minutes].count(None) < 2:
        raise ConfigError("Give one of --epochs, --steps and --minutes.")
    check_free(out)
    pairs = training.pairs_of(data, collection, location, caption_field=caption_field, concept_field=concept_field)
    parts = split(pairs, test=test_share, judge=judge_share, seed=seed)
    if steps is None and minutes is None:
        steps = max(1, round((10.0 if epochs is None else epochs) * len(parts.train) / min(batch, len(parts.train))))
    options = TrainingOptions(
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        loss=loss,
        chunk=chunk,
        precision=precision,
        freeze=tuple(freeze or ()),  # type: ignore[arg-type]
        judge_every=judge_every,
        patience=patience,
        seed=seed,
        device=device,
    )
    with (
        training.negatives_of(collection, location, caption_field, concept_field, wanted=hard_negatives) as negatives,
        training.stopping() as stop,
        training.progress() as show,
    ):
        result = finetune(
            base,
            parts,
            out,
            options,
            batch=batch,
            keep=keep,
            hard_negatives=negatives,
            resume=resume,
            half=half,
            data=f"Pictures with captions from {data.name!r}.",
            progress=show,
            stop=stop,
        )
    if not result.saved:
        output.note(f"Stopped at step {result.training.steps:,}. The same command with --resume goes on from there.")
        raise typer.Exit(INTERRUPTED)
    training.report(result, out, as_json=as_json)


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
    from clip_qdrant.cli.contact_sheet import draw_sheet, save_sheet
    from clip_qdrant.cli.demo import run
    from clip_qdrant.cli.session import open_client, open_encoder

    with open_client(location) as client:
        shown = run(client, open_encoder("pocket"), progress=output.progress)
    output.demo(shown)
    save_sheet(draw_sheet(shown.rows, "Search by words and pictures, with the pocket model", ATTRIBUTION), sheet)
    output.note(f"Contact sheet: {sheet}")


def main() -> Any:
    """The entry point."""
    return app()
