"""Train the autoencoder of the pocket diffusion: 64 x 64 pixels to 16 x 16 x 4 numbers and back.

python examples/train_pocket/autoencoder.py --data DIR --out OUT --minutes 40

Started again it goes on from the state in OUT.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from generated import SIDE, Drawn, as_pictures, as_tensor, moved, sheet
from loop import command, learn
from torch import Tensor

from clip_qdrant.models.training_options import TrainingOptions

CHANNELS = 4  # the pipeline for inpainting takes no other
EDGES, DIVERGENCE = 1.0, 1e-5


def build_autoencoder(seed: int) -> AutoencoderKL:
    """Untrained, of 0.9 million parameters."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def loss_of(model: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Of a batch (n, 3, side, side): colours, their differences to the neighbours, and a little divergence."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = model.encode(pictures).latent_dist
        again = model.decode(latents.sample()).sample
    return picture_loss(again.float(), pictures) + DIVERGENCE * latents.kl().float().mean()


def picture_loss(again: Tensor, pictures: Tensor) -> Tensor:
    """How far pictures are from those that they should be: in their colours, and the differences to the neighbours."""
    edges = sum((_steps(again, axis) - _steps(pictures, axis)).abs().mean() for axis in (2, 3))
    difference = again - pictures
    return difference.abs().mean() + difference.square().mean() + EDGES * edges


def _steps(pictures: Tensor, axis: int) -> Tensor:
    return pictures.diff(dim=axis)


@torch.inference_mode()
def normalise(model: AutoencoderKL, pictures: Tensor) -> None:
    """Fold mean and deviation of each channel into the convolutions beside the latents, which are standard then.

    Stable Diffusion's pipelines know one factor for all channels, and no shift.
    """
    latents = torch.cat([model.encode(part).latent_dist.mean for part in pictures.split(128)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    to, back = model.quant_conv, model.post_quant_conv
    back.bias += back.weight[:, :, 0, 0] @ mean
    back.weight *= deviation.view(1, -1, 1, 1)
    to.bias[:CHANNELS] = (to.bias[:CHANNELS] - mean) / deviation
    to.weight[:CHANNELS] /= deviation.view(-1, 1, 1, 1)
    to.bias[CHANNELS:] -= 2 * deviation.log()


@torch.inference_mode()
def round_trip(model: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Pictures through the autoencoder, without chance."""
    return torch.cat([model.decode(model.encode(part).latent_dist.mean).sample for part in pictures.split(128)])


def run(drawn: Drawn, out: Path, options: TrainingOptions, batch: int = 64) -> AutoencoderKL:
    """Train on the pairs that are not withheld; writes a sheet of round trips and the model to `out`."""
    model = build_autoencoder(options.seed)
    pictures = as_tensor(drawn.pictures[tuple(drawn.trained.T)])
    others = as_tensor(drawn.pictures[drawn.withheld])[:256]

    def loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        picked = torch.randint(len(pictures), (batch,), generator=rng)
        return loss_of(model, moved(pictures[picked], rng))

    def look(step: int) -> None:
        again = round_trip(model, others)
        print(f"step {step}  withheld pictures come back within {(again - others).abs().mean() / 2:.4f}", flush=True)
        rows = np.stack([as_pictures(others[:16]), as_pictures(again[:16])])
        sheet(rows).save(out / "autoencoder.png")

    learn(model, loss, out / "autoencoder-state", options, look=look)
    normalise(model, pictures)
    model.save_pretrained(out / "vae")
    return model


if __name__ == "__main__":
    command(__doc__, run, minutes=40, learning_rate=2e-3, average=0.998, judge_every=500)
