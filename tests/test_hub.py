"""Published models against their published numbers: for whoever has a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.verify_model import PUBLISHED


@pytest.mark.hub
@pytest.mark.skipif("CLIP_QDRANT_HUB_TESTS" not in os.environ, reason="set CLIP_QDRANT_HUB_TESTS=1 to use the network")
@pytest.mark.parametrize("model", PUBLISHED)
def test_a_published_model_gives_its_published_numbers(model):
    script = Path(__file__).parents[1] / "benchmarks" / "verify_model.py"
    done = subprocess.run(
        [sys.executable, script, model], env=os.environ | {"HF_HUB_OFFLINE": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
