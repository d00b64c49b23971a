"""CLIP and its kin through transformers: CLIP, SigLIP, SigLIP 2, MetaCLIP 2, Chinese-CLIP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ModelFormatError

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from clip_qdrant.models.checkpoint import Checkpoint

_MAX_TOKENS = {"chinese_clip": 52}
"""How long the texts were that a family was trained on, where its positions would allow more."""


class TransformersTowers:
    """See `towers.Towers`."""

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, *, trust_remote_code: bool
    ) -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

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
        model, report = AutoModel.from_pretrained(folder, dtype=dtype, output_loading_info=True, **trust)
        if report["missing_keys"] or report["mismatched_keys"]:
            wrong = sorted(str(key) for key in {*report["missing_keys"], *report["mismatched_keys"]})
            raise ModelFormatError(
                f"The weights of {checkpoint.name!r} lack {len(wrong)} of the parts that its config.json names, "
                f"{wrong[0]!r} among them. Check that the copy is whole."
            )
        self._model = model.to(device).eval()
        self._device, self._dtype = device, dtype
        # SigLIP was trained on lower-cased texts padded to the full length, and does not mask the padding.
        self._siglip = config.model_type.startswith("siglip")
        limits = (
            _MAX_TOKENS.get(config.model_type, math.inf),
            config.text_config.max_position_embeddings,
            self._tokenizer.model_max_length,
        )
        self.max_tokens = int(min(limits))
        self._prefix, self._suffix = self._special_tokens()
        self.dim = self._dim(config)
        self.image_side = _side(self._processor, config)
        scale = getattr(model, "logit_scale", None)
        bias = getattr(model, "logit_bias", None)
        self.logit_scale = None if scale is None else float(scale.detach().float().exp())
        self.logit_bias = 0.0 if bias is None else float(bias.detach().float())
        self.settings = {
            "image": self._processor.to_dict(),
            "text": {"max_tokens": self.max_tokens, "padding": self._padding, "lower": self._siglip},
        }

    @property
    def _padding(self) -> str:
        return "max_length" if self._siglip else "longest"

    def windows(self, text: str) -> list[list[int]]:
        """The token ids of a text, without special tokens, in pieces that fit."""
        text = text.lower() if self._siglip else text
        ids = list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        room = self.max_tokens - len(self._prefix) - len(self._suffix)
        return [ids[at : at + room] for at in range(0, len(ids), room)] or [[]]

    def embed_windows(self, windows: Sequence[list[int]]) -> torch.Tensor:
        """Vectors (n, dim) of token ids."""
        batch = self._tokenizer.pad(
            {"input_ids": [[*self._prefix, *ids, *self._suffix] for ids in windows]},
            padding=self._padding,
            max_length=self.max_tokens,
            return_attention_mask=not self._siglip,
            return_tensors="pt",
            verbose=False,
        )
        return _vectors(self._model.get_text_features(**batch.to(self._device)))

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Vectors (n, dim) of RGB images."""
        batch = self._processor(images=list(images), return_tensors="pt")
        batch["pixel_values"] = batch["pixel_values"].to(self._dtype)
        return _vectors(self._model.get_image_features(**batch.to(self._device)))

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

    def _dim(self, config: Any) -> int:
        import torch

        with torch.inference_mode():
            return int(self.embed_windows([[]]).shape[1])


def _side(processor: Any, config: Any) -> int:
    """The longest side, in pixels, that the processor makes of an image before the model sees it."""
    sizes = [processor.to_dict().get(name) or {} for name in ("size", "crop_size")]
    sides = [side for size in sizes for side in dict(size).values() if isinstance(side, int)]
    patches = getattr(processor, "max_num_patches", None)
    if patches is not None:  # SigLIP 2 with a size of its own for each image
        sides = [processor.patch_size * math.ceil(math.sqrt(patches))]
    return max(sides) if sides else int(config.vision_config.image_size)


def _vectors(features: Any) -> torch.Tensor:
    """What `get_*_features` gives: the vectors in transformers 4, an output that has them in transformers 5."""
    vectors: torch.Tensor = getattr(features, "pooler_output", features)
    return vectors
