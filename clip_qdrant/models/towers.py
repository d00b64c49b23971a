"""The two towers of a model, image and text, behind one interface, whichever library loads them.

A tower takes one batch and gives whatever vectors the model gives; batching, order, unit length and threads are the
encoder's. Texts are given as strings and stay texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from clip_qdrant.errors import ModelFormatError

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from clip_qdrant.models.checkpoint import Checkpoint


class Towers(Protocol):
    """An image tower and a text tower.

    Attributes:
        dim: of the vectors.
        image_side: the input side of the image tower, in pixels.
        max_tokens: how many tokens the text tower takes, special ones included.
        logit_scale: what cosines are multiplied by to become logits, or None where the model does not say.
        logit_bias: what is added to them, 0.0 for softmax models.
        settings: of preprocessing; what decides, beside the weights, which vector comes out.
    """

    dim: int
    image_side: int
    max_tokens: int
    logit_scale: float | None
    logit_bias: float
    settings: dict[str, Any]

    def windows(self, text: str) -> list[Any]:
        """A text as one or more inputs that fit, in order; each has a len, its tokens without the special ones."""
        ...

    def embed_windows(self, windows: Sequence[Any]) -> torch.Tensor:
        """Vectors (n, dim) of what `windows` gave."""
        ...

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Vectors (n, dim) of RGB images."""
        ...

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors (n, dim) of RGB pixels (n, 3, height, width) in 0 to 1, with gradients of the pixels."""
        ...

    def freeze(self) -> None:
        """Ask for no gradients of the weights."""
        ...


def load_towers(
    checkpoint: Checkpoint,
    device: torch.device,
    dtype: torch.dtype,
    *,
    trust_remote_code: bool,
    bare: bool = False,
) -> Towers:
    """Load a checked checkpoint.

    Args:
        checkpoint: with the files.
        device: where to.
        dtype: in what precision.
        trust_remote_code: run Python code that the model brings.
        bare: the network of transformers alone, also where the folder is one of sentence-transformers.

    Raises:
        ModelFormatError: it is not an image and text encoder, or a file of it is broken.
    """
    with quiet():
        try:
            if checkpoint.is_sentence_transformer and not bare:
                from clip_qdrant.models.towers_sentence import SentenceTowers

                return SentenceTowers(checkpoint, device, dtype, trust_remote_code=trust_remote_code)
            from clip_qdrant.models.towers_transformers import TransformersTowers

            return TransformersTowers(checkpoint, device, dtype, trust_remote_code=trust_remote_code)
        except ModelFormatError:
            raise
        except Exception as error:  # the loaders have no common error, and the files are anybody's
            raise ModelFormatError(
                f"The model {checkpoint.name!r} cannot be loaded from {str(checkpoint.folder)!r}: "
                f"{type(error).__name__}: {error}. Check that the copy is whole."
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and reports while a model is loaded or saved: what matters of them is raised as an error."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
