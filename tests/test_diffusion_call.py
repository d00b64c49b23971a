"""What else a pipeline takes, and how it tells where it is: PixArt and Flux Kontext beside Stable Diffusion."""

import logging
import os
import subprocess
import sys

import diffusers
import pytest
import torch
from diffusers.callbacks import PipelineCallback
from PIL import Image

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.diffusion import DiffusionGenerator
from clip_qdrant.models.diffusion_call import Step
from tests import pipelines
from tests.pipelines import PROMPT, SEED, SIDE

pytestmark = pipelines.MARKS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return pipelines.make(tmp_path_factory.mktemp("pipelines"), "sd", "sd3", "kontext", "pixart")


@pytest.fixture(scope="module")
def generator(folders):
    return DiffusionGenerator(folders["sd"], device="cpu", steps=3)


def test_what_else_a_pipeline_takes_reaches_it(generator, folders):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folders["sd"])
    rng = torch.Generator("cpu").manual_seed(SEED)
    expected = pipeline(PROMPT, num_inference_steps=3, generator=rng, guidance_rescale=0.7).images[0]
    made = generator.generate(PROMPT, seed=SEED, guidance_rescale=0.7)[0].image
    assert made.tobytes() == expected.tobytes()
    assert made.tobytes() != generator.generate(PROMPT, seed=SEED)[0].image.tobytes()


def test_a_callback_of_diffusers_changes_what_it_is_shown_and_progress_is_told_after_it(generator):
    seen = []

    class Darker(PipelineCallback):
        tensor_inputs = ("latents", "prompt_embeds")

        def callback_fn(self, pipeline, index, timestep, state):
            seen.append(sorted(state))
            return {**state, "latents": state["latents"] * 0.5}

    bare, alone, both = (
        generator.generate(PROMPT, seed=SEED, **more)[0].image.tobytes()
        for more in (
            {},
            {"callback_on_step_end": Darker()},
            {"callback_on_step_end": Darker(), "progress": seen.append},
        )
    )
    assert alone == both != bare
    shown = ["latents", "prompt_embeds"]
    assert seen == [shown] * 3 + [one for step in (1, 2, 3) for one in (shown, Step(1, 1, step, 3))]


def test_a_pipeline_with_an_old_callback_tells_its_steps_and_can_be_stopped(folders):
    generator = DiffusionGenerator(folders["pixart"], device="cpu", steps=3)
    seen = []

    def stop(step):
        seen.append(step)
        if len(seen) == 5:
            raise KeyboardInterrupt

    bare = generator.generate(PROMPT, seed=SEED, size=SIDE, use_resolution_binning=False)[0]
    with pytest.raises(KeyboardInterrupt):
        generator.generate(PROMPT, seed=SEED, count=2, size=SIDE, use_resolution_binning=False, progress=stop)
    assert seen == [Step(1, 2, step, 3) for step in (1, 2, 3)] + [Step(2, 2, step, 3) for step in (1, 2)]
    again = generator.generate(PROMPT, seed=SEED, size=SIDE, use_resolution_binning=False)[0]
    assert again.image.tobytes() == bare.image.tobytes()


def test_an_edit_needs_no_strength_where_the_model_takes_none(folders, generator):
    kontext = DiffusionGenerator(folders["kontext"], device="cpu", steps=2)
    source, small = Image.new("RGB", (SIDE, SIDE), "red"), {"max_area": SIDE**2, "_auto_resize": False}
    made = kontext.edit(source, PROMPT, seed=SEED, **small)[0]
    assert made.strength is None and made.image.size == (SIDE, SIDE)
    assert made.image.tobytes() != kontext.edit(Image.new("RGB", (SIDE, SIDE)), PROMPT, seed=SEED, **small)[0].image
    with pytest.raises(ConfigError, match="takes no strength"):
        kontext.edit(source, PROMPT, strength=0.5, **small)
    assert generator.edit(source, PROMPT)[0].strength == 0.6


@pytest.mark.parametrize(("name", "limit", "words"), [("sd3", 256, 300), ("pixart", 120, 130)])
def test_the_limit_is_the_pipelines_where_the_tokenizer_takes_more(folders, caplog, name, limit, words):
    generator = DiffusionGenerator(folders[name], device="cpu", steps=1)
    more = {"use_resolution_binning": False} if name == "pixart" else {}
    with caplog.at_level(logging.WARNING):
        generator.generate("a " * (limit // 2 - 10), size=SIDE, **more)
        assert caplog.records == []
        generator.generate("a " * words, size=SIDE, **more)
    (record,) = caplog.records
    assert f"longer than the {limit} tokens" in record.message


def test_a_long_negative_prompt_is_told_too(folders, caplog):
    generator = DiffusionGenerator(folders["sd"], device="cpu", steps=1)
    with caplog.at_level(logging.WARNING):
        generator.generate("cat", negative="dog " * 200)
    assert "'dog dog" in caplog.records[0].message


@pytest.mark.parametrize("name", ["LCMScheduler", "TCDScheduler"])
def test_the_schedulers_of_few_steps_are_used(folders, name):
    few = DiffusionGenerator(folders["sd"], device="cpu", scheduler=name, steps=2, guidance=0.0)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folders["sd"])
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
    rng = torch.Generator("cpu").manual_seed(SEED)
    expected = pipeline(PROMPT, num_inference_steps=2, guidance_scale=0.0, generator=rng).images[0]
    assert few.generate(PROMPT, seed=SEED)[0].image.tobytes() == expected.tobytes()


def test_a_scheduler_that_cannot_follow_a_flow_is_refused_when_loading():
    for name in ("DDIMScheduler", "EulerDiscreteScheduler", "LCMScheduler"):
        with pytest.raises(ConfigError, match=rf"no scheduler '{name}'.*UniPCMultistepScheduler"):
            DiffusionGenerator("pocket", device="cpu", scheduler=name)
    assert DiffusionGenerator("pocket", device="cpu", scheduler="UniPCMultistepScheduler", steps=2).generate("a cat")


@pytest.mark.parametrize("given", [{"steps": 0}, {"guidance": float("inf")}])
def test_numbers_that_cannot_be_are_refused_before_a_model_is_loaded(given):
    with pytest.raises(ConfigError, match=f"{next(iter(given))} must be"):
        DiffusionGenerator("no/such/folder", **given)


def test_an_edit_of_any_shape_has_a_size_that_the_model_takes():
    generator = DiffusionGenerator("pocket", device="cpu", steps=2)
    for size in ((300, 200), (70, 100), (1, 1)):
        mask = Image.new("L", size, 255)
        made = generator.edit(Image.new("RGB", size, "red"), "a cat", mask=mask, strength=1.0)[0]
        assert made.image.width % 8 == made.image.height % 8 == 0


def test_a_pipeline_that_does_not_say_its_sizes_is_asked_for_none(generator, monkeypatch):
    monkeypatch.delattr(generator.pipeline, "vae_scale_factor")
    with pytest.raises(
        ConfigError, match=r"StableDiffusionPipeline does not say what sizes it makes.*Leave the size out"
    ):
        generator.generate(PROMPT, size=32)


def test_loading_says_nothing(folders):
    code = f"from clip_qdrant import DiffusionGenerator; DiffusionGenerator({str(folders['sd'])!r}, device='cpu')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, check=True
    )
    assert done.stdout == done.stderr == b""
