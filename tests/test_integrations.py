"""The distribution of LlamaIndex's names: built, installed into a folder, and imported from there."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "integrations" / "llama-index-clip-qdrant"
COMPONENTS = {
    "embeddings.clip_qdrant.ClipEmbedding": "llama_index.core.base.embeddings.base.BaseEmbedding",
    "vector_stores.clip_qdrant.ClipQdrantVectorStore": "llama_index.core.vector_stores.types.BasePydanticVectorStore",
    "retrievers.clip_qdrant.ClipRetriever": "llama_index.core.base.base_retriever.BaseRetriever",
    "readers.clip_qdrant.ClipReader": "llama_index.core.readers.base.BaseReader",
    "selectors.clip_qdrant.ZeroShotSelector": "llama_index.core.base.base_selector.BaseSelector",
    "selectors.clip_qdrant.ModalitySelector": "llama_index.core.base.base_selector.BaseSelector",
    "tools.clip_qdrant.ImageGenerationToolSpec": "llama_index.core.tools.tool_spec.base.BaseToolSpec",
    "tools.clip_qdrant.ImageSearchToolSpec": "llama_index.core.tools.tool_spec.base.BaseToolSpec",
    "postprocessor.clip_qdrant.ClipReranker": "llama_index.core.postprocessor.types.BaseNodePostprocessor",
    "postprocessor.clip_qdrant.NearDuplicateFilter": "llama_index.core.postprocessor.types.BaseNodePostprocessor",
}


def run(*arguments, **options):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the built wheel was installed into."""
    built, target = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", built, FOLDER)
    (wheel,) = built.glob("*.whl")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel)
    return target


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_is_where_llamaindex_has_its_kind(installed, component):
    """In a process of its own: the namespace is one, of the installed LlamaIndex and of this folder."""
    module, _, name = f"llama_index.{component}".rpartition(".")
    base, _, base_name = COMPONENTS[component].rpartition(".")
    code = (
        f"import sys\n"
        f"from {module} import {name}\n"
        f"from {base} import {base_name}\n"
        f"assert {base_name} in {name}.__mro__\n"
        f"print(sys.modules[{module!r}].__file__)"
    )
    printed = run("-c", code, env={"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}, cwd=FOLDER.parents[1])
    assert printed.strip().startswith(str(installed))


def test_the_namespace_has_no_init_of_its_own(installed):
    inits = {path.parent.relative_to(installed).as_posix() for path in installed.rglob("__init__.py")}
    assert inits == {f"llama_index/{component.rpartition('.')[0].replace('.', '/')}" for component in COMPONENTS}


def test_the_version_is_the_packages():
    from clip_qdrant import __version__

    text = (FOLDER / "pyproject.toml").read_text()
    assert f'version = "{__version__}"' in text
    assert f'"clip-qdrant=={__version__}"' in text
