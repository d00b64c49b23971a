"""The commands about models rather than collections: train one, and look at what one cannot do."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from clip_qdrant.cli import output
from clip_qdrant.cli.guard import INTERRUPTED, guarded
from clip_qdrant.cli.options import DEFAULT_LOCATION, AsJson, Debug, Location, Model, Where
from clip_qdrant.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command(
        epilog="Examples:  clip-qdrant train birds/ --base pocket --out birds-clip   |   "
        "clip-qdrant train captions.jsonl --base ViT-B/32 --out mine --freeze image --epochs 5"
    )(train)
    app.command(
        epilog="Examples:  clip-qdrant audit cat,lion,tiger --model pocket   |   "
        "clip-qdrant audit labels.txt -c photos --group-field camera --plot audit.png"
    )(audit)


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
    where: Where = None,
    caption_field: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Where the captions are: of a collection, text if not given, or a column of a manifest."),
    ] = None,
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
    batch: Annotated[int, typer.Option(min=2, help="Pairs a step compares; more is better.")] = 64,
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
    near_duplicates: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Keep pictures in one part from this cosine by the base model: 0.97, say."),
    ] = None,
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
    from clip_qdrant.cli.session import announce
    from clip_qdrant.collection.finetune import finetune
    from clip_qdrant.collection.finetune_run import check_out
    from clip_qdrant.models.device import pick_device
    from clip_qdrant.models.training_options import TrainingOptions

    if [epochs, steps, minutes].count(None) < 2:
        raise ConfigError("Give one of --epochs, --steps and --minutes.")
    by_epochs = steps is None and minutes is None
    options = TrainingOptions(  # before the pictures are read, so that what is wrong with it is said at once
        steps=1 if by_epochs else steps,
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
    pick_device(device)
    state = check_out(out, resume=resume)
    fields = {"caption_field": caption_field, "concept_field": concept_field, "where": where}
    pairs = training.pairs_of(data, collection, location, **fields)
    parts = training.parts_of(pairs, base, near_duplicates, test=test_share, judge=judge_share, seed=seed)
    if by_epochs:
        options = replace(options, steps=training.steps_of(epochs, len(parts.train), batch))
    announce(base)
    training.check_patience(patience, judge_every, options.steps)
    mined = training.negatives_of(collection, location, parts, **fields)
    with (
        training.fast_numbers(),
        mined if hard_negatives else nullcontext() as negatives,
        training.stopping(state) as stop,
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
            data=training.data_of(data, collection, near_duplicates, **fields),
            progress=show,
            stop=stop,
        )
    if not result.saved:
        output.note(f"Stopped at step {result.training.steps:,}. The same command with --resume goes on from there.")
        raise typer.Exit(INTERRUPTED)
    training.report(result, out, as_json=as_json)


@guarded
def audit(
    labels: Annotated[
        str, typer.Argument(help="cat,dog,bird, or a file with one a line, or JSON.", show_default=False)
    ],
    collection: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--collection", "-c", help="Look at them by the pictures of this collection."),
    ] = None,
    location: Location = DEFAULT_LOCATION,
    model: Model = None,
    group_field: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A payload field; are its groups labelled differently?"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many pictures to look at, at most.")] = 10_000,
    most: Annotated[int, typer.Option(min=1, help="How many confusions and skews to show.")] = 20,
    chart: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--plot", help="Where to write a plot, as PNG."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a model cannot do with a set of labels, before you rely on it."""
    from clip_qdrant.cli import audit as auditing
    from clip_qdrant.cli.contact_sheet import check_place, save_sheet
    from clip_qdrant.cli.label_files import names_of
    from clip_qdrant.cli.session import open_client, open_collection, open_encoder
    from clip_qdrant.models.audit import audit as look
    from clip_qdrant.models.encoder import DEFAULT_MODEL
    from clip_qdrant.models.zero_shot_prompts import DEFAULT_TEMPLATES

    names = names_of(labels)
    if chart is not None:
        check_place(chart)
    if collection is None:
        if group_field:
            raise ConfigError("Groups are those of a collection's pictures: name it with --collection.")
        told = look(open_encoder(model or DEFAULT_MODEL), names, DEFAULT_TEMPLATES, most=most)
    else:
        with open_client(location, existing=True) as client:
            clip = open_collection(client, collection, model, existing=True)
            seen = auditing.pictures_of(clip.vectors, group_field, limit)
            groups = seen.groups if group_field else None
            told = look(clip.encoder, names, DEFAULT_TEMPLATES, pictures=seen.vectors, groups=groups, most=most)
    auditing.report(told, as_json=as_json)
    if chart is not None:
        save_sheet(auditing.plot(told), chart)
        output.note(f"Plot: {chart}")
