"""Vectors to pictures: the bundled painter, training one, what is refused, and previews of a collection."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, normalize

from clip_qdrant import ClipCollection, ClipEncoder, Record, connect
from clip_qdrant.collection.preview import preview
from clip_qdrant.errors import ConfigError, InvalidPointError, ModelFormatError, ModelNotFoundError, TrainingError
from clip_qdrant.models.painter import EmbeddingPainter
from clip_qdrant.models.painter_training import Painting, train_painter
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.testing import FakeEncoder
from clip_qdrant.types import Fingerprint

WORDS = ("a red apple", "a blue whale", "a christmas tree", "a grinning face", "a school bus", "a brown bear")


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder("pocket", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def painter():
    return EmbeddingPainter("pocket", device="cpu")


class Colours:
    """An encoder that sees the mean colours of four quarters, and through which gradients pass."""

    fingerprint = Fingerprint("colours", "w", "p", 12)

    def embed_pixels(self, pixels):
        return normalize(adaptive_avg_pool2d(pixels, 2).flatten(1) - 0.5, dim=-1)


def quarters(step, count=16):
    """Pictures of 16 pixels in four random colours each."""
    colours = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(step))
    return torch.nn.functional.interpolate(colours, scale_factor=8.0)


def small(seed=0):
    return EmbeddingPainter.untrained(
        Colours.fingerprint, hidden=32, grid=8, width=16, patch=2, seed=seed, device="cpu"
    )


def paired(step):
    pictures = quarters(step)
    return Painting(Colours().embed_pixels(pictures), pictures)


def unpaired(step):
    return Painting(Colours().embed_pixels(quarters(step)))


def options(**changes):
    given = {"steps": 60, "learning_rate": 1e-2, "average": 0.9, "weight_decay": 0.0, "device": "cpu"}
    return TrainingOptions(**{**given, **changes})


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# The bundled painter


def test_what_is_painted_of_a_picture_looks_like_it_to_the_encoder(painter, encoder, swatches):
    seen = encoder.embed_texts(WORDS)
    pictures = painter.paint(seen)
    assert all(picture.size == (64, 64) and picture.mode == "RGB" for picture in pictures)
    again = encoder.embed_images(painter.paint(encoder.embed_images(pictures)))
    cosines = again @ encoder.embed_images(pictures).T
    assert (cosines.argmax(axis=1) == np.arange(len(WORDS))).all()


def test_what_is_painted_of_words_is_nearer_to_them_than_to_other_words(painter, encoder):
    seen = encoder.embed_images(painter.paint(encoder.embed_texts(WORDS)))
    cosines = seen @ encoder.embed_texts(WORDS).T
    assert (cosines.argmax(axis=1) == np.arange(len(WORDS))).all()


def test_the_bundled_painter_is_small_and_knows_whose_vectors_it_takes(painter, encoder):
    from clip_qdrant.models.pocket import pocket_path

    files = {path.name: path.stat().st_size for path in pocket_path("painter").iterdir()}
    assert set(files) == {"README.md", "config.json", "model.safetensors"}
    assert files["model.safetensors"] < 4_000_000
    assert painter.encoder == encoder.fingerprint
    painter.check(encoder.fingerprint)
    assert {weight.dtype for weight in painter.network.parameters()} == {torch.float32}


def test_a_picture_depends_on_its_vector_alone(painter, encoder):
    vectors = encoder.embed_texts(WORDS)
    together = painter.paint(vectors)
    few = EmbeddingPainter("pocket", device="cpu", batch_size=4).paint(3.5 * vectors)
    for one, other in zip(together, few, strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
    assert len({picture.tobytes() for picture in together}) == len(WORDS)


def test_nothing_is_painted_of_nothing(painter):
    assert painter.paint([]) == []
    assert painter.paint(np.empty((0, painter.dim), np.float32)) == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(256), r"\(256,\).*\[vector\]"),
        (np.ones((2, 512)), r"\(n, 256\), got \(2, 512\)"),
        (np.empty((0, 512)), r"got \(0, 512\)"),
        (np.ones((1, 2, 256)), r"got \(1, 2, 256\)"),
        (np.vstack([np.ones(256), np.zeros(256)]), "Vector 1 has the length 0"),
        (np.full((1, 256), np.nan), "Vector 0 has the length nan"),
        (np.full((1, 256), np.inf), "Vector 0 has the length inf"),
        (["a red apple"], "must be numbers"),
        ([[1.0, 2.0], [1.0]], "must be numbers"),
        (None, r"got \(\)"),
    ],
)
def test_what_is_no_array_of_vectors_is_refused(painter, vectors, message):
    with pytest.raises(ConfigError, match=message):
        painter.paint(vectors)


def test_vectors_of_another_encoder_are_refused_though_they_are_as_long(painter):
    other = FakeEncoder(256, name="another")
    with pytest.raises(ConfigError, match=r"256-d vectors of 'pocket'.*256-d vectors of 'another'.*Use that encoder"):
        painter.check(other.fingerprint)


def test_importing_it_loads_no_torch():
    code = "import sys, clip_qdrant.models.painter, clip_qdrant.collection.preview; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Folders


def test_a_painter_is_the_same_when_it_is_loaded_again(tmp_path):
    vectors = Colours().embed_pixels(quarters(0))
    painter = small()
    painter.save(tmp_path / "whole", half=False)
    painter.save(tmp_path / "half")
    whole, half = (EmbeddingPainter(tmp_path / name, device="cpu") for name in ("whole", "half"))
    assert [one.tobytes() for one in whole.paint(vectors)] == [one.tobytes() for one in painter.paint(vectors)]
    for one, other in zip(half.paint(vectors), painter.paint(vectors), strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 2
    assert half.encoder == Colours.fingerprint
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


def test_a_name_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ModelNotFoundError, match="Use 'pocket', or a folder"):
        EmbeddingPainter(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "clip"}, "of 'clip'"),
        ({"kind": None}, "is no painter"),
        ({"grid": 16}, "not those of the painter"),
        ({"channels": 2}, "3 or more"),
        ({"patch": 2.5}, "whole numbers above 0"),
        ({"width": 12}, "multiple of 8"),
        ({"grid": None}, "whole numbers above 0"),
        ({"hidden": 0}, "whole numbers above 0"),
        ({"hidden": 64}, "not those of the painter"),
        ({"encoder": {"dim": 12}}, "must be a fingerprint"),
        ({"encoder": None}, "must be a fingerprint"),
        ({"encoder": Fingerprint("colours", "w", "p", 0).to_dict()}, "dim must be above 0"),
    ],
)
def test_a_config_that_was_tampered_with_is_refused(tmp_path, changes, message):
    small().save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ModelFormatError, match=message):
        EmbeddingPainter(tmp_path, device="cpu")


def test_a_folder_without_whole_weights_is_refused(tmp_path):
    with pytest.raises(ModelFormatError, match=r"has no config\.json"):
        EmbeddingPainter(tmp_path)
    small().save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelFormatError, match="not those of the painter"):
        EmbeddingPainter(tmp_path)
    weights.unlink()
    with pytest.raises(ModelFormatError, match=r"has no model\.safetensors"):
        EmbeddingPainter(tmp_path)


def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path):
    from safetensors.torch import load_file, save_file

    painter = small()
    painter.save(tmp_path)
    painter.network.last.bias.data[0] = 1e6  # too much for float16
    with pytest.raises(ModelFormatError, match="half=False"):
        painter.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "last.bias": weights["last.bias"] * float("nan")}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFormatError, match=r"'last\.bias' are not all numbers"):
        EmbeddingPainter(tmp_path)


def test_an_untrained_painter_follows_from_its_seed_and_leaves_torchs_generator_alone():
    state = torch.get_rng_state()
    one, same, other = small(0), small(0), small(1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.network.first.weight, same.network.first.weight)
    assert not torch.equal(one.network.first.weight, other.network.first.weight)
    assert EmbeddingPainter.untrained(Colours.fingerprint, grid=24, patch=3).side == 72
    with pytest.raises(ConfigError, match="multiple of 8"):
        EmbeddingPainter.untrained(Colours.fingerprint, width=12)
    with pytest.raises(ConfigError, match="batch_size"):
        EmbeddingPainter("pocket", batch_size=0)


def test_a_sample_is_spread_out_before_it_enters(tmp_path):
    rng = np.random.default_rng(0)
    narrow = 1 + 0.01 * rng.normal(size=(500, 12)) * np.array([5.0, *[1.0] * 11])
    painter = EmbeddingPainter.untrained(Colours.fingerprint, hidden=32, grid=8, sample=narrow, device="cpu")
    entering = []
    painter.network.enter.register_forward_pre_hook(lambda module, given: entering.append(given[0].numpy()))
    painter.paint(narrow)
    found = np.concatenate(entering)
    assert np.abs(found.mean(axis=0)).max() < 0.01
    assert np.abs(np.cov(found.T) - np.diag(np.var(found, axis=0))).max() < 0.15
    assert 0.6 < found.std() < 1.1
    painter.save(tmp_path)
    again = EmbeddingPainter(tmp_path, device="cpu")
    assert torch.allclose(again.network.spread, painter.network.spread, rtol=1e-3, atol=0.1)
    with pytest.raises(ConfigError, match=r"got \(500, 11\)"):
        EmbeddingPainter.untrained(Colours.fingerprint, sample=narrow[:, 1:])


def test_a_sample_with_pictures_is_where_it_starts_from():
    pictures = quarters(0, 400)
    vectors = Colours().embed_pixels(pictures)
    shape = {"hidden": 32, "grid": 8, "patch": 2, "device": "cpu"}
    plain = EmbeddingPainter.untrained(Colours.fingerprint, sample=vectors, **shape)
    fitted = EmbeddingPainter.untrained(Colours.fingerprint, sample=vectors, pictures=pictures, **shape)
    others = quarters(1)
    with torch.inference_mode():
        off = [(one.network(Colours().embed_pixels(others)) - others).square().mean() for one in (plain, fitted)]
    assert off[1] < 0.5 * others.var() < off[0]


# Training


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
    with pytest.raises(TrainingError, match=r"loss of step 3 is nan\. Lower the learning rate"):
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


# Points of a collection


def test_points_of_a_collection_are_painted_in_the_order_asked(painter, encoder, swatches):
    with connect(":memory:") as client:
        collection = ClipCollection(client, "swatches", encoder)
        collection.add([Record("picture", Image.open(swatches / "red.png")), Record("words", text="a blue whale")])
        ids = {hit.source: hit.id for hit in collection.search("red", using="both")}
        asked = [ids["words"], ids["picture"].upper(), ids["words"]]
        pictures = preview(collection, asked, painter)
        expected = painter.paint([
            encoder.embed_texts(["a blue whale"])[0], encoder.embed_images([swatches / "red.png"])[0]
        ])  # fmt: skip
        for one, other in zip(pictures, [expected[0], expected[1], expected[0]], strict=True):
            assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 2
        assert preview(collection, [], painter) == []


def test_a_preview_refuses_what_it_cannot_paint(painter, encoder):
    unknown = "00000000-0000-0000-0000-000000000001"
    with connect(":memory:") as client:
        with pytest.raises(ConfigError, match="of 'fake'"):
            preview(ClipCollection(client, "fake", FakeEncoder()), [], painter)
        collection = ClipCollection(client, "pictures", encoder)
        with pytest.raises(ConfigError, match=f"'{unknown}' of 'pictures' is not there"):
            preview(collection, [unknown], painter)
        with pytest.raises(InvalidPointError, match="a list"):
            preview(collection, unknown, painter)
