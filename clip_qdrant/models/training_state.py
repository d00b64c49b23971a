"""What a run of training must remember to go on after a kill as if it had not happened.

Weights, the optimiser's moments, the averaged and the best weights, and how far it is: one file of safetensors, written
beside the old one and put in its place. Of weights that are frozen it has a digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clip_qdrant.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from clip_qdrant.models.training_options import TrainingOptions

CHECKPOINT = "training.safetensors"
# What may be different after a resume: how long, where and in which pieces, but not what is computed.
_MAY_CHANGE = {"steps", "minutes", "chunk", "checkpoint_minutes", "patience", "device"}
Weights = dict[str, Tensor]


def check_state(path: Path, *, resume: bool) -> None:
    """See to it that there is a state to resume from, or else none that would be lost.

    Raises:
        ConfigError: see `training.train`.
    """
    there = path.exists()
    if resume and not there:
        raise ConfigError(f"There is nothing to resume in {str(path.parent)!r}. Start without resume.")
    if there and not resume:
        raise ConfigError(
            f"{str(path.parent)!r} has the state of a training. Go on with resume, or use another folder."
        )


class TrainingState:
    """The state of a run.

    Attributes:
        step: the next one.
        seconds: of training so far.
        scores: of the judge, by step.
        best_step: of the best score, or None before the first.
        path: of the file.
    """

    def __init__(
        self,
        model: Any,
        optimiser: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        path: Path,
        options: TrainingOptions,
    ) -> None:
        self.step = 0
        self.seconds = 0.0
        self.scores: dict[int, float] = {}
        self.best_step: int | None = None
        self.path = path
        self.optimiser = optimiser
        self._scaler = scaler
        self._options = options
        self._weights: Weights = {name: one for name, one in model.named_parameters() if one.requires_grad}
        saved = model.state_dict().keys()
        self._buffers: Weights = {name: one for name, one in model.named_buffers() if name in saved}
        # Frozen weights are not in the file, which has only to know them again.
        self._frozen: Weights = {name: one for name, one in model.named_parameters() if not one.requires_grad}
        self._average: Weights = _copy(self._weights) if options.average else {}
        self._best: Weights = {}

    @property
    def without_better(self) -> int:
        """How many judgements there were after the best."""
        return sum(self.best_step is not None and step > self.best_step for step in self.scores)

    def start(self, *, resume: bool) -> None:
        """Take up the state in the file, or see to it that there is none.

        Raises:
            ConfigError: see `training.train`.
        """
        check_state(self.path, resume=resume)
        if resume:
            self._load()

    def follow(self) -> None:
        """Let the averaged weights follow the trained ones by a step."""
        if self._average:
            # Of a short run the average would mostly be the start.
            kept = min(self._options.average, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self._average.values()), [one.data for one in self._weights.values()], 1 - kept)

    def note(self, score: float) -> None:
        """Remember a score, and the weights, if they are the best so far."""
        self.scores[self.step] = score
        if self.best_step is None or score > self.scores[self.best_step]:
            self.best_step = self.step
            if self._options.keep_best:
                self._best = _copy(self._weights)

    def not_a_number(self, what: str) -> TrainingError:
        """What to raise where the loss or the gradient of a step is none."""
        rough = "" if self._options.precision == "float32" else ", or with precision='float32'"
        kept = f" The state of before is in {str(self.path)!r}." if self.path.exists() else ""
        return TrainingError(
            f"The {what} of step {self.step} is not a number. Begin anew with a lower learning rate than "
            f"{self._options.learning_rate:g}{rough}.{kept}"
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model has the weights that training would give now, and afterwards those that are trained on."""
        kept = _copy(self._weights) if self._average else {}
        _put(self._average, self._weights)
        try:
            yield
        finally:
            _put(kept, self._weights)

    def give_weights(self, *, best: bool) -> None:
        """Let the model have the weights to keep."""
        _put(self._best if best else self._average, self._weights)

    def save(self) -> None:
        """Write the file; a kill while writing leaves the one before."""
        from safetensors.torch import save_file

        tensors = {f"weights.{name}": one.detach() for name, one in self._weights.items()}
        tensors |= {f"buffers.{name}": one for name, one in self._buffers.items()}
        tensors |= {f"average.{name}": one for name, one in self._average.items()}
        tensors |= {f"best.{name}": one for name, one in self._best.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "scores": sorted(self.scores.items()),
            "best_step": self.best_step,
            "scaler": self._scaler.state_dict(),
            "options": asdict(self._options),
            "frozen": self._digest,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, {"state": json.dumps(facts)})
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(self.path)

    def _load(self) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["state"])
                frozen = facts["frozen"]
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, KeyError, ValueError) as error:
            raise ConfigError(f"{str(self.path)!r} is not the state of a training: {error}.") from error
        self._check(facts["options"], tensors, frozen)
        _put(_part(tensors, "weights"), self._weights)
        _put(_part(tensors, "buffers"), self._buffers)
        _put(_part(tensors, "average"), self._average)
        self._best = {name: tensor.to(self._weights[name].device) for name, tensor in _part(tensors, "best").items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimiser").items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = tensor
        self.optimiser.load_state_dict({"state": moments, "param_groups": self.optimiser.state_dict()["param_groups"]})
        self._scaler.load_state_dict(facts["scaler"])
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.scores, self.best_step = {int(step): score for step, score in facts["scores"]}, facts["best_step"]

    @cached_property
    def _digest(self) -> str:
        return hash_tensors(self._frozen)

    def _check(self, options: dict[str, Any], tensors: Weights, frozen: str) -> None:
        # Through JSON, as the stored ones went.
        now = json.loads(json.dumps(asdict(self._options)))
        other = sorted(name for name in now if name not in _MAY_CHANGE and now[name] != options.get(name))
        if other:
            said = ", ".join(f"{name}={options.get(name)!r}" for name in other)
            raise ConfigError(
                f"The training in {str(self.path.parent)!r} was started with {said}. Resume it with that, or start "
                "another in a new folder."
            )
        parts = {"weights": self._weights, "buffers": self._buffers}
        if any(_shapes(_part(tensors, part)) != _shapes(own) for part, own in parts.items()):
            raise ConfigError(
                f"The training in {str(self.path.parent)!r} is of a model of another shape. Resume it with that model, "
                "or start another in a new folder."
            )
        if frozen != self._digest:
            raise ConfigError(
                f"The training in {str(self.path.parent)!r} is of a model whose frozen weights are others. Resume "
                "it with the model that it was started with, or start another in a new folder."
            )


def hash_tensors(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over the names and the bytes of weights, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _copy(weights: Weights) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _put(source: Weights, target: Weights) -> None:
    with torch.no_grad():
        for name, tensor in source.items():
            target[name].copy_(tensor)


def _part(tensors: Weights, prefix: str) -> Weights:
    return {name.removeprefix(f"{prefix}."): one for name, one in tensors.items() if name.startswith(f"{prefix}.")}
