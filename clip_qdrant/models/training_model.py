"""A checkpoint to train, and a trained one to keep."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize

from clip_qdrant.errors import ConfigError, ModelFormatError
from clip_qdrant.models.checkpoint import Checkpoint, find_checkpoint, read_json
from clip_qdrant.models.text_rules import TextRules, text_rules
from clip_qdrant.models.towers import load_towers, quiet

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from clip_qdrant.models.towers_transformers import TransformersTowers

_WITHOUT_WEIGHTS = {"Transformer", "CLIPModel", "Normalize"}
"""Modules of sentence-transformers beside which the network of transformers is all there is to train."""


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model and how its inputs are made.

    Attributes:
        name: what it was loaded by.
        towers: the network in float32, its image processor and its tokenizer.
    """

    name: str
    towers: TransformersTowers

    @property
    def model(self) -> Any:
        """Transformers' own."""
        return self.towers.model

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images as the image tower takes them, float32 (n, 3, height, width)."""
        pixels: Tensor = self.towers.pixels(images)["pixel_values"]
        return pixels

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Texts as the text tower takes them: ids (n, tokens), and a mask where the model knows one; longer are cut."""
        batch = self.towers.tokens([self.towers.windows(text)[0] for text in texts])
        return batch["input_ids"], batch.get("attention_mask")

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit vectors float32 (n, dim) by the weights of now."""
        return normalize(self.towers.embed_images(images).float(), dim=-1).cpu()

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors float32 (n, dim) by the weights of now."""
        windows = [self.towers.windows(text)[0] for text in texts]
        return normalize(self.towers.embed_windows(windows).float(), dim=-1).cpu()

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights of now, on the CPU."""
        return {name: weight.detach().cpu().clone() for name, weight in self.model.named_parameters()}


def load_trainable(base: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Trainable:
    """A model to train, in float32 on the CPU.

    Args:
        base: as `ClipEncoder` takes it: a Hub id, a folder, or "pocket". A folder of sentence-transformers may have a
            network of transformers and a normalisation, nothing else.
        revision: a branch, tag or commit of the Hub's.
        trust_remote_code: run Python code that a model brings.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelFormatError: it is not one that can be trained here.
    """
    checkpoint = find_checkpoint(base, revision)
    checkpoint.check(trust_remote_code)
    inner = _network_of(checkpoint) if checkpoint.is_sentence_transformer else checkpoint
    towers: Any = load_towers(inner, torch.device("cpu"), torch.float32, trust_remote_code=trust_remote_code, bare=True)
    if "max_num_patches" in towers.settings["image"]:
        raise ModelFormatError(
            f"The model {checkpoint.name!r} takes each image at a size of its own, which cannot be trained here. Use a "
            "SigLIP 2 of one size."
        )
    if getattr(towers.model, "logit_scale", None) is None:
        raise ModelFormatError(
            f"The model {checkpoint.name!r} ({type(towers.model).__name__}) has no logit_scale, the temperature that "
            "contrastive training learns. Use a CLIP or a SigLIP."
        )
    towers.max_tokens = min(towers.max_tokens, _limit_of(checkpoint) or towers.max_tokens)
    return Trainable(checkpoint.name, towers)


def interpolate(start: Mapping[str, Tensor], model: Any, share: float) -> None:
    """Move a trained model's weights back towards those it started with: WiSE-FT (Wortsman et al., 2022).

    Args:
        start: the weights by name, of before.
        model: the trained one, changed in place.
        share: how much of the training to keep: 0 is the start, 1 changes nothing.

    Raises:
        ConfigError: a share outside of 0 to 1, or weights of another model.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"The share of the training to keep is from 0 to 1, got {share!r}.")
    weights = dict(model.named_parameters())
    if {name: one.shape for name, one in start.items()} != {name: one.shape for name, one in weights.items()}:
        raise ConfigError("The weights to go back to are those of another model.")
    with torch.no_grad():
        for name, weight in weights.items():
            before = start[name].to(weight)
            # Written so that 0 and 1 are exact.
            weight.copy_(before * (1 - share) + weight * share)


def check_free(folder: Path) -> None:
    """See to it that a model can be written to a folder, before hours are spent on it.

    Raises:
        ConfigError: something is there already, or it is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"{str(folder)!r} is there already. Name a new folder, or remove it.")


def save_trained(trainable: Trainable, folder: Path, texts: Mapping[str, str], *, half: bool = False) -> None:
    """Write a model so that transformers, sentence-transformers and `ClipEncoder` load it; whole, or not at all.

    Args:
        trainable: the model.
        folder: a new one.
        texts: files to lie beside it, by name: its README.md, the model card.
        half: store the weights as float16, in half the space; they are still loaded as float32.

    Raises:
        ConfigError: the folder has something in it.
        ModelFormatError: weights that float16 cannot hold.
    """
    folder = folder.absolute()
    check_free(folder)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    plain = part / "plain"
    plain.mkdir(parents=True)
    try:
        with quiet():
            trainable.towers.save(plain)
        if half:
            _store_half(plain)
        _as_sentence_transformer(plain, text_rules(trainable.model.config.model_type), trainable.towers.max_tokens)
        for name, text in texts.items():
            (plain / name).write_text(text, encoding="utf-8")
        for path in plain.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if folder.is_dir():
            folder.rmdir()
        os.replace(plain, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _network_of(checkpoint: Checkpoint) -> Checkpoint:
    """The folder of transformers inside one of sentence-transformers."""
    try:
        modules = json.loads((checkpoint.folder / "modules.json").read_text("utf-8"))
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        folder = checkpoint.folder / modules[0]["path"] if modules else checkpoint.folder
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFormatError(
            f"The modules.json of {checkpoint.name!r} is not as sentence-transformers writes it. Check the copy."
        ) from error
    options = checkpoint.folder / "config_sentence_transformers.json"
    told = read_json(options) if options.is_file() else {}
    if prompt := (told.get("prompts") or {}).get(told.get("default_prompt_name")):
        raise ModelFormatError(
            f"The model {checkpoint.name!r} puts {prompt!r} before every text, which would be lost in training. "
            "Train it with sentence-transformers."
        )
    others = set(kinds) - _WITHOUT_WEIGHTS
    if others or not (folder / "config.json").is_file():
        raise ModelFormatError(
            f"The model {checkpoint.name!r} is made of {', '.join(kinds) or 'nothing'}; only a network of "
            "transformers, alone or with Normalize, can be trained here. Train it with sentence-transformers."
        )
    return Checkpoint(checkpoint.name, folder)


def _limit_of(checkpoint: Checkpoint) -> int | None:
    """How many tokens a folder of sentence-transformers lets a text have, where it says so."""
    path = checkpoint.folder / "sentence_bert_config.json"
    return read_json(path).get("max_seq_length") if checkpoint.is_sentence_transformer and path.is_file() else None


def _store_half(folder: Path) -> None:
    """Halve the file of weights; the configuration says float32, which is what they load as."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = {name: weight.half() for name, weight in load_file(path).items()}
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ModelFormatError(f"The weights {name!r} do not fit into float16. Use half=False.")
    save_file(weights, path, {"format": "pt"})
    config = read_json(folder / "config.json")
    config["dtype"] = "float32"
    _write_json(folder / "config.json", config)


def _as_sentence_transformer(folder: Path, rules: TextRules, max_tokens: int) -> None:
    """Add to a folder of transformers what sentence-transformers wants in it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    # Not every tokenizer says how long a text may be, and without it the other libraries would not cut.
    tokenizer = read_json(folder / "tokenizer_config.json")
    _write_json(folder / "tokenizer_config.json", {**tokenizer, "model_max_length": max_tokens})
    with quiet():
        module = Transformer(str(folder))
        module.max_seq_length = max_tokens
        if rules.full_length:  # it would pad to the longest and mask, which these models never saw
            text = {"padding": "max_length", "max_length": max_tokens, "return_attention_mask": False}
            module.processing_kwargs = {**module.processing_kwargs, "text": text}
        SentenceTransformer(modules=[module], device="cpu").save(str(folder / "sentence"))
    if rules.lower:
        settings = read_json(folder / "sentence" / "sentence_bert_config.json")
        _write_json(folder / "sentence" / "sentence_bert_config.json", {**settings, "do_lower_case": True})
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / "sentence" / name).rename(folder / name)
    shutil.rmtree(folder / "sentence")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
