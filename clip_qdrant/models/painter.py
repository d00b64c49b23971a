"""Vectors of an encoder -> small pictures: what does a point of the space look like?

One pass of a small decoder, in milliseconds: a preview of a prompt before a generator makes a real picture of it, or of
a point, a centroid, a mixture, whatever lies in the space.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.errors import ConfigError, ModelFormatError, ModelNotFoundError
from clip_qdrant.models.checkpoint import read_json
from clip_qdrant.models.device import pick_device
from clip_qdrant.models.names import POCKET
from clip_qdrant.models.pocket import pocket_path
from clip_qdrant.types import Fingerprint

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray
    from PIL.Image import Image

    from clip_qdrant.models.painter_network import PainterNetwork

_KIND = "clip-qdrant-painter"
_SIZES = ("hidden", "grid", "channels", "width", "patch")
_COLOURS = 3
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


class EmbeddingPainter:
    """Paints small pictures of the vectors of one encoder. Threads may share a painter.

    Args:
        model: "pocket", which paints what `ClipEncoder("pocket")` embeds, or a folder that `save` wrote.
        device: "auto" (cuda, then mps, then cpu), or a name of torch's.
        batch_size: how many vectors one forward pass takes.

    Raises:
        ConfigError: a device or batch size that cannot be used.
        ModelNotFoundError: no such folder.
        ModelFormatError: a folder without a painter in it.
    """

    def __init__(self, model: str | Path = POCKET, *, device: str = "auto", batch_size: int = 64) -> None:
        folder = pocket_path("painter") if model == POCKET else Path(model).expanduser()
        if not folder.is_dir():
            raise ModelNotFoundError(
                f"There is no painter {str(model)!r}: it is no folder here. Use {POCKET!r}, or a folder that "
                "EmbeddingPainter.save wrote."
            )
        config = _read_config(folder)
        self._set_up(str(model), config, device, batch_size)
        self._load(folder / _WEIGHTS)

    @classmethod
    def untrained(
        cls,
        encoder: Fingerprint,
        *,
        hidden: int = 640,
        grid: int = 16,
        channels: int = 6,
        width: int = 64,
        patch: int = 4,
        sample: ArrayLike | None = None,
        pictures: torch.Tensor | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> EmbeddingPainter:
        """A painter to train with `painter_training.train_painter`, of 1.7 million parameters if nothing else is said.

        Its pictures have a side of `grid` times `patch`.

        Args:
            encoder: the fingerprint of the encoder whose vectors it shall paint.
            hidden: the width of the layers that a vector goes through.
            grid: the side of the rough picture that it becomes first.
            channels: how many numbers a place of that has, 3 or more.
            width: of the convolutions that make it fine; a multiple of 8.
            patch: the side of the piece of the picture that each place becomes.
            sample: vectors (n, dim) such as it shall paint, a few hundred or more: their mean and spread are taken out
                of what enters, so that it learns sooner what tells them apart.
            pictures: float32 (n, 3, side, side), RGB in 0 to 1, what the sample looks like: it then starts from what
                least squares can do.
            seed: of the weights.
            device: as above.

        Raises:
            ConfigError: sizes that cannot be, a sample of other vectors, or a device that cannot be used.
        """
        import torch

        sizes = {"hidden": hidden, "grid": grid, "channels": channels, "width": width, "patch": patch}
        config = {**sizes, "encoder": encoder.to_dict()}
        if trouble := _trouble(config):
            raise ConfigError(f"There is no such painter: {trouble}")
        painter = cls.__new__(cls)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            painter._set_up("untrained", config, device, 64)
        if sample is not None:
            vectors = torch.from_numpy(painter._checked(sample)).to(painter.device)
            painter.network.fit(vectors, None if pictures is None else pictures.to(painter.device))
        return painter

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self.encoder.dim

    @property
    def side(self) -> int:
        """The side of the pictures, in pixels."""
        return int(self._config["grid"] * self._config["patch"])

    @cached_property
    def encoder(self) -> Fingerprint:
        """Of the encoder whose vectors it paints."""
        return Fingerprint.from_dict(self._config["encoder"])

    def check(self, encoder: Fingerprint) -> None:
        """See to it that vectors are of the encoder that it was trained for.

        Raises:
            ConfigError: they are not.
        """
        if encoder.digest != self.encoder.digest:
            raise ConfigError(
                f"The painter {self.model!r} paints {self.dim}-d vectors of {self.encoder.model!r} "
                f"({self.encoder.digest}), but these are {encoder.dim}-d vectors of {encoder.model!r} "
                f"({encoder.digest}). Use that encoder, or train a painter for this one: "
                "clip_qdrant.models.painter_training."
            )

    def paint(self, vectors: ArrayLike) -> list[Image]:
        """A picture of each vector, RGB, `side` pixels wide and high.

        Args:
            vectors: (n, dim), of any length but zero. Whose they are they do not say: see `check`.

        Raises:
            ConfigError: another shape or dimension, a vector of length zero, or one with something else than numbers.
        """
        import torch
        from PIL import Image

        given = self._checked(vectors)
        painted: list[Image.Image] = []
        for start in range(0, len(given), self.batch_size):
            some = torch.from_numpy(given[start : start + self.batch_size]).to(self.device)
            with torch.inference_mode():
                pixels = self.network(some).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            painted += [Image.fromarray(picture) for picture in pixels]
        return painted

    def save(self, folder: str | Path, *, half: bool = True) -> None:
        """Write the painter to a folder, over one that is there.

        Args:
            folder: where to.
            half: store the weights as float16, in half the space; they are still loaded as float32.

        Raises:
            ModelFormatError: weights that are not numbers, or that float16 cannot hold.
        """
        from safetensors.torch import save_file

        folder = Path(folder).expanduser()
        weights = {name: weight.detach().cpu().contiguous() for name, weight in self.network.state_dict().items()}
        if half:
            weights = {name: weight.half() for name, weight in weights.items()}
        _check_numbers(weights, "written with half=False" if half else "trained at a lower learning rate")
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{_WEIGHTS}.part"
        save_file(weights, part, {"format": "pt"})
        part.chmod(0o644)  # safetensors makes files that only their owner reads
        part.replace(folder / _WEIGHTS)
        config = {"kind": _KIND, "dim": self.dim, **self._config}
        (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _set_up(self, name: str, config: dict[str, Any], device: str, batch_size: int) -> None:
        from clip_qdrant.models.painter_network import PainterNetwork

        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size!r}.")
        self.model = name
        self.batch_size = batch_size
        self.device: torch.device = pick_device(device)
        self._config = config
        network = PainterNetwork(self.dim, **{name: config[name] for name in _SIZES})
        self.network: PainterNetwork = network.to(self.device).eval()

    def _load(self, file: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not file.is_file():
            raise ModelFormatError(f"The painter {self.model!r} has no {_WEIGHTS}. Save it again, or check the copy.")
        try:
            weights = load_file(file)
            self.network.load_state_dict({name: weight.float() for name, weight in weights.items()})
        except (SafetensorError, RuntimeError) as error:
            raise ModelFormatError(
                f"The weights {str(file)!r} are not those of the painter that its {_CONFIG} describes: {error}. "
                "Save it again, or check the copy."
            ) from error
        _check_numbers(weights, "trained again")

    def _checked(self, vectors: ArrayLike) -> NDArray[np.float32]:
        try:
            given = np.asarray(vectors, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"vectors must be numbers, an array of (n, {self.dim}): {error}.") from error
        if given.shape == (0,):  # an empty list has no dimension
            return np.empty((0, self.dim), np.float32)
        if given.ndim != 2 or given.shape[1] != self.dim:
            cure = "Write [vector]." if given.shape == (self.dim,) else "Use the encoder that it was trained for."
            raise ConfigError(
                f"The painter {self.model!r} paints vectors of {self.encoder.model!r}, an array of (n, {self.dim}), "
                f"got {given.shape}. {cure}"
            )
        lengths = np.linalg.norm(given.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(bad):
            raise ConfigError(
                f"Vector {bad[0]} has the length {lengths[bad[0]]}, and no direction to paint. Leave it out."
            )
        return np.asarray(given / lengths[:, None], dtype=np.float32)

    def __repr__(self) -> str:
        return f"EmbeddingPainter({self.model!r}, encoder={self.encoder.model!r}, side={self.side})"


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        raise ModelFormatError(f"The folder {str(folder)!r} is no painter: it has no {_CONFIG}.")
    config = read_json(path)
    if config.get("kind") != _KIND:
        raise ModelFormatError(
            f"The folder {str(folder)!r} is no painter: its {_CONFIG} is of {config.get('kind', 'another model')!r}. "
            "Use one that EmbeddingPainter.save wrote."
        )
    known = {name: config.get(name) for name in (*_SIZES, "encoder")}
    if trouble := _trouble(known):
        raise ModelFormatError(f"The painter's {str(path)!r} cannot be used: {trouble} Save it again.")
    return known


def _trouble(config: dict[str, Any]) -> str | None:
    """What is wrong with the description of a painter, as a sentence, or None."""
    if not all(isinstance(config[name], int) and config[name] > 0 for name in _SIZES):
        return f"{', '.join(_SIZES)} must be whole numbers above 0, got {config!r}."
    if config["channels"] < _COLOURS:
        return f"channels must be 3 or more, got {config['channels']!r}."
    if config["width"] % 8:
        return f"width must be a multiple of 8, got {config['width']!r}."
    try:
        dim = Fingerprint.from_dict(config["encoder"]).dim
    except TypeError:
        return f"encoder must be a fingerprint, got {config['encoder']!r}."
    return None if isinstance(dim, int) and dim > 0 else f"The encoder's dim must be above 0, got {dim!r}."


def _check_numbers(weights: dict[str, torch.Tensor], cure: str) -> None:
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ModelFormatError(f"The painter's weights {name!r} are not all numbers. It has to be {cure}.")
