"""The README and the examples do what they say."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?P<mark><!-- not run:[^>]*-->\n)?```python\n(?P<code>.*?)```(?:\n\n```text\n(?P<output>.*?)```)?", re.S
)
NEEDS_A_MODEL = "06_assistant.py"
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[0-9]*.py") if path.name != NEEDS_A_MODEL)


def run(*arguments, cwd):
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/zero_shot.md"])
def test_code_runs_and_prints_what_it_says(page, tmp_path):
    """In one folder, from top to bottom, as a reader would."""
    run(str(ROOT / "examples" / "drawings.py"), "pictures", cwd=tmp_path)
    blocks = list(BLOCK.finditer((ROOT / page).read_text()))
    for block in blocks:
        if block["mark"]:
            ast.parse(block["code"])
            continue
        printed = run("-c", block["code"], cwd=tmp_path)
        if block["output"] is not None:
            assert printed == block["output"]
    assert sum(block["mark"] is None for block in blocks) >= 3


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, tmp_path):
    assert run(str(ROOT / "examples" / name), cwd=tmp_path)


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
