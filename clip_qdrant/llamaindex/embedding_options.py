"""What `ClipEmbedding` is made with: which arguments it takes, and what to do instead of those that it does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.types import Encoder


class _Neutral(NamedTuple):
    """An argument of LlamaIndex's HuggingFaceEmbedding or of sentence-transformers, where it changes nothing."""

    values: tuple[Any, ...]
    cure: str


_MODEL = "Give the model's Hub id or folder as model_name, or a loaded encoder as encoder."
_POOLING = "The model brings its own."
_ONE_PROCESS = "Images are decoded in threads, and the model computes in batches, on the one device."

_NEUTRAL = {
    "normalize": _Neutral((True,), "Vectors have unit length always."),
    "max_length": _Neutral((None,), "The model's own holds; text_policy='pool' embeds texts over it in parts."),
    "parallel_process": _Neutral((False,), _ONE_PROCESS),
    "target_devices": _Neutral((None,), _ONE_PROCESS),
    "backend": _Neutral(("torch",), "The model runs in torch."),
    "model_kwargs": _Neutral((None, {}), "Use dtype for the precision and device for the place."),
    "truncate_dim": _Neutral((None,), "Vectors have the model's own dimension."),
    "local_files_only": _Neutral((False,), "Set the environment variable HF_HUB_OFFLINE=1."),
    "token": _Neutral((None,), "Set the environment variable HF_TOKEN."),
    "prompts": _Neutral((None, {}), "Use query_instruction and text_instruction."),
    "pooling": _Neutral(("deprecated",), _POOLING),
    "tokenizer_name": _Neutral(("deprecated",), _POOLING),
    "tokenizer": _Neutral(("deprecated",), _POOLING),
    "model": _Neutral(("deprecated",), _MODEL),
}


def known_arguments(given: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments given that are fields; the others are refused, unless they ask for what is so anyway.

    Raises:
        ConfigError: an argument that does not exist, or that cannot have this value; it says what to do instead.
    """
    for name, value in given.items():
        if name in fields:
            continue
        if name not in _NEUTRAL:
            raise ConfigError(f"ClipEmbedding has no argument {name!r}. It has {sorted(fields)}.")
        values, cure = _NEUTRAL[name]
        if value not in values:
            raise ConfigError(f"ClipEmbedding takes no {name}={value!r}. {cure} Leave it out.")
    return {name: value for name, value in given.items() if name in fields}


def settings_of(encoder: Encoder, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that an encoder which is loaded already decides.

    Raises:
        ConfigError: one of them is given, too, and is another.
    """
    own = {
        "model_name": encoder.fingerprint.model,
        "device": str(getattr(encoder, "device", "auto")),
        "dtype": str(getattr(encoder, "dtype", "auto")).removeprefix("torch."),
        "text_policy": getattr(encoder, "text_policy", "truncate"),
        "revision": None,
        "cache_folder": None,
        "trust_remote_code": False,
    }
    for name, value in own.items():
        if given.get(name, value) not in (value, defaults[name]):
            raise ConfigError(
                f"The encoder is loaded already, with {name}={value!r}, and cannot have {given[name]!r}. "
                f"Leave {name} out, or the encoder."
            )
    return own
