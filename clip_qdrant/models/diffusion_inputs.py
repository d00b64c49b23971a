"""What a generator is asked for, checked before any work is done."""

from __future__ import annotations

from math import isfinite, lcm
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError
from clip_qdrant.images import open_image
from clip_qdrant.models.diffusion_call import own_number

if TYPE_CHECKING:
    from PIL.Image import Image

    from clip_qdrant.types import ImageSource

_LONGEST_SIDE = 4096
_UNLIMITED = 1 << 20
"""From here on a tokenizer means that it knows no limit."""
_SHAPE_TOLERANCE = 0.02
_WHITE = 128
"""From here on a pixel of a mask is repainted, as diffusers has it."""


def check_prompts(prompt: Any, negative: Any) -> None:
    """Refuse what is no text, or a blank one; a negative one may be blank or missing.

    Raises:
        ConfigError: it is.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigError(f"The prompt is a text that says what the picture should show, got {prompt!r}.")
    if negative is not None and not isinstance(negative, str):
        raise ConfigError(f"The negative prompt is a text that says what it should not show, got {negative!r}.")


def check_numbers(count: Any, seed: Any, steps: Any, guidance: Any) -> None:
    """Refuse numbers of pictures, seeds, numbers of steps and guidance that cannot be.

    Raises:
        ConfigError: they are.
    """
    if not isinstance(count, int) or count < 1:
        raise ConfigError(f"count must be a whole number of at least 1, got {count!r}.")
    if seed is not None and (not isinstance(seed, int) or not 0 <= seed < 2**63 - count):
        raise ConfigError(f"seed must be a whole number from 0 to below 2**63, got {seed!r}.")
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ConfigError(f"steps must be a whole number of at least 1, got {steps!r}.")
    if guidance is not None and (not isinstance(guidance, (int, float)) or not isfinite(guidance)):
        raise ConfigError(f"guidance must be a number, got {guidance!r}.")


def size_of(pipeline: Any, size: int | tuple[int, int]) -> tuple[int, int]:
    """A side, or (width, height), as (width, height).

    Raises:
        ConfigError: sides that the model cannot make.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise ConfigError(f"size is a side or (width, height), in whole pixels, got {size!r}.")
    width, height = sides
    step = _multiple(pipeline)
    if any(side % step or not 0 < side <= _LONGEST_SIDE for side in sides):
        raise ConfigError(
            f"This model makes pictures whose sides are multiples of {step}, up to {_LONGEST_SIDE}, got "
            f"{width} x {height}. Its own side is {native_side(pipeline)}."
        )
    return width, height


def fitted(pipeline: Any, size: tuple[int, int]) -> tuple[int, int]:
    """The width and height nearest in shape to a picture's, with about as many pixels as the model is good at."""
    step, (width, height) = _multiple(pipeline), size
    scale = native_side(pipeline) / (width * height) ** 0.5
    across, down = (min(max(step, round(side * scale / step) * step), _LONGEST_SIDE) for side in (width, height))
    return across, down


def mask_of(mask: ImageSource, shape: tuple[int, int], size: tuple[int, int]) -> Image:
    """A mask, white where to repaint, at the size of the picture that the model gets.

    Args:
        mask: whatever `open_image` opens.
        shape: width and height of the picture it belongs to.
        size: what that picture is resized to.

    Raises:
        ImageError: it cannot be opened.
        ConfigError: it has another shape, or nothing to repaint.
    """
    opened = open_image(mask).convert("L")
    ratio = (opened.width / opened.height) / (shape[0] / shape[1])
    if abs(ratio - 1) > _SHAPE_TOLERANCE:
        raise ConfigError(f"The mask is {opened.width} x {opened.height}, of another shape than the picture's {shape}.")
    resized = opened.resize(size)
    if max(resized.tobytes()) < _WHITE:
        raise ConfigError("The mask has nothing to repaint: make it white there.")
    return resized


def longest_prompt(pipeline: Any, prompt: str, limit: int | None = None) -> int | None:
    """How many tokens the text encoder that takes most takes, where a prompt has more; else None.

    Args:
        pipeline: one of diffusers'.
        prompt: what it gets.
        limit: its `max_sequence_length`, where one is given; its own if None.
    """
    limit = limit or own_number(pipeline, "max_sequence_length") or _UNLIMITED
    parts = pipeline.components
    takes = {
        part: min(part.model_max_length, limit)
        for name, part in parts.items()
        if hasattr(part, "model_max_length") and parts.get(name.replace("tokenizer", "text_encoder")) is not None
    }
    if not takes or max(takes.values()) >= _UNLIMITED:
        return None
    tokenizer = max(takes, key=lambda part: takes[part])
    return takes[tokenizer] if len(tokenizer(prompt, verbose=False).input_ids) > takes[tokenizer] else None


def _multiple(pipeline: Any) -> int:
    """Of what the sides must be multiples: the autoencoder's factor, and what the pipelines themselves insist on."""
    factor = getattr(pipeline, "vae_scale_factor", None)
    if factor is None:
        raise ConfigError(
            f"{type(pipeline).__name__} does not say what sizes it makes: it takes none, and edits nothing. Leave the "
            "size out."
        )
    # Two latents a patch of a transformer; 8 pixels with a U-Net, however small the factor.
    return int(factor) * 2 if getattr(pipeline, "transformer", None) is not None else lcm(int(factor), 8)


def native_side(pipeline: Any) -> int:
    """The side of the pictures that the model is good at."""
    denoiser: Any = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    side = getattr(pipeline, "default_sample_size", None) or denoiser.config.sample_size
    return int(max(side) if isinstance(side, (list, tuple)) else side) * int(pipeline.vae_scale_factor)
