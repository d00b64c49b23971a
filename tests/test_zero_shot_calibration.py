"""Calibration: probabilities that mean what they say, and a limit for none of these."""

import numpy as np
import pytest

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.zero_shot import Calibration, ZeroShotClassifier
from clip_qdrant.models.zero_shot_calibration import expected_calibration_error, fit_limit
from clip_qdrant.models.zero_shot_prototypes import Prototypes
from clip_qdrant.testing import FakeEncoder
from tests.test_zero_shot import classifier, picture

LABELS = [f"label {number}" for number in range(20)]


def noisy(count, noise, seed=0, dim=64):
    """A classifier of random prototypes, and inputs that are more noise the higher it is, with their answers."""
    rng = np.random.default_rng(seed)
    prototypes = unit(rng.normal(size=(20, dim)))
    known = Prototypes(prototypes, np.zeros_like(prototypes), unit(rng.normal(size=(1, dim))))
    right = rng.integers(0, 20, count)
    vectors = unit(prototypes[right] + noise * rng.normal(size=(count, dim)) / np.sqrt(dim))
    found = ZeroShotClassifier(FakeEncoder(dim=dim), LABELS, cache=known)
    return found, vectors, right


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def error(found, vectors, right):
    shares = found.probabilities(vectors)
    return expected_calibration_error(shares.max(axis=1), shares.argmax(axis=1) == right)


def test_a_temperature_makes_answers_as_sure_as_they_are_right():
    found, vectors, right = noisy(2_000, 4.0)
    learnt, tested = slice(0, 400), slice(400, None)
    calibrated = found.calibrate_vectors(vectors[learnt], [LABELS[at] for at in right[learnt]])
    before, after = (error(one, vectors[tested], right[tested]) for one in (found, calibrated))
    assert before > 0.2 and after < 0.05
    measured = calibrated.calibration["image"].measured
    assert measured.count == 400 and measured.error_after < measured.error_before
    assert measured.loss_after < measured.loss_before
    best = [one.probabilities(vectors).argmax(axis=1) for one in (found, calibrated)]
    assert (best[0] == best[1]).all()  # a temperature changes no answer
    assert calibrated.calibration["text"] == Calibration() and found.calibration["image"] == Calibration()


def test_a_limit_leaves_out_what_is_none_of_these():
    found, vectors, right = noisy(600, 1.0)
    _, strangers, _ = noisy(600, 1.0, seed=9)
    answers = [*(LABELS[at] for at in right[:300]), *[None] * 300]
    calibrated = found.calibrate_vectors(np.concatenate([vectors[:300], strangers[:300]]), answers)
    known = [answer.abstained for answer in calibrated.classify_vectors(vectors[300:])]
    unknown = [answer.abstained for answer in calibrated.classify_vectors(strangers[300:])]
    assert np.mean(known) < 0.1 and np.mean(unknown) > 0.9
    precise = found.calibrate_vectors(vectors, [LABELS[at] for at in right], precision=0.999)
    given = [(a, at) for a, at in zip(precise.classify_vectors(vectors), right, strict=True) if not a.abstained]
    assert np.mean([a.label == LABELS[at] for a, at in given]) >= 0.999


def test_many_labels_are_calibrated_by_a_line():
    pictures = [picture(*pair) for pair in (("red",), ("green",), ("blue",), ("red", "blue"), ("yellow",))] * 4
    answers = [["red"], ["green"], ["blue"], ["red", "blue"], []] * 4
    found = classifier(multi_label=True, templates="name").calibrate_images(pictures, answers)
    held = [{score.label for score in answer.labels} for answer in found.classify_images(pictures[:5])]
    assert held == [set(one) for one in answers[:5]]
    assert found.calibration["image"].measured.error_after < 0.1


def test_calibrations_are_stored_as_json():
    found, vectors, right = noisy(100, 3.0)
    kept = found.calibrate_vectors(vectors, [LABELS[at] for at in right]).calibration["image"]
    assert Calibration.from_dict(kept.to_dict()) == kept


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        (["red"] * 9, {}, "one answer for each input, got 9"),
        (["red"] * 12, {}, "at least 2 labels, got 12 of 1"),
        ([None] * 12, {}, "got 0 of 0"),
        (["pink"] * 12, {}, "no label 'pink'"),
        (["red", "blue"] * 6, {"precision": 1.5}, "precision must be above 0"),
    ],
)
def test_what_cannot_be_calibrated_by(answers, options, message):
    with pytest.raises(ConfigError, match=message):
        classifier().calibrate_images([picture("red")] * 12, answers, **options)


def test_errors_and_limits_by_hand():
    assert expected_calibration_error([0.9, 0.9], [True, False]) == pytest.approx(0.4)
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0
    scores, good = np.array([0.9, 0.8, 0.7, 0.2]), np.array([True, True, False, False])
    assert 0.7 < fit_limit(scores, good, None) <= 0.8
    assert 0.2 < fit_limit(scores, good, 0.6) <= 0.7
    with pytest.raises(ConfigError, match="No limit makes 100%"):
        fit_limit(-scores, good, 1.0)
