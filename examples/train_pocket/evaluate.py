"""The recall table of a checkpoint: does the label find the picture among all others, in styles seen and unseen?

python examples/train_pocket/evaluate.py --data DIR --out OUT --model clip_qdrant/models/pocket/clip
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from art import MORE_STYLES, TRAIN_STYLES, UNSEEN_STYLES, load_art, over_white
from concepts import Concept, load_concepts
from numpy.typing import NDArray
from torch import Tensor

from clip_qdrant.errors import ConfigError
from clip_qdrant.metrics import ranks

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPProcessor

Art = dict[str, dict[str, NDArray[np.uint8]]]


class Row(NamedTuple):
    """One line of the table: recalls are shares of the queries whose picture is among the first 1, 5, 10."""

    style: str
    queries: str
    count: int
    gallery: int
    recall_1: float
    recall_5: float
    recall_10: float

    def __str__(self) -> str:
        recalls = "  ".join(f"{recall:.3f}" for recall in (self.recall_1, self.recall_5, self.recall_10))
        return f"{self.style:18} {self.queries:9} {self.count:5} of {self.gallery:5}  {recalls}"


class Bars(NamedTuple):
    """What the model can do with a style that it has never seen, in shares of 1.

    Attributes:
        recall_1: text to image, over the trained concepts.
        recall_5: as `recall_1`, among the first five.
        unseen_10: a held-out concept's label among the first ten of all pictures.
        other_style_5: a picture finds the same concept in Noto's style among the first five.
        zero_shot_1: of all labels of trained concepts, the picture's own is the most similar.
    """

    recall_1: float
    recall_5: float
    unseen_10: float
    other_style_5: float
    zero_shot_1: float

    def __str__(self) -> str:
        return "  ".join(f"{name} {value:.3f}" for name, value in self._asdict().items())


HEADER = f"{'style':18} {'concepts':9} {'n':>5} of {'among':>5}  R@1    R@5    R@10"


def load_data(data: Path, out: Path) -> tuple[list[Concept], Art]:
    """The concepts that every training style draws, and all pictures by style and key.

    Raises:
        ConfigError: a set is missing, or the training styles have no concept in common.
    """
    sets = [f"@iconify-json/{style}" for style in (*TRAIN_STYLES, *UNSEEN_STYLES)]
    missing = [name for name in (*sets, "emojibase-data") if not (data / "node_modules" / name).is_dir()]
    if missing:
        cure = f"Install them: npm install --prefix {data} {' '.join(missing)}"
        raise ConfigError(f"{str(data / 'node_modules')!r} lacks {', '.join(missing)}. {cure}")
    known = load_concepts(data)
    art = {style: load_art(data, out / "art", style, known) for style in (*TRAIN_STYLES, *MORE_STYLES, *UNSEEN_STYLES)}
    common = [concept for concept in known if all(concept.key in art[style] for style in TRAIN_STYLES)]
    if not any(not concept.held_out for concept in common):
        raise ConfigError(f"No concept of {str(data)!r} is drawn in all of {TRAIN_STYLES}. Install the full icon sets.")
    return common, art


@torch.inference_mode()
def embed_texts(model: CLIPModel, processor: CLIPProcessor, texts: list[str]) -> Tensor:
    """Unit vectors of texts, shape (n, dim)."""
    inputs = processor(text=texts, padding=True, truncation=True, return_tensors="pt")
    return torch.nn.functional.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)


@torch.inference_mode()
def embed_pictures(model: CLIPModel, processor: CLIPProcessor, pictures: list[NDArray[np.uint8]]) -> Tensor:
    """Unit vectors of RGBA arrays laid over white, shape (n, dim)."""
    parts = []
    for start in range(0, len(pictures), 256):
        batch = processor(images=[over_white(p) for p in pictures[start : start + 256]], return_tensors="pt")
        parts.append(model.get_image_features(**batch).pooler_output)
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


def evaluate(model: CLIPModel, processor: CLIPProcessor, concepts: list[Concept], art: Art) -> list[Row]:
    """Text-to-image recall by style: trained concepts among themselves, held-out ones among all."""
    was_training = model.training
    model.eval()
    rows = []
    for style in (*TRAIN_STYLES, *UNSEEN_STYLES):
        drawn = [concept for concept in concepts if concept.key in art[style]]
        if not drawn:
            continue
        held_out = np.array([concept.held_out for concept in drawn])
        texts = embed_texts(model, processor, [concept.label for concept in drawn])
        pictures = embed_pictures(model, processor, [art[style][concept.key] for concept in drawn])
        scores, wanted = (texts @ pictures.T).float().numpy(), np.eye(len(drawn), dtype=bool)
        if not held_out.all():
            trained = np.ix_(~held_out, ~held_out)
            rows.append(_row(style, "trained", scores[trained], wanted[trained]))
        if held_out.any():
            rows.append(_row(style, "held out", scores[held_out], wanted[held_out]))
    model.train(was_training)
    return rows


def bars(model: CLIPModel, processor: CLIPProcessor, concepts: list[Concept], art: Art) -> Bars:
    """How far the model gets with OpenMoji, which it has never seen, by the measures that it is built for."""
    was_training = model.training
    model.eval()
    drawn = [concept for concept in concepts if concept.key in art["openmoji"]]
    held_out = np.array([concept.held_out for concept in drawn])
    texts = embed_texts(model, processor, [concept.label for concept in drawn])
    pictures = embed_pictures(model, processor, [art["openmoji"][concept.key] for concept in drawn])
    noto = embed_pictures(model, processor, [art["noto"][concept.key] for concept in drawn])
    model.train(was_training)
    seen, same = np.ix_(~held_out, ~held_out), np.eye(len(drawn), dtype=bool)
    scores, styles = (texts @ pictures.T).float().numpy(), (pictures @ noto.T).float().numpy()
    found = ranks(scores[seen], same[seen])
    return Bars(
        float((found < 1).mean()),
        float((found < 5).mean()),
        float((ranks(scores[held_out], same[held_out]) < 10).mean()) if held_out.any() else 0.0,
        float((ranks(styles[seen], same[seen]) < 5).mean()),
        float((ranks(scores.T[seen], same[seen]) < 1).mean()),
    )


def _row(style: str, queries: str, scores: NDArray[np.float32], wanted: NDArray[np.bool_]) -> Row:
    found = ranks(scores, wanted)
    return Row(style, queries, *scores.shape, *(float((found < k).mean()) for k in (1, 5, 10)))


def main() -> None:
    """Print the table of the checkpoint given on the command line."""
    from transformers import AutoProcessor, CLIPModel

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder npm installed the icon sets into")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the training; holds the drawn art")
    parser.add_argument("--model", type=Path, required=True, help="a folder with a CLIPModel and its processor")
    options = parser.parse_args()
    model, processor = CLIPModel.from_pretrained(options.model), AutoProcessor.from_pretrained(options.model)
    print(HEADER)
    concepts, art = load_data(options.data, options.out)
    for row in evaluate(model, processor, concepts, art):
        print(row)
    print("openmoji", bars(model, processor, concepts, art))


if __name__ == "__main__":
    main()
