"""Fingerprints, errors and the fake encoder: what everything else relies on."""

import pickle

import numpy as np
import pytest
from PIL import Image

from clip_qdrant import errors
from clip_qdrant.testing import PALETTE, FakeEncoder
from clip_qdrant.types import Encoder, Fingerprint

BASE = Fingerprint("m", "weights", "preprocessing", 32)


def test_a_fingerprint_survives_storage():
    assert Fingerprint.from_dict(BASE.to_dict()) == BASE


@pytest.mark.parametrize(
    ("field", "value"), [("weights", "w"), ("preprocessing", "p"), ("dim", 33), ("normalized", False)]
)
def test_every_part_but_the_name_counts(field, value):
    assert Fingerprint.from_dict(BASE.to_dict() | {field: value}).digest != BASE.digest
    assert Fingerprint.from_dict(BASE.to_dict() | {"model": "other"}).digest == BASE.digest


def test_an_image_error_crosses_processes():
    """A data loader sends its errors as pickles of its own making."""
    error = pickle.loads(pickle.dumps(errors.ImageNotFoundError("a.png", "no such file")))
    assert (error.source, error.reason) == ("a.png", "no such file")
    assert isinstance(error, FileNotFoundError)
    assert str(error) == "Cannot open image a.png: no such file"


def test_the_tree_of_errors_is_as_drawn():
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error") and word[0].isupper()}
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= drawn
    assert all(issubclass(getattr(errors, name), errors.ClipQdrantError) for name in defined)


def test_the_fake_sees_colours():
    fake = FakeEncoder()
    assert isinstance(fake, Encoder)
    pictures = fake.embed_images([Image.new("RGB", (8, 8), rgb) for rgb in PALETTE.values()])
    words = fake.embed_texts([f"something {name}" for name in PALETTE])
    assert (words @ pictures.T).argmax(axis=1).tolist() == list(range(len(PALETTE)))
    np.testing.assert_allclose(np.linalg.norm([*pictures, *words], axis=1), 1, atol=1e-6)


def test_the_fake_gives_the_same_for_the_same():
    first, second = FakeEncoder().embed_texts(["a", "b"]), FakeEncoder().embed_texts(["b", "a"])
    np.testing.assert_array_equal(first, second[::-1])
    assert not np.allclose(first, FakeEncoder(name="other").embed_texts(["a", "b"]))
    assert FakeEncoder().embed_images([]).shape == (0, 32)


def test_the_fake_refuses_what_the_real_one_does():
    with pytest.raises(errors.ConfigError, match="Write"):
        FakeEncoder().embed_texts("one")
    with pytest.raises(errors.ConfigError, match="dim must be at least 16"):
        FakeEncoder(8)
