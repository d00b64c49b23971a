"""`clip-qdrant train`: what it trains on, and how it is told."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clip_qdrant.cli import output
from clip_qdrant.cli.guard import INTERRUPTED
from clip_qdrant.cli.session import open_client, open_encoder
from clip_qdrant.collection.mining import MinedNegatives
from clip_qdrant.collection.pairs import group_near_duplicates, pairs_from_collection, pairs_from_records, split
from clip_qdrant.errors import ConfigError
from clip_qdrant.models.training_state import CHECKPOINT
from clip_qdrant.sources import records_from, records_in
from clip_qdrant.sources.folders import IMAGE_SUFFIXES
from clip_qdrant.storage.points import CAPTION
from clip_qdrant.storage.vectors import VectorCollection

if TYPE_CHECKING:
    from clip_qdrant.collection.finetune import FinetuneReport
    from clip_qdrant.collection.pairs import Parts
    from clip_qdrant.models.training import Progress as TrainingProgress
    from clip_qdrant.models.training_pairs import HardNegatives, Pair
    from clip_qdrant.types import Record

_NOTE_EVERY = 50
_EPOCHS = 10.0


def pairs_of(
    data: Path,
    collection: str | None,
    location: str,
    *,
    caption_field: str | None,
    concept_field: str | None,
    where: str | None,
) -> list[Pair]:
    """The pairs of a folder, a manifest, or a collection whose pictures are in a folder.

    Raises:
        ConfigError: there is nothing to learn from, or a field or filter that nothing would come of.
    """
    if collection is not None:
        with open_client(location, existing=True) as client:
            vectors = VectorCollection(client, collection)
            field = caption_field or CAPTION
            pairs = pairs_from_collection(vectors, data, caption_field=field, concept_field=concept_field, where=where)
        cure = (
            f"Of the points of {collection!r} with the caption field {field!r}, none has its picture there. Name the "
            "folder that was indexed, and check --caption-field and --where."
        )
    else:
        pairs = pairs_from_records(_records(data, caption_field, where), concept_field=concept_field)
        cure = (
            "A caption is a text file beside its picture (bear.jpg, bear.txt), or a column of a manifest (.csv, "
            ".jsonl, COCO .json)."
        )
    if not pairs:
        raise ConfigError(f"There are no pictures with captions in {str(data)!r}. {cure}")
    if concept_field is not None and not any(pair.concept for pair in pairs):
        raise ConfigError(f"None of the {len(pairs):,} pictures has a field {concept_field!r} with a text or a number.")
    output.note(f"{len(pairs):,} pictures with captions")
    return pairs


def data_of(
    data: Path,
    collection: str | None,
    near_duplicates: float | None = None,
    *,
    caption_field: str | None,
    concept_field: str | None,
    where: str | None,
) -> str:
    """What `pairs_of` gives and `parts_of` makes of it, in words, for the model card."""
    name = data.resolve().name  # of "." as well
    if collection is not None:
        told = [f"Pictures of the folder {name!r}, captions from {caption_field or CAPTION!r} of {collection!r}"]
    elif _is_manifest(data):
        told = [f"Pictures and captions of the manifest {name!r}"]
        told += [f"column {caption_field!r}"] if caption_field else []
    else:
        told = [f"Pictures of the folder {name!r}, captions beside them"]
    told += [f"where {where}"] if where else []
    told += [f"those with the same {concept_field!r} show the same"] if concept_field else []
    if near_duplicates is not None:
        told.append(f"those whose cosine is {near_duplicates} or more to the base model show the same")
    return "; ".join(told) + "."


def _is_manifest(data: Path) -> bool:
    return data.is_file() and data.suffix.lower() not in IMAGE_SUFFIXES


def _records(data: Path, caption_field: str | None, where: str | None) -> Iterator[Record]:
    if where is not None:
        raise ConfigError("--where filters the points of a collection: name it with --collection.")
    if _is_manifest(data):
        return records_from(data, caption_column=caption_field, exif=False)
    if caption_field is not None:
        raise ConfigError("--caption-field is for a collection or a manifest; in a folder captions are files.")
    return records_in(data, exif=False)


def parts_of(
    pairs: list[Pair], base: str, near_duplicates: float | None, *, test: float, judge: float, seed: int
) -> Parts:
    """The split of pairs; those that look alike to the base model go together, if that is asked for."""
    if near_duplicates is not None:
        if not -1.0 <= near_duplicates <= 1.0:
            raise ConfigError(f"--near-duplicates is a cosine, from -1 to 1, got {near_duplicates!r}.")
        grouped = group_near_duplicates(pairs, open_encoder(base), threshold=near_duplicates)
        together = sum(new.concept != old.concept for new, old in zip(grouped, pairs, strict=True))
        output.note(f"{together:,} of them look like another one")
        pairs = grouped
    return split(pairs, test=test, judge=judge, seed=seed)


def steps_of(epochs: float | None, count: int, batch: int) -> int:
    """How many steps so many epochs of `count` pairs have."""
    epochs = _EPOCHS if epochs is None else epochs
    if not 0 < epochs < math.inf:
        raise ConfigError(f"--epochs is a number above 0, got {epochs!r}.")
    return max(1, round(epochs * count / min(batch, count)))


def check_patience(patience: int | None, judge_every: int, steps: int | None) -> None:
    """Say so where a training is over before it can run out of patience."""
    if patience is not None and steps is not None and (patience + 1) * judge_every >= steps:
        output.note(
            f"--patience {patience} cannot end it before its {steps:,} steps are done, as it is judged every "
            f"{judge_every:,}. Lower --judge-every."
        )


@contextmanager
def negatives_of(
    collection: str | None,
    location: str,
    parts: Parts,
    *,
    caption_field: str | None,
    concept_field: str | None,
    where: str | None,
) -> Iterator[HardNegatives]:
    """Hard negatives out of those points of the collection that are learnt from.

    Raises:
        ConfigError: there is no collection to take them from.
    """
    if collection is None:
        raise ConfigError("Hard negatives are looked up in a collection: name it with --collection.")
    with open_client(location, existing=True) as client:
        yield MinedNegatives(
            VectorCollection(client, collection),
            caption_field=caption_field or CAPTION,
            concept_field=concept_field,
            where=where,
            held_out=[pair.content for pair in (*parts.judge, *parts.test)],
        )


@contextmanager
def fast_numbers() -> Iterator[None]:
    """Take the smallest of numbers for zero: moments that fade to them would make a CPU many times slower."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:  # who calls this from a program of their own gets their numbers back
        torch.set_flush_denormal(False)


@contextmanager
def progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar on stderr where that is a terminal, a line now and then where it is not."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("Training"), BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console,
        disable=not (console.is_terminal and output.is_first_process()),
    )  # fmt: skip
    recall = ""

    with bar:
        task = bar.add_task("", total=1.0)

        def show(now: TrainingProgress) -> None:
            nonlocal recall
            if now.score is not None:
                recall = f"  recall {now.score:.3f}"
            said = f"step {now.step:,}  loss {now.loss:.3f}{recall}"
            bar.update(task, completed=now.share, description=said)
            if not console.is_terminal and (now.score is not None or now.step % _NOTE_EVERY == 0):
                output.note(said)

        yield show


@contextmanager
def stopping(state: Path) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the first one lets the step end and its state be kept, the second one does not."""
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        output.note("Stopping after this step. Press Ctrl-C again to stop at once.")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: pressed
    except KeyboardInterrupt:
        kept = (state / CHECKPOINT).exists()
        cure = "with --resume goes on from the last state" if kept else "begins anew; nothing was kept"
        output.note(f"Stopped at once. The same command {cure}.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, before)


def report(result: FinetuneReport, out: Path, *, as_json: bool) -> None:
    """What came of it; of several processes the first one tells."""
    if not output.is_first_process():
        return
    if as_json:
        output.document(result.to_dict())
        return
    if result.before is not None and result.after is not None:
        ways = (
            ("text to image", result.before.text_to_image, result.after.text_to_image),
            ("image to text", result.before.image_to_text, result.after.image_to_text),
        )
        rows = [
            [way, name, f"{getattr(old, key):.3f}", f"{getattr(new, key):.3f}"]
            for way, old, new in ways
            for name, key in (("recall@1", "recall_1"), ("recall@5", "recall_5"), ("MRR", "mrr"))
        ]
        output.table(["direction", "measure", "before", "after"], rows)
    for problem in result.problems:
        output.note(f"Left out: {problem}")
    reason = {"budget": "", "patience": ", as it no longer got better", "asked": ""}[result.training.stopped]
    output.note(f"{result.training.steps:,} steps in {result.training.minutes:.1f} minutes{reason}. Written to {out}")
