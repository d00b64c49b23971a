"""A model's files on this disk, fetched from the Hub where they are not, and checked before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_qdrant.errors import ModelFormatError, ModelNotFoundError
from clip_qdrant.models.names import POCKET, resolve_name

_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.py"]
_UNWANTED = ["open_clip*", "onnx/*", "openvino/*", "*.onnx"]  # the same weights again, in other formats


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with a model, in the format of the Hub."""

    name: str
    """What to load it by again: a Hub id, an absolute folder, or "pocket"."""
    folder: Path

    @property
    def weights(self) -> list[Path]:
        """The safetensors files, sorted; at least one."""
        found = sorted(path for path in self.folder.rglob("*.safetensors") if not path.name.startswith("open_clip"))
        if found:
            return found
        pickled = sorted(path.name for path in self.folder.rglob("*.bin"))
        if not pickled:
            raise ModelFormatError(f"The folder {str(self.folder)!r} has no weights. It needs a model.safetensors.")
        raise ModelFormatError(
            f"The model {self.name!r} has its weights only as {pickled[0]!r}, a pickle, which can run code when it is "
            'loaded. If you trust it, convert it: python -c "from transformers import AutoModel; '
            f"AutoModel.from_pretrained('{self.folder}', use_safetensors=False).save_pretrained('FOLDER')\", "
            "copy its tokenizer and preprocessor files into FOLDER, and use that."
        )

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


def find_checkpoint(model: str | Path, revision: str | None) -> Checkpoint:
    """The checkpoint of that name, downloaded if it is a Hub id that is not here yet.

    Raises:
        ModelNotFoundError: there is none of that name, or the Hub does not answer.
    """
    place = resolve_name(model)
    if isinstance(place, Path):
        # A folder's name is absolute: a collection remembers it, and is opened from elsewhere.
        return Checkpoint(POCKET if model == POCKET else str(place.absolute()), place)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

    try:
        folder = snapshot_download(place, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
    except RepositoryNotFoundError as error:
        raise ModelNotFoundError(f"The Hub has no model {place!r}, or it is private. {_ways_out()}") from error
    except (HTTPError, OSError) as error:
        raise ModelNotFoundError(
            f"The model {place!r} is not on this disk, and the Hub cannot be reached. {_ways_out()}"
        ) from error
    return Checkpoint(str(model), Path(folder))


def download_size(model: str | Path, revision: str | None = None) -> int | None:
    """How many bytes loading a model would download: 0 for a folder or a model in the cache, None where unknown."""
    place = resolve_name(model)
    if isinstance(place, Path):
        return 0
    from fnmatch import fnmatch

    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    try:
        snapshot_download(
            place, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED, local_files_only=True
        )
        return 0
    except LocalEntryNotFoundError:
        pass  # the question is then how much of it is to be fetched
    try:
        files = HfApi().model_info(place, revision=revision, files_metadata=True).siblings or []
    except (HTTPError, OSError):
        return None
    return sum(
        file.size or 0
        for file in files
        if any(fnmatch(file.rfilename, pattern) for pattern in _WANTED)
        and not any(fnmatch(file.rfilename, pattern) for pattern in _UNWANTED)
    )


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


def _ways_out() -> str:
    return (
        f"Use {POCKET!r} (--model {POCKET}), which comes with the package, or the path of a folder "
        "into which you copied the model from a machine with a network."
    )
