"""What people call a model -> a Hub id or a folder."""

from __future__ import annotations

from pathlib import Path

from clip_qdrant.errors import ConfigError, ModelNotFoundError
from clip_qdrant.models.pocket import pocket_path

DEFAULT_MODEL = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
POCKET = "pocket"

_OPENAI = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}
_OPENAI_RESNETS = ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64")


def resolve_name(model: str | Path) -> str | Path:
    """A Hub id (str) or an existing folder (Path).

    Raises:
        ConfigError: an empty name.
        ModelNotFoundError: a name that can be neither.
    """
    if isinstance(model, str) and not model.strip():
        raise ConfigError("The model has no name. Give a Hub id, a folder, or 'pocket'.")
    if model == POCKET:
        return pocket_path("clip")
    if isinstance(model, str) and model in _OPENAI:
        return _OPENAI[model]
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model in _OPENAI_RESNETS:
        raise ModelNotFoundError(
            f"The model {model!r} is a ResNet of OpenAI's, which transformers does not have. "
            f"Use {', '.join(map(repr, _OPENAI))}, or {DEFAULT_MODEL!r}."
        )
    if isinstance(model, str) and model.count("/") == 1 and _is_hub_id(model):
        return model
    raise ModelNotFoundError(
        f"There is no model {str(model)!r}: it is no folder here, and no Hub id, which looks like 'owner/name'. "
        f"Use {POCKET!r}, {', '.join(map(repr, _OPENAI))}, a Hub id or an existing folder."
    )


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
