"""The recipes of the generators end to end on art drawn here, and what they promise about their data."""

from __future__ import annotations

import importlib.util
import random
import re

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from clip_qdrant.errors import TrainingError
from clip_qdrant.models.training_options import TrainingOptions
from tests import pipelines
from tests.pocket_data import GENERATORS, make_data, recipe_modules

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"the recipe needs {name}: pip install {name}")
    for name in ("resvg_py", "diffusers")
] + pipelines.MARKS


@pytest.fixture(scope="module")
def recipe():
    yield from recipe_modules(GENERATORS)


@pytest.fixture(scope="module")
def drawn(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("art")
    return recipe.generated.load_drawn(make_data(folder / "data"), folder / "art")


def options(**changes):
    given = {"steps": 6, "learning_rate": 1e-3, "weight_decay": 0.01, "average": 0.9, "judge_every": 3, "device": "cpu"}
    return TrainingOptions(**{**given, **changes})


def test_pictures_have_a_concept_a_style_and_no_transparency(drawn, recipe):
    assert drawn.pictures.shape == (len(drawn.concepts), 4, 64, 64, 3)
    assert (drawn.pictures[:, :, 0, 0] == 255).all()  # where nothing is drawn it is white
    assert all(len({picture.tobytes() for picture in styles}) == 4 for styles in drawn.pictures)
    assert not any(concept.held_out for concept in drawn.concepts)


def test_a_tenth_of_the_pairs_is_withheld_and_every_concept_keeps_two_styles(recipe):
    made = [recipe.concepts.Concept(f"{number:x}", f"thing {number}", (), "b") for number in range(4000)]
    withheld = np.array([recipe.generated._withheld(one) for one in made])
    assert 0.09 < withheld.mean() < 0.10 + 0.005
    assert withheld.sum(axis=1).max() == 2
    assert (withheld == [recipe.generated._withheld(one) for one in made]).all()


def test_the_pairs_to_learn_from_are_those_that_are_not_withheld(drawn):
    assert len(drawn.trained) + drawn.withheld.sum() == drawn.withheld.size
    assert not drawn.withheld[tuple(drawn.trained.T)].any()


def test_a_prompt_names_concept_and_style(recipe, drawn):
    concept = drawn.concepts[0]
    assert recipe.generated.prompt(concept, 2) == f"a {concept.label}, flat style"
    said = {recipe.generated.a_prompt(concept, 0, random.Random(seed)) for seed in range(40)}
    assert said == {text.format(concept.label, "noto") for text in recipe.generated.TEMPLATES}


def test_pictures_survive_being_tensors_and_move_over_paper(recipe, drawn):
    generated = recipe.generated
    pictures = drawn.pictures[:, 0]
    tensor = generated.as_tensor(pictures)
    assert (generated.as_pictures(tensor) == pictures).all()
    black = torch.full((8, 3, 64, 64), -1.0)
    moved = generated.moved(black, torch.Generator().manual_seed(0), reach=0.3)
    assert moved.min() == -1 and moved.max() == 1  # what comes in is paper
    still = generated.moved(tensor, torch.Generator().manual_seed(0), reach=0.0)
    assert torch.allclose(still, tensor, atol=1e-5)


def test_the_loop_goes_on_where_it_was_stopped(recipe, tmp_path):
    def model_and_loss():
        torch.manual_seed(3)
        model = torch.nn.Linear(4, 4)
        return model, lambda step: (model(torch.ones(1, 4) * (step % 3)) - torch.rand(4)).square().mean()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole, loss = model_and_loss()
        recipe.loop.learn(whole, loss, tmp_path / "whole", options(steps=40))
        cut, loss = model_and_loss()

        def dies(step):
            if step == 20:
                raise KeyboardInterrupt
            return loss(step)

        with pytest.raises(KeyboardInterrupt):
            recipe.loop.learn(cut, dies, tmp_path / "cut", options(steps=40, checkpoint_minutes=1e-9))
        again, loss = model_and_loss()
        recipe.loop.learn(again, loss, tmp_path / "cut", options(steps=40, checkpoint_minutes=1e-9))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(whole.weight, again.weight)
    assert not torch.equal(whole.weight, cut.weight)


def test_the_loop_says_which_step_went_wrong(recipe, tmp_path):
    model = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="step 0 is not a number"):
        recipe.loop.learn(model, lambda step: model.weight.sum() * float("nan"), tmp_path, options())


def test_the_latents_are_standard_and_decode_as_before(recipe, drawn):
    torch.manual_seed(0)
    model = recipe.autoencoder.build_autoencoder(0).eval()
    pictures = recipe.generated.as_tensor(drawn.pictures.reshape(-1, 64, 64, 3))
    before = recipe.autoencoder.round_trip(model, pictures)
    recipe.autoencoder.normalise(model, pictures)
    with torch.inference_mode():
        latents = model.encode(pictures).latent_dist.mean
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(recipe.autoencoder.round_trip(model, pictures), before, atol=1e-3)


def test_the_flow_points_from_picture_to_noise(recipe):
    class Oracle:
        def __call__(self, latents, time, states):
            share = (time / 1000).view(-1, 1, 1, 1)
            # Pictures are all 2: what is left of the noise tells it, and with it the flow.
            noise = (latents.float() - (1 - share) * 2) / share
            return type("Found", (), {"sample": noise - 2})

    latents = torch.full((16, 4, 4, 4), 2.0)
    loss = recipe.denoiser.loss_of(Oracle(), latents, None, torch.Generator().manual_seed(0))
    assert loss < 1e-6


def test_the_recipe_makes_a_pipeline_that_every_auto_class_loads(recipe, drawn, tmp_path):
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image
    from PIL import Image

    recipe.autoencoder.run(drawn, tmp_path, options(), batch=8)
    recipe.denoiser.run(drawn, tmp_path, options(), batch=8)
    folder = tmp_path / "pipeline"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 25_000_000, f"{size:,} bytes"
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]
    text_to_image = AutoPipelineForText2Image.from_pretrained(folder)
    text_to_image.set_progress_bar_config(disable=True)
    assert {part.dtype for part in (text_to_image.unet, text_to_image.vae, text_to_image.text_encoder)} == {
        torch.float32
    }
    pictures = [
        text_to_image("a gold kite, noto style", num_inference_steps=3, generator=torch.Generator().manual_seed(seed))
        .images[0]
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert pictures[0].tobytes() == pictures[1].tobytes() != pictures[2].tobytes()
    mask = Image.new("L", (64, 64), 255)
    for family, more in ((AutoPipelineForImage2Image, {}), (AutoPipelineForInpainting, {"mask_image": mask})):
        pipeline = family.from_pipe(text_to_image)
        pipeline.set_progress_bar_config(disable=True)
        found = pipeline("a box", image=pictures[0], num_inference_steps=4, strength=0.5, **more).images[0]
        assert found.size == (64, 64)


def test_the_decoder_is_trained_alone_and_put_into_the_pipeline(recipe, drawn, tmp_path):
    recipe.autoencoder.run(drawn, tmp_path, options(), batch=8)
    recipe.denoiser.run(drawn, tmp_path, options(), batch=8)
    pictures = recipe.generated.as_tensor(drawn.pictures[:, 0])
    before = AutoencoderKL.from_pretrained(tmp_path / "pipeline/vae")
    recipe.decoder.run(drawn, tmp_path, options(), batch=8)
    after = AutoencoderKL.from_pretrained(tmp_path / "pipeline/vae")
    assert torch.equal(*(one.encode(pictures).latent_dist.mean for one in (before, after)))
    shares = [(recipe.autoencoder.round_trip(one, pictures) - pictures).abs().mean() for one in (before, after)]
    assert shares[1] < shares[0]
    assert after.decoder.conv_in.weight.dtype == torch.float32  # stored in half


def test_a_difference_of_verdicts_has_an_interval(recipe):
    off = torch.tensor([False] * 50 + [True] * 50)
    told = recipe.guided.difference(off, ~off & torch.tensor([True] * 20 + [False] * 80) | off)
    mean, low, high = (float(one) for one in re.findall(r"[+-]\d\.\d+", told))
    assert mean == 0.2 and 0.1 < low < 0.2 < high < 0.3


def test_the_frame_is_what_is_outside(recipe):
    one = np.zeros((2, 64, 64, 3), np.uint8)
    other = one.copy()
    other[:, 20:40, 20:40] = 255
    assert recipe.edits.outside(one, other) == 0
    other[:, :8] = 255
    assert recipe.edits.outside(one, other) > 0.2


def test_the_judge_learns_what_pictures_show(recipe, drawn, tmp_path):
    judge = recipe.judge.run(drawn, tmp_path, options(steps=80, judge_every=80, learning_rate=3e-3), batch=24)
    asked = torch.cartesian_prod(torch.arange(len(drawn.concepts)), torch.arange(4))
    pictures = recipe.generated.as_tensor(drawn.pictures.reshape(-1, 64, 64, 3))
    found = recipe.judge.verdicts(judge, pictures, asked)
    assert found.concept.float().mean() > 0.3  # chance is 0.07
    assert (found.concept_5 | ~found.concept).all()
    again = recipe.judge.load_judge(tmp_path, len(drawn.concepts))
    assert all(
        torch.equal(one, other) for one, other in zip(found, recipe.judge.verdicts(again, pictures, asked), strict=True)
    )


def test_the_report_has_an_interval_and_a_picture_of_the_training_set_beside_each(recipe, drawn, tmp_path):
    drawings = recipe.drawings
    assert drawings.interval(torch.tensor([True] * 75 + [False] * 25)) == "0.750 (0.657 to 0.825)"
    index, style = drawn.trained[3]
    picture = drawn.pictures[index, style]
    noisy = recipe.generated.as_tensor(picture[None]) * 0.95
    assert (drawings.nearest(drawn, noisy)[0] == picture).all()
    drawings.labelled_sheet(["a box"], noisy, picture[None], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 500


@pytest.fixture(scope="module")
def encoder():
    from clip_qdrant import ClipEncoder

    return ClipEncoder("pocket", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def known(recipe, drawn, encoder):
    return recipe.painter.known(drawn, encoder, seed=0)


def test_a_label_without_a_style_stands_for_the_first_that_is_not_withheld(drawn, known):
    for concept, pair in enumerate(known.bare_pairs.tolist()):
        assert drawn.trained[pair].tolist() == [concept, np.flatnonzero(~drawn.withheld[concept])[0]]


def test_the_painter_learns_pictures_from_their_vectors_and_from_texts(recipe, drawn, encoder, known, monkeypatch):
    monkeypatch.setattr(recipe.painter, "JITTER", 0.0)
    pictures = recipe.generated.as_tensor(drawn.pictures[tuple(drawn.trained.T)])
    painting = recipe.painter.painting(known, pictures, 3, batch=128, seed=0)
    again = recipe.painter.painting(known, pictures, 3, batch=128, seed=0)
    assert torch.equal(painting.vectors, again.vectors)
    assert not torch.equal(painting.vectors, recipe.painter.painting(known, pictures, 4, batch=128, seed=0).vectors)
    seen = encoder.embed_pixels(painting.pictures)
    assert ((seen * painting.seen_as).sum(1) > 0.999).all()
    of_pictures = (painting.vectors * seen).sum(1) > 0.7
    assert 24 < of_pictures.sum() < 70  # the others are of texts, which lie apart
    texts = torch.cat([known.prompts.flatten(0, 1), known.bare.flatten(0, 1)])
    asked = painting.vectors[~of_pictures]
    moved = torch.cdist(asked, texts).min(1).values > 1e-3
    assert 8 < moved.sum() < len(asked)
    styles, pairs = known.styles, known.pairs.tolist()
    from_another = [
        known.prompts[:, other] - styles[pairs[other][1]] + styles[pairs[pair][1]]
        for pair in range(len(pairs))
        for other in known.siblings[pair]
    ]
    assert torch.cdist(asked[moved], torch.cat(from_another)).min(1).values.max() < 1e-3


def test_some_vectors_of_the_painter_are_moved_a_little_and_the_pictures_stay(recipe, drawn, known, monkeypatch):
    pictures = recipe.generated.as_tensor(drawn.pictures[tuple(drawn.trained.T)])
    moved = recipe.painter.painting(known, pictures, 3, batch=128, seed=0)
    monkeypatch.setattr(recipe.painter, "JITTER", 0.0)
    plain = recipe.painter.painting(known, pictures, 3, batch=128, seed=0)
    assert torch.equal(moved.pictures, plain.pictures) and torch.equal(moved.seen_as, plain.seen_as)
    near = torch.nn.functional.cosine_similarity(moved.vectors, plain.vectors)
    assert near.min() > 0.7 and 32 < (near < 0.9999).sum() < 96


def test_a_phrase_of_the_painter_names_the_concept_with_a_word_more(recipe, drawn):
    rng = random.Random(0)
    for concept in drawn.concepts:
        said = {recipe.painter.phrase(concept, rng) for _ in range(30)}
        assert len(said) > 5 and all(concept.label in text and text != concept.label for text in said)


def test_a_prompt_of_another_style_is_moved_towards_what_is_asked_for(known):
    rng, cosine = random.Random(0), torch.nn.functional.cosine_similarity
    for pair, others in enumerate(known.siblings):
        assert {known.pairs[other, 0].item() for other in others} == {known.pairs[pair, 0].item()}
    near = [cosine(known.shifted(pair, rng), known.prompts[:, pair]).max() for pair in range(len(known.pairs))]
    before = [
        cosine(known.prompts[:, others].flatten(0, 1)[:, None], known.prompts[None, :, pair], dim=-1).mean()
        for pair, others in enumerate(known.siblings)
    ]
    assert torch.stack(near).mean() > torch.stack(before).mean() + 0.02


def test_the_recipe_makes_a_painter_and_its_report(recipe, drawn, encoder, tmp_path):
    from clip_qdrant.models.painter import EmbeddingPainter

    recipe.painter.run(drawn, tmp_path, options(), batch=8)
    painter = EmbeddingPainter(tmp_path / "painter", device="cpu")
    painter.check(encoder.fingerprint)
    assert (tmp_path / "painted-3.png").exists() and (tmp_path / "painted-6.png").exists()
    judge = recipe.judge.Judge(len(drawn.concepts)).eval()
    report = recipe.painter_report.Report(drawn, painter, judge, encoder)
    art = {concept.key: np.zeros((104, 104, 4), np.uint8) for concept in drawn.concepts[:3]}
    rows = [*report.pairs(), *report.labels(), *report.another_hand("Nobody", art)]
    counts = [row.split()[-13] for row in rows if "(" in row]
    n, withheld = len(drawn.concepts), int(drawn.withheld.sum())
    assert counts == [*[str(n)] * 3, *[str(withheld)] * 3, *[str(n)] * 2, "3"]
    recipe.painter_report.sheets(report, drawn, tmp_path)
    assert (tmp_path / "painted-withheld.png").exists()
