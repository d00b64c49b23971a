"""`ZeroShotClassifier`: against transformers, with an encoder that sees colours, and with bad input."""

import logging
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer, SiglipModel, SiglipTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from clip_qdrant import ClipEncoder
from clip_qdrant.errors import ConfigError, ImageDecodeError, ImageNotFoundError, ModelError
from clip_qdrant.models.zero_shot import Calibration, Label, PrototypeCache, ZeroShotClassifier
from clip_qdrant.testing import FakeEncoder
from tests import checkpoints

COLOURS = ["red", "green", "blue"]
WORDS = ["cat", "the lazy dog", "brown fox", "numbers 0123"]


class Biased(FakeEncoder):
    """As SigLIP has it."""

    logit_scale, logit_bias = 20.0, -10.0


class Counting(FakeEncoder):
    """Notes how many items each call embeds."""

    def __init__(self, **options):
        super().__init__(**options)
        self.texts, self.images = [], []

    def embed_texts(self, texts):
        self.texts.append(len(texts))
        return super().embed_texts(texts)

    def embed_images(self, images):
        images = list(images)
        self.images.append(len(images))
        return super().embed_images(images)


def picture(*colours):
    """Equal stripes of colours."""
    found = Image.new("RGB", (8 * len(colours), 8))
    for index, colour in enumerate(colours):
        found.paste(colour, (8 * index, 0, 8 * index + 8, 8))
    return found


def classifier(labels=COLOURS, encoder=None, **options):
    return ZeroShotClassifier(encoder or FakeEncoder(), labels, **{"cache": PrototypeCache(), **options})


@pytest.fixture(scope="module", params=["clip", "siglip"])
def reference(request, tmp_path_factory):
    """A checkpoint and, of transformers' own, its logits_per_image for texts and images."""
    folder = getattr(checkpoints, f"make_{request.param}")(tmp_path_factory.mktemp(request.param))
    if request.param == "clip":
        model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
        images, padding = CLIPImageProcessorPil.from_pretrained(folder), {"padding": True}
    else:
        model, tokenizer = SiglipModel.from_pretrained(folder), SiglipTokenizer.from_pretrained(folder)
        images, padding = SiglipImageProcessorPil.from_pretrained(folder), {"padding": "max_length", "max_length": 64}

    def forward(texts, pictures):
        ids = tokenizer(texts, return_tensors="pt", **padding)
        given = {name: ids[name] for name in ("input_ids", "attention_mask") if name in ids}
        if request.param == "siglip":
            given.pop("attention_mask", None)
        with torch.inference_mode():
            return model.eval()(**given, **images(pictures, return_tensors="pt"))

    return request.param, ClipEncoder(folder, dtype="float32"), forward


@pytest.fixture(scope="module")
def noise():
    generator = np.random.default_rng(5)
    return [Image.fromarray(generator.integers(0, 255, (40, 48, 3), np.uint8)) for _ in range(5)]


def test_probabilities_are_those_of_the_model(reference, noise):
    family, encoder, forward = reference
    logits = forward(WORDS, noise).logits_per_image
    expected = (logits.softmax(-1) if family == "clip" else logits.sigmoid()).numpy()
    found = classifier(WORDS, encoder, templates=["{}"])
    answers = list(found.classify_images(noise, top_k=None))
    shown = np.array([[{s.label: s.probability for s in a.scores}[word] for word in WORDS] for a in answers])
    assert np.abs(shown - expected).max() < 1e-4
    assert np.ptp(expected) > 0.05
    cosines = np.array([[{s.label: s.cosine for s in a.scores}[word] for word in WORDS] for a in answers])
    bias = encoder.logit_bias
    assert np.abs(cosines * encoder.logit_scale + bias - logits.numpy()).max() < 1e-3


def test_templates_are_averaged_as_unit_vectors(reference, noise):
    _, encoder, forward = reference
    templates = ["{}", "a photo of a {}", "words of {} and {}"]
    rows = [forward([t.replace("{}", w) for w in WORDS], noise[:1]).text_embeds for t in templates]
    mean = torch.nn.functional.normalize(sum(rows), dim=-1).numpy()
    assert np.abs(classifier(WORDS, encoder, templates=templates).prototypes - mean).max() < 1e-5


def test_softmax_can_be_asked_of_a_model_with_a_bias(reference, noise):
    _, encoder, forward = reference
    expected = forward(WORDS, noise).logits_per_image.softmax(-1).numpy()
    found = classifier(WORDS, encoder, templates="name", activation="softmax")
    assert np.abs(found.probabilities(encoder.embed_images(noise)) - expected).max() < 1e-4


def test_images_and_texts_get_their_labels():
    found = classifier()
    assert [a.label for a in found.classify_images(map(picture, COLOURS))] == COLOURS
    assert [a.label for a in found.classify_texts(["my blue page", "all red"])] == ["blue", "red"]
    answer = next(found.classify_images([picture("red", "red", "red", "green")], top_k=2))
    assert [score.label for score in answer.scores] == ["red", "green"]
    assert answer.labels == answer.scores[:1] and not answer.abstained and answer.index == 0
    assert answer.margin == pytest.approx(answer.scores[0].probability - answer.scores[1].probability)
    assert answer.scores[0].cosine > 0.9


def test_top_k_is_at_most_the_labels():
    found = classifier(["red", "green", "blue", "yellow", "purple", "white"])
    for top_k, expected in ((1, 1), (3, 3), (100, 6), (None, 6)):
        answer = next(found.classify_images([picture("red", "red", "green")], top_k=top_k))
        assert len(answer.scores) == expected
        assert answer.margin == next(found.classify_images([picture("red", "red", "green")])).margin
        probabilities = [score.probability for score in answer.scores]
        assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.parametrize("encoder", [FakeEncoder(), Biased()])
def test_many_labels_hold_for_one_input(encoder):
    limits = Calibration(least_cosine=0.4)
    found = classifier(encoder=encoder, multi_label=True, templates="name", calibration=limits)
    two, one, none = found.classify_images([picture("red", "blue"), picture("green"), picture("yellow")])
    assert {score.label for score in two.labels} == {"red", "blue"}
    assert [score.label for score in one.labels] == ["green"]
    assert none.labels == () and none.abstained and none.label is None and len(none.scores) == 3


def test_one_label_has_no_other_than_itself_to_be_held_against():
    with pytest.raises(ConfigError, match="'red' alone"):
        classifier(["red"])
    found = classifier(["red"], Biased(), multi_label=True)
    assert [a.abstained for a in found.classify_images([picture("red"), picture("green")])] == [False, True]
    assert next(found.classify_images([picture("red")])).margin > 0.5
    with pytest.raises(ConfigError, match="'red' alone"):  # its texts have a softmax
        classifier(["red"], Biased())


def test_texts_of_a_model_with_a_bias_have_a_softmax():
    found = classifier(encoder=Biased())
    assert sum(s.probability for s in next(found.classify_texts(["red"])).scores) == pytest.approx(1)
    assert sum(s.probability for s in next(found.classify_images([picture("yellow")])).scores) < 0.1


@pytest.mark.parametrize(
    ("limits", "abstained"),
    [
        ({}, [False, False, False]),
        ({"threshold": 0.6}, [False, True, True]),
        ({"least_margin": 0.9}, [False, True, True]),
        ({"least_cosine": 0.5}, [False, False, True]),
    ],
)
def test_limits_of_an_answer(limits, abstained):
    found = classifier(templates="name", calibration=Calibration(temperature=3, **limits))
    answers = list(found.classify_images([picture("red"), picture("red", "green"), picture("gray")]))
    assert [answer.abstained for answer in answers] == abstained
    assert all(len(answer.scores) == 3 for answer in answers)
    assert [answer.label is None for answer in answers] == abstained


def test_images_and_texts_have_calibrations_of_their_own():
    found = classifier(calibration={"text": Calibration(threshold=1.0, temperature=50)})
    assert next(found.classify_texts(["red"])).abstained
    assert not next(found.classify_images([picture("red")])).abstained


def test_one_batch_is_in_memory_at_a_time():
    alive = most = 0

    def gone():
        nonlocal alive
        alive -= 1

    def pictures():
        nonlocal alive, most
        for _ in range(400):
            image = picture("red")
            weakref.finalize(image, gone)
            alive += 1
            most = max(most, alive)
            yield image

    answers = classifier(encoder=FakeEncoder(batch_size=8)).classify_images(pictures())
    assert sum(answer.label == "red" for answer in answers) == 400
    assert most < 80


def test_answers_come_before_the_input_ends_and_the_rest_is_not_read():
    read = []
    encoder = Counting(batch_size=4)

    def texts():
        for index in range(100):
            read.append(index)
            yield "red"

    answers = classifier(encoder=encoder).classify_texts(texts())
    assert read == []
    next(answers)
    answers.close()
    assert len(read) == 4 and encoder.texts[1:] == [4]


def test_an_unreadable_image_is_named_or_skipped(tmp_path, caplog):
    found = classifier(encoder=FakeEncoder(batch_size=2))
    given = [picture("red"), b"no image", picture("green"), tmp_path / "gone.png", picture("blue")]
    with pytest.raises(ImageDecodeError, match=r"bytes \(8\), input 1") as caught:
        list(found.classify_images(given))
    assert caught.value.reason
    with pytest.raises(ImageNotFoundError, match="input 0"):
        list(found.classify_images(given[3:]))
    with caplog.at_level(logging.WARNING):
        kept = list(found.classify_images(given, unreadable="skip"))
    assert [(a.index, a.label) for a in kept] == [(0, "red"), (2, "green"), (4, "blue")]
    assert "input 1" in caplog.text and "input 3" in caplog.text


def test_a_blank_text_is_named_or_skipped():
    found = classifier()
    with pytest.raises(ConfigError, match="Input 1 is a blank"):
        list(found.classify_texts(["red", " \n"]))
    kept = list(found.classify_texts(["red", "", "blue"], unreadable="skip"))
    assert [(a.index, a.label) for a in kept] == [(0, "red"), (2, "blue")]
    with pytest.raises(ConfigError, match="Input 1 is no text but Image"):
        list(found.classify_texts(["red", picture("red")]))


def test_nothing_has_no_answers():
    found = classifier()
    assert list(found.classify_images([])) == list(found.classify_texts(iter(()))) == []
    assert list(found.classify_vectors(np.empty((0, 32)))) == []
    assert found.probabilities(np.empty((0, 32))).shape == (0, 3)


def test_vectors_get_the_answers_of_their_images():
    found, images = classifier(), [picture(*pair) for pair in zip(COLOURS, COLOURS[1:] + COLOURS[:1], strict=True)]
    vectors = FakeEncoder().embed_images(images)
    assert list(found.classify_vectors(vectors)) == list(found.classify_images(images))
    many = list(found.classify_vectors(np.repeat(vectors, 700, axis=0), top_k=1))
    assert [answer.index for answer in many] == list(range(2100))
    assert {answer.label for answer in many[1400:]} == {many[-1].label}


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.full((2, 32), np.nan), "Vector 0 has the length nan"),
        (np.eye(32)[:3] * [[1], [2], [1]], "Vector 1 has the length 2.0"),
        (np.eye(16), r"of shape \(n, 32\).*got \(16, 16\)"),
        (np.eye(32)[0], r"got \(32,\)"),
    ],
)
def test_bad_vectors(vectors, message):
    with pytest.raises(ConfigError, match=message):
        classifier().classify_vectors(vectors)


def test_nan_of_the_model_is_told():
    class Broken(FakeEncoder):
        def embed_images(self, images):
            return super().embed_images(images) * np.array([[1], [np.nan]], np.float32)

    with pytest.raises(ModelError, match="'fake' made NaN of input 1"):
        list(classifier(encoder=Broken()).classify_images([picture("red")] * 2))

    class Dumb(FakeEncoder):
        def embed_texts(self, texts):
            return super().embed_texts(texts) * np.nan

    with pytest.raises(ModelError, match="prompts is no direction"):
        classifier(encoder=Dumb())


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([], {}, "There are no labels"),
        ("red", {}, "must be a list or a mapping, got 'red'"),
        (["red", "red "], {}, "two labels 'red'"),
        (["red", " "], {}, "not blank, got ' '"),
        (["red", None], {}, "not blank, got None"),
        ([Label("red", synonyms=["blue"]), "blue"], {}, "'blue' is a label, and a synonym of 'red'"),
        (COLOURS, {"templates": ["a photo"]}, "where the label goes, got 'a photo'"),
        (COLOURS, {"templates": []}, "no templates"),
        (COLOURS, {"templates": "a {}"}, "no templates 'a {}'; there are 'default'"),
        (COLOURS, {"templates": ["{}", "{}"]}, "there twice"),
        (COLOURS, {"activation": "relu"}, "activation must be"),
        (COLOURS, {"activation": "softmax", "multi_label": True}, "shares one label out"),
        (COLOURS, {"example_weight": 1.5}, "example_weight must be from 0 to 1"),
        (COLOURS, {"example_weight": float("nan")}, "example_weight must be from 0 to 1"),
        (COLOURS, {"coarse": "top"}, "coarse must be"),
        (COLOURS, {"calibration": {"sound": Calibration()}}, "kind must be"),
        (COLOURS, {"calibration": {"image": 0.5}}, "must be a Calibration"),
    ],
)
def test_bad_labels_and_options_cost_no_embedding(labels, options, message):
    encoder = Counting()
    with pytest.raises(ConfigError, match=message):
        classifier(labels, encoder, **options)
    assert encoder.texts == encoder.images == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.classify_images("cat.png"), "got one str"),
        (lambda c: c.classify_images(np.zeros((8, 8, 3), np.uint8)), "got one ndarray"),
        (lambda c: c.classify_images(picture("red")), "got one Image"),
        (lambda c: c.classify_images([], top_k=0), "top_k must be a whole number"),
        (lambda c: c.classify_images([], unreadable="ignore"), "unreadable must be"),
        (lambda c: c.classify_texts("red"), "got one str"),
        (lambda c: c.classify_texts([], top_k=True), "top_k must be a whole number"),
        (lambda c: c.classify_vectors(np.eye(32), "sound"), "kind must be 'image' or 'text', got 'sound'"),
    ],
)
def test_bad_input_is_told_before_anything_is_read(call, message):
    with pytest.raises(ConfigError, match=message):
        call(classifier())
