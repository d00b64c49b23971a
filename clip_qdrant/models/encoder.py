"""Images or texts -> unit vectors of one space.

Two encoders trained together, so that a picture and its description lie close by: Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision", 2021 (CLIP); Zhai et al., "Sigmoid Loss for Language
Image Pre-Training", 2023 (SigLIP).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from io import IOBase
from itertools import islice
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from clip_qdrant.errors import ConfigError, ImageError
from clip_qdrant.images import decode_ahead
from clip_qdrant.models.checkpoint import download_size, find_checkpoint
from clip_qdrant.models.device import pick_device, pick_dtype
from clip_qdrant.models.fingerprint import hash_settings, hash_weights
from clip_qdrant.models.names import DEFAULT_MODEL
from clip_qdrant.models.towers import load_towers
from clip_qdrant.types import Fingerprint

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from clip_qdrant.types import ImageSource, Vectors

__all__ = ["DEFAULT_MODEL", "ClipEncoder", "TextPolicy", "download_size"]

TextPolicy = Literal["truncate", "pool"]
"""What becomes of a text over the model's limit: its beginning counts, or all of it, in pieces whose vectors are
averaged by length."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class ClipEncoder:
    """An image and text encoder. Vectors are float32, of unit length, and in the order given, whatever the batch size.

    In float32 the batch size changes no vector by more than 1e-5; in bfloat16 and float16 by what these round.
    Threads may share an encoder; it embeds one batch at a time.

    Args:
        model: a Hub id or a folder of a CLIP, SigLIP, SigLIP 2, MetaCLIP 2, Chinese-CLIP or sentence-transformers model
            with safetensors; "pocket", which comes with the package; or a name of OpenAI's ("ViT-B/32").
        revision: a branch, tag or commit of the Hub's.
        cache_folder: where models of the Hub are kept; HF_HUB_CACHE, or the Hub's own default, if None.
        device: "auto" (cuda, then mps, then cpu), or a name of torch's.
        dtype: "auto" (see `device.pick_dtype`), "float32", "bfloat16" or "float16".
        batch_size: how many items one forward pass takes.
        text_policy: for texts over the model's limit; the first of them is also logged as a warning.
        trust_remote_code: run Python code that a model brings.

    Raises:
        ConfigError: a device, dtype, batch size or policy that cannot be used; raised before anything is loaded.
        ModelNotFoundError: no such model, or no network to fetch it.
        ModelFormatError: not an image and text encoder in safetensors.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        revision: str | None = None,
        cache_folder: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
        text_policy: TextPolicy = "truncate",
        trust_remote_code: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size!r}.")
        if text_policy not in ("truncate", "pool"):
            raise ConfigError(f"text_policy must be 'truncate' or 'pool', got {text_policy!r}.")
        self.device: torch.device = pick_device(device)
        self.dtype: torch.dtype = pick_dtype(dtype, self.device)
        self.batch_size = batch_size
        self.text_policy = text_policy
        self._checkpoint = find_checkpoint(
            model, revision, None if cache_folder is None else Path(cache_folder).expanduser()
        )
        self.model = self._checkpoint.name
        self._checkpoint.check(trust_remote_code)
        self._towers = load_towers(self._checkpoint, self.device, self.dtype, trust_remote_code=trust_remote_code)
        self._towers.freeze()
        self._lock = Lock()
        self._warned = False

    @property
    def dim(self) -> int:
        """The vectors' dimension."""
        return self._towers.dim

    @property
    def image_side(self) -> int:
        """The side of the model's input, in pixels."""
        return self._towers.image_side

    @property
    def max_text_tokens(self) -> int:
        """How many tokens a text may have, special ones included."""
        return self._towers.max_tokens

    @property
    def logit_scale(self) -> float | None:
        """What the model multiplies cosines by to make logits, or None where it does not say."""
        return self._towers.logit_scale

    @property
    def logit_bias(self) -> float:
        """What the model adds to them: 0.0 for CLIP's softmax, a negative number for SigLIP's sigmoid."""
        return self._towers.logit_bias

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What must be the same for two vectors to be comparable; device and dtype are no part of it."""
        return Fingerprint(
            model=self.model,
            weights=hash_weights(self._checkpoint.weights),
            preprocessing=hash_settings(self._towers.settings),
            dim=self.dim,
        )

    def embed_images(self, images: Iterable[ImageSource]) -> Vectors:
        """Unit float32 vectors of images, shape (n, dim).

        Args:
            images: whatever `open_image` opens, read lazily; they are decoded in threads, ahead of the model.

        Raises:
            ImageError: an image that cannot be opened.
            ConfigError: one image instead of many.
        """
        if _is_one_image(images):
            raise ConfigError(f"images must be a list, got one {type(images).__name__}. Write [image].")
        decoded = decode_ahead(images, min_side=self.image_side)
        try:
            return self._embed(map(_or_raise, decoded), self._towers.embed_images)
        finally:
            decoded.close()

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit vectors float32 (n, dim) of pixels, through which gradients pass: for what is to be pulled towards one.

        The pixels are resized as a tensor, which differs from `embed_images` by Pillow's rounding.

        Args:
            pixels: float (n, 3, height, width), RGB in 0 to 1, on any device.

        Raises:
            ConfigError: a tensor of another shape.
            ModelFormatError: a model whose pixels have no gradients: one that takes each image at a size of its own.
        """
        from torch.nn.functional import normalize

        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ConfigError(f"pixels are (n, 3, height, width), got {tuple(pixels.shape)}.")
        return normalize(self._towers.embed_pixels(pixels).float(), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit float32 vectors of texts, shape (n, dim). A text is a text, even when it looks like a URL or a path.

        Raises:
            ConfigError: one str instead of many, something that is no str, or a str that is not whole Unicode.
        """
        if isinstance(texts, str):
            raise ConfigError(f"texts must be a list, got the str {texts[:40]!r}. Write [text].")
        texts = list(texts)
        for i, text in enumerate(texts):
            _check_text(i, text)
        with self._lock:
            split = [self._towers.windows(text) for text in texts]
            self._warn_of_long(split)
        if self.text_policy == "truncate":
            split = [windows[:1] for windows in split]
        # One pass over the windows of all texts, so that batches are full; then one mean for each text.
        vectors = self._embed((window for windows in split for window in windows), self._towers.embed_windows)
        if len(vectors) == len(split):
            return vectors
        rest = iter(vectors)
        return _unit(np.array([_mean(islice(rest, len(windows)), map(len, windows)) for windows in split]))

    def _embed(self, items: Iterable[_T], forward: Callable[[list[_T]], torch.Tensor]) -> Vectors:
        import torch

        batches: list[Vectors] = []
        for batch in _batches(items, self.batch_size):
            with self._lock, torch.inference_mode():
                batches.append(forward(batch).float().cpu().numpy())
        return _unit(np.concatenate(batches)) if batches else np.empty((0, self.dim), np.float32)

    def _warn_of_long(self, split: Sequence[Sequence[Any]]) -> None:
        long = sum(len(windows) > 1 for windows in split)
        if long and not self._warned:
            self._warned = True
            done = "cut there" if self.text_policy == "truncate" else "embedded in pieces"
            _logger.warning(
                "%d of %d texts are longer than the %d tokens that %r takes, and are %s. This is said once.",
                long, len(split), self.max_text_tokens, self.model, done,
            )  # fmt: skip

    def __repr__(self) -> str:
        return f"ClipEncoder({self.model!r}, device={str(self.device)!r}, dtype={str(self.dtype)!r})"


def _is_one_image(images: Any) -> bool:
    """Whether this is one image where many belong. Some of them can be iterated, by row or by line, into nonsense."""
    from PIL.Image import Image

    if isinstance(images, np.ndarray):
        return images.ndim in (2, 3)
    return isinstance(images, (str, bytes, bytearray, PathLike, IOBase, Image))


def _check_text(i: int, text: Any) -> None:
    if not isinstance(text, str):
        raise ConfigError(f"texts must be str, got {type(text).__name__}. Use embed_images for images.")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half a character; a file name that is not UTF-8 has them
        raise ConfigError(
            f"Text {i}, {text[:40]!r}, is not whole Unicode: {error.reason} at {error.start}. "
            "Use text.encode('utf-8', 'replace').decode()."
        ) from error


def _unit(vectors: Any) -> Vectors:
    """Divided by their lengths, computed in float64."""
    exact = np.asarray(vectors, dtype=np.float64)
    unit: Vectors = (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _mean(vectors: Iterable[Any], lengths: Iterable[int]) -> Any:
    return np.average(np.array(list(vectors), np.float64), axis=0, weights=[max(1, length) for length in lengths])


def _or_raise(image: Image | ImageError) -> Image:
    if isinstance(image, ImageError):
        raise image
    return image


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
