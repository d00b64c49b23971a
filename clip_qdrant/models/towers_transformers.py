"""CLIP and its kin through transformers: CLIP, SigLIP, SigLIP 2, MetaCLIP 2, Chinese-CLIP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ModelFormatError
from clip_qdrant.models.image_input import image_settings, input_side, shorten
from clip_qdrant.models.pixels import prepare
from clip_qdrant.models.text_rules import text_rules

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from clip_qdrant.models.checkpoint import Checkpoint


class TransformersTowers:
    """See `towers.Towers`.

    Attributes:
        model: transformers' own, which `training_model` trains.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, *, trust_remote_code: bool
    ) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        # From its home: early releases of transformers 5 hide the name at the top where torchvision is missing.
        from transformers.models.auto.image_processing_auto import AutoImageProcessor

        folder, trust = str(checkpoint.folder), {"trust_remote_code": trust_remote_code}
        config = AutoConfig.from_pretrained(folder, **trust)
        if not hasattr(config, "text_config") or not hasattr(config, "vision_config"):
            raise ModelFormatError(
                f"The model {checkpoint.name!r} is of type {config.model_type!r}, which does not embed both images and "
                "texts. Use a CLIP, SigLIP or similar model."
            )
        self._processor = AutoImageProcessor.from_pretrained(folder, backend="pil", **trust)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
        self._check_tokenizer(checkpoint)
        model, report = AutoModel.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **trust
        )
        if report["missing_keys"] or report["mismatched_keys"]:
            wrong = sorted(str(key) for key in {*report["missing_keys"], *report["mismatched_keys"]})
            raise ModelFormatError(
                f"The weights of {checkpoint.name!r} lack {len(wrong)} of the parts that its config.json names, "
                f"{wrong[0]!r} among them. Check that the copy is whole."
            )
        self.model = model.to(device).eval()
        self._rules = text_rules(config.model_type)
        self.max_tokens = int(
            min(
                self._rules.max_tokens or math.inf,
                config.text_config.max_position_embeddings,
                self._tokenizer.model_max_length,
            )
        )
        self._prefix, self._suffix = self._special_tokens()
        self.dim = self._dim()
        self.image_side = input_side(self._processor) or int(config.vision_config.image_size)
        self.logit_scale, self.logit_bias = scale_and_bias(model)
        self.settings = {
            "image": image_settings(self._processor),
            "text": {
                "max_tokens": self.max_tokens,
                "padding": self._rules.padding,
                "lower": self._rules.lower,
                "prefix": self._prefix,
                "suffix": self._suffix,
            },
        }

    def windows(self, text: str) -> list[list[int]]:
        """The token ids of a text, without special tokens, in pieces that fit."""
        text = self._rules.prepare(text)
        ids = list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        room = self.max_tokens - len(self._prefix) - len(self._suffix)
        return [ids[at : at + room] for at in range(0, len(ids), room)] or [[]]

    def embed_windows(self, windows: Sequence[list[int]]) -> torch.Tensor:
        """Vectors (n, dim) of token ids."""
        return vectors_of(self.model.get_text_features(**self.tokens(windows).to(self.model.device)))

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Vectors (n, dim) of RGB images."""
        batch = self.pixels(images)
        batch["pixel_values"] = batch["pixel_values"].to(self.model.dtype)
        return vectors_of(self.model.get_image_features(**batch.to(self.model.device)))

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors (n, dim) of RGB pixels (n, 3, height, width) in 0 to 1, with gradients of the pixels."""
        pixels = prepare(pixels.to(self.model.device), self.settings["image"]).to(self.model.dtype)
        return vectors_of(self.model.get_image_features(pixel_values=pixels))

    def freeze(self) -> None:
        """Ask for no gradients of the weights."""
        self.model.requires_grad_(False)

    def tokens(self, windows: Sequence[list[int]]) -> Any:
        """What the text tower takes of token ids: `input_ids` (n, tokens), and a mask where the model knows one."""
        return self._tokenizer.pad(
            {"input_ids": [[*self._prefix, *ids, *self._suffix] for ids in windows]},
            padding=self._rules.padding,
            max_length=self.max_tokens,
            return_attention_mask=not self._rules.full_length,
            return_tensors="pt",
            verbose=False,
        )

    def pixels(self, images: Sequence[Image.Image]) -> Any:
        """What the image tower takes of RGB images: `pixel_values`, and what else the model wants."""
        return self._processor(images=[shorten(image, self._processor) for image in images], return_tensors="pt")

    def save(self, folder: Path) -> None:
        """Write the model with its tokenizer and image processor, as transformers reads them."""
        self.model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        self._processor.save_pretrained(folder)

    def _check_tokenizer(self, checkpoint: Checkpoint) -> None:
        """Without its files transformers makes a tokenizer that knows no words, and says nothing."""
        names = sorted({"tokenizer.json", *self._tokenizer.vocab_files_names.values()})
        if not any((checkpoint.folder / name).is_file() for name in names):
            raise ModelFormatError(f"The model {checkpoint.name!r} has no tokenizer. It needs one of {names}.")

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text, read off an example: no tokenizer says it in one way."""
        bare = list(self._tokenizer("a", add_special_tokens=False)["input_ids"])
        full = list(self._tokenizer("a")["input_ids"])
        at = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        return full[:at], full[at + len(bare) :]

    def _dim(self) -> int:
        import torch

        with torch.inference_mode():
            return int(self.embed_windows([[]]).shape[1])


def scale_and_bias(model: Any) -> tuple[float | None, float]:
    """What a model of transformers makes logits of cosines with: (None, 0.0) where it does not say."""
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    return (
        None if scale is None else float(scale.detach().float().exp()),
        0.0 if bias is None else float(bias.detach().float()),
    )


def vectors_of(features: Any) -> torch.Tensor:
    """What `get_*_features` gives: the vectors in transformers 4, an output that has them in transformers 5."""
    vectors: torch.Tensor = getattr(features, "pooler_output", features)
    return vectors
