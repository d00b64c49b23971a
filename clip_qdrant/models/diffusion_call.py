"""How one of diffusers' pipelines is called: which arguments it takes, and how it tells where it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clip_qdrant.errors import ConfigError

_OURS = {
    "negative_prompt": "negative",
    "num_images_per_prompt": "count",
    "generator": "seed",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "width": "size",
    "height": "size",
    "mask_image": "mask",
    "output_type": "Picture.image",
    "return_dict": "Picture",
    "callback": "progress",
}
"""What diffusers calls what a generator decides itself -> what it is here."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a generator is.

    Attributes:
        picture: which of the pictures, from 1.
        pictures: how many there will be.
        step: how many steps of this picture are done.
        steps: how many it takes.
    """

    picture: int
    pictures: int
    step: int
    steps: int


def takes(pipeline: Any, name: str) -> bool:
    """Whether a pipeline knows an argument."""
    return name in _parameters(pipeline)


def own_number(pipeline: Any, name: str) -> int | None:
    """The number that a pipeline takes for an argument where nothing is said, or None where it has none."""
    default = _parameters(pipeline)[name].default if takes(pipeline, name) else None
    return default if isinstance(default, int) else None


def accepted(pipeline: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a pipeline knows; what it takes from the picture itself, its size, is left out.

    Raises:
        ConfigError: an argument that it does not know.
    """
    said = {name: value for name, value in given.items() if value is not None}
    unknown = [name for name in said if not takes(pipeline, name) and name not in ("width", "height")]
    if unknown:
        raise ConfigError(f"{type(pipeline).__name__} takes no {', '.join(sorted(unknown))}. Leave it out.")
    return {name: value for name, value in said.items() if takes(pipeline, name)}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse diffusers' names of what has another name here.

    Raises:
        ConfigError: there is one.
    """
    for name in options:
        if name in _OURS:
            raise ConfigError(f"What diffusers calls {name} is {_OURS[name]} here. Use that.")


def telling(
    pipeline: Any, given: Mapping[str, Any], progress: Callable[[Step], object], picture: int, pictures: int
) -> dict[str, Any]:
    """The arguments by which a pipeline tells of each step, after a callback that was given of one's own."""

    def tell(of: Any, index: int) -> None:
        steps = getattr(of, "num_timesteps", None) or len(of.scheduler.timesteps)
        progress(Step(picture, pictures, index + 1, int(steps)))

    if not takes(pipeline, "callback_on_step_end"):  # PixArt and other pipelines of before
        return {"callback": lambda index, timestep, latents: tell(pipeline, index)}
    own = given.get("callback_on_step_end")

    def after_step(of: Any, index: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = state if own is None else own(of, index, timestep, state)
        tell(of, index)
        return found

    more: dict[str, Any] = {"callback_on_step_end": after_step}
    if own is not None and hasattr(own, "tensor_inputs"):  # diffusers' PipelineCallback says itself what it is shown
        more["callback_on_step_end_tensor_inputs"] = own.tensor_inputs
    return more


def _parameters(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(pipeline.__call__).parameters
