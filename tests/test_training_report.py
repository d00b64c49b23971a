"""Figures by hand, and the card that has them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from clip_qdrant.errors import ConfigError
from clip_qdrant.models import training_report
from clip_qdrant.models.training_pairs import Pair
from clip_qdrant.models.training_report import Direction, Figures, evaluate, model_card

WORDS = {"red": 0, "green": 1, "blue": 2, "odd": 3}


class Eyes:
    """Knows three colours, by their channel, and sees "odd" as a red that is half green."""

    def __init__(self):
        self.model = torch.nn.Dropout()
        self.towers = SimpleNamespace(image_side=8)
        self.batches = []

    def embed_images(self, images):
        self.batches.append(len(images))
        assert not self.model.training
        pixels = torch.tensor([image.getpixel((0, 0)) for image in images]).float()
        return torch.nn.functional.normalize(pixels, dim=1)

    def embed_texts(self, texts):
        rows = {**{word: torch.eye(3)[i] for word, i in list(WORDS.items())[:3]}, "odd": torch.tensor([0.9, 0.4, 0.0])}
        return torch.stack([rows[text.lower().split()[-1]] for text in texts])


def pair(colour, *captions, concept=""):
    return Pair(Image.new("RGB", (8, 8), colour), captions, concept)


def test_recall_both_ways_by_hand():
    eyes = Eyes()
    figures = evaluate(eyes, [pair("red", "red"), pair("lime", "green"), pair("blue", "odd")], batch=2)
    assert eyes.batches == [2, 1] and eyes.model.training
    # "odd" is nearest to the red picture, then to the green one, and right is the blue one, which is last of three.
    assert figures.text_to_image.recall_1 == pytest.approx(2 / 3)
    assert figures.text_to_image.recall_5 == 1.0
    assert figures.text_to_image.mrr == pytest.approx((1 + 1 + 1 / 3) / 3)
    # The blue picture has the cosine 0 with all three texts, and ties count against it.
    assert figures.image_to_text.recall_1 == pytest.approx(2 / 3)
    assert (figures.images, figures.texts) == (3, 3)
    assert figures.mean_recall == pytest.approx((2 / 3 + 1 + 1) * 2 / 6)


def test_any_caption_of_an_image_and_any_image_of_a_caption_is_right():
    given = [pair("red", "a red", "odd"), pair((250, 0, 90), "A Red"), pair("lime", "green"), pair("blue", "blue")]
    figures = evaluate(Eyes(), given)
    assert figures.texts == 5
    assert figures.text_to_image.recall_1 == figures.image_to_text.recall_1 == 1.0


def test_images_of_one_concept_share_their_captions():
    given = [pair("red", "blue", concept="c"), pair("blue", "red", concept="c"), pair("lime", "green")]
    assert evaluate(Eyes(), given).text_to_image.recall_1 == 1.0
    apart = [pair("red", "blue"), pair("blue", "red"), pair("lime", "green")]
    assert evaluate(Eyes(), apart).text_to_image.recall_1 == pytest.approx(1 / 3)


def test_broken_pictures_are_left_out_and_nothing_is_no_figure(tmp_path):
    lost = Pair(tmp_path / "none.png", ("red",))
    assert evaluate(Eyes(), [pair("red", "red"), lost, pair("lime", "green")]).images == 2
    for nothing in ([], [lost]):
        with pytest.raises(ConfigError, match="nothing to evaluate"):
            evaluate(Eyes(), nothing)


def test_the_card_has_data_recipe_figures_and_limits():
    before = Figures(Direction(0.1, 0.2, 0.3, 0.15), Direction(0.11, 0.21, 0.31, 0.16), 40, 80)
    after = Figures(Direction(0.5, 0.6, 0.7, 0.55), Direction(0.51, 0.61, 0.71, 0.56), 40, 80)
    card = model_card(
        base="pocket", data="Photos of birds.", recipe={"steps": 300, "loss": "info_nce"}, before=before, after=after,
        trained=1234, notes=["It was trained on birds alone."],
    )  # fmt: skip
    assert card.startswith("---\n") and "# A CLIP model, from pocket" in card
    assert "Photos of birds. 1,234 pairs" in card and "On 40 images with 80 captions" in card
    assert "| steps | 300 |" in card
    assert "| text to image | recall@1 | 0.100 | 0.500 |" in card and "| image to text | MRR | 0.160 | 0.560 |" in card
    assert "- It was trained on birds alone." in card
    assert before.to_dict()["image_to_text"]["recall_5"] == 0.21


def test_the_card_says_when_nothing_was_held_out():
    card = model_card(base="pocket", data="Birds.", recipe={}, before=None, after=None, trained=9)
    assert "None: nothing was held out." in card and "nobody knows how good it is" in card and "| before |" not in card


def test_figures_are_the_same_however_few_scores_are_looked_at_at_once(monkeypatch):
    shades = [(shade, 255 - shade, shade * 7 % 256) for shade in range(0, 256, 9)]
    given = [
        pair(shade, f"{n % 4} {('red', 'green', 'blue', 'odd')[n % 4]}", concept=f"c{n % 9}" if n % 3 else "")
        for n, shade in enumerate(shades)
    ]
    whole = evaluate(Eyes(), given)
    monkeypatch.setattr(training_report, "_CELLS", 7)
    assert evaluate(Eyes(), given) == whole and 0 < whole.text_to_image.mrr < 1


def test_a_model_that_was_training_goes_on_after_an_error(tmp_path):
    eyes = Eyes()
    with pytest.raises(KeyError):
        evaluate(eyes, [pair("red", "a word that it does not know")])
    assert eyes.model.training


def test_the_card_has_no_folders_of_this_machine():
    card = model_card(
        base="/home/ann/models/birds", data="Photos of /data/ann/my birds, see https://example.org/a/b.",
        recipe={"state": r"C:\Users\ann\run", "a|b": "x|y\nz", "share": "1/2"}, before=None, after=None, trained=9,
        notes=["Text/image and ~/ann/notes.txt."],
    )  # fmt: skip
    assert "ann" not in card and "/home" not in card and "/data" not in card
    assert "# A CLIP model, from birds" in card and "https://example.org/a/b" in card and "Text/image" in card
    assert r"| a\|b | x\|y z |" in card and "| state | run |" in card and "| share | 1/2 |" in card
