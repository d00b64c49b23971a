"""Any sentence-transformers model with image and text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ModelFormatError
from clip_qdrant.models.checkpoint import read_json
from clip_qdrant.models.image_input import image_settings, input_side, shorten
from clip_qdrant.models.pixels import prepare
from clip_qdrant.models.text_rules import text_rules
from clip_qdrant.models.towers_transformers import scale_and_bias, vectors_of

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from clip_qdrant.models.checkpoint import Checkpoint

_IMAGE_SIDE = 448
"""For models that do not say how large an image they take; enough for nearly all."""

_UNLIMITED = 1 << 20

_MODULE_SETTINGS = (
    "config.json",
    "config_sentence_transformers.json",
    "router_config.json",
    "sentence_bert_config.json",
)


class SentenceTowers:
    """See `towers.Towers`. Images and texts go in as {"image": …} and {"text": …}.

    A bare str would be opened where it looks like a URL or a path: sentence-transformers guesses.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, *, trust_remote_code: bool
    ) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(
            str(checkpoint.folder),
            device=str(device),
            model_kwargs={"dtype": dtype, "use_safetensors": True},
            trust_remote_code=trust_remote_code,
        )
        if not {"image", "text"} <= set(self._model.modalities):
            raise ModelFormatError(
                f"The model {checkpoint.name!r} embeds {sorted(map(str, self._model.modalities))}, not image and text. "
                "Use a CLIP model."
            )
        first: Any = self._model[0]
        inner = getattr(first, "model", None)
        self._tokenizer = self._model.tokenizer
        self._processor = getattr(self._model.processor, "image_processor", None)
        config = getattr(inner, "config", None)
        self._rules = text_rules(getattr(config, "model_type", ""))
        self.max_tokens = self._limit(config)
        self._room = self.max_tokens - (len(self._tokenizer("a")["input_ids"]) - len(self._bare("a")))
        first.max_seq_length = self.max_tokens
        self._insist(first)
        self.dim = int(self._encode([{"text": ""}]).shape[1])
        self.image_side = (self._processor and input_side(self._processor)) or _IMAGE_SIDE
        self.logit_scale, self.logit_bias = scale_and_bias(inner)
        self.settings = {
            "image": image_settings(self._processor) if self._processor else None,
            "text": {"max_tokens": self.max_tokens, "padding": self._rules.padding, "lower": self._rules.lower},
            "modules": _module_settings(checkpoint.folder),
        }

    def windows(self, text: str) -> list[_Window]:
        """A text in pieces that fit."""
        text = self._rules.prepare(text)
        ids = self._bare(text)
        if len(ids) <= self._room:
            return [_Window(text, len(ids))]
        pieces = [ids[at : at + self._room] for at in range(0, len(ids), self._room)]
        # The first piece is the text itself: the model's own truncation is exact, and decoding may not be.
        return [_Window(text, len(pieces[0])), *(_Window(self._tokenizer.decode(ids), len(ids)) for ids in pieces[1:])]

    def embed_windows(self, windows: Sequence[_Window]) -> torch.Tensor:
        """Vectors (n, dim) of texts."""
        return self._encode([{"text": window.text} for window in windows])

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Vectors (n, dim) of RGB images."""
        if self._processor is not None:
            images = [shorten(image, self._processor) for image in images]
        return self._encode([{"image": image} for image in images])

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors (n, dim) of RGB pixels (n, 3, height, width) in 0 to 1, with gradients of the pixels.

        Raises:
            ModelFormatError: the network inside is not one of transformers that takes pixels.
        """
        first: Any = self._model[0]
        inner: Any = getattr(first, "model", None)
        if not hasattr(inner, "get_image_features") or self._processor is None:
            raise ModelFormatError(
                f"{type(first).__name__} has no gradients of pixels here. Use a CLIP or SigLIP of transformers."
            )
        pixels = prepare(pixels.to(inner.device), image_settings(self._processor)).to(inner.dtype)
        features = {"sentence_embedding": vectors_of(inner.get_image_features(pixel_values=pixels))}
        for module in list(self._model)[1:]:
            features = module(features)
        return features["sentence_embedding"]

    def freeze(self) -> None:
        """Ask for no gradients of the weights."""
        self._model.requires_grad_(False)

    def _insist(self, first: Any) -> None:
        """Hold the processor to what the model was trained with, which sentence-transformers and it decide otherwise.

        The one pads the texts of every family to the longest, and masks; the other has SigLIP 2's patches at 16 pixels.
        """
        if self._rules.full_length:
            text = {"padding": "max_length", "max_length": self.max_tokens, "return_attention_mask": False}
            settings = image_settings(self._processor)
            image = {name: settings[name] for name in ("max_num_patches", "patch_size") if name in settings}
            first.processing_kwargs = {**first.processing_kwargs, "text": text, "image": image}

    def _limit(self, config: Any) -> int:
        """How many tokens a text may have: the least that anybody says."""
        limits = [self._rules.max_tokens, self._model.max_seq_length, _UNLIMITED]
        if self._rules.full_length:  # SigLIP 2's tokenizers do not say
            limits.append(config.text_config.max_position_embeddings)
        return int(min(limit or math.inf for limit in limits))

    def _encode(self, items: list[dict[str, Any]]) -> torch.Tensor:
        vectors: torch.Tensor = self._model.encode(
            items, batch_size=len(items), show_progress_bar=False, convert_to_tensor=True
        )
        return vectors

    def _bare(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


class _Window:
    """A text that fits, and how many tokens it has."""

    def __init__(self, text: str, tokens: int) -> None:
        self.text = text
        self._tokens = tokens

    def __len__(self) -> int:
        return self._tokens


def _module_settings(folder: Path) -> dict[str, Any]:
    """What the modules after the network, and the prompts, do to a vector; without the versions that saved them."""
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    # A release may move a class, and does not rename it.
    settings: dict[str, Any] = {"types": [module["type"].rpartition(".")[2] for module in modules]}
    for file in sorted(path for path in folder.rglob("*.json") if path.name in _MODULE_SETTINGS):
        content = read_json(file)
        if file.name != "config.json" or "model_type" not in content:  # the network's own
            kept = {key: value for key, value in content.items() if key not in ("__version__", "transformers_version")}
            settings[file.relative_to(folder).as_posix()] = kept
    return settings
