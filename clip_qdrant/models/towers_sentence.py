"""Any sentence-transformers model with image and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ModelFormatError
from clip_qdrant.models.checkpoint import read_json

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from clip_qdrant.models.checkpoint import Checkpoint

_IMAGE_SIDE = 448
"""These models do not say how large an image they take; this is enough for nearly all."""

_UNLIMITED = 1 << 20


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
            model_kwargs={"dtype": dtype},
            trust_remote_code=trust_remote_code,
        )
        if not {"image", "text"} <= set(self._model.modalities):
            raise ModelFormatError(
                f"The model {checkpoint.name!r} embeds {sorted(map(str, self._model.modalities))}, not image and text. "
                "Use a CLIP model."
            )
        self.dim = int(self._model.encode([{"text": ""}], show_progress_bar=False).shape[1])
        self.image_side = _IMAGE_SIDE
        self._tokenizer = getattr(self._model.tokenizer, "tokenizer", self._model.tokenizer)
        self.max_tokens = int(
            min(self._model.max_seq_length or _UNLIMITED, self._tokenizer.model_max_length, _UNLIMITED)
        )
        self._room = self.max_tokens - (len(self._tokenizer("a")["input_ids"]) - len(self._bare("a")))
        self.logit_scale: float | None = None
        self.logit_bias = 0.0
        configs = sorted(path for path in checkpoint.folder.rglob("*.json") if "tokenizer" not in path.name)
        self.settings = {
            path.relative_to(checkpoint.folder).as_posix(): read_json(path)
            for path in configs
            if "processor" in path.name
        }

    def windows(self, text: str) -> list[_Window]:
        """A text in pieces that fit."""
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
        return self._encode([{"image": image} for image in images])

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
