"""A painter learns from vectors, pictures and an encoder, and goes on after a kill."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.models.painter_training import Painting, train_painter
from tests.painters import Colours, options, paired, quarters, small, unpaired


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder("pocket", device="cpu", dtype="float32")


@pytest.mark.parametrize("paintings", [paired, unpaired], ids=["with pictures", "by the encoder alone"])
def test_training_brings_what_is_painted_nearer_to_its_vector(tmp_path, paintings):
    painter = small()
    pictures = quarters(9_999)
    vectors = Colours().embed_pixels(pictures)

    def cosine():
        with torch.inference_mode():
            return float((Colours().embed_pixels(painter.network(vectors).clamp(0, 1)) * vectors).sum(1).mean())

    before = cosine()
    report = train_painter(painter, paintings, Colours(), tmp_path, options(steps=150))
    assert cosine() > max(0.8, before + 0.3)
    assert np.mean(report.losses[-10:]) < 0.6 * np.mean(report.losses[:10])
    assert not painter.network.training


def test_pictures_teach_what_the_encoder_does_not_see(tmp_path):
    """The encoder's vectors say nothing of the contrast: only the pictures do."""

    def pale(step):
        pictures = 0.5 + 0.2 * (quarters(step) - 0.5)
        return Painting(Colours().embed_pixels(pictures), pictures)

    @torch.inference_mode()
    def contrast(painter):
        return float(painter.network(pale(1_000).vectors).std())

    taught, alone = small(), small()
    train_painter(taught, pale, Colours(), tmp_path / "taught", options(), likeness=5.0)
    train_painter(alone, lambda step: Painting(pale(step).vectors), Colours(), tmp_path / "alone", options())
    assert contrast(taught) < 0.1 < contrast(alone)


def test_texts_can_be_seen_as_something_else_than_their_own_vectors(tmp_path):
    def swapped(step):
        vectors = unpaired(step).vectors
        return Painting(vectors, seen_as=-vectors)

    painter = small()
    train_painter(painter, swapped, Colours(), tmp_path, options(steps=150))
    vectors = unpaired(1_000).vectors
    with torch.inference_mode():
        assert (Colours().embed_pixels(painter.network(vectors).clamp(0, 1)) * vectors).sum(1).mean() < -0.8


def test_a_training_that_was_killed_ends_where_an_undisturbed_one_does(tmp_path, one_thread):
    whole, cut, again = small(), small(), small()
    often = options(steps=20, checkpoint_minutes=1e-9)
    train_painter(whole, paired, Colours(), tmp_path / "whole", often)

    def dies(step):
        if step == 11:
            raise KeyboardInterrupt
        return paired(step)

    with pytest.raises(KeyboardInterrupt):
        train_painter(cut, dies, Colours(), tmp_path / "cut", often)
    with pytest.raises(ConfigError, match="resume"):
        train_painter(again, paired, Colours(), tmp_path / "cut", often)
    train_painter(again, paired, Colours(), tmp_path / "cut", often, resume=True)
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(whole.network.first.weight, cut.network.first.weight)


def test_what_a_painter_takes_out_of_its_vectors_is_part_of_the_state(tmp_path, one_thread):
    painter = small()
    painter.network.fit(torch.randn(50, painter.dim))
    train_painter(painter, paired, Colours(), tmp_path, options(steps=3, checkpoint_minutes=1e-9))
    again = small()
    train_painter(again, paired, Colours(), tmp_path, options(steps=3), resume=True)
    for one, other in zip(painter.network.buffers(), again.network.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_training_stops_when_it_is_asked_to_and_goes_on(tmp_path, one_thread):
    painter, steps = small(), []
    report = train_painter(
        painter, paired, Colours(), tmp_path, options(steps=10), progress=lambda now: steps.append(now.step),
        stop=lambda: len(steps) == 4,
    )  # fmt: skip
    assert (report.stopped, report.steps, steps) == ("asked", 4, [1, 2, 3, 4])
    looked = []
    report = train_painter(
        small(), paired, Colours(), tmp_path, options(steps=10, judge_every=100), resume=True, look=looked.append
    )
    assert (report.stopped, report.steps, looked) == ("budget", 10, [10])


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_state_before(tmp_path, one_thread):
    def breaks(step):
        painting = paired(step)
        return Painting(painting.vectors, painting.pictures * (float("nan") if step == 3 else 1))

    often = options(steps=10, checkpoint_minutes=1e-9)
    with pytest.raises(TrainingError, match=r"loss of step 3 is not a number\. Begin anew with a lower"):
        train_painter(small(), breaks, Colours(), tmp_path, often)
    painter = small()
    report = train_painter(painter, paired, Colours(), tmp_path, often, resume=True)
    assert len(report.losses) == 7 and np.isfinite(report.losses).all()


@pytest.mark.parametrize(
    ("painting", "message"),
    [
        (Painting(torch.ones(4, 13)), r"\(n, 12\), got \(4, 13\)"),
        (Painting(torch.ones(0, 12)), r"got \(0, 12\)"),
        (Painting(torch.ones(4, 12), torch.ones(4, 3, 8, 8)), r"\(m, 3, 16, 16\).*got \(4, 3, 8, 8\)"),
        (Painting(torch.ones(4, 12), torch.ones(5, 3, 16, 16)), "no more than its 4 vectors"),
        (Painting(torch.ones(4, 12), seen_as=torch.ones(3, 12)), "seen_as must be"),
    ],
)
def test_batches_that_do_not_fit_are_refused(tmp_path, painting, message):
    with pytest.raises(ConfigError, match=message):
        train_painter(small(), lambda step: painting, Colours(), tmp_path, options())


def test_a_painter_is_not_trained_with_another_encoder(tmp_path, encoder):
    with pytest.raises(ConfigError, match="12-d vectors of 'colours'"):
        train_painter(small(), paired, encoder, tmp_path, options())
    for wrong in ({"likeness": -1.0}, {"likeness": float("nan")}, {"looked_at": 0.0}, {"looked_at": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            train_painter(small(), paired, Colours(), tmp_path, options(), **wrong)


def test_the_encoder_looks_at_the_share_that_it_is_asked_to(tmp_path):
    counts = []

    class Counting(Colours):
        def embed_pixels(self, pixels):
            counts.append(len(pixels))
            return super().embed_pixels(pixels)

    train_painter(small(), unpaired, Counting(), tmp_path / "quarter", options(steps=2), looked_at=0.25)
    train_painter(small(), unpaired, Counting(), tmp_path / "least", options(steps=2), looked_at=1e-9)
    assert counts == [4, 4, 1, 1]
