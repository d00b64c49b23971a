"""Small models and batches for the tests of training, and what runs of it are compared by."""

from __future__ import annotations

import torch

from clip_qdrant.models.training import Batch
from clip_qdrant.models.training_options import TrainingOptions

SIDE, END = 16, 49
OPTIONS = TrainingOptions(steps=12, average=0.9, image_weight=0.5, judge_every=3, device="cpu", learning_rate=1e-3)


def clip_model(dropout=0.1):
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    size |= {"projection_dim": 16, "attention_dropout": dropout}
    text = {**size, "vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": END}
    vision = {**size, "image_size": SIDE, "patch_size": 8}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16))


def siglip_model():
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": 50, "max_position_embeddings": 8, "projection_size": 32}
    return SiglipModel(SiglipConfig(text_config=text, vision_config={**size, "image_size": SIDE, "patch_size": 8}))


def batch_of(step):
    """Eight pictures and texts, of four things, one of them easy to see: the brightness is the first token."""
    rng = torch.Generator().manual_seed(step)
    shown = torch.arange(8) // 2
    pixels = torch.randn(8, 3, SIDE, SIDE, generator=rng) * 0.1 + shown.view(8, 1, 1, 1)
    ids = torch.cat([shown[:, None] + 1, torch.randint(10, 40, (8, 4), generator=rng), torch.full((8, 1), END)], dim=1)
    return Batch(pixels, ids, positives=shown[:, None] == shown[None, :], concepts=shown)


def weights(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stop_at(step):
    calls = iter(range(1, 1000))
    return lambda: next(calls) == step


def score(model):
    """Higher with every step, as the temperature rises in these few."""
    return -float(model.logit_scale.detach())
