"""`DiffusionGenerator` against diffusers called directly, for Stable Diffusion 1.x, SDXL, SD 3 and Flux."""

import logging
import shutil
import sys

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from clip_qdrant.errors import (
    ConfigError,
    ImageNotFoundError,
    MissingDependencyError,
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
)
from clip_qdrant.models.diffusion import DiffusionGenerator, Step
from clip_qdrant.models.picture import read_parameters
from clip_qdrant.types import Generated, ImageGenerator
from tests import pipelines
from tests.pipelines import PROMPT, SEED, SIDE

pytestmark = pipelines.MARKS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {
        **pipelines.make(root, "sd", "sdxl", "sd3", "flux"),
        "checked": pipelines.make_sd(root / "checked", checker=True),
    }


@pytest.fixture(scope="module", params=["sd", "sdxl", "sd3", "flux"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def generators(folders):
    return {name: DiffusionGenerator(folder, device="cpu", steps=3) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def generator(generators):
    return generators["sd"]


@pytest.fixture(scope="module")
def source():
    """A picture of another size than the models'."""
    across, down = np.meshgrid(np.linspace(0, 1, 48), np.linspace(0, 1, 48))
    return Image.fromarray((np.stack([across, down, across * down], -1) * 255).astype(np.uint8))


@pytest.fixture(scope="module")
def mask():
    made = Image.new("L", (48, 48), 0)
    made.paste(255, (0, 0, 24, 48))
    return made


def direct(folder, task, **given):
    """What diffusers gives, without any of our code."""
    auto = getattr(diffusers, f"AutoPipelineFor{task}")
    pipeline = auto.from_pretrained(folder, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    rng = torch.Generator("cpu").manual_seed(SEED)
    return pipeline(PROMPT, num_inference_steps=3, generator=rng, **given).images[0]


def test_text_to_image_is_diffusers_own_to_the_bit(generators, folders, family):
    made = generators[family].generate(PROMPT, seed=SEED, guidance=4.0, size=SIDE)[0]
    expected = direct(folders[family], "Text2Image", guidance_scale=4.0, width=SIDE, height=SIDE)
    assert made.image.tobytes() == expected.tobytes()


def test_image_to_image_is_diffusers_own_to_the_bit(generators, folders, family, source):
    made = generators[family].edit(source, PROMPT, strength=0.7, seed=SEED, size=SIDE)[0]
    given = {"width": SIDE, "height": SIDE} if family in ("sd3", "flux") else {}
    expected = direct(folders[family], "Image2Image", image=source.resize((SIDE, SIDE)), strength=0.7, **given)
    assert made.image.tobytes() == expected.tobytes()


def test_inpainting_is_diffusers_own_to_the_bit(generators, folders, family, source, mask):
    made = generators[family].edit(source, PROMPT, mask=mask, keep=False, strength=1.0, seed=SEED, size=SIDE)[0]
    expected = direct(
        folders[family],
        "Inpainting",
        image=source.resize((SIDE, SIDE)),
        mask_image=mask.resize((SIDE, SIDE)),
        strength=1.0,
        width=SIDE,
        height=SIDE,
    )
    assert made.image.tobytes() == expected.tobytes()


def test_what_is_black_in_the_mask_stays_pixel_for_pixel(generator, source, mask):
    whole = generator.edit(source, PROMPT, mask=mask, keep=False, strength=1.0, seed=SEED)[0]
    kept = generator.edit(source, PROMPT, mask=mask, strength=1.0, seed=SEED)[0]
    before, made, found = (np.asarray(one) for one in (source.resize((SIDE, SIDE)), whole.image, kept.image))
    half = SIDE // 2
    assert (found[:, half + 1 :] == before[:, half + 1 :]).all()  # between the two the resized mask is gray
    assert (found[:, : half - 1] == made[:, : half - 1]).all()
    assert (made[:, half + 1 :] != before[:, half + 1 :]).any()


def test_arguments_reach_the_pipeline(generator, folders):
    made = generator.generate(PROMPT, negative="a dog", seed=SEED, guidance=9.0, size=(64, 48))[0]
    expected = direct(folders["sd"], "Text2Image", negative_prompt="a dog", guidance_scale=9.0, width=64, height=48)
    assert made.image.tobytes() == expected.tobytes()
    assert made.image.size == (64, 48)


@pytest.mark.parametrize(("name", "steps"), [("sd", 50), ("flux", 28)])
def test_steps_are_the_pipelines_own_where_nothing_is_said(folders, name, steps):
    generator = DiffusionGenerator(folders[name], device="cpu")
    assert generator.generate(PROMPT, seed=SEED, size=SIDE)[0].steps == steps


def test_a_scheduler_of_another_name_is_used(folders):
    made = DiffusionGenerator(folders["sd"], device="cpu", scheduler="EulerDiscreteScheduler", steps=3)
    plain = DiffusionGenerator(folders["sd"], device="cpu", steps=3)
    pictures = [one.generate(PROMPT, seed=SEED)[0] for one in (made, plain)]
    assert [one.scheduler for one in pictures] == ["EulerDiscreteScheduler", "DDIMScheduler"]
    assert pictures[0].image.tobytes() != pictures[1].image.tobytes()
    with pytest.raises(ConfigError, match=r"no scheduler 'NoSuchScheduler'.*DDIMScheduler"):
        DiffusionGenerator(folders["sd"], device="cpu", scheduler="NoSuchScheduler")


def test_a_seed_gives_the_same_picture_however_many_are_asked_for(generator):
    many = generator.generate(PROMPT, count=3, seed=SEED)
    assert [one.seed for one in many] == [7, 8, 9]
    assert len({one.image.tobytes() for one in many}) == 3
    for one in many:
        assert generator.generate(PROMPT, seed=one.seed)[0].image.tobytes() == one.image.tobytes()


def test_without_a_seed_chance_gives_one_that_makes_it_again(generator):
    first, second = (generator.generate(PROMPT)[0] for _ in range(2))
    assert first.seed != second.seed
    assert generator.generate(PROMPT, seed=first.seed)[0].image.tobytes() == first.image.tobytes()


def test_a_picture_says_how_it_was_made(generator, tmp_path):
    made = generator.edit(
        Image.new("RGB", (32, 32), "red"), "ein Fuß, 足", negative="no", strength=0.7, seed=3, guidance=2.0
    )[0]
    assert isinstance(made, Generated)
    (tmp_path / "made.png").write_bytes(made.png())
    told = read_parameters(tmp_path / "made.png")
    assert told == {
        "prompt": "ein Fuß, 足",
        "negative": "no",
        "strength": 0.7,
        "seed": 3,
        "guidance": 2.0,
        "steps": 3,
        "scheduler": "DDIMScheduler",
        "model": generator.model,
    }
    with Image.open(tmp_path / "made.png") as again:
        assert again.convert("RGB").tobytes() == made.image.tobytes()
    assert made.seconds > 0
    again = generator.edit(
        Image.new("RGB", (32, 32), "red"), "ein Fuß, 足", negative="no", strength=0.7, seed=3, guidance=2.0
    )[0]
    assert again.png() == made.png()  # the time it took is no part of it


def test_parameters_of_other_files(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.jpg")
    assert read_parameters(tmp_path / "plain.png") is None
    assert read_parameters(tmp_path / "plain.jpg") is None
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(ImageNotFoundError):
        read_parameters(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="not a whole picture"):
        read_parameters(tmp_path / "no.png")


def test_progress_is_told_step_by_step(generator, source):
    seen = []
    generator.generate(PROMPT, count=2, progress=seen.append)
    assert seen == [Step(picture, 2, step, 3) for picture in (1, 2) for step in (1, 2, 3)]
    seen.clear()
    generator.edit(source, PROMPT, strength=0.7, progress=seen.append)
    assert seen == [Step(1, 1, step, 2) for step in (1, 2)]  # an edit takes the last part of the steps


def test_what_progress_raises_ends_the_work_and_the_generator_stays_usable(generator):
    class Enough(Exception):
        pass

    seen = []

    def stop(step):
        seen.append(step)
        if step.step == 2:
            raise Enough

    before = generator.generate(PROMPT, seed=SEED)[0]
    with pytest.raises(Enough):
        generator.generate(PROMPT, count=3, seed=SEED, progress=stop)
    assert len(seen) == 2
    assert generator.generate(PROMPT, seed=SEED)[0].image.tobytes() == before.image.tobytes()


def test_the_safety_checker_stays_on_and_its_verdict_is_told(generators):
    flagged = generators["checked"].generate(PROMPT, seed=SEED)[0]
    assert flagged.flagged is True
    assert not np.asarray(flagged.image).any()
    assert generators["sd"].generate(PROMPT, seed=SEED)[0].flagged is None


def test_a_long_prompt_is_cut_with_one_warning(folders, caplog):
    generator = DiffusionGenerator(folders["sd"], device="cpu", steps=1)
    with caplog.at_level(logging.WARNING):
        long = generator.generate("cat " * 200, seed=1)[0]
        longer = generator.generate("cat " * 300, seed=1)[0]
        generator.generate("cat", seed=1)
    (record,) = caplog.records
    assert "is longer than the 77 tokens that" in record.message and generator.model in record.message
    assert long.image.tobytes() == longer.image.tobytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": " "}, "prompt is a text"),
        ({"prompt": None}, "prompt is a text"),
        ({"count": 0}, "count must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1.5}, "seed must be"),
        ({"steps": 0}, "steps must be"),
        ({"size": 33}, "multiples of 8, up to 4096, got 33 x 33. Its own side is 32"),
        ({"size": (32, 0)}, "multiples of 8"),
        ({"size": 8192}, "up to 4096"),
        ({"size": 12}, "multiples of 8"),
        ({"size": (32,)}, "size is a side or"),
        ({"size": "32"}, "size is a side or"),
        ({"guidance": float("nan")}, "guidance must be a number"),
        ({"negative": 3}, "negative prompt is a text"),
        ({"num_inference_steps": 3}, "calls num_inference_steps is steps here"),
        ({"no_such_thing": 3}, "StableDiffusionPipeline takes no no_such_thing"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(generator, given, message, monkeypatch):
    monkeypatch.setattr(generator.pipeline.unet, "forward", lambda *a, **k: pytest.fail("work was done"))
    with pytest.raises(ConfigError, match=message):
        generator.generate(**{"prompt": PROMPT, **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strength": 0}, "above 0 and at most 1"),
        ({"strength": 1.2}, "above 0 and at most 1"),
        ({"strength": 0.1}, "leave no step"),
        ({"mask": Image.new("L", (48, 20), 255)}, "of another shape"),
        ({"mask": Image.new("L", (96, 96), 100)}, "nothing to repaint"),
        ({"size": 31}, "multiples of 8"),
    ],
)
def test_edits_that_cannot_be_are_refused(generator, source, given, message):
    with pytest.raises(ConfigError, match=message):
        generator.edit(source, PROMPT, **given)


def test_a_picture_to_edit_keeps_its_shape_at_the_models_size(generator):
    wide = generator.edit(Image.new("RGB", (400, 100), "blue"), PROMPT, seed=1, strength=0.7)[0]
    assert wide.image.size == (64, 16)
    with pytest.raises(ImageNotFoundError):
        generator.edit("no/such.png", PROMPT)


def test_an_argument_that_a_pipeline_does_not_take_is_named(generator, monkeypatch):
    pipeline = type(generator.pipeline)
    known = pipeline.__call__

    def without_negative(self, prompt, num_inference_steps, generator, output_type, guidance_scale=1.0):
        return known(self, prompt, num_inference_steps=num_inference_steps, generator=generator)

    monkeypatch.setattr(pipeline, "__call__", without_negative)
    with pytest.raises(ConfigError, match="StableDiffusionPipeline takes no negative_prompt"):
        generator.generate(PROMPT, negative="a dog")


def test_pictures_that_are_no_numbers_are_refused(generator, monkeypatch):
    decode = generator.pipeline.vae.decode
    monkeypatch.setattr(generator.pipeline.vae, "decode", lambda *a, **k: (decode(*a, **k)[0] * float("nan"),))
    with pytest.raises(ModelError, match=r"not a number. Load it with dtype='float32'"):
        generator.generate(PROMPT, seed=1)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_too_little_memory_gives_advice(generator, monkeypatch, error):
    def forward(*args, **kwargs):
        raise error

    monkeypatch.setattr(generator.pipeline.unet, "forward", forward)
    with pytest.raises(ModelError, match=r"not enough memory.*smaller size.*low_memory=True"):
        generator.generate(PROMPT)


def test_other_errors_of_the_pipeline_are_not_hidden(generator, monkeypatch):
    def forward(*args, **kwargs):
        raise RuntimeError("something else")

    monkeypatch.setattr(generator.pipeline.unet, "forward", forward)
    with pytest.raises(RuntimeError, match="something else"):
        generator.generate(PROMPT)


def test_low_memory_gives_the_same_picture(generator, folders):
    saving = DiffusionGenerator(folders["sd"], device="cpu", steps=3, low_memory=True)
    assert saving.pipeline.vae.use_slicing and saving.pipeline.vae.use_tiling
    assert saving.generate(PROMPT, seed=1)[0].image.tobytes() == generator.generate(PROMPT, seed=1)[0].image.tobytes()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("low_memory", [False, True])
def test_a_gpu_makes_nearly_the_same_picture(generator, folders, low_memory):
    there = DiffusionGenerator(folders["sd"], device="cuda", dtype="float32", steps=3, low_memory=low_memory)
    made, expected = (np.asarray(one.generate(PROMPT, seed=1)[0].image, int) for one in (there, generator))
    assert abs(made - expected).max() <= 3


def test_it_is_an_image_generator(generator):
    assert isinstance(generator, ImageGenerator)
    assert repr(generator) == f"DiffusionGenerator({generator.model!r}, device='cpu', dtype='torch.float32')"


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")  # of diffusers and the Hub's client
def test_what_is_no_generator_is_refused(folders, tmp_path):
    with pytest.raises(ConfigError, match="no name"):
        DiffusionGenerator("")
    with pytest.raises(ModelFormatError, match=r"no model_index\.json"):
        DiffusionGenerator(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelFormatError, match="from_single_file"):
        DiffusionGenerator(tmp_path / "model.safetensors")
    with pytest.raises(ModelNotFoundError, match="no Hub id"):
        DiffusionGenerator("no/such/folder")
    with pytest.raises(ModelNotFoundError, match="cannot be had from the Hub"):
        DiffusionGenerator("nobody/no-such-model", device="cpu")
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    with pytest.raises(ModelFormatError, match="must be a pipeline of diffusers"):
        DiffusionGenerator(tmp_path, device="cpu")


def test_pickles_are_not_loaded(folders, tmp_path):
    copy = shutil.copytree(folders["sd"], tmp_path / "copy")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ModelFormatError, match="with safetensors"):
        DiffusionGenerator(copy, device="cpu")


def test_without_diffusers_the_command_is_named(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'clip-qdrant\[generate\]'"):
        DiffusionGenerator(folders["sd"], device="cpu")
