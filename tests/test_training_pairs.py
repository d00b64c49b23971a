"""Pairs to batches: who belongs to whom, what is drawn when, and pictures that cannot be opened."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.models.training_model import load_trainable
from clip_qdrant.models.training_pairs import Pair, PairBatches
from tests.checkpoints import make_clip


@pytest.fixture(scope="module")
def trainable(tmp_path_factory):
    return load_trainable(make_clip(tmp_path_factory.mktemp("models") / "clip"))


def swatch(number):
    return Image.new("RGB", (32, 32), (number * 10 % 256, number * 7 % 256, 50))


def pairs(count, **changes):
    return [Pair(swatch(number), (f"cat {number}", f"fox {number}"), **changes) for number in range(count)]


def shown(batches, trainable, step, given):
    """Which pairs a batch has, by their pixels."""
    known = {pixels.numpy().tobytes(): index for index, pixels in enumerate(trainable.pixels([p.image for p in given]))}
    return [known[pixels.numpy().tobytes()] for pixels in batches(step).pixels]


def said(trainable, batch):
    tokenizer = trainable.towers._tokenizer
    return tokenizer.batch_decode(batch.ids, skip_special_tokens=True)


def test_every_pair_comes_once_in_an_epoch_in_another_order(trainable):
    given = pairs(12)
    batches = PairBatches(given, trainable, batch=4, seed=1)
    assert len(batches) == 3
    drawn = [shown(batches, trainable, step, given) for step in range(9)]
    epochs = [[index for batch in drawn[at : at + 3] for index in batch] for at in (0, 3, 6)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(12))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_that_does_not_divide_leaves_nobody_out_and_takes_nobody_twice_in_a_batch(trainable):
    given = pairs(7)
    batches = PairBatches(given, trainable, batch=3, seed=0)
    drawn = [shown(batches, trainable, step, given) for step in range(14)]
    assert all(len(set(batch)) == 3 for batch in drawn)
    counts = Counter(index for batch in drawn for index in batch)
    assert set(counts) == set(range(7)) and max(counts.values()) - min(counts.values()) <= 4


@pytest.mark.parametrize(("count", "batch", "together"), [(7, 3, 1), (50, 8, 1), (64, 32, 1), (41, 6, 2)])
def test_every_pair_comes_exactly_once_in_an_epoch_also_where_it_does_not_divide(trainable, count, batch, together):
    given = [Pair(swatch(number), (f"cat {number}",), concept=str(number // 2)) for number in range(count)]
    for seed in range(20):
        batches = PairBatches(given, trainable, batch=batch, seed=seed, images_per_concept=together)
        order = [list(islice(batches._following(step), batch)) for step in range(3 * count)]
        assert all(len(set(drawn)) == batch for drawn in order)
        flat = [index for drawn in order for index in drawn]
        for start in range(0, len(flat) - count + 1, count):
            assert sorted(flat[start : start + count]) == list(range(count))


def test_a_batch_follows_from_seed_and_step_in_any_order(trainable):
    one, other = (PairBatches(pairs(9), trainable, batch=4, seed=3) for _ in range(2))
    expected = [one(step) for step in range(8)]
    for step in (7, 0, 5, 5):
        assert torch.equal(other(step).pixels, expected[step].pixels)
        assert torch.equal(other(step).ids, expected[step].ids)
    assert not torch.equal(PairBatches(pairs(9), trainable, batch=4, seed=4)(0).pixels, expected[0].pixels)


def test_captions_are_drawn_and_each_belongs_to_its_image(trainable):
    given = pairs(6)
    batches = PairBatches(given, trainable, batch=6)
    seen = set()
    for step in range(8):
        batch = batches(step)
        order = shown(batches, trainable, step, given)
        texts = said(trainable, batch)
        assert [text.split()[-1] for text in texts] == [str(index) for index in order]
        assert torch.equal(batch.positives, torch.eye(6, dtype=torch.bool)) and batch.concepts is None
        seen |= set(texts)
    assert seen == {f"{animal} {number}" for animal in ("cat", "fox") for number in range(6)}
    last = PairBatches(given, trainable, batch=6, pick_caption=lambda pair, rng: pair.captions[1])
    assert {text.split()[0] for text in said(trainable, last(0))} == {"fox"}


def test_what_belongs_together_is_never_a_wrong_answer(trainable):
    given = [
        Pair(swatch(1), ("a cat",)),
        Pair(swatch(2), ("A Cat", "a pet")),
        Pair(swatch(3), ("a dog",), concept="dogs"),
        Pair(swatch(4), ("a hound",), concept="dogs"),
    ]
    batches = PairBatches(given, trainable, batch=4, pick_caption=lambda pair, rng: pair.captions[0])
    order = shown(batches, trainable, 0, given)
    batch = batches(0)
    for row, image in enumerate(order):
        for column, text in enumerate(order):
            together = image == text or {image, text} in ({0, 1}, {2, 3})
            assert bool(batch.positives[row, column]) == together
    numbers = dict(zip(order, batch.concepts.tolist(), strict=True))
    assert numbers[2] == numbers[3] and len(set(numbers.values())) == 3


def test_images_of_a_concept_come_together(trainable):
    given = [Pair(swatch(number), (f"cat {number}",), concept=str(number % 5)) for number in range(20)]
    batches = PairBatches(given, trainable, batch=4, images_per_concept=2)
    for step in range(10):
        assert sorted(Counter(batches(step).concepts.tolist()).values()) in ([2, 2], [4])


def test_hard_negatives_are_more_texts_but_never_what_is_said_in_the_batch(trainable):
    asked = []

    def negatives(batch):
        asked.append(len(batch))
        return ["a quick fox", "CAT 1", "fox 2", "a quick fox", "the lazy dog"]

    batch = PairBatches(pairs(3), trainable, batch=3, hard_negatives=negatives)(0)
    assert asked == [3]
    assert said(trainable, batch)[3:] == ["a quick fox", "the lazy dog"]
    assert batch.positives.shape == (3, 5) and not batch.positives[:, 3:].any()


def test_what_pick_caption_makes_up_is_a_right_answer_wherever_it_is_said(trainable):
    given = pairs(3)

    def negatives(batch):
        return ["An Icon Of cat 0", "the lazy dog"]

    batches = PairBatches(given, trainable, pick_caption=lambda pair, rng: "an icon", hard_negatives=negatives)
    assert batches(0).positives[:, :3].all()
    batches = PairBatches(
        given, trainable, pick_caption=lambda pair, rng: f"an icon of {pair.captions[0]}", hard_negatives=negatives
    )
    assert said(trainable, batches(0))[3:] == ["the lazy dog"]


def test_what_is_said_of_a_concept_is_no_wrong_answer_for_it(trainable):
    given = [Pair(swatch(number), (f"cat {number}",), concept="cats") for number in range(9)]
    given.append(Pair(swatch(10), ("fox",)))
    batches = PairBatches(given, trainable, batch=2, hard_negatives=lambda batch: ["Cat 3", "cat 4", "dog"])
    for step in range(5):
        assert said(trainable, batches(step))[2:] == ["dog"]


def test_a_large_picture_is_made_smaller_before_it_is_changed(trainable):
    sizes = []

    def look(image, rng):
        sizes.append(image.size)
        return image

    given = [Pair(Image.new("RGB", (3000, 2000), colour), (colour,)) for colour in ("red", "navy")]
    PairBatches(given, trainable, augment=look)(0)
    assert all(64 <= min(size) < 128 for size in sizes)


def test_see_through_pictures_are_given_as_such_to_the_augmentation(trainable, tmp_path):
    modes = []

    def look(image, rng):
        modes.append(image.mode)
        return image.convert("RGB")

    Image.new("RGBA", (32, 32), (255, 0, 0, 90)).save(tmp_path / "glass.png")
    given = [Pair(tmp_path / "glass.png", ("glass",)), Pair(swatch(1), ("wall",))]
    PairBatches(given, trainable, augment=look)(0)
    assert sorted(modes) == ["RGB", "RGBA"]


def test_augmentation_draws_from_the_step(trainable):
    def brighter(image, rng):
        return image.point(lambda value: min(255, value + rng.randint(1, 90)))

    batches = PairBatches(pairs(4), trainable, batch=4, augment=brighter)
    assert torch.equal(batches(2).pixels, batches(2).pixels)
    plain = PairBatches(pairs(4), trainable, batch=4)
    assert not torch.equal(batches(2).pixels, plain(2).pixels)


def test_a_broken_picture_is_left_out_and_told_of_once(trainable, tmp_path, caplog):
    given = [*pairs(3), Pair(tmp_path / "none.png", ("lost",))]
    batches = PairBatches(given, trainable, batch=4)
    sizes = [len(batches(step).pixels) for step in range(5)]
    assert sizes == [3] * 5 and list(batches.problems) == [3]
    assert caplog.text.count("left out of training") == 1 and "none.png" in batches.problems[3]


def test_the_place_of_a_broken_picture_is_taken_by_another(trainable, tmp_path):
    given = [*pairs(20), *(Pair(tmp_path / f"{number}.png", (f"lost {number}",)) for number in range(4))]
    batches = PairBatches(given, trainable, batch=2)
    drawn = [tuple(shown(batches, trainable, step, given[:20])) for step in range(24)]
    assert all(len(set(batch)) == 2 for batch in drawn) and sorted(batches.problems) == [20, 21, 22, 23]
    again = PairBatches(given, trainable, batch=2)
    assert [tuple(shown(again, trainable, step, given[:20])) for step in reversed(range(24))] == drawn[::-1]


def test_too_many_broken_pictures_stop_training(trainable, tmp_path):
    given = [*pairs(1), *(Pair(tmp_path / f"{number}.png", ("lost",)) for number in range(3))]
    with pytest.raises(TrainingError, match=r"3 of the 4 pictures of a batch cannot be opened.*\.png"):
        PairBatches(given, trainable, batch=4)(0)


def test_few_pairs_make_a_small_batch_and_many_are_read_once(trainable):
    assert len(PairBatches(iter(pairs(3)), trainable, batch=64)(0).pixels) == 3
    big = PairBatches((Pair(swatch(n), (f"cat {n}",)) for n in range(20_000)), trainable, batch=8)
    assert len(big) == 2500 and len(big(123_456).pixels) == 8


def test_a_long_caption_is_cut(trainable):
    given = [Pair(swatch(1), ("cat " * 500,)), Pair(swatch(2), ("fox",))]
    assert PairBatches(given, trainable, batch=2)(0).ids.shape[1] <= trainable.towers.max_tokens


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "at least two, got 0"),
        (pairs(1), {}, "at least two, got 1"),
        ([*pairs(1), Pair(swatch(1), ())], {}, "Pair 1 has no caption"),
        ([*pairs(1), Pair(swatch(1), ("ok", "  "))], {}, "Pair 1 has no caption, or one that is blank"),
        ([*pairs(1), ("image", "text")], {}, "must be of Pair, got a tuple for pair 1"),
        ([*pairs(1), Pair(swatch(1), ("\ud800",))], {}, "Pair 1 .* whole Unicode"),
        ([*pairs(1), Pair(swatch(1), (3,))], {}, "Pair 1 .* no text: 3"),
        ([Pair(swatch(n), ("Cat" if n else "cat",)) for n in range(3)], {}, "no wrong answers"),
        (pairs(3, concept="one"), {}, "no wrong answers"),
        (pairs(3), {"batch": 1}, "at least 2 pairs"),
        (pairs(3), {"images_per_concept": 0}, "1 image of a concept"),
    ],
)
def test_what_cannot_be_trained_on(trainable, given, options, message):
    with pytest.raises(ConfigError, match=message):
        PairBatches(given, trainable, **options)


@pytest.mark.parametrize("wrong", ["", "  ", None, "\udfff"])
def test_callbacks_must_give_texts(trainable, wrong):
    with pytest.raises(ConfigError, match="pick_caption gave"):
        PairBatches(pairs(3), trainable, pick_caption=lambda pair, rng: wrong)(0)
    with pytest.raises(ConfigError, match="hard_negatives gave"):
        PairBatches(pairs(3), trainable, hard_negatives=lambda batch: [wrong])(0)


def test_one_str_is_not_many_captions():
    with pytest.raises(ConfigError, match=r"got the str 'a cat'\. Write \(text,\)"):
        Pair(swatch(1), "a cat")


def test_random_choices_leave_the_callers_alone(trainable):
    random.seed(5)
    torch.manual_seed(5)
    np.random.seed(5)
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    PairBatches(pairs(4), trainable, batch=4)(0)
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert np.random.get_state()[1].tolist() == before[2]
