"""Contrastive training of an image and text encoder: from nothing, or on from a checkpoint.

The loop knows batches, not where they come from (`training_pairs` makes them of pairs). The batch of a step is a
function of the step, so that a run that was killed goes on as if nothing had happened: see `training_state`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.device import pick_device
from clip_qdrant.models.losses import backward_in_chunks, image_info_nce, info_nce, sigmoid_loss
from clip_qdrant.models.towers_transformers import vectors_of
from clip_qdrant.models.training_options import TrainingOptions, adamw
from clip_qdrant.models.training_state import CHECKPOINT, TrainingState
from clip_qdrant.models.training_workers import Workers

_PARTS: dict[str, tuple[str, ...]] = {"image": ("vision_", "visual_"), "text": ("text_",)}


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from.

    Attributes:
        pixels: float32 (n, 3, height, width), as the model's processor normalises them.
        ids: int64 (m, tokens).
        mask: int64 (m, tokens), 0 for padding; None for models that are trained with padding.
        positives: bool (n, m), which image belongs to which text; None: the first to the first, and so on.
        ignored: bool (n, m), which are neither right nor wrong answers to each other; None: none.
        concepts: int64 (n,), the same number for images that show the same; None: no two do.
    """

    pixels: Tensor
    ids: Tensor
    mask: Tensor | None = None
    positives: Tensor | None = None
    ignored: Tensor | None = None
    concepts: Tensor | None = None


Batches: TypeAlias = Callable[[int], Batch]
"""The batch of a step; for the same step always the same. Called in a thread, one step ahead."""

Judge: TypeAlias = Callable[[Any], float]
"""How good a model is, recall on pairs that it is not trained on, say; higher is better."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands.

    Attributes:
        step: how many steps are done.
        share: of the budget, 0 to 1.
        minutes: of training.
        loss: of the last step.
        learning_rate: of the last step.
        score: the judge's, where it has just been asked.
    """

    step: int
    share: float
    minutes: float
    loss: float
    learning_rate: float
    score: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How training went.

    Attributes:
        steps: done in all.
        minutes: they took.
        losses: of every step since the start or the resume.
        scores: of the judge, by step.
        best_step: the one whose weights were kept, or None for the last.
        stopped: "budget", "patience", or "asked".
    """

    steps: int
    minutes: float
    losses: list[float] = field(repr=False)
    scores: dict[int, float]
    best_step: int | None
    stopped: Literal["budget", "patience", "asked"]


def train(
    model: Any,
    batches: Batches,
    out: Path,
    options: TrainingOptions,
    *,
    resume: bool = False,
    judge: Judge | None = None,
    auxiliary: Callable[[Any, int], Tensor] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainingReport:
    """Train a model in place; at the end it has the weights to keep, on the device it was trained on.

    Started by `accelerate launch` or `torchrun`, every process takes its part of every batch, and the gradients are
    those of the whole batch, as one process would have them.

    Args:
        model: with `get_image_features` and `get_text_features`, as transformers' CLIP and SigLIP have them.
        batches: what to learn from.
        out: a folder for the state of the run; the model itself is written by `training_model.save_trained`.
        options: how.
        resume: go on from the state in `out`, with a model of the weights that the run began with. The weights are
            then the same as those of a run without the break, to the bit on one thread.
        judge: asked every `judge_every` steps and at the end.
        auxiliary: a further loss of (model, step), added to that of the batch: a teacher to follow, say.
        progress: called after every step.
        stop: asked after every step; when it says so, the state is written and training ends.

    Raises:
        ConfigError: there is no state to resume from, or it is that of other options or another model; there is one
            and it was not asked for; the options are not for this model, or have patience without a judge.
        TrainingError: the loss or its gradient is not a number; the state in `out`, if there is one yet, is of before.
    """
    if options.patience is not None and judge is None:
        raise ConfigError(f"patience={options.patience!r} needs a judge. Give one, or leave patience out.")
    run = _Run(model, out, options, resume=resume)
    return run.go(batches, judge, auxiliary, progress or (lambda _: None), stop or (lambda: False))


class _Run:
    def __init__(self, model: Any, out: Path, options: TrainingOptions, *, resume: bool) -> None:
        self._options = options
        self._workers = Workers(options.device)
        self._device = self._workers.device or pick_device(options.device)
        self._model = model.to(self._device).float()
        self._prepare_loss()
        self._highest_scale = max(math.log(options.max_scale), float(model.logit_scale.detach()))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = adamw(trained, options)
        self._trained = trained
        # Gradients of float16 would vanish without it; for the other precisions it does nothing.
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=options.precision == "float16")
        self._state = TrainingState(model, optimiser, self._scaler, out / CHECKPOINT, options)
        self._state.start(resume=resume)
        self._losses: list[float] = []

    def go(
        self,
        batches: Batches,
        judge: Judge | None,
        auxiliary: Callable[[Any, int], Tensor] | None,
        progress: Callable[[Progress], None],
        stop: Callable[[], bool],
    ) -> TrainingReport:
        state, options = self._state, self._options
        saved, stopped = state.seconds, "budget"
        forked = torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else [])
        with forked, ThreadPoolExecutor(1, "clip-qdrant-batches") as pool:
            ahead = pool.submit(batches, state.step)
            while self.share < 1 and not self._out_of_patience:
                start = time.perf_counter()
                rate = options.rate(self.share)
                # The next batch is made, pictures decoded and all, while this one is learnt from.
                batch, ahead = ahead.result(), pool.submit(batches, state.step + 1)
                loss = self._step(batch, rate, auxiliary)
                self._losses.append(loss)
                state.step += 1
                state.seconds += time.perf_counter() - start
                last = self.share >= 1
                score = None
                if judge is not None and (last or state.step % options.judge_every == 0):
                    score = self._judged(judge)
                progress(Progress(state.step, min(self.share, 1.0), state.seconds / 60, loss, rate, score))
                asked = bool(self._workers.same(float(stop())))
                due = self._workers.same(state.seconds - saved) > 60 * options.checkpoint_minutes
                if last or asked or self._out_of_patience or due:
                    self._workers.by_first(state.save)
                    saved = state.seconds
                if asked:
                    stopped = "asked"
                    break
        if stopped != "asked" and self.share < 1:
            stopped = "patience"
        best = state.best_step if judge is not None and options.keep_best else None
        state.give_weights(best=best is not None)
        self._model.eval()
        return TrainingReport(state.step, state.seconds / 60, self._losses, dict(state.scores), best, stopped)  # type: ignore[arg-type]

    @property
    def share(self) -> float:
        """How much of the budget is used."""
        used = self._options.share(self._state.step, self._state.seconds)
        return used if self._options.minutes is None else self._workers.same(used)

    @property
    def _out_of_patience(self) -> bool:
        patience = self._options.patience
        return patience is not None and self._state.without_better >= patience

    def _step(self, batch: Batch, rate: float, auxiliary: Callable[[Any, int], Tensor] | None) -> float:
        step, options, optimiser = self._state.step, self._options, self._state.optimiser
        torch.manual_seed(options.seed * 1_000_003 + step)  # dropout, too, shall be the same after a resume
        self._model.train()
        for tower in self._frozen:  # without dropout: it is to be learnt from as it is
            tower.eval()
        optimiser.zero_grad(set_to_none=True)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = self._backward(batch)
        if auxiliary is not None:
            more = auxiliary(self._model, step)
            torch.autograd.backward(self._scaler.scale(more / self._workers.count))
            loss = loss + float(more.detach())
        if not math.isfinite(loss):
            raise self._state.not_a_number("loss")
        self._workers.add_up(self._trained)
        self._scaler.unscale_(optimiser)
        length = torch.nn.utils.clip_grad_norm_(self._trained, options.clip_norm)
        if not self._scaler.is_enabled() and not torch.isfinite(length):  # with a scaler such steps are left out
            raise self._state.not_a_number("gradient")
        self._scaler.step(optimiser)
        self._scaler.update()
        with torch.no_grad():
            self._model.logit_scale.clamp_(max=self._highest_scale)
            self._state.follow()
        return loss

    def _backward(self, batch: Batch) -> float:
        """Gradients of this process's part of the batch; the loss is that of the whole."""
        options, workers = self._options, self._workers
        inputs: dict[str, list[Any]] = {"image": [batch.pixels], "text": [batch.ids]}
        if batch.mask is not None:
            inputs["text"].append(batch.mask)
        encode: dict[str, Callable[[Any], Tensor]] = {"image": self._encode_images, "text": self._encode_texts}
        sides, fixed = [], {}
        for tower, tensors in inputs.items():
            mine = [workers.part(tensor) for tensor in tensors]
            chunks = list(zip(*(torch.split(part, options.chunk or len(part)) for part in mine), strict=True))
            if tower in options.freeze:
                with torch.no_grad():
                    fixed[tower] = torch.cat([encode[tower](chunk) for chunk in chunks])
            else:
                sides.append((tower, encode[tower], chunks))

        def loss(*vectors: Tensor) -> Tensor:
            both = fixed | dict(zip((tower for tower, _, _ in sides), vectors, strict=True))
            images = workers.gather(both["image"], len(batch.pixels))
            texts = workers.gather(both["text"], len(batch.ids))
            # Each process has the whole loss, and gradients are added up over processes.
            return self._scaler.scale(self._loss(images, texts, batch)) / workers.count

        if options.chunk is None:
            total = loss(*(encode(chunks[0]) for _, encode, chunks in sides))
            torch.autograd.backward(total)
        else:
            total = backward_in_chunks([(encode, chunks) for _, encode, chunks in sides], loss)
        return float(total.detach()) * workers.count / float(self._scaler.get_scale())

    def _loss(self, images: Tensor, texts: Tensor, batch: Batch) -> Tensor:
        scale = self._model.logit_scale.exp()
        positives, ignored = (
            None if tensor is None else tensor.to(self._device) for tensor in (batch.positives, batch.ignored)
        )
        if self._options.loss == "sigmoid":
            total = sigmoid_loss(images, texts, scale, self._model.logit_bias, positives, ignored)
        else:
            total = info_nce(images, texts, scale, positives, ignored)
        if self._options.image_weight and batch.concepts is not None:
            between = image_info_nce(images, batch.concepts.to(self._device), self._options.image_scale)
            total = total + self._options.image_weight * between
        return total

    def _encode_images(self, chunk: tuple[Tensor]) -> Tensor:
        with self._autocast():
            vectors = vectors_of(self._model.get_image_features(pixel_values=chunk[0].to(self._device)))
        return normalize(vectors.float(), dim=-1)

    def _encode_texts(self, chunk: tuple[Tensor, ...]) -> Tensor:
        mask = chunk[1].to(self._device) if len(chunk) > 1 else None
        with self._autocast():
            vectors = vectors_of(
                self._model.get_text_features(input_ids=chunk[0].to(self._device), attention_mask=mask)
            )
        return normalize(vectors.float(), dim=-1)

    def _autocast(self) -> torch.autocast:
        dtype = getattr(torch, self._options.precision)
        return torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)

    def _judged(self, judge: Judge) -> float:
        """The judge's score of the weights that training would give now."""
        state = self._state
        with state.averaged():
            self._model.eval()
            with torch.no_grad():
                score = self._workers.same(float(judge(self._model)))
            state.note(score)
        return score

    def _prepare_loss(self) -> None:
        """Freeze towers, and give a model made for the other loss what this one needs."""
        self._frozen: list[torch.nn.Module] = []
        for tower in self._options.freeze:
            parts = [one for name, one in self._model.named_children() if name.startswith(_PARTS[tower])]
            if not parts:
                raise ConfigError(
                    f"{type(self._model).__name__} has no part that is named as a tower of {tower} "
                    f"({'…, '.join(_PARTS[tower])}…), so it cannot be frozen. Leave freeze out."
                )
            self._frozen += parts
        for module in self._frozen:
            module.requires_grad_(False)
        if self._options.loss == "sigmoid" and getattr(self._model, "logit_bias", None) is None:
            raise ConfigError(
                f"The sigmoid loss needs a model with a logit_bias, such as SigLIP, got {type(self._model).__name__}. "
                "Use loss='info_nce'."
            )
        if self._options.loss == "info_nce" and getattr(self._model, "logit_bias", None) is not None:
            # A bias changes no softmax: it would have no gradient.
            self._model.logit_bias.requires_grad_(False)
