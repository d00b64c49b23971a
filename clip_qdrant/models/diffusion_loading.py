"""A folder or a repository of diffusers -> a pipeline on a device, checked before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant.errors import ConfigError, MissingDependencyError, ModelFormatError, ModelNotFoundError
from clip_qdrant.models.device import pick_dtype
from clip_qdrant.models.names import POCKET
from clip_qdrant.models.pocket import pocket_path
from clip_qdrant.models.towers import quiet

if TYPE_CHECKING:
    import torch


def find_pipeline(model: str | Path) -> str | Path:
    """A Hub id (str) or an existing folder (Path) with a pipeline of diffusers.

    Raises:
        ConfigError: an empty name.
        ModelFormatError: a folder or a file that is no pipeline of diffusers.
        ModelNotFoundError: a name that can be neither.
    """
    if not str(model).strip():
        raise ConfigError("The model has no name. Give a Hub id, a folder, or 'pocket'.")
    place = pocket_path("diffusion") if model == POCKET else Path(model).expanduser()
    if place.is_file():
        raise ModelFormatError(
            f"{str(model)!r} is one file, and diffusers' pipelines are folders. Convert it with diffusers: "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)."
        )
    if place.is_dir():
        if not (place / "model_index.json").is_file():
            raise ModelFormatError(
                f"The folder {str(place)!r} is no pipeline of diffusers: it has no model_index.json."
            )
        return place
    if isinstance(model, str) and model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return model
    raise ModelNotFoundError(
        f"There is no generator {str(model)!r}: it is no folder here, and no Hub id, which looks like 'owner/name'. "
        f"Use {POCKET!r}, a Hub id or an existing folder."
    )


def load_pipeline(
    model: str | Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_folder: Path | None = None,
    scheduler: str | None = None,
    low_memory: bool = False,
    trust_remote_code: bool = False,
) -> Any:
    """The pipeline from text to image of a model, ready to be called.

    Args:
        model: what `find_pipeline` gave.
        device: where it runs.
        dtype: in what precision.
        revision: a branch, tag or commit of the Hub's.
        variant: of the weights' files: "fp16" for those that are named so.
        cache_folder: where what is downloaded is kept; the Hub's own place if None.
        scheduler: the name of a class of diffusers that the model's own can be changed for.
        low_memory: keep on a GPU only the part that works, and decode in tiles.
        trust_remote_code: run Python code that a model brings.

    Raises:
        MissingDependencyError: diffusers is not installed, or with `low_memory` accelerate.
        ModelNotFoundError: the Hub does not answer, or has no such model.
        ModelFormatError: no pipeline that makes images of text, no safetensors, or code that is not trusted.
        ConfigError: a scheduler that the model cannot use.
    """
    try:
        import diffusers
    except ImportError as error:
        raise MissingDependencyError("diffusers", "generate", "Generating images") from error
    with quiet_diffusers():
        auto: Any = diffusers.AutoPipelineForText2Image  # which only now is imported, with reports of its own
        try:
            pipeline = auto.from_pretrained(
                str(model),
                dtype=dtype,
                revision=revision,
                variant=variant,
                cache_dir=None if cache_folder is None else str(cache_folder),
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
            )
        except Exception as error:  # the loaders have no common error, and the files are anybody's
            raise _trouble(model, error) from error
        if scheduler is not None:
            pipeline.scheduler = _scheduler(pipeline.scheduler, scheduler)
        for part in pipeline.components.values():
            if hasattr(part, "requires_grad_"):
                part.requires_grad_(False)
        pipeline.set_progress_bar_config(disable=True)
        if low_memory:
            _save_memory(pipeline, device)
        else:
            pipeline.to(device)
    return pipeline


def pick_generator_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """As `pick_dtype`, but "auto" is float32 on a CPU: what a seed gives is then the same on every processor.

    Raises:
        ConfigError: no such precision.
    """
    return pick_dtype("float32" if dtype == "auto" and device.type == "cpu" else dtype, device)


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """No progress bars and reports of diffusers and transformers: what matters of them is said by ours."""
    from diffusers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with quiet():
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _trouble(model: str | Path, error: Exception) -> Exception:
    told = f"{type(error).__name__}: {error}"
    if isinstance(model, str) and isinstance(error, OSError):
        return ModelNotFoundError(
            f"The generator {model!r} cannot be had from the Hub: {told}. Check the name, the network, and HF_TOKEN "
            "where the model needs one; it may have no safetensors, and pickles are not loaded."
        )
    return ModelFormatError(
        f"The generator {str(model)!r} cannot be loaded: {told}. It must be a pipeline of diffusers that makes images "
        "of text, with safetensors and without code of its own (or trust_remote_code=True)."
    )


def _scheduler(own: Any, name: str) -> Any:
    import diffusers

    known = {type(own), *own.compatibles}
    if diffusers.DDPMScheduler in known:  # these two are of that family, too, and are not listed
        known |= {diffusers.LCMScheduler, diffusers.TCDScheduler}
    if own.config.get("prediction_type") == "flow_prediction":
        known = {one for one in known if "use_flow_sigmas" in signature(one).parameters}
    usable = {one.__name__: one for one in known}
    if name not in usable:
        raise ConfigError(f"This model has no scheduler {name!r}. It can use {', '.join(sorted(usable))}.")
    return usable[name].from_config(own.config)


def _save_memory(pipeline: Any, device: torch.device) -> None:
    for name in ("enable_slicing", "enable_tiling"):
        if hasattr(getattr(pipeline, "vae", None), name):
            getattr(pipeline.vae, name)()
    if device.type == "cpu":
        pipeline.to(device)
        return
    try:
        import accelerate  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("accelerate", "generate", "low_memory on a GPU") from error
    pipeline.enable_model_cpu_offload(device=device)
