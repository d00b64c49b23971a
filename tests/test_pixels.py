"""Vectors of pixels as a tensor: those of `embed_images`, and with gradients that are true."""

import numpy as np
import pytest
import torch
from PIL import Image

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ConfigError, ModelFormatError
from tests import checkpoints


@pytest.fixture(scope="module", params=["clip", "siglip", "fixed_siglip2", "metaclip2", "chinese_clip", "sentence"])
def encoder(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    if request.param == "sentence":
        folder = checkpoints.make_sentence_transformer(root / "sentence", checkpoints.make_clip(root / "clip"))
    else:
        folder = getattr(checkpoints, f"make_{request.param}")(root / "model")
    return ClipEncoder(folder, device="cpu", dtype="float32")


def smooth(width, height):
    """A picture without edges, which every way to resample makes nearly the same of."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [np.sin(3 * across + 2 * down), np.cos(2 * across - down), across * down]
    return np.stack([(127 * (wave + 1)).clip(0, 255) for wave in waves], axis=-1).astype(np.uint8)


def as_pixels(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("size", [(32, 32), (90, 60), (60, 90), (16, 20)])
def test_they_are_those_of_the_image(encoder, size):
    picture = smooth(*size)
    expected = encoder.embed_images([Image.fromarray(picture)])[0]
    found = encoder.embed_pixels(as_pixels(picture))[0]
    assert float(found @ torch.from_numpy(expected)) > 0.999
    assert float(found.norm()) == pytest.approx(1, abs=1e-5)


def test_a_step_along_the_gradient_brings_a_picture_nearer(encoder):
    target = torch.from_numpy(encoder.embed_texts(["a photo of a cat"])[0])
    pixels = as_pixels(smooth(48, 48)).requires_grad_()
    before = encoder.embed_pixels(pixels)[0] @ target
    before.backward()
    step = 0.01 * pixels.grad / pixels.grad.abs().max()
    after = encoder.embed_pixels((pixels + step).detach())[0] @ target
    assert after > before


def test_no_gradients_of_the_weights_are_kept(encoder):
    pixels = as_pixels(smooth(32, 32)).requires_grad_()
    encoder.embed_pixels(pixels).sum().backward()
    assert pixels.grad is not None
    network = getattr(encoder._towers, "model", None) or encoder._towers._model
    assert all(weight.grad is None for weight in network.parameters())


def test_what_is_no_batch_of_pictures_is_refused(encoder):
    with pytest.raises(ConfigError, match=r"\(n, 3, height, width\), got \(3, 8, 8\)"):
        encoder.embed_pixels(torch.zeros(3, 8, 8))


def test_a_model_without_one_size_is_refused(tmp_path):
    encoder = ClipEncoder(checkpoints.make_siglip2(tmp_path / "model"), device="cpu", dtype="float32")
    with pytest.raises(ModelFormatError, match="a size of its own"):
        encoder.embed_pixels(torch.zeros(1, 3, 32, 32))
