"""Augmented pictures: what may change, what may not, and that it follows from the generator."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.augmentation import Augmentation

STILL = Augmentation(crop=1.0, stretch=1.0, colour=0.0, grey=0.0, blur=0.0)


def picture(width=60, height=40):
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.dstack([rows * 255 // height, columns * 255 // width, rows * 0]).astype(np.uint8))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 10_000))
def test_it_gives_an_rgb_image_no_larger_than_the_one_given(width, height, seed):
    image = picture(width, height)
    before = image.tobytes()
    other = Augmentation(mirror=0.5)(image, random.Random(seed))
    assert other.mode == "RGB" and other.width <= width and other.height <= height
    assert image.tobytes() == before


def test_it_follows_from_the_generator():
    one, same, other = (Augmentation()(picture(), random.Random(seed)).tobytes() for seed in (1, 1, 2))
    assert one == same != other


def test_switched_off_it_changes_nothing():
    for seed in range(20):
        assert STILL(picture(), random.Random(seed)).tobytes() == picture().tobytes()


def test_a_crop_keeps_at_least_its_share():
    areas = [
        image.width * image.height / 2400
        for image in (Augmentation(crop=0.5, stretch=1.0)(picture(), random.Random(seed)) for seed in range(200))
    ]
    assert 0.48 < min(areas) < 0.6 and max(areas) > 0.9


def test_left_stays_left_unless_it_may_not():
    def mirrored(augmentation):
        columns = [np.asarray(augmentation(picture(), random.Random(seed)))[:, :, 1].mean(0) for seed in range(40)]
        return sum(column[0] > column[-1] for column in columns)

    assert mirrored(Augmentation(grey=0.0)) == 0
    assert mirrored(Augmentation(grey=0.0, mirror=1.0)) == 40


@pytest.mark.parametrize("wrong", [{"crop": 0.0}, {"crop": 1.1}, {"stretch": 0.5}, {"blur": -0.1}, {"grey": 2}])
def test_shares_are_shares(wrong):
    with pytest.raises(ConfigError, match=r"from 0 to 1|above 0"):
        Augmentation(**wrong)
