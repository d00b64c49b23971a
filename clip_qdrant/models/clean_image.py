"""What a denoiser's output says about the clean image, for every family of diffusers' schedulers, and back.

A noisy sample x is a * clean + s * noise. What the network gives is one of four things, of which the clean image
follows: the noise (epsilon; Ho et al., 2020), the velocity (v; Salimans and Ho, 2022), the flow (Lipman et al., 2023),
or the clean image itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from clip_qdrant.errors import ModelFormatError

if TYPE_CHECKING:
    from torch import Tensor

    Kind = Literal["epsilon", "v_prediction", "flow", "sample"]

_FLOWS = ("flow_prediction", "flow")


@dataclass(frozen=True, slots=True)
class Noise:
    """How noisy a sample is at a step.

    Attributes:
        kind: what the network gives.
        image: a, the share of the clean image.
        noise: s, the share of the noise.
        exploding: whether the sample is the clean image with noise on top (a is 1), and the network sees it scaled
            down; v then belongs to the scaled one (Karras et al., 2022).
    """

    kind: Kind
    image: float
    noise: float
    exploding: bool = False

    def clean(self, sample: Tensor, output: Tensor) -> Tensor:
        """The clean image that an output means."""
        length = (self.noise**2 + 1) ** 0.5
        found: Tensor
        if self.kind == "sample":
            found = output
        elif self.kind == "epsilon":
            found = (sample - self.noise * output) / self.image
        elif self.kind == "flow":
            found = sample - self.noise * output
        elif self.exploding:
            found = sample / length**2 - output * (self.noise / length)
        else:
            found = self.image * sample - self.noise * output
        return found

    def output(self, sample: Tensor, clean: Tensor) -> Tensor:
        """The output that means a clean image."""
        length = (self.noise**2 + 1) ** 0.5
        found: Tensor
        if self.kind == "sample":
            found = clean
        elif self.kind == "epsilon":
            found = (sample - self.image * clean) / self.noise
        elif self.kind == "flow":
            found = (sample - clean) / self.noise
        elif self.exploding:
            found = (sample / length**2 - clean) * (length / self.noise)
        else:
            found = (self.image * sample - clean) / self.noise
        return found


def noise_at(scheduler: Any, timestep: Any) -> Noise:
    """How noisy the sample is that a scheduler's `step` is about to be given.

    Args:
        scheduler: one of diffusers', its timesteps set.
        timestep: the one that `step` is called with.

    Raises:
        ModelFormatError: a scheduler of a family that is not known here.
    """
    kind = getattr(scheduler.config, "prediction_type", None)
    if hasattr(scheduler, "sigmas_interpol") or "sigma_data" in scheduler.config or "SDE" in type(scheduler).__name__:
        raise _unknown(scheduler)
    if getattr(scheduler, "sigmas", None) is not None and hasattr(scheduler, "_init_step_index"):
        if scheduler.step_index is None:
            scheduler._init_step_index(timestep)  # as `step` itself is about to
        sigma = float(scheduler.sigmas[scheduler.step_index])
        if kind is None or type(scheduler).__name__.startswith("FlowMatch"):
            return Noise("flow", 1 - sigma, sigma)
        split: Callable[[Any], Any] | None = getattr(scheduler, "_sigma_to_alpha_sigma_t", None)
        if split is None:
            return Noise(_known(scheduler, kind), 1.0, sigma, exploding=True)
        image, noise = split(scheduler.sigmas[scheduler.step_index])
        return Noise(_known(scheduler, kind), float(image), float(noise))
    if getattr(scheduler, "alphas_cumprod", None) is not None:
        share = float(scheduler.alphas_cumprod[int(timestep)])
        return Noise(_known(scheduler, kind), share**0.5, (1 - share) ** 0.5)
    raise _unknown(scheduler)


def _unknown(scheduler: Any) -> ModelFormatError:
    return ModelFormatError(
        f"How noisy a sample of {type(scheduler).__name__} is, is not known here, so that nothing can be pulled. Use "
        "a DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler or FlowMatchEulerDiscreteScheduler."
    )


def _known(scheduler: Any, kind: Any) -> Kind:
    if kind in _FLOWS:
        return "flow"
    if kind in ("epsilon", "v_prediction", "sample"):
        known: Kind = kind
        return known
    raise ModelFormatError(f"{type(scheduler).__name__} predicts {kind!r}, of which no clean image is known to follow.")
