"""The package as a whole: what importing it costs, what it shows, what its documentation says."""

import doctest
import importlib
import json
import subprocess
import sys

import pytest

import clip_qdrant

HEAVY = ["torch", "llama_index", "qdrant_client", "transformers", "sentence_transformers", "diffusers"]


def loaded_after(statement):
    """Which heavy modules a fresh interpreter has loaded after a statement."""
    code = f"import sys, json\n{statement}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "statement",
    [
        "import clip_qdrant",
        "from clip_qdrant import open_image, Record, records_in",
        "import clip_qdrant.testing, clip_qdrant.models.encoder, clip_qdrant.collection",
        "import clip_qdrant.cli.app",
    ],
)
def test_importing_is_cheap(statement):
    assert loaded_after(statement) == []


def test_a_public_name_is_loaded_when_it_is_used():
    assert loaded_after("import clip_qdrant; clip_qdrant.ClipRetriever") != []


@pytest.mark.parametrize("name", [name for name in clip_qdrant.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name):
    assert getattr(clip_qdrant, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Clippy'"):
        clip_qdrant.Clippy  # noqa: B018


def test_dir_lists_the_public_names():
    assert set(dir(clip_qdrant)) == set(clip_qdrant.__all__)


@pytest.mark.parametrize("module", ["clip_qdrant.collection.clip"])
def test_docstring_examples_run(module):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried > 0
    assert failed == 0
