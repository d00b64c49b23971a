"""Hold a published model against its published numbers. Needs a network, and the model's download.

Run: make verify-model MODEL=openai/clip-vit-base-patch32. Prints ours beside theirs; exits with 1 where they differ.
A second argument is a folder to load that model from, where its repository has no safetensors and it was converted:
python benchmarks/verify_model.py openai/clip-vit-base-patch32 FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clip_qdrant import ClipEncoder, open_image

CATS = "http://images.cocodataset.org/val2017/000000039769.jpg"
DIAGRAM = "https://raw.githubusercontent.com/openai/CLIP/main/CLIP.png"
POKEMON = "https://clip-cn-beijing.oss-cn-beijing.aliyuncs.com/pokemon.jpeg"
TRANSFORMERS_TEST = "an integration test of transformers, tests/models/*/test_modeling_*.py"


@dataclass(frozen=True, slots=True)
class Published:
    """What a model gives for a picture and some texts, and who says so."""

    source: str
    image: str
    texts: tuple[str, ...]
    kind: Literal["logits", "probabilities"]
    numbers: tuple[float, ...]


_CATS_OR_DOGS = ("a photo of a cat", "a photo of a dog")
_DIAGRAM_DOG_CAT = ("a diagram", "a dog", "a cat")
PUBLISHED = {
    "openai/clip-vit-base-patch32": (
        Published(TRANSFORMERS_TEST, CATS, _CATS_OR_DOGS, "logits", (24.5701, 19.3049)),
        Published(
            "the README of openai/CLIP",
            DIAGRAM,
            _DIAGRAM_DOG_CAT,
            "probabilities",
            (0.9927937, 0.00421068, 0.00299572),
        ),
    ),
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": (
        Published("the README of open_clip", DIAGRAM, _DIAGRAM_DOG_CAT, "probabilities", (1.0, 0.0, 0.0)),
    ),
    "google/siglip-base-patch16-224": (
        Published(TRANSFORMERS_TEST, CATS, ("a photo of 2 cats", "a photo of 2 dogs"), "logits", (-0.7567, -10.3354)),
    ),
    "facebook/metaclip-2-worldwide-huge-quickgelu": (
        Published(TRANSFORMERS_TEST, CATS, _CATS_OR_DOGS, "logits", (19.9799, 13.6169)),
    ),
    "OFA-Sys/chinese-clip-vit-base-patch16": (
        Published(
            "the documentation of transformers",
            POKEMON,
            ("杰尼龟", "妙蛙种子", "小火龙", "皮卡丘"),
            "probabilities",
            (1.2686e-03, 5.4499e-02, 6.7968e-04, 9.4355e-01),
        ),
    ),
}
TOLERANCE = {"logits": 0.1, "probabilities": 0.01}
"""A decoder of JPEGs and a resampler other than theirs cost some hundredths of a logit."""


def compare(encoder: ClipEncoder, published: Published) -> tuple[np.ndarray, bool]:
    """What an encoder gives, and whether it is what was published."""
    (image,) = encoder.embed_images([open_image(published.image, allow_url=True)])
    cosines = encoder.embed_texts(published.texts) @ image
    ours = (encoder.logit_scale or 1.0) * cosines + encoder.logit_bias
    if published.kind == "probabilities":
        ours = np.exp(ours - ours.max()) / np.exp(ours - ours.max()).sum()
    return ours, bool(np.abs(ours - published.numbers).max() <= TOLERANCE[published.kind])


def main() -> None:
    """Print ours beside theirs."""
    model = sys.argv[1] if len(sys.argv) > 1 else next(iter(PUBLISHED))
    if model not in PUBLISHED:
        sys.exit(f"Nothing published is known here for {model!r}; there is {', '.join(PUBLISHED)}.")
    encoder = ClipEncoder(sys.argv[2] if len(sys.argv) > 2 else model, dtype="float32")
    agree = True
    for published in PUBLISHED[model]:
        ours, same = compare(encoder, published)
        agree &= same
        print(
            f"{published.kind} of {published.image}, from {published.source}: {'they agree' if same else 'DIFFERENT'}"
        )
        for text, theirs, mine in zip(published.texts, published.numbers, ours, strict=True):
            print(f"  {text:24}{theirs:10.4f} published{mine:10.4f} here")
    if not agree:
        sys.exit("They differ.")


if __name__ == "__main__":
    main()
