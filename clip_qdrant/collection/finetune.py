"""A model adapted to pictures of one's own, from pairs to a folder that everything loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.finetune_run import alone_in, begun_with, check_begun, check_out, name_of, write_begun
from clip_qdrant.errors import ConfigError
from clip_qdrant.models.augmentation import Augmentation
from clip_qdrant.models.device import pick_device
from clip_qdrant.models.training import Progress, TrainingReport, train
from clip_qdrant.models.training_model import interpolate, load_trainable, save_trained
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.models.training_pairs import PairBatches
from clip_qdrant.models.training_report import Figures, evaluate, model_card
from clip_qdrant.models.training_workers import Workers

if TYPE_CHECKING:
    from clip_qdrant.collection.pairs import Parts
    from clip_qdrant.models.augmentation import Augment
    from clip_qdrant.models.training_pairs import HardNegatives

_NOT_IN_WEIGHTS = {"steps", "minutes", "chunk", "checkpoint_minutes", "device"}
"""Options of which the weights are the same, and the budget, which is told in words."""


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
        ConfigError: `out` is there already, or another process is training into it; `keep` is no share; there is
            patience and no judge's part; the run to resume was begun with another base model, other batches or another
            split; or see `training.train`.
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
    folder, state = Path(out).expanduser().absolute(), check_out(out, resume=resume)
    workers = Workers(options.device)
    device = workers.device or pick_device(options.device)
    trainable = load_trainable(base, revision=revision, trust_remote_code=trust_remote_code)
    start = trainable.weights()
    augment = augment or Augmentation()
    begun = begun_with(
        start,
        parts,
        batch=batch,
        images_per_concept=images_per_concept,
        augmentation=name_of(augment),
        hard_negatives="none" if hard_negatives is None else name_of(hard_negatives),
    )
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
        if now.step == 1:  # before the first state
            workers.by_first(lambda: write_begun(begun, state))
        if progress is not None:
            progress(now)

    with alone_in(state) if workers.is_first else nullcontext():
        if workers.is_first:
            check_out(out, resume=resume)  # another process may have been done in the meantime
        if resume:
            check_begun(begun, state)
        trainable.model.to(device)  # the base model, too, is measured where it is fast
        before = evaluate(trainable, parts.test) if parts.test else None
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
        batching = {name: begun[name] for name in ("batch", "images_per_concept", "augmentation", "hard_negatives")}
        at = {} if revision is None else {"revision of the base model": revision}
        recipe = at | _recipe(options, report, len(parts.judge), **batching, keep=keep, half=half)
        card = model_card(
            base=trainable.name if not Path(trainable.name).is_absolute() else Path(trainable.name).name,
            data=data,
            recipe=recipe,
            before=before,
            after=after,
            trained=min(len(parts.train) - len(problems), report.steps * batch),
        )
        told = json.dumps(result.to_dict(), indent=2) + "\n"

        def save() -> None:
            save_trained(trainable, folder, {"README.md": card, "training.json": told}, half=half)
            shutil.rmtree(state, ignore_errors=True)

        workers.by_first(save)
        return result


def _recipe(options: TrainingOptions, report: TrainingReport, judged: int, **more: Any) -> dict[str, Any]:
    """All that the weights follow from beside the data, by name."""
    budget = f"{options.minutes:g} minutes" if options.steps is None else f"{options.steps:,} steps"
    settings = {name: value for name, value in asdict(options).items() if name not in _NOT_IN_WEIGHTS}
    settings |= {"freeze": ", ".join(options.freeze) or "nothing", "patience": options.patience or "no end"}
    return {
        "budget": budget,
        "steps": report.steps,
        "weights of step": report.best_step or report.steps,
        **settings,
        **more,
        "pairs to judge by": judged,
    }
