"""`clip-qdrant classify` and `clip-qdrant tag`: labels in words for pictures, and for all that a collection has."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console

from clip_qdrant.cli import output
from clip_qdrant.cli.guard import guarded
from clip_qdrant.cli.label_files import read_labels
from clip_qdrant.cli.options import DEFAULT_COLLECTION, DEFAULT_LOCATION, AsJson, Collection, Debug, Location, Model
from clip_qdrant.cli.options import Where as WhereOption
from clip_qdrant.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from clip_qdrant.models.zero_shot import Classification, Score, ZeroShotClassifier
    from clip_qdrant.models.zero_shot_calibration import Calibration
    from clip_qdrant.models.zero_shot_labels import Labels
    from clip_qdrant.types import Encoder

_Labels = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--labels", help="cat,dog,bird", show_default=False),
]
_LabelsFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--labels-file",
        help='A file with a label a line; or JSON, also of a tree: {"animals": ["cat", "dog"], "vehicles": ["car"]}.',
        show_default=False,
    ),
]
_Templates = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--template",
        help="The name of a set (default, name, photos, icons, documents, pages), or a sentence with {} for the label; "
        "may be given again.",
        show_default=False,
    ),
]
_MultiLabel = Annotated[bool, typer.Option("--multi-label", help="Any number of labels may hold, none too.")]
_Threshold = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="The least probability of an answer; below it is none of these.", show_default=False),
]
_LeastCosine = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="The least cosine between an input and its label.", show_default=False),
]
_LeastMargin = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="How far the best probability must be ahead of the next.", show_default=False),
]
_Temperature = Annotated[float, typer.Option(help="Above 1 is less sure than the model is; see calibrate_images.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command(
        epilog="Examples:  clip-qdrant classify *.jpg --labels cat,dog   |   "
        "clip-qdrant classify scans/ --labels-file topics.txt --template pages --threshold 0.5"
    )(classify)
    app.command(
        epilog="Examples:  clip-qdrant tag --field kind --labels-file labels.txt   |   "
        "clip-qdrant tag -c photos --field colour --labels red,green,blue"
    )(tag)


@guarded
def classify(
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", show_default=False)],
    labels: _Labels = None,
    labels_file: _LabelsFile = None,
    model: Model = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many labels to show of each.")] = 3,
    template: _Templates = None,
    multi_label: _MultiLabel = False,
    threshold: _Threshold = None,
    least_cosine: _LeastCosine = None,
    least_margin: _LeastMargin = None,
    temperature: _Temperature = 1.0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say which of some labels pictures have. The exit code is 1 where one cannot be opened."""
    from clip_qdrant.cli.session import open_encoder
    from clip_qdrant.models.encoder import DEFAULT_MODEL
    from clip_qdrant.models.zero_shot_calibration import Calibration

    names = read_labels(labels, labels_file)
    limits = Calibration(
        temperature, threshold=threshold, least_cosine=least_cosine, least_margin=least_margin
    )  # before a model is loaded
    pictures = _pictures_in(images)
    found = classifier_of(open_encoder(model or DEFAULT_MODEL), names, template, multi_label, limits)
    with _quiet():
        answers = {answer.index: answer for answer in found.classify_images(pictures, top_k=top_k, unreadable="skip")}
    failed = {path: _reason(path) for index, path in enumerate(pictures) if index not in answers}
    _show(pictures, answers, failed, as_json=as_json)
    if failed:
        raise typer.Exit(1)


@guarded
def tag(
    labels: _Labels = None,
    labels_file: _LabelsFile = None,
    field: Annotated[str, typer.Option("--field", "-f", help="The payload field to write the labels to.")] = "kind",
    collection: Collection = DEFAULT_COLLECTION,
    location: Location = DEFAULT_LOCATION,
    model: Model = None,
    where: WhereOption = None,
    template: _Templates = None,
    multi_label: _MultiLabel = False,
    threshold: _Threshold = None,
    least_cosine: _LeastCosine = None,
    least_margin: _LeastMargin = None,
    temperature: _Temperature = 1.0,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the field's tags instead.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the label that every picture and text of a collection has into its payload, to filter and count by.

    Goes by the stored vectors, and goes on from where it was interrupted. Run again, it looks at what is new; with
    other labels it writes what they change. Indexing again keeps the tags of what has the same content.
    """
    from clip_qdrant.cli.session import open_client, open_collection
    from clip_qdrant.collection.tagging import tag as write
    from clip_qdrant.collection.tagging import untag
    from clip_qdrant.models.zero_shot_calibration import Calibration

    if remove:
        _refuse_labels(labels, labels_file)
        with open_client(location, existing=True) as client:
            gone = untag(open_collection(client, collection, model, existing=True), field)
        typer.echo(f"{gone:,} without {field}")
        return
    names = read_labels(labels, labels_file)
    limits = Calibration(
        temperature, threshold=threshold, least_cosine=least_cosine, least_margin=least_margin
    )  # before a model is loaded
    with open_client(location, existing=True) as client:
        clip = open_collection(client, collection, model, existing=True)
        found = classifier_of(clip.encoder, names, template, multi_label, limits)
        with output.progress(clip.count(where=where), "Tagging") as show:
            report = write(clip, found, field, where=where, on_progress=lambda so_far: show(so_far.total))
        counts = clip.vectors.facet(field, where=where, limit=20)
    if as_json:
        output.document({**asdict(report), "field": field, "counts": counts})
        return
    output.table([field, "points"], [[str(value), f"{count:,}"] for value, count in counts.items()])
    output.note(
        f"{report.written:,} written, {report.unchanged:,} unchanged, {report.skipped:,} without a vector in "
        f"{report.seconds:.1f} s"
    )


def classifier_of(
    encoder: Encoder, labels: Labels, templates: Sequence[str] | None, multi_label: bool, limits: Calibration
) -> ZeroShotClassifier:
    """A classifier; one template without {} is the name of a set of them."""
    from clip_qdrant.models.zero_shot import ZeroShotClassifier

    named = templates is not None and len(templates) == 1 and "{}" not in templates[0]
    return ZeroShotClassifier(
        encoder,
        labels,
        templates="default" if not templates else templates[0] if named else templates,
        multi_label=multi_label,
        calibration=limits,
    )


def _refuse_labels(labels: str | None, labels_file: Path | None) -> None:
    if labels is not None or labels_file is not None:
        raise ConfigError("--remove takes no labels: it removes all tags of the field.")


def _pictures_in(given: Sequence[Path]) -> list[Path]:
    """Pictures as they are named, and those in folders.

    Raises:
        ConfigError: a folder without any.
    """
    from clip_qdrant.sources import records_in

    found: list[Path] = []
    for path in given:
        place = path.expanduser()
        if not place.is_dir():
            found.append(place)
            continue
        inside = [Path(record.source) for record in records_in(place, exif=False, sidecars=False)]
        if not inside:
            raise ConfigError(f"There are no pictures in {str(path)!r}.")
        found += inside
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log's lines about pictures that cannot be opened, which are shown in a table of their own."""
    logger, handler = logging.getLogger("clip_qdrant"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _reason(path: Path) -> str:
    from clip_qdrant.images import open_image

    try:
        open_image(path)
    except ImageError as error:
        return error.reason
    return "it changed while it was read"


def _show(
    pictures: Sequence[Path], answers: dict[int, Classification], failed: dict[Path, str], *, as_json: bool
) -> None:
    if as_json:
        output.document([_document(path, answers.get(index), failed) for index, path in enumerate(pictures)])
        return
    if failed:
        rows = [[str(path), reason] for path, reason in failed.items()]
        output.table(["not classified", "why"], rows, Console(stderr=True))
    rows = [
        [
            str(pictures[index]),
            ", ".join(map(_name, answer.labels)) or "(none of these)",
            ", ".join(f"{_name(score)} {score.probability:.1%}" for score in answer.scores),
        ]
        for index, answer in answers.items()
    ]
    output.table(["image", "label", "probabilities"], rows)


def _document(path: Path, answer: Classification | None, failed: dict[Path, str]) -> dict[str, Any]:
    if answer is None:
        return {"image": str(path), "error": failed[path]}
    scores = [
        {"label": _name(score), "probability": score.probability, "cosine": score.cosine} for score in answer.scores
    ]
    return {"image": str(path), "labels": list(map(_name, answer.labels)), "margin": answer.margin, "scores": scores}


def _name(score: Score) -> str:
    """A label's name; in a tree with those above it."""
    return "/".join(score.path)
