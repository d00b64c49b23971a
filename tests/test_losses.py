"""The contrastive losses, against sums written out in float64, and their gradients in chunks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.losses import backward_in_chunks, image_info_nce, info_nce, sigmoid_loss


def unit(rng, count, dim):
    vectors = rng.normal(size=(count, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference_info_nce(images, texts, scale, wanted):
    """By hand: for every row, the mean over its right answers of minus the log of the share that each has."""

    def one_way(left, right, rows):
        total, count = 0.0, 0
        for i, row in enumerate(rows):
            right_ones = [j for j, is_right in enumerate(row) if is_right]
            if right_ones:
                scores = [scale * sum(a * b for a, b in zip(left[i], other, strict=True)) for other in right]
                whole = math.log(sum(math.exp(score - max(scores)) for score in scores)) + max(scores)
                total -= sum(scores[j] - whole for j in right_ones) / len(right_ones)
                count += 1
        return total / count

    return (one_way(images, texts, wanted) + one_way(texts, images, wanted.T)) / 2


def reference_sigmoid(images, texts, scale, bias, wanted):
    total = 0.0
    for i in range(len(images)):
        for j in range(len(texts)):
            sign = 1 if wanted[i, j] else -1
            total += math.log1p(math.exp(-sign * (scale * float(images[i] @ texts[j]) + bias)))
    return total / len(images)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 6),
    texts=st.integers(1, 6),
    dim=st.integers(2, 8),
    scale=st.floats(0.5, 30.0),
    bias=st.floats(-10.0, 2.0),
)
def test_the_losses_equal_sums_by_hand(seed, images, texts, dim, scale, bias):
    rng = np.random.default_rng(seed)
    left, right = unit(rng, images, dim), unit(rng, texts, dim)
    wanted = rng.random((images, texts)) < 0.4
    wanted[rng.integers(images), rng.integers(texts)] = True
    tensors = torch.tensor(left, dtype=torch.float32), torch.tensor(right, dtype=torch.float32)
    positives = torch.tensor(wanted)
    expected = reference_info_nce(left, right, scale, wanted)
    assert float(info_nce(*tensors, scale, positives)) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    expected = reference_sigmoid(left, right, scale, bias, wanted)
    assert float(sigmoid_loss(*tensors, scale, bias, positives)) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_pairs_are_the_diagonal_and_the_loss_is_clips():
    rng = np.random.default_rng(0)
    images, texts = (torch.tensor(unit(rng, 5, 4), dtype=torch.float32) for _ in range(2))
    logits = 20 * images @ texts.T
    labels = torch.arange(5)
    clips = (
        torch.nn.functional.cross_entropy(logits, labels) + torch.nn.functional.cross_entropy(logits.T, labels)
    ) / 2
    torch.testing.assert_close(info_nce(images, texts, 20.0), clips)


def test_texts_of_no_image_are_wrong_answers_only():
    images, right = torch.eye(3)[:1], torch.eye(3)[:1]
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0.0]]))
    alone = info_nce(images, right, 10.0)
    harder = info_nce(images, torch.cat([right, near]), 10.0, torch.tensor([[True, False]]))
    assert float(alone) == 0.0
    assert float(harder) > 0.2


def test_what_is_ignored_is_neither_right_nor_wrong():
    rng = np.random.default_rng(2)
    images, texts = (torch.tensor(unit(rng, 3, 4), dtype=torch.float32) for _ in range(2))
    wanted = torch.eye(3, dtype=torch.bool)
    ignored = torch.zeros(3, 3, dtype=torch.bool)
    ignored[0, 1] = True
    ignored[2, 2] = True  # which belongs together all the same
    logits = 20 * images @ texts.T
    logits[0, 1] = -math.inf
    labels = torch.arange(3)
    expected = (
        torch.nn.functional.cross_entropy(logits, labels) + torch.nn.functional.cross_entropy(logits.T, labels)
    ) / 2
    torch.testing.assert_close(info_nce(images, texts, 20.0, wanted, ignored), expected)
    left_out = torch.nn.functional.softplus(20.0 * images[0] @ texts[1] - 3.0) / 3
    whole = sigmoid_loss(images, texts, 20.0, -3.0, wanted)
    torch.testing.assert_close(sigmoid_loss(images, texts, 20.0, -3.0, wanted, ignored), whole - left_out)


@pytest.mark.parametrize("ignored", [torch.zeros(3, 3), torch.zeros(2, 3, dtype=torch.bool)])
def test_what_to_ignore_is_said_in_the_same_shape(ignored):
    with pytest.raises(ConfigError, match=r"ignored must be bool of shape \(3, 3\)"):
        info_nce(torch.eye(3), torch.eye(3), 1.0, None, ignored)


def test_images_choose_the_others_of_their_concept():
    rng = np.random.default_rng(3)
    vectors = unit(rng, 5, 4)
    concepts = [7, 7, 9, 7, 9]
    total = 0.0
    for i, own in enumerate(concepts):
        scores = {j: 10 * float(vectors[i] @ vectors[j]) for j in range(5) if j != i}
        whole = math.log(sum(math.exp(score) for score in scores.values()))
        right = [j for j in scores if concepts[j] == own]
        total -= sum(scores[j] - whole for j in right) / len(right)
    loss = image_info_nce(torch.tensor(vectors, dtype=torch.float32), torch.tensor(concepts), 10.0)
    assert float(loss) == pytest.approx(total / 5, abs=1e-5)
    alone = image_info_nce(torch.tensor(vectors, dtype=torch.float32), torch.tensor([7, 7, 1, 2, 3]), 10.0)
    assert float(alone) > 0
    with pytest.raises(ConfigError, match="No two images show the same"):
        image_info_nce(torch.eye(3), torch.tensor([1, 2, 3]), 10.0)


def test_half_precision_is_computed_in_full():
    rng = np.random.default_rng(1)
    images, texts = (torch.tensor(unit(rng, 8, 16), dtype=torch.bfloat16) for _ in range(2))
    assert info_nce(images, texts, 100.0).dtype == torch.float32
    torch.testing.assert_close(info_nce(images, texts, 100.0), info_nce(images.float(), texts.float(), 100.0))


@pytest.mark.parametrize(
    "images, texts, positives, message",
    [
        (torch.eye(3), torch.eye(2), None, r"got \(3, 3\) and \(2, 2\)"),
        (torch.eye(3), torch.eye(3)[:2], None, "3 images and 2 texts"),
        (torch.eye(3), torch.eye(3), torch.ones(3, 3), "must be bool of shape"),
        (torch.eye(3), torch.eye(3), torch.ones(3, 2, dtype=torch.bool), "must be bool of shape"),
        (torch.eye(3), torch.eye(3), torch.zeros(3, 3, dtype=torch.bool), "nothing belongs together"),
    ],
)
def test_what_does_not_fit_is_refused(images, texts, positives, message):
    with pytest.raises(ConfigError, match=message):
        info_nce(images, texts, 1.0, positives)
    with pytest.raises(ConfigError, match=message):
        sigmoid_loss(images, texts, 1.0, 0.0, positives)


class Model(torch.nn.Module):
    """Two towers with dropout, a scale and a bias."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        tower = [torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Dropout(0.3), torch.nn.Linear(16, 8)]
        self.image = torch.nn.Sequential(*tower)
        self.text = torch.nn.Linear(5, 8)
        self.scale = torch.nn.Parameter(torch.tensor(5.0))
        self.bias = torch.nn.Parameter(torch.tensor(-2.0))

    def images(self, chunk):
        return torch.nn.functional.normalize(self.image(chunk), dim=1)

    def texts(self, chunk):
        return torch.nn.functional.normalize(self.text(chunk), dim=1)

    def gradients(self):
        return {name: weight.grad.clone() for name, weight in self.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("sizes", [[12], [5, 7], [1] * 12, [4, 4, 4]])
@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_gradients_in_chunks_are_those_of_the_batch(sizes, kind):
    generator = torch.Generator().manual_seed(1)
    images, texts = torch.randn(12, 6, generator=generator), torch.randn(12, 5, generator=generator)
    model = Model()

    def loss(left, right):
        if kind == "info_nce":
            return info_nce(left, right, model.scale)
        return sigmoid_loss(left, right, model.scale, model.bias)

    torch.manual_seed(7)
    whole = loss(torch.cat([model.images(chunk) for chunk in images.split(sizes)]), model.texts(texts))
    whole.backward()
    expected = model.gradients()
    after = torch.rand(1)
    model.zero_grad()
    torch.manual_seed(7)
    sides = [(model.images, images.split(sizes)), (model.texts, texts.split([3, 9]))]
    chunked = backward_in_chunks(sides, loss)
    torch.testing.assert_close(chunked, whole.detach(), rtol=1e-4, atol=1e-4)
    for name, gradient in model.gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-4)
    assert set(model.gradients()) == set(expected)
    assert torch.rand(1) == after, "the second pass drew random numbers of its own"
    assert not chunked.requires_grad


def test_gradients_add_up_over_parts():
    model, images, texts = Model().eval(), torch.randn(4, 6), torch.randn(4, 5)
    sides = [(model.images, [images]), (model.texts, [texts])]

    def loss(left, right):
        return info_nce(left, right, model.scale)

    backward_in_chunks(sides, loss)
    once = model.gradients()
    model.zero_grad()
    for _ in range(2):
        backward_in_chunks(sides, loss, parts=2)
    for name, gradient in model.gradients().items():
        torch.testing.assert_close(gradient, once[name])
