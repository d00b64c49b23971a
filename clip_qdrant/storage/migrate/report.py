"""What a migration tells: on the way after each page, and at the end of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MigrationProgress:
    """How far one collection is, after a page of it.

    Attributes:
        collection: its name.
        step: every collection is first copied, then verified.
        done: points of the source that this step has seen.
        total: points that the source had when the collection's turn came.
    """

    collection: str
    step: Literal["copy", "verify"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """What became of one collection.

    Attributes:
        collection: its name.
        points: in the source, counted by reading all of them to verify.
        copied: written to the target by this run.
        already_there: found in the target, just as they are in the source, so that nothing was written.
        missing: of the source's points, not in the target at the end.
        differing: in the target with another content than in the source, and left so.
        extra: in the target only; kept.
        source_count: the source's own count, after reading them all.
        checksum: SHA-256 (hex) of what is stored without rounding: ids, and payloads but for the digits of floats.
            The same on both sides where the collection is verified.
        examples: ids of at most five points that are missing or differing.
        left_out: what of the definition is otherwise in the target, in words: what it cannot keep, or had already.
        seconds: that it took.
    """

    collection: str
    points: int
    copied: int
    already_there: int
    missing: int
    differing: int
    extra: int
    source_count: int
    checksum: str
    examples: tuple[int | str, ...]
    left_out: tuple[str, ...]
    seconds: float

    @property
    def verified(self) -> bool:
        """Whether the target has every point of the source, just so, and the counts agree with that."""
        return self.missing == self.differing == 0 and self.source_count == self.points and self.extra >= 0


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What became of all collections, in the order they were copied in."""

    collections: tuple[CollectionReport, ...]

    @property
    def verified(self) -> bool:
        """Whether every collection is."""
        return all(report.verified for report in self.collections)
