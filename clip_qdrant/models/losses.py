"""Contrastive losses between unit vectors of images and texts, and their gradients in chunks of a batch.

Not every image has one text: `positives` says which belong together, so that an image may have several captions, and a
caption several images. Texts that belong to no image are further wrong answers ("hard negatives").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from clip_qdrant.errors import ConfigError

Encode: TypeAlias = Callable[[Any], Tensor]
"""A chunk of a batch -> its vectors (n, dim), with a graph."""


def info_nce(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    positives: Tensor | None = None,
    ignored: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE: every image shall choose its texts among all, and every text its images.

    Of several right answers each shall be chosen, and all count the same: the form "out" of Khosla et al., Supervised
    Contrastive Learning (2020), of which CLIP's loss (Radford et al., 2021) is the case of one.

    Args:
        images: unit vectors (n, dim).
        texts: unit vectors (m, dim).
        scale: what cosines are multiplied by, the inverse temperature.
        positives: bool (n, m), what belongs together; None: the first with the first, and so on, for n = m.
        ignored: bool (n, m), what is neither a right nor a wrong answer; None: nothing. What belongs together is never
            ignored.

    Returns:
        A scalar, in float32 whatever the vectors are in.

    Raises:
        ConfigError: shapes that do not fit, or nothing that belongs together.
    """
    wanted = _positives(images, texts, positives)
    logits = _logits(images, texts, scale)
    if ignored is not None:
        logits = logits.masked_fill(_left_out(wanted, ignored), -torch.inf)
    return (_chosen(logits, wanted) + _chosen(logits.T, wanted.T)) / 2


def sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    positives: Tensor | None = None,
    ignored: Tensor | None = None,
) -> Tensor:
    """SigLIP's loss: every pair by itself is right or wrong.

    After Zhai et al., Sigmoid Loss for Language Image Pre-Training (2023).

    Args:
        images: unit vectors (n, dim).
        texts: unit vectors (m, dim).
        scale: what cosines are multiplied by.
        bias: what is added to them; about -log m at the start, since most pairs are wrong.
        positives: bool (n, m), what belongs together; None: the first with the first, and so on, for n = m.
        ignored: bool (n, m), what is neither a right nor a wrong answer; None: nothing.

    Returns:
        A scalar: the sum over all pairs, by image.

    Raises:
        ConfigError: as `info_nce`.
    """
    wanted = _positives(images, texts, positives)
    logits = _logits(images, texts, scale) + bias
    logs = logsigmoid(torch.where(wanted, logits, -logits))
    if ignored is not None:
        logs = logs.masked_fill(_left_out(wanted, ignored), 0.0)
    return -logs.sum() / len(images)


def image_info_nce(images: Tensor, concepts: Tensor, scale: Tensor | float) -> Tensor:
    """InfoNCE among images: each shall choose the other images of its concept among all others.

    After Khosla et al., Supervised Contrastive Learning (2020).

    Args:
        images: unit vectors (n, dim).
        concepts: int64 (n,), the same number for images that show the same.
        scale: what cosines are multiplied by.

    Returns:
        A scalar, in float32.

    Raises:
        ConfigError: no two images have a concept in common.
    """
    itself = torch.eye(len(images), dtype=torch.bool, device=images.device)
    wanted = (concepts[:, None] == concepts[None, :]) & ~itself
    if not wanted.any():
        raise ConfigError("No two images show the same, so there is nothing to learn from images alone.")
    return _chosen(_logits(images, images, scale).masked_fill(itself, -torch.inf), wanted)


def backward_in_chunks(
    sides: Sequence[tuple[Encode, Sequence[Any]]], loss: Callable[..., Tensor], *, parts: int = 1
) -> Tensor:
    """The gradients of a whole batch, in the memory of one chunk (Gao et al., Scaling Deep Contrastive Learning, 2021).

    Every chunk is encoded without a graph; the loss of all vectors gives each vector's gradient; every chunk is encoded
    again, with the same random numbers (of dropout), and that gradient goes back through it. So a chunk is encoded
    twice, and the gradients are those of the whole batch.

    Args:
        sides: for each argument of the loss how to encode a chunk, and the chunks; ([images…], [texts…]) for two.
        loss: vectors of each side, in the order of the chunks, to a scalar. What it has of its own (a scale, a bias)
            gets its gradients, too.
        parts: over how many such calls gradients are accumulated; the loss is divided by it.

    Returns:
        The loss, without a graph.
    """
    states: list[list[_RandomState]] = []
    vectors: list[Tensor] = []
    for encode, chunks in sides:
        states.append([])
        encoded = []
        for chunk in chunks:
            states[-1].append(_RandomState())
            with torch.no_grad():
                encoded.append(encode(chunk))
        vectors.append(torch.cat(encoded).requires_grad_())
    total = loss(*vectors) / parts
    torch.autograd.backward(total)
    for (encode, chunks), side_states, side in zip(sides, states, vectors, strict=True):
        start = 0
        for chunk, state in zip(chunks, side_states, strict=True):
            with state:
                again = encode(chunk)
            assert side.grad is not None
            torch.autograd.backward(again, side.grad[start : start + len(again)])
            start += len(again)
    return total.detach()


class _RandomState:
    """The random numbers that come next, to be drawn a second time; those after it are as if they had not been."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def __enter__(self) -> None:
        self._fork = torch.random.fork_rng(devices=range(len(self._gpu)))
        self._fork.__enter__()
        torch.set_rng_state(self._cpu)
        if self._gpu:
            torch.cuda.set_rng_state_all(self._gpu)

    def __exit__(self, *exception: Any) -> None:
        self._fork.__exit__(*exception)


def _logits(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    # In float32: half precision has too few digits for differences of cosines times a scale of 100.
    return scale * (images.float() @ texts.float().T)


def _positives(images: Tensor, texts: Tensor, positives: Tensor | None) -> Tensor:
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1]:
        raise ConfigError(
            f"A loss takes image vectors (n, dim) and text vectors (m, dim), got {tuple(images.shape)} and "
            f"{tuple(texts.shape)}."
        )
    if positives is None:
        if len(images) != len(texts):
            raise ConfigError(
                f"There are {len(images)} images and {len(texts)} texts. Say by positives (n, m) what fits."
            )
        return torch.eye(len(images), dtype=torch.bool, device=images.device)
    if positives.dtype != torch.bool or positives.shape != (len(images), len(texts)):
        raise ConfigError(
            f"positives must be bool of shape {(len(images), len(texts))}, got {positives.dtype} of "
            f"{tuple(positives.shape)}."
        )
    if not positives.any():
        raise ConfigError("positives says that nothing belongs together, so there is nothing to learn.")
    return positives


def _left_out(wanted: Tensor, ignored: Tensor) -> Tensor:
    if ignored.dtype != torch.bool or ignored.shape != wanted.shape:
        raise ConfigError(
            f"ignored must be bool of shape {tuple(wanted.shape)}, got {ignored.dtype} of {tuple(ignored.shape)}."
        )
    return ignored & ~wanted


def _chosen(logits: Tensor, wanted: Tensor) -> Tensor:
    """How badly rows choose what is wanted, by row; rows that want nothing have no say."""
    logs = torch.where(wanted, log_softmax(logits, dim=1), 0.0).sum(dim=1)
    counts = wanted.sum(dim=1)
    rows = counts > 0
    return -(logs[rows] / counts[rows]).mean()
