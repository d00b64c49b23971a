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

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.models.device import DTYPES, pick_device
from clip_qdrant.models.losses import backward_in_chunks, image_info_nce, info_nce, sigmoid_loss
from clip_qdrant.models.towers_transformers import vectors_of
from clip_qdrant.models.training_state import CHECKPOINT, TrainingState
from clip_qdrant.models.training_workers import Workers

Tower = Literal["image", "text"]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How to train.

    Attributes:
        steps: the budget; either this or `minutes`.
        minutes: the budget in minutes of training, over all resumed parts. How many steps that makes, and so the
            result, depends on the machine.
        learning_rate: at its highest; it rises from nothing over the share `warmup` of the budget, stays until the
            share `plateau`, and falls to nothing along a cosine.
        warmup: see `learning_rate`.
        plateau: see `learning_rate`.
        weight_decay: AdamW's, for matrices only.
        loss: "info_nce" (CLIP's) or "sigmoid" (SigLIP's).
        chunk: how many items go through a tower at once; the gradients are still those of the whole batch. None: all.
        precision: what the towers compute in: "float32", "bfloat16" or "float16". Weights and losses stay float32.
        freeze: the towers that stay as they are; ("image",) is LiT (Zhai et al., 2022).
        average: the decay of an exponential average of the weights, which then is what training gives; 0 for none.
        image_weight: of a further InfoNCE between images of one concept; 0 for none.
        image_scale: the inverse temperature of that.
        clip_norm: gradients longer than this are shortened to it.
        max_scale: the highest inverse temperature that can be learnt.
        checkpoint_minutes: how often the state is written.
        judge_every: after how many steps the judge is asked.
        patience: stop after so many judgements without a better one; None: never.
        keep_best: give the weights that the judge found best instead of the last.
        seed: of dropout; what is in the batches is up to them.
        device: "auto" or a name of torch's.
    """

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1e-4
    warmup: float = 0.05
    plateau: float = 0.4
    weight_decay: float = 0.1
    loss: Literal["info_nce", "sigmoid"] = "info_nce"
    chunk: int | None = None
    precision: str = "float32"
    freeze: tuple[Tower, ...] = ()
    average: float = 0.0
    image_weight: float = 0.0
    image_scale: float = 10.0
    clip_norm: float = 1.0
    max_scale: float = 100.0
    checkpoint_minutes: float = 3.0
    judge_every: int = 100
    patience: int | None = None
    keep_best: bool = True
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError(f"Give steps or minutes, not both: got {self.steps!r} and {self.minutes!r}.")
        _check("steps or minutes", self.steps or self.minutes or 0, above=0)
        for name in ("learning_rate", "clip_norm", "max_scale", "image_scale", "checkpoint_minutes", "judge_every"):
            _check(name, getattr(self, name), above=0)
        for name in ("chunk", "patience"):
            _check(name, 1 if getattr(self, name) is None else getattr(self, name), above=0)
        if not 0 <= self.warmup <= self.plateau <= 1:
            raise ConfigError(f"0 <= warmup <= plateau <= 1 must hold, got {self.warmup!r} and {self.plateau!r}.")
        if not 0 <= self.average < 1:
            raise ConfigError(f"average must be at least 0 and below 1, got {self.average!r}.")
        if self.loss not in ("info_nce", "sigmoid"):
            raise ConfigError(f"loss must be 'info_nce' or 'sigmoid', got {self.loss!r}.")
        if self.precision not in DTYPES:
            raise ConfigError(f"precision must be one of {', '.join(map(repr, DTYPES))}, got {self.precision!r}.")
        if not set(self.freeze) < {"image", "text"}:
            raise ConfigError(f"freeze may name 'image' or 'text', not both, got {self.freeze!r}.")


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
        resume: go on from the state in `out`. The weights are then the same as those of a run without the break, to
            the bit on one thread.
        judge: asked every `judge_every` steps and at the end.
        auxiliary: a further loss of (model, step), added to that of the batch: a teacher to follow, say.
        progress: called after every step.
        stop: asked after every step; when it says so, the state is written and training ends.

    Raises:
        ConfigError: there is no state to resume from, or it is that of other options or another model; or there is one
            and it was not asked for.
        TrainingError: the loss or its gradient is not a number; the state in `out` is of before.
    """
    run = _Run(model, out, options, resume=resume)
    return run.go(batches, judge, auxiliary, progress or (lambda _: None), stop or (lambda: False))


class _Run:
    def __init__(self, model: Any, out: Path, options: TrainingOptions, *, resume: bool) -> None:
        self._options = options
        self._workers = Workers(options.device)
        self._device = self._workers.device or pick_device(options.device)
        self._model = model.to(self._device).float()
        self._prepare_loss()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim > 1]
        others = [parameter for parameter in trained if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
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
            while self.share < 1:
                start = time.perf_counter()
                rate = self.learning_rate()
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
                out_of_patience = options.patience is not None and state.without_better >= options.patience
                asked = bool(self._workers.same(float(stop())))
                due = self._workers.same(state.seconds - saved) > 60 * options.checkpoint_minutes
                if last or asked or out_of_patience or due:
                    self._workers.by_first(state.save)
                    saved = state.seconds
                if asked or (out_of_patience and not last):
                    stopped = "asked" if asked else "patience"
                    break
        best = state.best_step if judge is not None and options.keep_best else None
        state.give_weights(best=best is not None)
        self._model.eval()
        return TrainingReport(state.step, state.seconds / 60, self._losses, dict(state.scores), best, stopped)  # type: ignore[arg-type]

    @property
    def share(self) -> float:
        """How much of the budget is used."""
        if self._options.steps is not None:
            return self._state.step / self._options.steps
        assert self._options.minutes is not None
        return self._workers.same(self._state.seconds / (60.0 * self._options.minutes))

    def learning_rate(self) -> float:
        """Of the next step."""
        options, share = self._options, self.share
        rising = min(1.0, (share + 1e-3) / options.warmup) if options.warmup else 1.0
        falling = max(0.0, share - options.plateau) / max(1e-9, 1 - options.plateau)
        return options.learning_rate * min(rising, 0.5 * (1 + math.cos(math.pi * min(1.0, falling))))

    def _step(self, batch: Batch, rate: float, auxiliary: Callable[[Any, int], Tensor] | None) -> float:
        step, options, optimiser = self._state.step, self._options, self._state.optimiser
        torch.manual_seed(options.seed * 1_000_003 + step)  # dropout, too, shall be the same after a resume
        self._model.train()
        optimiser.zero_grad(set_to_none=True)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = self._backward(batch)
        if auxiliary is not None:
            more = auxiliary(self._model, step)
            torch.autograd.backward(self._scaler.scale(more / self._workers.count))
            loss = loss + float(more.detach())
        if not math.isfinite(loss):
            raise self._not_a_number("loss")
        self._workers.add_up(self._trained)
        self._scaler.unscale_(optimiser)
        length = torch.nn.utils.clip_grad_norm_(self._trained, options.clip_norm)
        if not self._scaler.is_enabled() and not torch.isfinite(length):  # with a scaler such steps are left out
            raise self._not_a_number("gradient")
        self._scaler.step(optimiser)
        self._scaler.update()
        with torch.no_grad():
            self._model.logit_scale.clamp_(max=math.log(options.max_scale))
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
        for name, parameter in self._model.named_parameters():
            if any(name.startswith(_PARTS[tower]) for tower in self._options.freeze):
                parameter.requires_grad_(False)
        if self._options.loss == "sigmoid" and getattr(self._model, "logit_bias", None) is None:
            raise ConfigError(
                f"The sigmoid loss needs a model with a logit_bias, such as SigLIP, got {type(self._model).__name__}. "
                "Use loss='info_nce'."
            )
        if self._options.loss == "info_nce" and getattr(self._model, "logit_bias", None) is not None:
            # A bias changes no softmax: it would have no gradient.
            self._model.logit_bias.requires_grad_(False)

    def _not_a_number(self, what: str) -> TrainingError:
        return TrainingError(
            f"The {what} of step {self._state.step} is not a number. Lower the learning rate "
            f"({self._options.learning_rate:g}), or use precision='float32'; the state before is in "
            f"{str(self._state.path)!r}."
        )


def _check(name: str, value: float, *, above: float) -> None:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > above):
        raise ConfigError(f"{name} must be a number above {above}, got {value!r}.")
