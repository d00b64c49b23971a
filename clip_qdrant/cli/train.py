"""`clip-qdrant train`: what it trains on, and how it is told."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clip_qdrant.cli import output
from clip_qdrant.cli.session import open_client
from clip_qdrant.collection.mining import MinedNegatives
from clip_qdrant.collection.pairs import pairs_from_collection, pairs_from_records
from clip_qdrant.errors import ConfigError
from clip_qdrant.sources import records_from, records_in
from clip_qdrant.storage.vectors import VectorCollection

if TYPE_CHECKING:
    from clip_qdrant.collection.finetune import FinetuneReport
    from clip_qdrant.models.training import Progress as TrainingProgress
    from clip_qdrant.models.training_pairs import HardNegatives, Pair

_NOTE_EVERY = 50


def pairs_of(
    data: Path, collection: str | None, location: str, *, caption_field: str, concept_field: str | None
) -> list[Pair]:
    """The pairs of a folder, a manifest, or a collection whose pictures are in a folder.

    Raises:
        ConfigError: there is nothing to learn from.
    """
    if collection is not None:
        with open_client(location, existing=True) as client:
            vectors = VectorCollection(client, collection)
            pairs = pairs_from_collection(vectors, data, caption_field=caption_field, concept_field=concept_field)
    elif data.is_file():
        pairs = pairs_from_records(records_from(data, exif=False), concept_field=concept_field)
    else:
        pairs = pairs_from_records(records_in(data, exif=False), concept_field=concept_field)
    if not pairs:
        raise ConfigError(
            f"There are no pictures with captions in {str(data)!r}. A caption is a text file beside its picture "
            "(bear.jpg, bear.txt), or a column of a manifest (.csv, .jsonl, COCO .json)."
        )
    output.note(f"{len(pairs):,} pictures with captions")
    return pairs


@contextmanager
def negatives_of(
    collection: str | None, location: str, caption_field: str, concept_field: str | None, *, wanted: bool
) -> Iterator[HardNegatives | None]:
    """Hard negatives out of the collection, if they are wanted.

    Raises:
        ConfigError: there is no collection to take them from.
    """
    if not wanted:
        yield None
        return
    if collection is None:
        raise ConfigError("Hard negatives are looked up in a collection: name it with --collection.")
    with open_client(location, existing=True) as client:
        vectors = VectorCollection(client, collection)
        yield MinedNegatives(vectors, caption_field=caption_field, concept_field=concept_field)


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
def stopping() -> Iterator[Callable[[], bool]]:
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
