"""What a generator made, and how; as a PNG that tells it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ImageDecodeError, ImageNotFoundError

if TYPE_CHECKING:
    from PIL.Image import Image

_KEY = "clip-qdrant"
"""The PNG's text chunk."""

_UNTOLD = ("image", "seconds")
"""Not in a PNG: the same picture, made again, is the same file."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a `DiffusionGenerator` made; a `Generated`.

    Attributes:
        image: RGB.
        prompt: what was asked for.
        seed: that makes it again, with the same model, machine and settings.
        model: the name of the model.
        steps: how many there were.
        guidance: how much the prompt counted (classifier-free guidance; Ho and Salimans, 2022), or None for the
            pipeline's own number.
        negative: what it should not show, or None.
        strength: how much of another picture could change, or None for one that is made of words alone.
        scheduler: diffusers' name of the scheduler.
        seconds: how long it took.
        flagged: what the model's safety checker said, or None where the model has none. A flagged picture is black.
        alignment: after each step the cosine of what the picture was going to be with the target of its `ClipGuide`;
            empty without one.
        score: the cosine that `best_of` ranked it by, or None.
    """

    image: Image
    prompt: str
    seed: int
    model: str
    steps: int
    guidance: float | None
    negative: str | None
    strength: float | None
    scheduler: str
    seconds: float
    flagged: bool | None = None
    alignment: tuple[float, ...] = ()
    score: float | None = None

    def png(self) -> bytes:
        """The picture as a PNG with all of this but the time in it; see `read_parameters`."""
        from PIL.PngImagePlugin import PngInfo

        told = PngInfo()
        told.add_itxt(_KEY, json.dumps(self.parameters(), ensure_ascii=False, sort_keys=True))
        file = BytesIO()
        self.image.save(file, "PNG", pnginfo=told)
        return file.getvalue()

    def parameters(self) -> dict[str, Any]:
        """How it was made, in plain JSON types."""
        return {name: value for name, value in _fields(self).items() if name not in _UNTOLD and value not in (None, ())}


def read_parameters(path: str | Path) -> dict[str, Any] | None:
    """How a PNG of ours was made, or None for a picture that does not say.

    Raises:
        ImageNotFoundError: no such file.
        ImageDecodeError: it is no picture, or what it says of itself is broken.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(Path(path).expanduser()) as image:
            image.load()  # the text may stand behind the pixels
            told = getattr(image, "text", {}).get(_KEY)
        return None if told is None else dict(json.loads(told))
    except FileNotFoundError as error:
        raise ImageNotFoundError(str(path), "no such file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, TypeError) as error:
        raise ImageDecodeError(str(path), f"it is not a whole picture ({error})") from error


def _fields(picture: Picture) -> dict[str, Any]:
    return {**asdict(picture), "alignment": tuple(round(one, 4) for one in picture.alignment)}
