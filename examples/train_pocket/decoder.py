"""Train the decoder of the pocket diffusion's autoencoder further, while its latents stay as they are.

python examples/train_pocket/decoder.py --data DIR --out OUT --minutes 20

The U-Net can be trained meanwhile: what it learns from does not change. The new decoder is in OUT/vae afterwards, and
in OUT/pipeline where there is one. Started again it goes on from the state in OUT.
"""

from __future__ import annotations

from pathlib import Path

import torch
from autoencoder import picture_loss, round_trip
from denoiser import export
from diffusers import AutoencoderKL, StableDiffusionPipeline
from generated import Drawn, as_tensor, moved
from loop import command, learn
from torch import Tensor

from clip_qdrant.models.training_options import TrainingOptions

NOISE = 0.1
"""Of the latents, which are standard: what a U-Net makes is not as exact as what the encoder makes."""


def run(drawn: Drawn, out: Path, options: TrainingOptions, batch: int = 64) -> AutoencoderKL:
    """Train on the pairs that are not withheld; writes the autoencoder to `out`, and into the pipeline."""
    model = AutoencoderKL.from_pretrained(out / "vae")
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    pictures = as_tensor(drawn.pictures[tuple(drawn.trained.T)])
    others = as_tensor(drawn.pictures[drawn.withheld])[:256]

    def loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        shown = moved(pictures[torch.randint(len(pictures), (batch,), generator=rng)], rng)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = model.encode(shown).latent_dist.mean
            again = model.decode(latents + NOISE * torch.randn(latents.shape, generator=rng)).sample
        return picture_loss(again.float(), shown)

    def look(step: int) -> None:
        again = round_trip(model, others)
        print(f"step {step}  withheld pictures come back within {(again - others).abs().mean() / 2:.4f}", flush=True)

    learn(model, loss, out / "decoder-state", options, look=look)
    model.save_pretrained(out / "vae")
    if (out / "pipeline").is_dir():
        export(StableDiffusionPipeline.from_pretrained(out / "pipeline", vae=model), out / "pipeline")
    return model


if __name__ == "__main__":
    command(__doc__, run, minutes=20, learning_rate=1e-3, average=0.998, judge_every=250)
