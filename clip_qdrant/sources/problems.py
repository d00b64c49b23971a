"""What went wrong with one record of many, handed on while the others go in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """A caption or a record that was left out, and why.

    Attributes:
        place: the file, and of a manifest the line or entry.
        reason: why, and what to do about it.
    """

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


OnProblem: TypeAlias = Callable[[Problem], object]
"""Is called with each problem. What it raises ends the reading: a strict reader raises, a report collects."""


def log_problem(problem: Problem) -> None:
    """Say it as a warning of this package's logger: what becomes of problems unless the caller wants them."""
    _logger.warning("%s", problem)
