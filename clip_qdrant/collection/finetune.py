"""A model adapted to pictures of one's own, from pairs to a folder that everything loads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.augmentation import Augmentation
from clip_qdrant.models.device import pick_device
from clip_qdrant.models.training import Progress, TrainingReport, train
from clip_qdrant.models.training_model import check_free, interpolate, load_trainable, save_trained
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.models.training_pairs import PairBatches
from clip_qdrant.models.training_report import Figures, evaluate, model_card
from clip_qdrant.models.training_workers import Workers

if TYPE_CHECKING:
    from torch import Tensor

    from clip_qdrant.collection.pairs import Parts
    from clip_qdrant.models.augmentation import Augment
    from clip_qdrant.models.training_pairs import HardNegatives, Pair

_BEGUN = "begun.json"


@dataclass(frozen=True, slots=True)
class FinetuneReport:
    """What came of it.

    Attributes:
        before: of the base model on the test part, or None without one.
        after: of the new model on the same.
        training: how it went.
        kept: the share of the training that the new model keeps.
        saved: whether the model was written; not when training was asked to stop.
        problems: pictures that could not be opened, and why.
    """

    before: Figures | None
    after: Figures | None
    training: TrainingReport
    kept: float
    saved: bool
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def finetune(
    base: str | Path,
    parts: Parts,
    out: str | Path,
    options: TrainingOptions,
    *,
    batch: int = 64,
    keep: float = 1.0,
    images_per_concept: int = 1,
    augment: Augment | None = None,
    hard_negatives: HardNegatives | None = None,
    resume: bool = False,
    half: bool = False,
    data: str = "Pictures with captions.",
    revision: str | None = None,
    trust_remote_code: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> FinetuneReport:
    """Adapt a model to pairs, and write it.

    While it trains, the state is in a folder beside `out`, `OUT.training`; it is removed when the model is written. Of
    several processes (`accelerate launch`) all train, and the first one writes.

    Args:
        base: the model to start from, as `ClipEncoder` takes it.
        parts: from `pairs.split`. The judge's part decides when to stop and which weights are best; the test part gives
            the figures. Either may be empty.
        out: a new folder for the model, `README.md` (its card) and `training.json` (this report).
        options: of training.
        batch: how many pairs a step compares. More is better: see `TrainingOptions.chunk` for the memory.
        keep: the share of the training to keep, the rest stays as the base model was (WiSE-FT): 0.5 forgets less of
            what the base model knew.
        images_per_concept: see `PairBatches`.
        augment: see `PairBatches`; an `Augmentation` if not given.
        hard_negatives: see `PairBatches` and `MinedNegatives`.
        resume: go on from the state of a run that was interrupted, with the same arguments.
        half: store the weights as float16.
        data: what the pairs are, in words, for the card.
        revision: of the base model, on the Hub.
        trust_remote_code: run Python code that the base model brings.
        progress: called after every step.
        stop: asked after every step; when it says so, the state is kept, and no model is written.

    Raises:
        ConfigError: `out` is there already, `keep` is no share, there is patience and no judge's part, the run to
            resume was begun with another base model, other batches or other pairs, or see `training.train`.
        ModelNotFoundError, ModelFormatError: the base model cannot be loaded.
        TrainingError: see `training.train` and `PairBatches`.
    """
    if not 0.0 <= keep <= 1.0:
        raise ConfigError(f"keep is the share of the training to keep, from 0 to 1, got {keep!r}.")
    if options.patience is not None and not parts.judge:
        raise ConfigError(
            f"patience={options.patience!r} needs pairs to judge by, and the judge's part is empty. Give it a share of "
            "the split, or leave patience out."
        )
    folder = Path(out).expanduser().absolute()
    check_free(folder)
    state = folder.with_name(f"{folder.name}.training")
    workers = Workers(options.device)
    device = workers.device or pick_device(options.device)
    trainable = load_trainable(base, revision=revision, trust_remote_code=trust_remote_code)
    start = trainable.weights()
    augment = augment or Augmentation()
    begun = _begun(
        start,
        parts.train,
        batch=batch,
        images_per_concept=images_per_concept,
        augmentation=_name(augment),
        hard_negatives="none" if hard_negatives is None else _name(hard_negatives),
    )
    if resume:
        _check_begun(begun, state / _BEGUN)
    trainable.model.to(device)  # the base model, too, is measured where it is fast
    before = evaluate(trainable, parts.test) if parts.test else None
    batches = PairBatches(
        parts.train,
        trainable,
        batch=batch,
        seed=options.seed,
        images_per_concept=images_per_concept,
        augment=augment,
        hard_negatives=hard_negatives,
    )

    def follow(now: Progress) -> None:
        # Not before the first step, so that a run that is refused leaves nothing behind, and before the first state.
        if now.step == 1:
            workers.by_first(lambda: _write_begun(begun, state / _BEGUN))
        if progress is not None:
            progress(now)

    report = train(
        trainable.model,
        batches,
        state,
        options,
        resume=resume,
        judge=(lambda _: evaluate(trainable, parts.judge).mean_recall) if parts.judge else None,
        progress=follow,
        stop=stop,
    )
    problems = tuple(batches.problems.values())
    if report.stopped == "asked":
        return FinetuneReport(before, None, report, keep, saved=False, problems=problems)
    interpolate(start, trainable.model, keep)
    after = evaluate(trainable, parts.test) if parts.test else None
    result = FinetuneReport(before, after, report, keep, saved=True, problems=problems)
    recipe = _recipe(options, report, batch=batch, keep=keep, images_per_concept=images_per_concept)
    card = model_card(
        base=trainable.name if not Path(trainable.name).is_absolute() else Path(trainable.name).name,
        data=data,
        recipe=recipe,
        before=before,
        after=after,
        trained=len(parts.train),
    )
    told = json.dumps(result.to_dict(), indent=2) + "\n"

    def save() -> None:
        save_trained(trainable, folder, {"README.md": card, "training.json": told}, half=half)
        shutil.rmtree(state, ignore_errors=True)

    workers.by_first(save)
    return result


def _recipe(options: TrainingOptions, report: TrainingReport, **more: Any) -> dict[str, Any]:
    """The settings that matter, by name."""
    wanted = ("learning_rate", "weight_decay", "loss", "precision", "freeze", "average", "image_weight", "seed")
    settings = {name: getattr(options, name) for name in wanted}
    settings["freeze"] = ", ".join(options.freeze) or "nothing"
    return {"steps": report.steps, **settings, **more, "weights of step": report.best_step or report.steps}


def _begun(start: Mapping[str, Tensor], pairs: Sequence[Pair], **batches: int | str) -> dict[str, int | str]:
    """What the batches of a run follow from, beside its options: with anything else, a resume is another run."""
    weights, content = hashlib.sha256(), hashlib.sha256()
    for name in sorted(start):
        weights.update(name.encode())
        weights.update(start[name].flatten().view(torch.uint8).numpy().data)
    for pair in pairs:
        told = [pair.content or _place(pair.image), pair.captions, pair.concept]
        content.update(json.dumps(told).encode() + b"\n")
    return {
        "base model": weights.hexdigest(),
        **batches,
        "number of pairs": len(pairs),
        "pairs": content.hexdigest(),
    }


def _name(part: object) -> str:
    """What a part of the recipe is; of a dataclass all its settings, of anything else what it is called."""
    return repr(part) if is_dataclass(part) else getattr(part, "__qualname__", type(part).__qualname__)


def _place(image: object) -> str:
    """Where an image is, if it is a file; one that is in memory may be another object after a break."""
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""


def _write_begun(begun: Mapping[str, int | str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(begun, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _check_begun(begun: Mapping[str, int | str], path: Path) -> None:
    """See to it that a run goes on with what it was begun with; where nothing is, `train` says so."""
    if not path.is_file():
        return
    before = json.loads(path.read_text("utf-8"))
    for name, value in begun.items():
        if before.get(name) != value:
            said = f" ({before.get(name)!r}, now {value!r})" if isinstance(value, int) else ""
            raise ConfigError(
                f"The training in {str(path.parent)!r} was begun with another {name}{said}. Resume it with that, or "
                "remove the folder to begin anew."
            )
