"""The untrained pocket CLIP: its shape, its processor and its export, all plain transformers classes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from augment import MEAN, SIDE, STD
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

VOCABULARY = 3600
MAX_TOKENS = 32


def build_processor(tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """The processor that goes with the model: shortest side to 96, centre crop, mean and standard deviation."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    )
    return CLIPProcessor(images, tokenizer)


def build_model(tokenizer: CLIPTokenizer, seed: int, tiny: bool = False) -> CLIPModel:
    """A `CLIPModel` of 5.7 million parameters with random weights (`tiny`: as small as tests need)."""
    torch.manual_seed(seed)
    width, layers, text_width, text_layers = (64, 1, 64, 1) if tiny else (256, 5, 192, 2)
    config = CLIPConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "image_size": SIDE,
            "patch_size": 16,
            "projection_dim": 256,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text_width // 64,
            "max_position_embeddings": MAX_TOKENS,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "projection_dim": 256,
        },
        projection_dim=256,
    )
    return CLIPModel(config)


def export(model: CLIPModel, processor: CLIPProcessor, folder: Path) -> None:
    """Write a folder that `CLIPModel.from_pretrained` and `AutoProcessor.from_pretrained` read.

    The weights are stored as float16 to halve the file; the configuration says float32, which is what they load as.
    """
    half = CLIPModel(model.config).half()
    half.load_state_dict(model.state_dict())
    half.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "dtype": "float32"}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
