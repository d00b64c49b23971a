"""The small models that come with the package, and the one place that finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def pocket_path(name: Literal["clip", "diffusion", "painter"]) -> Path:
    """The folder of a bundled model, in the format of the Hub; "painter" in one of ours."""
    return Path(__file__).parent / name
