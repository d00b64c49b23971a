"""The commands that make pictures: of words, and out of another picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clip_qdrant.cli import output
from clip_qdrant.cli.guard import INTERRUPTED, guarded
from clip_qdrant.cli.options import DEFAULT_LOCATION, AsJson, Debug, Location
from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.models.diffusion import DiffusionGenerator
    from clip_qdrant.models.diffusion_call import Step
    from clip_qdrant.models.guidance import ClipGuide
    from clip_qdrant.models.picture import Picture
    from clip_qdrant.types import Encoder

# Optional[...] rather than | None: typer reads these at run time, on Python 3.10 too.
Prompt = Annotated[str, typer.Argument(help="What the picture should show.", show_default=False)]
Generator = Annotated[
    str, typer.Option("--model", "-m", help="A Hub id or a folder of a pipeline of diffusers, or 'pocket'.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The folder for the pictures.")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, help="How many pictures.")]
Seed = Annotated[Optional[int], typer.Option("--seed", min=0, help="Makes the same picture again.")]  # noqa: UP045
Steps = Annotated[Optional[int], typer.Option("--steps", min=1, help="Denoising steps.")]  # noqa: UP045
Guidance = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--guidance", help="How much the prompt counts; 0 for Turbo models."),
]
Negative = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--negative", help="What it should not show."),
]
Size = Annotated[Optional[str], typer.Option("--size", help="512, or 768x512.")]  # noqa: UP045
BestOf = Annotated[int, typer.Option("--best-of", min=1, help="Make so many for each, and keep what CLIP likes best.")]
Guide = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--guide", help="Words or the path of a picture that every step is pulled towards by CLIP."),
]
GuideScale = Annotated[float, typer.Option("--guide-scale", min=0.0, help="How much; above 0.3 pictures break.")]
Clip = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--clip",
        help="The CLIP model for --best-of, --guide and a new collection. Otherwise the one of the collection, and "
        "where there is none 'pocket' for the pocket generator.",
    ),
]
Store = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--store", help="A collection to keep the pictures in, marked as synthetic."),
]
Sheet = Annotated[Optional[Path], typer.Option("--sheet", help="Also write a contact sheet, as PNG.")]  # noqa: UP045
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
LowMemory = Annotated[bool, typer.Option("--low-memory", help="Slower, with a fraction of a GPU's memory.")]

DEFAULT_OUT = Path("generated")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command(
        epilog="Examples:  clip-qdrant generate 'a red apple, noto style' -n 4 --sheet apples.png   |   "
        "clip-qdrant generate 'a castle at night' --model stabilityai/sd-turbo --steps 2 --guidance 0 --store photos"
    )(generate)
    app.command(
        epilog="Examples:  clip-qdrant edit apple.png 'a green apple, noto style' --strength 0.7   |   "
        "clip-qdrant edit room.jpg 'a sofa' --mask sofa.png --strength 1 --model MODEL"
    )(edit)


@guarded
def generate(
    prompt: Prompt,
    model: Generator = "pocket",
    out: Out = DEFAULT_OUT,
    count: Count = 1,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative: Negative = None,
    size: Size = None,
    best_of: BestOf = 1,
    guide: Guide = None,
    guide_scale: GuideScale = 0.1,
    clip: Clip = None,
    store: Store = None,
    location: Location = DEFAULT_LOCATION,
    sheet: Sheet = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    low_memory: LowMemory = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make pictures of words, with a diffusion model."""
    asked = Asked(prompt, count, seed, best_of, guide, guide_scale, clip, store, location, out, sheet)
    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "negative": negative, "size": _size(size)}
    generator = _open(model, device, dtype, low_memory)
    _run(asked, partial(generator.generate, **options), generator, as_json=as_json)


@guarded
def edit(
    image: Annotated[Path, typer.Argument(help="The picture to start from.", show_default=False)],
    prompt: Prompt,
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--mask", help="A picture of the same shape, white where to repaint."),
    ] = None,
    strength: Annotated[float, typer.Option("--strength", help="How much may change, above 0, at most 1.")] = 0.6,
    model: Generator = "pocket",
    out: Out = DEFAULT_OUT,
    count: Count = 1,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    negative: Negative = None,
    size: Size = None,
    best_of: BestOf = 1,
    guide: Guide = None,
    guide_scale: GuideScale = 0.1,
    clip: Clip = None,
    store: Store = None,
    location: Location = DEFAULT_LOCATION,
    sheet: Sheet = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    low_memory: LowMemory = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make pictures out of another: image to image, or with --mask a part of it anew."""
    from clip_qdrant.images import open_image

    open_image(image)  # what is wrong with it is said before a model is loaded
    asked = Asked(prompt, count, seed, best_of, guide, guide_scale, clip, store, location, out, sheet, image)
    options: dict[str, Any] = {"steps": steps, "guidance": guidance, "negative": negative, "size": _size(size)}
    generator = _open(model, device, dtype, low_memory)
    make = partial(_edited, generator, image, strength=strength, mask=mask, **options)
    _run(asked, make, generator, as_json=as_json)


@dataclass(frozen=True, slots=True)
class Asked:
    """What both commands are told, beside what the generator takes."""

    prompt: str
    count: int
    seed: int | None
    best_of: int
    guide: str | None
    guide_scale: float
    clip: str | None
    store: str | None
    location: str
    out: Path
    sheet: Path | None
    image: Path | None = None


def _edited(generator: DiffusionGenerator, image: Path, prompt: str, **options: Any) -> list[Picture]:
    return generator.edit(image, prompt, **options)


def _run(asked: Asked, make: Callable[..., list[Picture]], generator: DiffusionGenerator, *, as_json: bool) -> None:
    """Make the pictures one by one, so that what is done is kept when the rest is interrupted."""
    import numpy as np

    from clip_qdrant.cli.contact_sheet import check_place
    from clip_qdrant.cli.session import open_client, open_collection, open_encoder
    from clip_qdrant.collection.synthetic import records_of, store
    from clip_qdrant.models.encoder import DEFAULT_MODEL
    from clip_qdrant.models.names import POCKET

    parent = None if asked.image is None else str(asked.image.expanduser().absolute())
    default = POCKET if generator.model == POCKET else DEFAULT_MODEL  # the pocket CLIP knows what that one draws
    made: list[tuple[Picture, str]] = []
    records_of([], asked.out)  # a place that cannot be is said before any work
    if asked.sheet is not None:
        check_place(asked.sheet)
    first = int(np.random.default_rng().integers(2**31)) if asked.seed is None else asked.seed
    seeds = range(first, first + asked.count * asked.best_of, asked.best_of)
    try:
        if asked.store is None:
            encoder = None if asked.best_of == 1 and asked.guide is None else open_encoder(asked.clip or default)
            for picture in _pictures(asked, make, encoder, seeds):
                (record,) = records_of([picture], asked.out, parent=parent)
                made.append((picture, record.source))
        else:
            with open_client(asked.location) as client:
                collection = open_collection(client, asked.store, asked.clip, new=default)
                for picture in _pictures(asked, make, collection.encoder, seeds):
                    (hit,) = store(collection, [picture], asked.out, parent=parent)
                    made.append((picture, str(hit.source)))
    except KeyboardInterrupt:
        rest = first + len(made) * asked.best_of
        output.note(f"Interrupted. What was made is kept; with --seed {rest} the rest is made as it would have been.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if made:
            _report(made, as_json=as_json)
    if asked.sheet is not None:
        from clip_qdrant.cli.contact_sheet import Row, draw_sheet, save_sheet

        cells = [(Path(source), "", _told(picture)) for picture, source in made]
        rows = [Row(asked.prompt, asked.image, cells[at : at + 8]) for at in range(0, len(cells), 8)]
        save_sheet(
            draw_sheet(rows, "Made by " + generator.model, "Pictures of a model, not of the world."), asked.sheet
        )
        output.note(f"Contact sheet: {asked.sheet}")


def _pictures(
    asked: Asked, make: Callable[..., list[Picture]], encoder: Encoder | None, seeds: Sequence[int]
) -> Iterator[Picture]:
    from clip_qdrant.models.best_of import best_of

    guide = _guide(asked, encoder)
    with _bar(len(seeds) * asked.best_of) as show:
        for done, seed in enumerate(seeds):
            options: dict[str, Any] = {"seed": seed, "guide": guide, "progress": partial(show, done * asked.best_of)}
            if asked.best_of > 1 and encoder is not None:
                yield best_of(make, asked.prompt, encoder, of=asked.best_of, **options)[0]
            else:
                yield make(asked.prompt, **options)[0]


def _guide(asked: Asked, encoder: Encoder | None) -> ClipGuide | None:
    from clip_qdrant.cli.words import words_or_picture
    from clip_qdrant.collection.query import query_vector
    from clip_qdrant.models.encoder import ClipEncoder
    from clip_qdrant.models.guidance import ClipGuide

    if asked.guide is None or not isinstance(encoder, ClipEncoder):
        return None
    return ClipGuide(encoder, query_vector(encoder, words_or_picture(asked.guide)), scale=asked.guide_scale)


def _open(model: str, device: str, dtype: str, low_memory: bool) -> DiffusionGenerator:
    from clip_qdrant.models.diffusion import DiffusionGenerator

    return DiffusionGenerator(model, device=device, dtype=dtype, low_memory=low_memory)


def _size(size: str | None) -> int | tuple[int, int] | None:
    if size is None:
        return None
    sides = size.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(f"--size is a side, 512, or width and height, 768x512; got {size!r}.")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _told(picture: Picture) -> str:
    return f"seed {picture.seed}" if picture.score is None else f"seed {picture.seed}, {picture.score:.2f}"


def _report(made: Sequence[tuple[Picture, str]], *, as_json: bool) -> None:
    if as_json:
        told = [{"file": source, "seconds": picture.seconds, **picture.parameters()} for picture, source in made]
        output.document(told)
        return
    rows = [
        [
            source,
            str(picture.seed),
            "" if picture.score is None else f"{picture.score:.3f}",
            f"{picture.alignment[0]:.2f} to {picture.alignment[-1]:.2f}" if picture.alignment else "",
            f"{picture.seconds:.1f} s",
            "flagged by the model's safety checker" if picture.flagged else "",
        ]
        for picture, source in made
    ]
    output.table(["file", "seed", "score", "alignment", "took", ""], rows)


@contextmanager
def _bar(pictures: int) -> Iterator[Callable[[int, Step], None]]:
    """A bar on stderr over the steps of all pictures, where that is a terminal."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("Generating"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)

        def show(before: int, step: Step) -> None:
            done = (before + step.picture - 1) * step.steps + step.step
            bar.update(task, total=pictures * step.steps, completed=done)

        yield show
