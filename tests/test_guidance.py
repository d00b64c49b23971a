"""CLIP in the loop: pictures come nearer to what they are pulled towards, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest

from clip_qdrant import ClipCollection, ClipEncoder, Record
from clip_qdrant.collection.synthetic import steered
from clip_qdrant.errors import ConfigError
from clip_qdrant.models.best_of import best_of
from clip_qdrant.models.diffusion import DiffusionGenerator
from clip_qdrant.models.guidance import ClipGuide
from tests import pipelines
from tests.pipelines import SIDE

pytestmark = pipelines.MARKS

SEED = 3


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder("pocket", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def target(encoder):
    return encoder.embed_texts(["a red apple"])[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {
        "epsilon": pipelines.make_sd(root / "epsilon"),
        "v": pipelines.make_sd(root / "v", prediction="v_prediction"),
        "exploding": pipelines.make_sdxl(root / "exploding"),
        "flow": pipelines.make_sd3(root / "flow"),
        "packed": pipelines.make_flux(root / "packed"),
    }


@pytest.fixture(scope="module", params=["epsilon", "v", "exploding", "flow", "packed"])
def generator(request, folders):
    return DiffusionGenerator(folders[request.param], device="cpu", steps=6)


@pytest.fixture(scope="module")
def plain(folders):
    return DiffusionGenerator(folders["epsilon"], device="cpu", steps=6)


def cosine(encoder, picture, target):
    return float(encoder.embed_images([picture.image])[0] @ target)


def test_a_guide_without_a_scale_changes_not_a_bit_and_tells_the_alignment(generator, encoder, target):
    given = {"seed": SEED, "size": SIDE}
    bare = generator.generate("a cat", **given)[0]
    watched = generator.generate("a cat", **given, guide=ClipGuide(encoder, target, scale=0))[0]
    assert watched.image.tobytes() == bare.image.tobytes()
    assert len(watched.alignment) == 6 and bare.alignment == ()
    # What the last step says is going to be is what there is.
    assert watched.alignment[-1] == pytest.approx(cosine(encoder, watched, target), abs=0.01)


def test_it_pulls_the_picture_towards_the_target(generator, encoder, target):
    given = {"seed": SEED, "size": SIDE}
    bare = generator.generate("a cat", **given)[0]
    pulled = generator.generate("a cat", **given, guide=ClipGuide(encoder, target, scale=0.1))[0]
    assert cosine(encoder, pulled, target) > cosine(encoder, bare, target) + 0.05
    assert pulled.alignment[-1] > pulled.alignment[0] + 0.05


def test_it_pushes_the_picture_away(plain, encoder, target):
    other = encoder.embed_texts(["a blue whale"])[0]
    towards = plain.generate("a cat", seed=SEED, guide=ClipGuide(encoder, target))[0]
    away = plain.generate("a cat", seed=SEED, guide=ClipGuide(encoder, target, away=[other]))[0]
    assert cosine(encoder, away, other) < cosine(encoder, towards, other) - 0.02


def test_edits_are_pulled_too(plain, encoder, target):
    source = plain.generate("a cat", seed=1)[0].image
    for more in ({}, {"mask": np.full((SIDE, SIDE), 255, np.uint8)}):
        bare = plain.edit(source, "a cat", strength=0.8, seed=SEED, **more)[0]
        pulled = plain.edit(source, "a cat", strength=0.8, seed=SEED, guide=ClipGuide(encoder, target), **more)[0]
        assert cosine(encoder, pulled, target) > cosine(encoder, bare, target) + 0.03
        assert len(pulled.alignment) == 4  # of six steps those from 0.2 on


def test_the_range_of_steps_is_kept(plain, encoder, target):
    bare = plain.generate("a cat", seed=SEED, guide=ClipGuide(encoder, target, scale=0))[0]
    late = plain.generate("a cat", seed=SEED, guide=ClipGuide(encoder, target, start=0.5))[0]
    early = plain.generate("a cat", seed=SEED, guide=ClipGuide(encoder, target, stop=0.5))[0]
    assert late.alignment[:4] == bare.alignment[:4]  # the fourth shows what the first three did
    assert late.alignment[4] > bare.alignment[4]
    assert early.alignment[1] > bare.alignment[1]


def test_the_generator_is_as_it_was_afterwards(plain, encoder, target):
    step = plain.pipeline.scheduler.step
    before = plain.generate("a cat", seed=SEED)[0].image.tobytes()

    def fail(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain.generate("a cat", seed=SEED, guide=ClipGuide(encoder, target), progress=fail)
    assert plain.pipeline.scheduler.step == step
    assert plain.generate("a cat", seed=SEED)[0].image.tobytes() == before
    assert all(weight.grad is None for weight in plain.pipeline.vae.parameters())


def test_the_length_of_the_target_is_nothing_to_it(plain, encoder, target):
    pictures = [
        plain.generate("a cat", seed=SEED, guide=ClipGuide(encoder, vector))[0].image.tobytes()
        for vector in (target, 4 * target)
    ]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"toward": np.ones(3)}, r"toward has the shape \(3,\), and 'pocket' makes vectors of"),
        ({"toward": np.zeros(256)}, "without a direction"),
        ({"toward": np.full(256, np.nan)}, "without a direction"),
        ({"away": [np.ones(5)]}, "away has the shape"),
        ({"scale": -0.1}, "scale of a guide is 0 or more"),
        ({"scale": float("nan")}, "scale of a guide is 0 or more"),
        ({"start": 0.6, "stop": 0.5}, "shares of the steps"),
        ({"stop": 1.5}, "shares of the steps"),
    ],
)
def test_guides_that_cannot_be_are_refused(encoder, target, given, message):
    assert encoder.dim == 256
    with pytest.raises(ConfigError, match=message):
        ClipGuide(encoder, **{"toward": target, **given})


def test_the_best_of_several_comes_first(plain, encoder, target):
    made = best_of(plain.generate, "a red apple", encoder, of=5, keep=3, seed=0)
    every = plain.generate("a red apple", count=5, seed=0)
    cosines = sorted((cosine(encoder, one, target) for one in every), reverse=True)
    assert [one.score for one in made] == pytest.approx(cosines[:3], abs=1e-5)
    assert made[0].score == pytest.approx(cosine(encoder, made[0], target), abs=1e-5)


def test_the_best_by_another_target(plain, encoder):
    target = encoder.embed_images([plain.generate("a cat", seed=4)[0].image])[0]
    (found,) = best_of(plain.generate, "a cat", encoder, of=6, seed=0, toward=3 * target)
    assert found.seed == 4
    assert found.score == pytest.approx(1, abs=1e-4)


def test_what_was_flagged_is_never_the_best(plain, encoder):
    def make(prompt, **options):
        made = plain.generate(prompt, **options)
        return [replace(one, flagged=one.seed != 2) for one in made]

    (best,) = best_of(make, "a cat", encoder, of=3, seed=0)
    assert best.seed == 2
    every = best_of(make, "a cat", encoder, of=3, seed=0, keep=3)
    assert every[1].score >= every[2].score


@pytest.mark.parametrize("toward", [np.zeros(256), np.ones(3)])
def test_a_target_to_rank_by_is_checked_before_any_work(encoder, toward):
    with pytest.raises(ConfigError, match="toward has"):
        best_of(lambda *_, **__: pytest.fail("work was done"), "a cat", encoder, toward=toward)


def test_more_than_there_are_cannot_be_kept(plain, encoder):
    with pytest.raises(ConfigError, match="best 3 of 2"):
        best_of(plain.generate, "a cat", encoder, of=2, keep=3)


def test_what_was_found_steers_what_is_made(plain, encoder, client, name):
    collection = ClipCollection(client, name, encoder)
    reds = [np.full((32, 32, 3), (255, shade, shade), np.uint8) for shade in (0, 10, 20)]
    collection.add([Record(f"red {index}", red) for index, red in enumerate(reds)])
    collection.add([Record("words", text="a blue whale")])
    near = collection.search("a blue whale", limit=4, using="both")
    hits = collection.get([hit.id for hit in near], with_vectors=True)
    centre = encoder.embed_images(reds).mean(axis=0)
    (bare,) = plain.generate("a cat", seed=SEED)
    (made,) = steered(SeededGenerator(plain), encoder)("a cat", hits)
    assert cosine(encoder, made, centre) > cosine(encoder, bare, centre) + 0.05
    (alone,) = steered(SeededGenerator(plain), encoder)("a cat", hits[:0])
    assert alone.image.tobytes() == bare.image.tobytes()


class SeededGenerator:
    """One whose pictures can be compared."""

    def __init__(self, generator):
        self.generator = generator

    def generate(self, prompt, **options):
        return self.generator.generate(prompt, seed=SEED, **options)
