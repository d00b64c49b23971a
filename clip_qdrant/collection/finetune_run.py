"""The folder of a run of fine-tuning: one process at a time, and a resume only with what it was begun with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clip_qdrant.collection.mining import MinedNegatives
from clip_qdrant.errors import ConfigError, StorageError, StorageLockedError
from clip_qdrant.models.training_model import check_free
from clip_qdrant.models.training_state import CHECKPOINT, check_state, hash_tensors
from clip_qdrant.storage.edge.lock import LOCK_NAME, FolderLock

if TYPE_CHECKING:
    from torch import Tensor

    from clip_qdrant.collection.pairs import Parts
    from clip_qdrant.models.training_pairs import Pair

_BEGUN = "begun.json"


def check_out(out: str | Path, *, resume: bool) -> Path:
    """See to it that a run can be begun, or gone on with, before hours are spent on it.

    Args:
        out: the folder for the model.
        resume: whether there should be a state to go on from.

    Returns:
        The folder of the run's state, beside `out`.

    Raises:
        ConfigError: `out` is there already, there is no state to resume from, or there is one and it was not asked for.
    """
    folder = Path(out).expanduser().absolute()
    check_free(folder)
    state = folder.with_name(f"{folder.name}.training")
    check_state(state / CHECKPOINT, resume=resume)
    return state


@contextmanager
def alone_in(state: Path) -> Iterator[None]:
    """Keep other processes out of the folder of a run; where no state comes of it, nothing stays.

    Raises:
        ConfigError: another process is at it, or the folder cannot be written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(state)
    except StorageLockedError as error:
        raise ConfigError(
            f"Another process is training in {str(state)!r}. Wait until it is done, or name another folder."
        ) from error
    except (OSError, StorageError) as error:
        raise ConfigError(f"Cannot write to {str(state)!r}: {error}. Name another folder.") from error
    try:
        yield
    finally:
        if not (state / CHECKPOINT).exists():
            # While it is locked, so that nobody else is in it. Windows keeps the lock's file, which is open.
            with suppress(OSError):  # something that is not ours
                for name in (_BEGUN, LOCK_NAME):
                    (state / name).unlink(missing_ok=True)
                state.rmdir()
        lock.release()


def begun_with(start: Mapping[str, Tensor], parts: Parts, **batches: int | str) -> dict[str, int | str]:
    """What a run follows from, beside its options: with anything else, a resume is another run.

    Args:
        start: the weights of the base model by name.
        parts: with another judge or test part, the weights would be chosen by pictures that they are tested on.
        batches: what else the batches follow from, by name.
    """
    return {
        "base model": hash_tensors(start),
        **batches,
        "number of pairs": len(parts.train),
        "pairs": _content(parts.train),
        "judge's part": _content(parts.judge),
        "test part": _content(parts.test),
    }


def write_begun(begun: Mapping[str, int | str], state: Path) -> None:
    """Write what a run was begun with beside its state."""
    part = (state / _BEGUN).with_suffix(".part")
    part.write_text(json.dumps(begun, indent=2) + "\n", encoding="utf-8")
    part.replace(state / _BEGUN)


def check_begun(begun: Mapping[str, int | str], state: Path) -> None:
    """See to it that a run goes on with what it was begun with.

    Raises:
        ConfigError: it was begun with something else, or by something else.
    """
    path = state / _BEGUN
    if not path.is_file():
        raise ConfigError(f"{str(state)!r} has a state that `finetune` has not begun. Name another folder.")
    before = json.loads(path.read_text("utf-8"))
    for name, value in begun.items():
        if before.get(name) != value:
            said = f" ({before.get(name)!r}, now {value!r})" if isinstance(value, int) else ""
            raise ConfigError(
                f"The training in {str(state)!r} was begun with another {name}{said}. Resume it with that, or "
                "remove the folder to begin anew."
            )


def name_of(part: object) -> str:
    """What a part of the recipe is: of those of this package all their settings, of anything else what it is called."""
    if is_dataclass(part) or isinstance(part, MinedNegatives):
        return repr(part)
    return getattr(part, "__qualname__", type(part).__qualname__)


def _content(pairs: Sequence[Pair]) -> str:
    content = hashlib.sha256()
    for pair in pairs:
        told = [pair.content or _place(pair.image), pair.captions, pair.concept]
        content.update(json.dumps(told).encode() + b"\n")
    return content.hexdigest()


def _place(image: object) -> str:
    """Where an image is, if it is a file; one that is in memory may be another object after a break."""
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""
