"""The curve against size: the bundled image tower with layers taken away and with layers added, trained on alike.

python examples/train_pocket/sizes.py --data DIR --out OUT --steps 240

An added layer starts as one that changes nothing, so each size starts from what the bundled model knows, or from what
is left of it, and what it gains in the same steps is its size's. The text tower stays as it is. Everything else is the
recipe of `train.py`, with fewer concepts in a batch. An interrupted size goes on where its last state was written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from batches import PocketBatches
from concepts import load_concepts
from evaluate import bars, load_data
from icons import load_icons
from transformers import CLIPConfig, CLIPModel, CLIPProcessor

from clip_qdrant.models.training import train
from clip_qdrant.models.training_options import TrainingOptions
from clip_qdrant.models.training_state import CHECKPOINT

POCKET = Path(__file__).parents[2] / "clip_qdrant/models/pocket/clip"
LAYERS = (2, 3, 5, 8)
"""Of the image tower; the bundled one has 5."""


def build(clip: Path, layers: int) -> CLIPModel:
    """The model of a folder with so many layers in its image tower: the first of those that it has, or further ones."""
    known = CLIPModel.from_pretrained(clip)
    config = CLIPConfig.from_pretrained(clip)
    config.vision_config.num_hidden_layers = layers
    torch.manual_seed(0)
    model = CLIPModel(config)
    for layer in model.vision_model.encoder.layers[known.config.vision_config.num_hidden_layers :]:
        for last in (layer.self_attn.out_proj, layer.mlp.fc2):
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
    model.load_state_dict(known.state_dict(), strict=False)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--emoji", type=int, default=96, help="concepts in a batch, each in two styles")
    parser.add_argument("--layers", nargs="+", type=int, default=list(LAYERS))
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    concepts, art = load_data(options.data, options.out)
    trained = [one for one in concepts if not one.held_out]
    icons = load_icons(options.data, options.out / "art", [one for one in load_concepts(options.data) if one.held_out])
    processor = CLIPProcessor.from_pretrained(POCKET)
    batches = PocketBatches(
        trained, art, icons, processor, emoji=options.emoji, icon_count=options.emoji // 3, extra=128, seed=0
    )
    training = TrainingOptions(
        steps=options.steps,
        learning_rate=3e-4,
        warmup=0.05,
        precision="bfloat16",
        freeze=("text",),
        average=0.98,  # of few steps the average may not reach far back
        image_weight=0.5,
        max_scale=50.0,
        judge_every=max(1, options.steps // 4),
        keep_best=False,
        device="cpu",
    )
    for layers in options.layers:
        model, folder = build(POCKET, layers), options.out / f"layers-{layers}"
        count = sum(one.numel() for part in (model.vision_model, model.visual_projection) for one in part.parameters())
        print(f"{layers} layers, {count:,} parameters of the image tower", flush=True)

        def judge(model: CLIPModel) -> float:
            found = bars(model, processor, concepts, art)
            print(found, flush=True)
            return found.recall_5

        report = train(model, batches, folder, training, judge=judge, resume=(folder / CHECKPOINT).exists())
        print(f"{report.steps} steps in {report.minutes:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
