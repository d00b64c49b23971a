"""The clean image that a denoiser's output means, against the schedulers' own arithmetic."""

import diffusers
import pytest
import torch

from clip_qdrant.errors import ModelFormatError
from clip_qdrant.models.clean_image import noise_at

pytestmark = [
    # Diffusers' schedulers give tensors to numpy.
    pytest.mark.filterwarnings(f"ignore:{name}:DeprecationWarning")
    for name in ("__array__ implementation doesn't accept a copy", "__array_wrap__ must accept context")
]

VARIANCE_KEEPING = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler")
EXPLODING = tuple(f"{name}DiscreteScheduler" for name in ("Euler", "EulerAncestral", "Heun", "LMS"))
SOLVERS = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")
CASES = [
    *((name, kind) for name in VARIANCE_KEEPING for kind in ("epsilon", "v_prediction")),
    *((name, kind) for name in EXPLODING for kind in ("epsilon", "v_prediction")),
    *((name, kind) for name in SOLVERS for kind in ("epsilon", "v_prediction", "flow_prediction", "sample")),
    ("DDIMScheduler", "sample"),
    ("FlowMatchEulerDiscreteScheduler", "flow"),
]


@pytest.fixture
def pair():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(1, 4, 8, 8, generator=rng), torch.randn(1, 4, 8, 8, generator=rng)


def made(name, kind):
    settings = {} if name.startswith("FlowMatch") else {"prediction_type": kind}
    if kind == "flow_prediction":
        settings["use_flow_sigmas"] = True
    scheduler = getattr(diffusers, name)(**settings)
    scheduler.set_timesteps(10)
    return scheduler


def noisy(scheduler, image, noise, timestep):
    times = timestep[None]
    if hasattr(scheduler, "scale_noise"):
        return scheduler.scale_noise(image, times, noise)
    return scheduler.add_noise(image, noise, times)


def output_of(kind, name, image, noise, sample):
    """What a network that knew everything would give."""
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return image
    if kind.startswith("flow"):
        return noise - image
    if name in EXPLODING:  # by the sample as the network sees it
        sigma = ((sample - image) / noise).mean()
        length = (sigma**2 + 1) ** 0.5
        return noise / length - image * sigma / length
    share = ((sample * image).mean() * (noise**2).mean() - (sample * noise).mean() * (image * noise).mean()) / (
        (image**2).mean() * (noise**2).mean() - (image * noise).mean() ** 2
    )
    return share * noise - (1 - share**2) ** 0.5 * image


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("at", [0, 4, 9])
def test_a_perfect_output_means_the_image_that_was_noised(name, kind, at, pair):
    scheduler, (image, noise) = made(name, kind), pair
    timestep = scheduler.timesteps[at]
    sample = noisy(scheduler, image, noise, timestep)
    output = output_of(kind, name, image, noise, sample)
    known = noise_at(scheduler, timestep)
    tolerance = 2e-2 if kind == "epsilon" and known.image < 0.1 else 2e-3  # which divides by the share of the image
    assert torch.allclose(known.clean(sample, output), image, atol=tolerance)
    assert torch.allclose(known.output(sample, known.clean(sample, output)), output, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "kind"), [case for case in CASES if case[0] in (*VARIANCE_KEEPING[:2], *EXPLODING[:2])]
)
def test_it_is_what_the_scheduler_itself_computes(name, kind, pair):
    scheduler, (sample, output) = made(name, kind), pair
    if hasattr(scheduler.config, "clip_sample"):
        scheduler.register_to_config(clip_sample=False)
    timestep = scheduler.timesteps[5]
    known = noise_at(scheduler, timestep)
    own = scheduler.step(output, timestep, sample).pred_original_sample
    assert torch.allclose(known.clean(sample, output), own, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if case[0] in SOLVERS[:2]])
def test_it_is_what_a_solver_itself_computes(name, kind, pair):
    scheduler, (sample, output) = made(name, kind), pair
    known = noise_at(scheduler, scheduler.timesteps[5])
    own = scheduler.convert_model_output(output, sample=sample)
    assert torch.allclose(known.clean(sample, output), own, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["KDPM2DiscreteScheduler", "EDMEulerScheduler", "ScoreSdeVeScheduler"])
def test_a_scheduler_that_is_not_known_is_refused_with_those_that_are(name):
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(4)
    with pytest.raises(ModelFormatError, match=f"{name}.*DDIMScheduler"):
        noise_at(scheduler, scheduler.timesteps[0])
