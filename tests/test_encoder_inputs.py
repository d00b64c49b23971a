"""What may be given to `ClipEncoder`: one for many, what is no text, and images that cost more than they should."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ConfigError
from clip_qdrant.models.image_input import image_settings, input_side, shorten
from tests import checkpoints


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = checkpoints.make_clip(tmp_path_factory.mktemp("models") / "clip")
    return ClipEncoder(folder, dtype="float32", device="cpu")


def noise(width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


ONE = ["a.png", b"bytes", Path("a.png"), BytesIO(b"lines\nof\nit"), noise(4, 4), np.zeros((4, 4, 3)), np.zeros((4, 4))]


@pytest.mark.parametrize("one", ONE, ids=lambda one: type(one).__name__)
def test_one_image_for_many_is_refused(clip, one):
    with pytest.raises(ConfigError, match=r"must be a list, got one \w+\. Write \[image\]"):
        clip.embed_images(one)


def test_arrays_of_many_are_many(clip, tmp_path):
    noise(40, 40).save(tmp_path / "a.png")
    pictures = np.stack([np.asarray(noise(40, 40))] * 3)
    vectors = clip.embed_images(pictures)
    assert vectors.shape == (3, clip.dim)
    np.testing.assert_allclose(clip.embed_images(np.array([str(tmp_path / "a.png")])), vectors[:1], atol=1e-6)


def test_one_text_for_many_is_refused(clip):
    with pytest.raises(ConfigError, match=r"Write \[text\]"):
        clip.embed_texts("a cat")
    with pytest.raises(ConfigError, match="must be str, got int"):
        clip.embed_texts(["a cat", 3])


def test_texts_that_can_be_read_once_are_not_lost(clip):
    texts = ["a cat", "a dog"]
    np.testing.assert_array_equal(clip.embed_texts(text for text in texts), clip.embed_texts(texts))


def test_half_a_character_is_refused_with_the_cure(clip):
    broken = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(ConfigError, match=r"Text 1, .caf.udce9., is not whole Unicode") as caught:
        clip.embed_texts(["a cat", broken])
    assert "Use text.encode('utf-8', 'replace').decode()" in str(caught.value)
    assert clip.embed_texts([broken.encode("utf-8", "replace").decode()]).shape == (1, clip.dim)


@pytest.mark.parametrize("text", ["\0", "\n\t", "🐈‍⬛", "猫", "a" * 100_000, "<|endoftext|>", "<|startoftext|> a"])
def test_odd_texts_have_vectors(clip, text):
    (vector,) = clip.embed_texts([text])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [(900, 32), (32, 901), (1300, 33)])
def test_a_strip_has_the_vector_that_it_has_in_full(clip, size):
    """Of a long strip the middle counts, whether the rest is cut before resizing or after."""
    strip = noise(*size)
    processor = clip._towers._processor
    assert max(shorten(strip, processor).size) < max(size)
    in_full, cut = (
        processor(images=[image], return_tensors="np").pixel_values for image in (strip, shorten(strip, processor))
    )
    assert np.corrcoef(in_full.ravel(), cut.ravel())[0, 1] > 0.999
    middle = strip.crop(
        ((strip.width - 32) // 2, (strip.height - 32) // 2, (strip.width + 32) // 2, (strip.height + 32) // 2)
    )
    assert (
        clip.embed_images([strip])[0] @ clip.embed_images([middle])[0]
        > clip.embed_images([strip])[0] @ clip.embed_images([noise(32, 32)])[0]
    )


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000)])
def test_a_thin_strip_is_not_blown_up(clip, size, monkeypatch):
    """224 pixels high it would be 4,480,000 wide: gigabytes, of a file of some hundred bytes."""
    largest = []
    resize = Image.Image.resize

    def watch(image, wanted, *arguments, **options):
        largest.append(max(wanted))
        return resize(image, wanted, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", watch)
    assert clip.embed_images([Image.new("RGB", size)]).shape == (1, clip.dim)
    assert 0 < max(largest) <= 21 * clip.image_side


def test_only_strips_are_shortened(clip):
    image = noise(640, 32)
    assert shorten(image, clip._towers._processor) is image
    squeezing = CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    uncropped = CLIPImageProcessorPil(size={"shortest_edge": 32}, do_center_crop=False)
    strip = noise(900, 32)
    assert shorten(strip, squeezing) is shorten(strip, uncropped) is strip


def test_settings_are_what_decides_the_pixels():
    """And not what a release of transformers happens to note beside them."""
    settings = image_settings(CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}))
    assert settings["size"] == {"shortest_edge": 40}
    assert settings["crop_size"] == {"height": 32, "width": 32}
    assert "image_processor_type" not in settings
    assert None not in settings.values()
    assert input_side(CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})) == 40
