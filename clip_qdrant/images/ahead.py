"""Decoding ahead of the model, in threads: Pillow's decoders release the interpreter lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from clip_qdrant.errors import ConfigError, ImageError
from clip_qdrant.images.decode import MAX_PIXELS, open_image

if TYPE_CHECKING:
    from PIL import Image

    from clip_qdrant.types import ImageSource


def decode_ahead(
    sources: Iterable[ImageSource],
    *,
    min_side: int | None = None,
    threads: int | None = None,
    ahead: int | None = None,
    max_pixels: int = MAX_PIXELS,
    allow_url: bool = False,
) -> Generator[Image.Image | ImageError, None, None]:
    """Open images in threads, a bounded number of them ahead of the consumer, and yield them in order.

    Args:
        sources: read lazily, in the consumer's thread, no more than `ahead` items ahead of it.
        min_side: as in `open_image`.
        threads: how many images to decode at once; None for one a core, at most 8.
        ahead: how many decoded images may wait, and so how much memory they take; None for two a thread.
        max_pixels: as in `open_image`.
        allow_url: as in `open_image`.

    Yields:
        For each source its RGB image, or the ImageError that says why there is none. Any other exception, of `sources`
        too, is raised. Closing the generator waits only for what is being decoded at that moment.

    Raises:
        ConfigError: `threads` or `ahead` is less than 1.
    """
    threads = min(8, _cores()) if threads is None else threads
    ahead = 2 * threads if ahead is None else ahead
    for name, value in {"threads": threads, "ahead": ahead}.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value!r}.")
    one = partial(open_image, min_side=min_side, max_pixels=max_pixels, allow_url=allow_url)
    return _in_order(sources, partial(_image_or_error, one), threads, ahead)


def _in_order(
    sources: Iterable[ImageSource], one: partial[Image.Image | ImageError], threads: int, ahead: int
) -> Generator[Image.Image | ImageError, None, None]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    waiting: deque[Future[Image.Image | ImageError]] = deque()
    try:
        for source in sources:
            waiting.append(pool.submit(one, source))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _image_or_error(one: partial[Image.Image], source: ImageSource) -> Image.Image | ImageError:
    try:
        return one(source)
    except ImageError as error:
        return error


def _cores() -> int:
    """The cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
