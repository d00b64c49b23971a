"""The examples that talk to a model, with one that follows a script and remembers what it was shown."""

import ast
import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from tests.scripted_llm import ScriptedLLM, call

EXAMPLES = Path(__file__).parents[1] / "examples"
APP = EXAMPLES / "existing_app"

pytestmark = pytest.mark.usefixtures("event_loop_of_the_thread")


def load(path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_an_existing_app_changes_its_imports_and_nothing_else():
    def body(name):
        tree = ast.parse((APP / name).read_text())
        rest = [node for node in tree.body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom))]
        return [ast.unparse(node) for node in rest]

    assert body("before.py") == body("after.py")
    assert len(body("after.py")) == 2


def test_the_existing_app_finds_both_kinds_and_deletes_both(tmp_path, monkeypatch, capsys):
    load(EXAMPLES / "drawings.py", monkeypatch).draw_all(tmp_path)
    notes = {"apples": "a red apple", "stars": "a star"}
    load(APP / "after.py", monkeypatch).main(tmp_path, notes, "pocket")
    first, second, left = capsys.readouterr().out.splitlines()
    assert {first, second} == {"apples", "red-apple.png"}
    assert left == "1 picture, of another thing"


def test_a_model_sees_pictures_and_captions(monkeypatch):
    llm = ScriptedLLM("The apple.")
    response = load(EXAMPLES / "05_multimodal_rag.py", monkeypatch).main(llm)
    assert str(response) == "The apple."
    assert llm.images == [(128, 128)] * 2
    assert "Plate red-apple: drawn by hand." in llm.text
    assert Path(response.source_nodes[0].node.image_path).stem == "red-apple"


# What LlamaIndex's workflows ask of pydantic when an agent is made.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")
def test_an_assistant_searches_and_sees(monkeypatch):
    llm = ScriptedLLM(call("search_images", query="a red fruit", limit=1), "It is the red apple.")
    answer = asyncio.run(load(EXAMPLES / "06_assistant.py", monkeypatch).main(llm))
    assert answer == "It is the red apple."
    assert len(llm.images) == 1
    assert "red-apple.png" in llm.text
