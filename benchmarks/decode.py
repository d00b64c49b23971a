"""Opening a large JPEG for a model: `open_image` with and without `min_side`, and Pillow alone, in one run.

Run: python benchmarks/decode.py. The picture is drawn here: smooth noise of 12 megapixels. Quote the ratio.
"""

from __future__ import annotations

from io import BytesIO
from time import perf_counter

import numpy as np
from PIL import Image

from clip_qdrant import open_image

SIDE = 224
TIMES = 7


def picture() -> bytes:
    """A JPEG of 4000 x 3000."""
    noise = np.random.default_rng(0).integers(0, 256, size=(375, 500, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    """Measure the three in turn, and print medians."""
    encoded = picture()
    ways = {
        "Pillow": lambda: Image.open(BytesIO(encoded)).convert("RGB"),
        "open_image": lambda: open_image(encoded),
        f"open_image, min_side={SIDE}": lambda: open_image(encoded, min_side=SIDE),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TIMES):
        for name, way in ways.items():
            start = perf_counter()
            way()
            taken[name].append(1_000 * (perf_counter() - start))
    medians = {name: float(np.median(times)) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"{name:28}{median:8.1f} ms{medians['Pillow'] / median:8.2f}x")


if __name__ == "__main__":
    main()
