"""Augmented pictures: what may change, what may not, and that it follows from the generator."""

from __future__ import annotations

import random
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from clip_qdrant.errors import ConfigError
from clip_qdrant.images import open_image
from clip_qdrant.models.augmentation import Augmentation, open_see_through

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


def test_a_picture_with_an_alpha_channel_stands_on_white_or_on_a_colour_it_can_be_told_from():
    for ink in (0, 255):
        drawn = Image.new("RGBA", (20, 20))
        drawn.paste((ink, ink, ink, 255), (5, 5, 15, 15))
        before = drawn.tobytes()
        on = replace(STILL, background=1.0)
        corners = {on(drawn, random.Random(seed)).getpixel((0, 0)) for seed in range(50)}
        assert len(corners) > 40 and all(abs(channel - ink) >= 100 for corner in corners for channel in corner)
        assert on(drawn, random.Random(0)).getpixel((10, 10)) == (ink, ink, ink)
        assert replace(STILL, background=0.0)(drawn, random.Random(0)).getpixel((0, 0)) == (255, 255, 255)
        assert drawn.tobytes() == before
    empty = Augmentation(background=1.0)(Image.new("RGBA", (9, 9)), random.Random(0))
    assert empty.mode == "RGB"


def _glass(mode="RGBA"):
    image = Image.new("RGBA", (8, 4), (10, 20, 30, 0))
    image.paste((200, 0, 0, 255), (0, 0, 4, 4))
    return image if mode == "RGBA" else image.convert(mode)


@pytest.mark.parametrize("form", ["PNG", "WebP", "GIF", "AVIF"])
def test_see_through_files_are_opened_with_their_alpha(tmp_path, form):
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"glass.{form.lower()}"
    _glass().save(path)
    for source in (path, str(path), path.read_bytes(), BytesIO(path.read_bytes())):
        opened = open_see_through(source)
        assert opened.mode == "RGBA" and opened.size == (8, 4)
        assert opened.getpixel((1, 1))[3] == 255 and opened.getpixel((7, 1))[3] == 0


def test_see_through_pictures_in_memory_and_their_orientation(tmp_path):
    for image in (_glass(), _glass("LA"), _glass("RGBa"), np.asarray(_glass())):
        assert open_see_through(image).getpixel((7, 1))[3] == 0
    exif = Image.Exif()
    exif[0x0112] = 6
    _glass().save(tmp_path / "turned.png", exif=exif)
    turned = open_see_through(tmp_path / "turned.png")
    assert turned.size == open_image(tmp_path / "turned.png").size == (4, 8)
    assert turned.getpixel((1, 1))[3] == 255 and turned.getpixel((1, 7))[3] == 0


def test_what_cannot_be_seen_through_is_left_to_open_image(tmp_path):
    picture().save(tmp_path / "plain.png")
    picture().save(tmp_path / "photo.jpg")
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    deep.info["transparency"] = 40_000
    none = (tmp_path / "plain.png", tmp_path / "photo.jpg", picture(), np.zeros((4, 4, 3), np.uint8), deep)
    assert [open_see_through(source) for source in none] == [None] * 5


@pytest.mark.parametrize("wrong", [{"crop": 0.0}, {"crop": 1.1}, {"stretch": 0.5}, {"blur": -0.1}, {"grey": 2}])
def test_shares_are_shares(wrong):
    with pytest.raises(ConfigError, match=r"from 0 to 1|above 0"):
        Augmentation(**wrong)
