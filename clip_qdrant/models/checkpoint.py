"""A model's files on this disk, fetched from the Hub where they are not, and checked before anything is loaded."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_qdrant.errors import ModelFormatError, ModelNotFoundError
from clip_qdrant.models.names import POCKET, resolve_name

_WANTED = [
    *("model.safetensors", "*/model.safetensors", "model-*-of-*.safetensors", "*/model-*-of-*.safetensors"),
    *("*.json", "*.txt", "*.model", "*.jinja", "*.py"),
]
_UNWANTED = ["open_clip*", "onnx/*", "openvino/*"]  # the same model again, for other libraries


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with a model, in the format of the Hub."""

    name: str
    """What to load it by again: a Hub id, an absolute folder, or "pocket"."""
    folder: Path
    hub_id: str | None = None
    """Where it was fetched from, or None for a folder of the user's."""

    @property
    def weights(self) -> list[Path]:
        """The safetensors files that are loaded, in order; at least one.

        Raises:
            ModelFormatError: there are none, or a part of the model has its weights only as a pickle.
        """
        folders = [self.folder]
        if self.is_sentence_transformer:  # each module in a folder of its own
            folders += sorted(path for path in self.folder.rglob("*") if path.is_dir())
        pickled = [
            file.name
            for folder in folders
            if not _weights_in(folder)
            for file in sorted(folder.glob("pytorch_model*.bin"))
        ]
        if pickled:
            raise ModelFormatError(
                f"The model {self.name!r} has weights only as {pickled[0]!r}, a pickle, which can run code when it is "
                f"loaded. If you trust it, convert it: {self._conversion}, and use 'FOLDER'."
            )
        found = [file for folder in folders for file in _weights_in(folder)]
        if not found and self.hub_id:  # whose pickles are not even downloaded
            raise ModelFormatError(
                f"The model {self.name!r} has no model.safetensors on the Hub. Pass a revision that has one, if there "
                "is one (revision='refs/pr/…'). If it has a pickle, pytorch_model.bin, which can run code when it is "
                f"loaded, and you trust it, convert it: {self._conversion}, and use 'FOLDER'."
            )
        if not found:
            raise ModelFormatError(f"The folder {str(self.folder)!r} has no weights. It needs a model.safetensors.")
        return found

    @property
    def _conversion(self) -> str:
        """A shell command that writes the model with safetensors into 'FOLDER'."""
        if self.is_sentence_transformer:
            code = (
                "import sys; from sentence_transformers import SentenceTransformer; "
                "SentenceTransformer(sys.argv[1], model_kwargs={'use_safetensors': False}).save(sys.argv[2])"
            )
        else:
            code = (
                "import sys; from transformers import AutoModel, AutoProcessor; _, model, folder = sys.argv; "
                "AutoModel.from_pretrained(model, use_safetensors=False).save_pretrained(folder); "
                "AutoProcessor.from_pretrained(model).save_pretrained(folder)"
            )
        return f'python -c "{code}" {shlex.quote(self.hub_id or str(self.folder))} FOLDER'

    @property
    def is_sentence_transformer(self) -> bool:
        """Whether sentence-transformers knows how to load it."""
        return (self.folder / "modules.json").is_file()

    def check(self, trust_remote_code: bool) -> None:
        """Refuse what cannot be a model, or would run code of its own.

        Raises:
            ModelFormatError: no config.json, no safetensors, or code of its own that is not trusted.
        """
        if not self.is_sentence_transformer and not (self.folder / "config.json").is_file():
            there = sorted(path.name for path in self.folder.iterdir())[:5]
            raise ModelFormatError(
                f"The folder {str(self.folder)!r} is no model: it has no config.json, but {there or 'nothing'}."
            )
        _ = self.weights
        if not trust_remote_code:
            for path in self.folder.rglob("config.json"):
                self._refuse_code(path)

    def _refuse_code(self, path: Path) -> None:
        from transformers import CONFIG_MAPPING

        config = read_json(path)
        if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING:
            raise ModelFormatError(
                f"The model {self.name!r} brings Python code of its own. If you trust it, pass trust_remote_code=True."
            )


def find_checkpoint(model: str | Path, revision: str | None, cache_folder: str | Path | None = None) -> Checkpoint:
    """The checkpoint of that name, downloaded if it is a Hub id that is not here yet.

    Args:
        model: a Hub id, a folder or "pocket".
        revision: a branch, tag or commit of the Hub's.
        cache_folder: where what is downloaded is kept; the Hub's own place if None.

    Raises:
        ModelNotFoundError: there is none of that name, or the Hub does not answer.
    """
    place = resolve_name(model)
    if isinstance(place, Path):
        # A folder's name is absolute: a collection remembers it, and is opened from elsewhere.
        return Checkpoint(POCKET if model == POCKET else str(place.absolute()), place)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = snapshot_download(
            place, revision=revision, cache_dir=cache_folder, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
        )
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(
            f"The Hub's {place!r} has no revision {revision!r}. Use a branch, tag or commit that it has, or none."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(f"The Hub has no model {place!r}, or it is private. {_ways_out()}") from error
    except (HTTPError, OSError) as error:
        raise ModelNotFoundError(
            f"The model {place!r} is not on this disk, and the Hub cannot be reached. {_ways_out()}"
        ) from error
    return Checkpoint(str(model), Path(folder), place)


def download_size(model: str | Path, revision: str | None = None) -> int | None:
    """How many bytes loading a model would download: 0 for a folder or a model in the cache, None where unknown."""
    place = resolve_name(model)
    if isinstance(place, Path):
        return 0
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    patterns = {"allow_patterns": _WANTED, "ignore_patterns": _UNWANTED}
    try:
        folder = snapshot_download(place, revision=revision, local_files_only=True, **patterns)
        if _is_whole(Path(folder)):
            return 0
    except LocalEntryNotFoundError:
        pass  # the question is then how much of it is to be fetched
    try:
        files = HfApi().model_info(place, revision=revision, files_metadata=True).siblings or []
    except (HTTPError, OSError):
        return None
    sizes = {file.rfilename: file.size or 0 for file in files}
    return sum(sizes[name] for name in filter_repo_objects(sizes, **patterns))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelFormatError: it is none.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"The model's {str(path)!r} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"The model's {str(path)!r} is not a JSON object.")
    return content


def _weights_in(folder: Path) -> list[Path]:
    """What the loaders take of one folder: the whole file, or else its shards."""
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))


def _is_whole(folder: Path) -> bool:
    """Whether a folder of the cache has weights: others may have fetched the config alone."""
    try:
        return bool(Checkpoint("", folder).weights)
    except ModelFormatError:
        return False


def _ways_out() -> str:
    return (
        f"Use {POCKET!r} (--model {POCKET}), which comes with the package, or the path of a folder "
        "into which you copied the model from a machine with a network."
    )
