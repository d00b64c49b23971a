"""Prompt (and picture, and mask) -> pictures, by a diffusion model.

A text encoder, often CLIP's, reads the prompt; a denoiser turns noise into what the text says, step by step (Ho et al.,
2020); an autoencoder makes pixels of it (Rombach et al., 2022). All of it is diffusers'; this is the house's way in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from clip_qdrant.errors import ConfigError, ModelError
from clip_qdrant.images import open_image
from clip_qdrant.models.device import pick_device
from clip_qdrant.models.diffusion_call import Step, accepted, check_options, own_number, takes, telling
from clip_qdrant.models.diffusion_inputs import check_numbers, check_prompts, fitted, longest_prompt, mask_of, size_of
from clip_qdrant.models.diffusion_latents import decoder
from clip_qdrant.models.diffusion_loading import find_pipeline, load_pipeline, pick_generator_dtype, quiet_diffusers
from clip_qdrant.models.names import POCKET
from clip_qdrant.models.picture import Picture

if TYPE_CHECKING:
    import torch

    from clip_qdrant.models.guidance import ClipGuide
    from clip_qdrant.types import ImageSource

    Task = Literal["Text2Image", "Image2Image", "Inpainting"]

_logger = logging.getLogger(__name__)

_POCKET_STEPS, _POCKET_GUIDANCE = 20, 3.0
_STRENGTH = 0.6
"""Of an edit, where nothing is said and the model takes one."""


class DiffusionGenerator:
    """A diffusion model of diffusers: Stable Diffusion 1 to 3, SDXL, Turbo, LCM, Flux, whatever AutoPipeline knows.

    Each picture is made by itself, from a noise that its seed alone decides, so that a seed gives the same picture to
    the bit, however many are asked for: the one that diffusers gives for the same arguments. Threads may share a
    generator; it makes one picture at a time.

    Args:
        model: a Hub id or a folder of a pipeline with safetensors; "pocket", which comes with the package.
        revision: a branch, tag or commit of the Hub's.
        variant: of the weights' files, "fp16" for instance.
        cache_folder: where models of the Hub are kept; HF_HUB_CACHE, or the Hub's own default, if None.
        device: "auto" (cuda, then mps, then cpu), or a name of torch's.
        dtype: "auto" (float32 on a CPU, else what the GPU computes fastest), "float32", "bfloat16" or "float16".
        scheduler: the name of a class of diffusers to use instead of the model's own: "EulerDiscreteScheduler".
        steps: how many, where a call does not say; the pipeline's own number if None. Turbo models want 1 to 4.
        guidance: how much the prompt counts, likewise; the pipeline's own number if None. Turbo models want 0.
        low_memory: keep on a GPU only the part that works, and decode in tiles: slower, with a fraction of the memory.
        trust_remote_code: run Python code that a model brings.

    Raises:
        ConfigError: a device, dtype or scheduler that cannot be used.
        MissingDependencyError: diffusers is not installed.
        ModelNotFoundError: no such model, or no network to fetch it.
        ModelFormatError: it is no pipeline that makes images of text, or has no safetensors.
    """

    def __init__(
        self,
        model: str | Path = POCKET,
        *,
        revision: str | None = None,
        variant: str | None = None,
        cache_folder: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        scheduler: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        low_memory: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        check_numbers(1, None, steps, guidance)
        self.device: torch.device = pick_device(device)
        self.dtype: torch.dtype = pick_generator_dtype(dtype, self.device)
        place = find_pipeline(model)
        self.model = str(model) if model == POCKET or isinstance(place, str) else str(place.absolute())
        if model == POCKET:
            steps, guidance = steps or _POCKET_STEPS, _POCKET_GUIDANCE if guidance is None else guidance
        self._steps, self._guidance = steps, guidance
        self._pipelines: dict[Task, Any] = {
            "Text2Image": load_pipeline(
                place,
                self.device,
                self.dtype,
                revision=revision,
                variant=variant,
                cache_folder=None if cache_folder is None else Path(cache_folder).expanduser(),
                scheduler=scheduler,
                low_memory=low_memory,
                trust_remote_code=trust_remote_code,
            )
        }
        self._lock = Lock()
        self._warned = False

    @property
    def pipeline(self) -> Any:
        """Diffusers' own pipeline from text to image. What is done to its parts counts for edits, too.

        LoRA weights, say: `generator.pipeline.load_lora_weights(…)`, with peft installed, and then
        `generator.generate(…, cross_attention_kwargs={"scale": 0.8})`.
        """
        return self._pipelines["Text2Image"]

    def generate(
        self,
        prompt: str,
        *,
        negative: str | None = None,
        count: int = 1,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | tuple[int, int] | None = None,
        guide: ClipGuide | None = None,
        progress: Callable[[Step], object] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """Pictures of a prompt.

        Args:
            prompt: what they show. What is longer than the text encoder takes is cut, with one warning.
            negative: what they should not show.
            count: how many; the seeds are `seed`, `seed + 1`, …
            seed: of the first; by chance if None.
            steps: how many denoising steps each takes.
            guidance: how much the prompt counts (classifier-free guidance).
            size: the side, or (width, height), in pixels; the model's own if None.
            guide: pulls each picture towards a vector of CLIP.
            progress: called after each step. Whatever it raises ends the work there, and the generator stays usable.
            **options: what the pipeline itself takes besides, by diffusers' names: cross_attention_kwargs,
                ip_adapter_image, callback_on_step_end, … A `Picture` does not tell them.

        Raises:
            ConfigError: an argument that cannot be, or that this model does not take; said before any work is done.
            ModelError: not enough memory, or pictures that are no numbers.
        """
        given: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative}
        if size is not None:
            given["width"], given["height"] = size_of(self.pipeline, size)
        return self._make("Text2Image", given, options, count, seed, steps, guidance, guide, progress)

    def edit(
        self,
        image: ImageSource,
        prompt: str,
        *,
        strength: float | None = None,
        mask: ImageSource | None = None,
        keep: bool = True,
        negative: str | None = None,
        count: int = 1,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | tuple[int, int] | None = None,
        guide: ClipGuide | None = None,
        progress: Callable[[Step], object] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """Pictures that start from another (image-to-image), or repaint a part of it (inpainting).

        Args:
            image: whatever `open_image` opens; it is resized to what the model is good at, or to `size`.
            prompt: what the new pictures show.
            strength: how much may change, above 0, at most 1. The higher, the more of the steps are taken. If None,
                0.6, or nothing where the model takes none (Flux Kontext, Flux 2).
            mask: a picture of the same shape, white where to repaint. Strength 1.0 repaints it wholly.
            keep: lay what is black in the mask over the result as it was, pixel for pixel; otherwise it is what the
                autoencoder makes of it, as with diffusers alone.
            negative: what they should not show.
            count: how many.
            seed: of the first; by chance if None.
            steps: how many denoising steps the whole way takes; an edit takes the last part of it.
            guidance: how much the prompt counts.
            size: as for `generate`.
            guide: as for `generate`.
            progress: as for `generate`.
            **options: as for `generate`.

        Raises:
            ImageError: the image or the mask cannot be opened.
            ConfigError: as for `generate`; a mask of another shape, or with nothing to repaint.
            ModelError: as for `generate`.
        """
        if strength is not None and not 0 < strength <= 1:
            raise ConfigError(f"The strength of an edit is above 0 and at most 1, got {strength!r}.")
        opened = open_image(image)
        size = fitted(self.pipeline, opened.size) if size is None else size_of(self.pipeline, size)
        start = opened.resize(size)
        given: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative, "strength": strength}
        given |= {"image": start, "width": size[0], "height": size[1]}
        if mask is None:
            return self._make("Image2Image", given, options, count, seed, steps, guidance, guide, progress)
        given["mask_image"] = white = mask_of(mask, opened.size, size)
        made = self._make("Inpainting", given, options, count, seed, steps, guidance, guide, progress)
        return [replace(one, image=Image.composite(one.image, start, white)) if keep else one for one in made]

    def _make(
        self,
        task: Task,
        given: dict[str, Any],
        options: Mapping[str, Any],
        count: int,
        seed: int | None,
        steps: int | None,
        guidance: float | None,
        guide: ClipGuide | None,
        progress: Callable[[Step], object] | None,
    ) -> list[Picture]:
        check_prompts(given["prompt"], given["negative_prompt"])
        check_numbers(count, seed, steps, guidance)
        check_options(options)
        steps = steps or self._steps or own_number(self.pipeline, "num_inference_steps") or 1
        given |= {"num_inference_steps": steps, "guidance_scale": self._guidance if guidance is None else guidance}
        first = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        with self._lock:
            pipeline = self._pipeline_for(task)
            if "strength" in given and given["strength"] is None and takes(pipeline, "strength"):
                given["strength"] = _STRENGTH
            given = accepted(pipeline, {**given, **options})
            strength = given.get("strength", 1.0)
            if int(steps * strength) < 1:
                raise ConfigError(f"{steps} steps at a strength of {strength} leave no step. Raise one of them.")
            self._warn_of_long(pipeline, given)
            pictures: list[Picture] = []
            for index in range(count):
                told = telling(pipeline, given, progress, index + 1, count) if progress else {}
                pictures.append(self._one(pipeline, {**given, **told}, first + index, guide))
            return pictures

    def _one(self, pipeline: Any, given: Mapping[str, Any], seed: int, guide: ClipGuide | None) -> Picture:
        import torch

        # On the CPU, so that a seed is the same noise on every device.
        rng = torch.Generator("cpu").manual_seed(seed)
        start = time.perf_counter()
        with ExitStack() as stack:
            stack.enter_context(quiet_diffusers())
            alignment: list[float] = []
            if guide is not None:
                decode = decoder(pipeline, (given.get("width"), given.get("height")))
                alignment = stack.enter_context(guide.watching(pipeline.scheduler, decode))
            try:
                found = pipeline(**given, generator=rng, output_type="np")
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                    raise
                raise ModelError(
                    f"There is not enough memory on {str(self.device)!r} for this picture: {error}. Ask for a smaller "
                    "size, or load the generator with low_memory=True, or a dtype of half the size."
                ) from error
        if not np.isfinite(found.images).all():
            raise ModelError(
                f"What {self.model!r} made in {self.dtype} is not a number. Load it with dtype='float32' or 'bfloat16'."
            )
        verdict = getattr(found, "nsfw_content_detected", None)
        return Picture(
            image=pipeline.numpy_to_pil(found.images)[0],
            prompt=given["prompt"],
            seed=seed,
            model=self.model,
            steps=given["num_inference_steps"],
            guidance=given.get("guidance_scale"),
            negative=given.get("negative_prompt"),
            strength=given.get("strength"),
            scheduler=type(pipeline.scheduler).__name__,
            seconds=time.perf_counter() - start,
            flagged=None if verdict is None else bool(verdict[0]),
            alignment=tuple(alignment),
        )

    def _pipeline_for(self, task: Task) -> Any:
        if task not in self._pipelines:
            import diffusers

            try:
                with quiet_diffusers():
                    pipeline = getattr(diffusers, f"AutoPipelineFor{task}").from_pipe(self.pipeline)
            except ValueError as error:
                raise ConfigError(
                    f"{type(self.pipeline).__name__} has no way to edit pictures by {task}: {error}."
                ) from error
            pipeline.set_progress_bar_config(disable=True)
            self._pipelines[task] = pipeline
        return self._pipelines[task]

    def _warn_of_long(self, pipeline: Any, given: Mapping[str, Any]) -> None:
        for prompt in (given["prompt"], given.get("negative_prompt", "")):
            most = longest_prompt(pipeline, prompt, given.get("max_sequence_length"))
            if most is not None and not self._warned:
                self._warned = True
                _logger.warning(
                    "The prompt %r… is longer than the %d tokens that %r takes, and is cut there. This is said once.",
                    prompt[:40], most, self.model,
                )  # fmt: skip

    def __repr__(self) -> str:
        return f"DiffusionGenerator({self.model!r}, device={str(self.device)!r}, dtype={str(self.dtype)!r})"
