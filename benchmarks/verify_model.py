"""Hold a published model against its published numbers. Needs a network, and the model's download.

Run: make verify-model MODEL=openai/clip-vit-base-patch32. Prints ours beside theirs; exits with 1 where they differ.
The numbers are those that transformers' own integration tests (tests/models/*/test_modeling_*.py, Apache-2.0) expect
for the picture of two cats, COCO val2017 000000039769.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from clip_qdrant import ClipEncoder, open_image

CATS = "http://images.cocodataset.org/val2017/000000039769.jpg"


@dataclass(frozen=True, slots=True)
class Published:
    """What a model gives for the picture of the cats: texts, and logits_per_image."""

    texts: tuple[str, ...]
    logits: tuple[float, ...]


PUBLISHED = {
    "openai/clip-vit-base-patch32": Published(("a photo of a cat", "a photo of a dog"), (24.5701, 19.3049)),
    "google/siglip-base-patch16-224": Published(("a photo of 2 cats", "a photo of 2 dogs"), (-0.7567, -10.3354)),
}
TOLERANCE = 0.1
"""Of a logit; a decoder of JPEGs and a resampler other than theirs cost some hundredths."""


def logits(model: str) -> tuple[Published, np.ndarray]:
    """What was published for a model, and what it gives here."""
    published = PUBLISHED[model]
    encoder = ClipEncoder(model, dtype="float32")
    (image,) = encoder.embed_images([open_image(CATS, allow_url=True)])
    cosines = encoder.embed_texts(published.texts) @ image
    return published, (encoder.logit_scale or 1.0) * cosines + encoder.logit_bias


def main() -> None:
    """Print ours beside theirs."""
    model = sys.argv[1] if len(sys.argv) > 1 else next(iter(PUBLISHED))
    if model not in PUBLISHED:
        sys.exit(f"Nothing published is known here for {model!r}; there is {', '.join(PUBLISHED)}.")
    published, ours = logits(model)
    for text, theirs, mine in zip(published.texts, published.logits, ours, strict=True):
        print(f"{text:24}{theirs:10.4f} published{mine:10.4f} here")
    if np.abs(ours - published.logits).max() > TOLERANCE:
        sys.exit("They differ.")


if __name__ == "__main__":
    main()
