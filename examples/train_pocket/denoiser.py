"""Train the U-Net of the pocket diffusion on the latents of `autoencoder.py`, and write the whole pipeline.

python examples/train_pocket/denoiser.py --data DIR --out OUT --minutes 180

Started again it goes on from the state in OUT.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from autoencoder import CHANNELS
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from generated import SIDE, STYLES, Drawn, a_prompt, as_pictures, as_tensor, moved, prompt, sheet
from loop import command, learn
from torch import Tensor
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel, CLIPTokenizer

from clip_qdrant.models.training_options import TrainingOptions

POCKET = Path(__file__).parents[2] / "clip_qdrant/models/pocket/clip"
VIEWS = 6
UNPROMPTED = 0.1
_SHOWN = 16


def build_denoiser(text_width: int, seed: int) -> UNet2DConditionModel:
    """Untrained, of 9.8 million parameters. Text counts from a side of 8 down: at 16 a step takes twice as long."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(96, 128, 160),
        layers_per_block=1,
        cross_attention_dim=text_width,
        attention_head_dim=(3, 4, 5),  # how many heads, in spite of its name
        norm_num_groups=32,
        # What the text says as a whole goes to every layer, beside the time.
        addition_embed_type="text",
        addition_embed_type_num_heads=3,
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Of a flow: half noise and half picture at half time, and the network says where noise lies from the picture."""
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0, steps_offset=1
    )


def build_pipeline(vae: AutoencoderKL, unet: UNet2DConditionModel, clip: Path) -> StableDiffusionPipeline:
    """Stable Diffusion's pipeline of these parts and the text tower of a CLIP in a folder."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel.from_pretrained(clip),
        tokenizer=CLIPTokenizer.from_pretrained(clip),
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Prompts:
    """Prompts as the U-Net sees them: what the text tower, which stays as it is, makes of each token."""

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        self._tokenizer, self._tower = pipeline.tokenizer, pipeline.text_encoder.eval()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Tensor:
        """Of texts the states (n, tokens, width), padded to the full length, as the pipeline pads them."""
        length = self._tokenizer.model_max_length
        ids = self._tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return self._tower(ids.input_ids).last_hidden_state


@torch.inference_mode()
def latents_of(vae: AutoencoderKL, drawn: Drawn, seed: int) -> Tensor:
    """Of each pair to learn from several views, (views, n, channels, 16, 16); the first is the picture as it is."""
    pictures = as_tensor(drawn.pictures[tuple(drawn.trained.T)])
    rng = torch.Generator().manual_seed(seed)
    views = [pictures, *(moved(pictures, rng) for _ in range(VIEWS - 1))]
    return torch.stack([torch.cat([vae.encode(part).latent_dist.mean for part in view.split(128)]) for view in views])


def loss_of(unet: UNet2DConditionModel, latents: Tensor, states: Tensor, rng: torch.Generator) -> Tensor:
    """Flow matching (Lipman et al., 2023), at times with a logistic normal distribution (Esser et al., 2024)."""
    noise = torch.randn(latents.shape, generator=rng)
    time = torch.randn(len(latents), generator=rng).sigmoid()
    share = time.view(-1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = unet((1 - share) * latents + share * noise, time * 1000, states).sample
    return mse_loss(found.float(), noise - latents)


def run(drawn: Drawn, out: Path, options: TrainingOptions, clip: Path = POCKET, batch: int = 64) -> None:
    """Train on the pairs that are not withheld; writes to `out` the pipeline, and at times samples and the U-Net."""
    vae = AutoencoderKL.from_pretrained(out / "vae").eval()
    pipeline = build_pipeline(vae, build_denoiser(_text_width(clip), options.seed), clip)
    unet, prompts = pipeline.unet, Prompts(pipeline)
    latents, pairs = latents_of(vae, drawn, options.seed), drawn.trained.tolist()
    print(f"{len(pairs)} pictures, {sum(one.numel() for one in unet.parameters()):,} parameters", flush=True)

    def loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        picked = torch.randint(len(pairs), (batch,), generator=rng)
        view = torch.randint(len(latents), (batch,), generator=rng)
        words = random.Random(f"prompts:{options.seed}:{step}")
        texts = [
            "" if words.random() < UNPROMPTED else a_prompt(drawn.concepts[pairs[i][0]], pairs[i][1], words)
            for i in picked.tolist()
        ]
        return loss_of(unet, latents[view, picked], prompts(texts), rng)

    def look(step: int) -> None:
        shown = range(0, len(drawn.concepts), max(1, len(drawn.concepts) // _SHOWN))
        rows = [
            _sample(pipeline, [prompt(drawn.concepts[index], style) for index in shown]) for style in range(len(STYLES))
        ]
        sheet(torch.stack(rows).numpy()).save(out / f"samples-{step}.png")
        unet.save_pretrained(out / f"unet-{step}")

    learn(unet, loss, out / "denoiser-state", options, look=look)
    export(pipeline, out / "pipeline")


def export(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline with float16 weights, which halves it; it says float32, which is what it loads as."""
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.half()
    pipeline.save_pretrained(folder)
    path = folder / "text_encoder/config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "dtype": "float32"}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        if path.suffix == ".json":  # what was loaded from where is nobody's business
            config = json.loads(path.read_text(encoding="utf-8"))
            if config.pop("_name_or_path", None) is not None:
                path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        path.chmod(0o755 if path.is_dir() else 0o644)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.float()


def _sample(pipeline: StableDiffusionPipeline, prompts: list[str]) -> Tensor:
    rng = [torch.Generator().manual_seed(index) for index in range(len(prompts))]
    found = pipeline(prompts, num_inference_steps=20, guidance_scale=3.0, generator=rng, output_type="pt").images
    return torch.from_numpy(as_pictures(found * 2 - 1))


def _text_width(clip: Path) -> int:
    return int(CLIPTextModel.from_pretrained(clip).config.hidden_size)


if __name__ == "__main__":
    command(__doc__, run, minutes=180, learning_rate=1e-3, average=0.999, judge_every=1000)
