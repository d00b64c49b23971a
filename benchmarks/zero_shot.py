"""What zero-shot reaches with the pocket model: OpenMoji, texts, pictures of pages, routes, and what it costs.

Run: python benchmarks/zero_shot.py --data DIR --out OUT, with the folders of examples/train_pocket/README.md. The
pocket model has never seen OpenMoji's style; texts and queries are those of tests/zero_shot. A share of 1,409 pictures
has a standard error of 0.013. Quote the ratio of the times, not the times.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "train_pocket")]

from art import TRAIN_STYLES, load_art, over_white  # noqa: E402
from concepts import Concept, load_concepts, plain_key  # noqa: E402
from llama_index.core.schema import QueryBundle  # noqa: E402
from llama_index.core.tools import ToolMetadata  # noqa: E402

from clip_qdrant import ClipEncoder, ZeroShotClassifier  # noqa: E402
from clip_qdrant.cli.emoji_groups import group_of  # noqa: E402
from clip_qdrant.errors import NoChoiceError  # noqa: E402
from clip_qdrant.llamaindex import ImageQueryBundle, ZeroShotSelector  # noqa: E402
from clip_qdrant.llamaindex.queries import vector_of  # noqa: E402
from clip_qdrant.models.zero_shot import PrototypeCache  # noqa: E402
from clip_qdrant.models.zero_shot_calibration import expected_calibration_error  # noqa: E402
from clip_qdrant.models.zero_shot_prototypes import Prototypes, embed_prototypes  # noqa: E402
from tests.zero_shot.routes import NONE, PICTURES, ROUTES  # noqa: E402
from tests.zero_shot.routes import TEXTS as QUERIES  # noqa: E402
from tests.zero_shot.texts import TEXTS  # noqa: E402

BAR = 1.1
PRECISIONS = (0.9, 0.85)
LABELS_AT_ONCE = 1_000
Rows = NDArray[np.float32]


class Counting:
    """An encoder that counts the calls to its towers."""

    def __init__(self, encoder: ClipEncoder) -> None:
        self.encoder, self.calls = encoder, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def embed_texts(self, texts: Sequence[str]) -> Rows:
        """As the encoder."""
        self.calls += bool(texts)
        return self.encoder.embed_texts(texts)

    def embed_images(self, images: Any) -> Rows:
        """As the encoder."""
        self.calls += 1
        return self.encoder.embed_images(images)


def emoji(encoder: ClipEncoder, concepts: list[Concept], art: Any) -> None:
    """OpenMoji by its labels, by groups, by a hundred labels at random; by examples; calibrated."""
    names = [concept.label for concept in concepts]
    vectors = {
        style: encoder.embed_images([over_white(art[style][concept.key]) for concept in concepts])
        for style in (*TRAIN_STYLES, "openmoji")
    }
    shown, right = vectors["openmoji"], np.arange(len(names))
    made = {name: ZeroShotClassifier(encoder, names, templates=name) for name in ("name", "default")}
    nothing = np.zeros_like(shown)
    background = embed_prototypes(encoder, (), ("{}",)).background

    def few(picked: NDArray[Any], words: Rows, examples: Rows, weight: float = 0.5) -> ZeroShotClassifier:
        known = Prototypes(words[picked], examples[picked], background)
        return ZeroShotClassifier(encoder, [names[at] for at in picked], cache=known, example_weight=weight)

    drawn = [np.random.default_rng(seed).choice(len(names), 100, replace=False) for seed in range(5)]
    for name, what in (("name", "the label alone"), ("default", "eight templates")):
        line(f"all {len(names):,} labels, {what}", *top(made[name], shown, right))
        hundred = [top(few(picked, made[name].prototypes, nothing), shown[picked], np.arange(100)) for picked in drawn]
        line(f"100 labels at random, 5 times, {what}", *np.mean(hundred, axis=0))
    groups = [group_of("".join(chr(int(point, 16)) for point in concept.key.split("-"))) for concept in concepts]
    known = sorted(set(groups))
    wanted = np.array([known.index(group) for group in groups])
    line(f"{len(known)} groups, by their names", *top(ZeroShotClassifier(encoder, known), shown, wanted))
    tree = {group: [name for name, of in zip(names, groups, strict=True) if of == group] for group in known}
    below = ZeroShotClassifier(encoder, tree, templates="name")
    leaves = np.array([known.index(path[0]) for path in below.paths])
    shares = below.probabilities(shown)
    line(
        f"{len(known)} groups, as a tree of all labels",
        *ranked(np.stack([shares[:, leaves == at].sum(axis=1) for at in range(len(known))], axis=1), wanted),
    )
    for shots, styles in ((1, TRAIN_STYLES[:1]), (4, TRAIN_STYLES)):
        examples = sum(vectors[style] for style in styles)
        examples /= np.linalg.norm(examples, axis=1, keepdims=True)
        for weight in (0.5, 1.0):
            moved = few(right, made["name"].prototypes, examples, weight)
            line(f"all labels, {shots} of another style each, weight {weight}", *top(moved, shown, right))
    sets = {
        "all labels": [(made["name"], right)],
        "100 labels, 5 times": [(few(picked, made["name"].prototypes, nothing), picked) for picked in drawn],
    }
    for what, some in sets.items():
        before, after, temperature = calibration_errors([(one, shown[picked]) for one, picked in some])
        print(f"{f'calibration error before and after, {what}':52} {before:.3f}  {after:.3f}  T {temperature:.2f}")


def calibration_errors(sets: list[tuple[ZeroShotClassifier, Rows]]) -> tuple[float, float, float]:
    """Before and after a temperature found on the other half of the pictures, over all sets; the mean temperature.

    Each set is a classifier and a picture of each of its labels, in order.
    """
    sure: list[list[Any]] = [[], []]
    hit: list[list[Any]] = [[], []]
    temperatures = []
    for classifier, rows in sets:
        order = np.random.default_rng(0).permutation(len(rows))
        for learnt, tested in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            calibrated = classifier.calibrate_vectors(rows[learnt], [classifier.labels[at] for at in learnt])
            temperatures.append(calibrated.calibration["image"].temperature)
            for at, one in enumerate((classifier, calibrated)):
                shares = one.probabilities(rows[tested])
                sure[at].append(shares.max(axis=1))
                hit[at].append(shares.argmax(axis=1) == tested)
    errors = [
        expected_calibration_error(np.concatenate(p), np.concatenate(right)) for p, right in zip(sure, hit, strict=True)
    ]
    return errors[0], errors[1], float(np.mean(temperatures))


def documents(encoder: ClipEncoder) -> None:
    """200 texts by their category, and pictures of pages with them."""
    known = list(TEXTS)
    texts = [text for category in known for text in TEXTS[category]]
    right = np.repeat(np.arange(len(known)), [len(TEXTS[category]) for category in known])
    classifier = ZeroShotClassifier(encoder, known, templates="name")
    for what, vectors, kind in (
        ("texts", encoder.embed_texts(texts), "text"),
        ("pages", encoder.embed_images(list(map(page, texts))), "image"),
    ):
        shares = classifier.probabilities(vectors, kind)  # type: ignore[arg-type]
        line(f"{len(texts)} {what}, {len(known)} categories", *ranked(shares, right))


def page(text: str) -> Image.Image:
    """A text in black on a white page, a few words a line."""
    words = text.split()
    lines = [" ".join(words[at : at + 2]) for at in range(0, len(words), 2)]
    image = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(image).multiline_text((16, 16), "\n".join(lines), "black", ImageFont.load_default(28))
    return image


def cost(encoder: ClipEncoder, pictures: list[Image.Image], names: list[str]) -> float:
    """A thousand labels for a thousand pictures, against embedding these alone; the best of three runs each."""
    start = perf_counter()
    classifier = ZeroShotClassifier(encoder, names, cache=PrototypeCache())
    cold = perf_counter() - start
    embedded, classified = [], []
    for _ in range(3):
        start = perf_counter()
        encoder.embed_images(pictures)
        embedded.append(perf_counter() - start)
        start = perf_counter()
        assert sum(1 for _ in classifier.classify_images(pictures)) == len(pictures)
        classified.append(perf_counter() - start)
    ratio = min(classified) / min(embedded)
    print(
        f"{len(names):,} labels, {len(pictures):,} pictures: embedded in {min(embedded):.2f} s, classified in "
        f"{min(classified):.2f} s, {ratio:.2f} times (at most {BAR}); prototypes, once, in {cold:.2f} s"
    )
    return ratio


def routing(encoder: ClipEncoder, drawn: Any) -> None:
    """Queries to six routes or none, by the routes' descriptions; thresholds are found on the other half of them."""
    names = list(ROUTES)
    choices = [ToolMetadata(name=name, description=said) for name, said in ROUTES.items()]
    texts = [(QueryBundle(text), route) for route, some in QUERIES.items() for text in some]
    pictures = [(ImageQueryBundle("", image=over_white(drawn[plain_key("-".join(f"{ord(c):x}" for c in one))])), route)
                for route, some in PICTURES.items() for one in some.split()]  # fmt: skip
    for what, asked in (("texts", texts), ("pictures", pictures)):
        wanted = np.array([route for _, route in asked])
        counting = Counting(encoder)
        plain = ZeroShotSelector(counting)  # type: ignore[arg-type]
        route_of(plain, choices, names, asked[0][0])  # embeds the choices, too
        before = counting.calls
        alone = np.array([route_of(plain, choices, names, query) for query, _ in asked])
        right = np.mean((alone == wanted)[wanted != NONE])
        print(
            f"{len(asked)} {what} to {len(names)} routes: right {right:.3f} of those with a route; "
            f"{(counting.calls - before) / len(asked):.2f} embedding calls a query"
        )
        for query, _ in asked:  # known from here on
            query.embedding = vector_of(encoder, query).tolist()
        for precision in (None, *PRECISIONS):
            told, of = (np.concatenate(some) for some in zip(*halves(plain, choices, asked, precision), strict=True))
            none = told == NONE
            print(
                f"  {'told apart best' if precision is None else f'precision {precision}':16} right "
                f"{np.mean(told == of):.3f} of all, {np.mean((told == of)[of != NONE]):.3f} of those with a route; "
                f"fallback precision {np.mean(of[none] == NONE):.3f}, recall {np.mean(none[of == NONE]):.3f}"
            )


def halves(
    plain: ZeroShotSelector, choices: list[ToolMetadata], asked: list[tuple[Any, str]], precision: float | None
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Where queries went, and should have, by a threshold of the other half; both halves of ten random splits."""
    names, wanted = [choice.name or "" for choice in choices], np.array([route for _, route in asked])
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(asked))
        order = order[np.argsort(wanted[order] == NONE, kind="stable")]  # every other one: as many of none in both
        for learnt, tested in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            known, unknown = (
                [asked[at][0] for at in learnt if (wanted[at] == NONE) is is_none] for is_none in (False, True)
            )
            selector = plain.calibrate(choices, known, unknown, precision=precision)
            yield np.array([route_of(selector, choices, names, asked[at][0]) for at in tested]), wanted[tested]


def route_of(selector: ZeroShotSelector, choices: list[ToolMetadata], names: list[str], query: QueryBundle) -> str:
    """Where a query goes, or NONE where the fallback would have it."""
    try:
        return names[selector.select(choices, query).ind]
    except NoChoiceError:
        return NONE


def top(classifier: ZeroShotClassifier, vectors: Rows, right: NDArray[Any]) -> tuple[float, float]:
    """The shares whose label is the best, and among the best five."""
    return ranked(classifier.probabilities(vectors), right)


def ranked(shares: NDArray[Any], right: NDArray[Any]) -> tuple[float, float]:
    """As `top`, of probabilities (n, labels)."""
    above = (shares > shares[np.arange(len(shares)), right][:, None]).sum(axis=1)
    return float((above < 1).mean()), float((above < 5).mean())


def line(what: str, first: float, five: float) -> None:
    """A row of the table."""
    print(f"{what:52} {first:.3f}  {five:.3f}", flush=True)


def main() -> int:
    """All of it; the exit code is 1 where classifying costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder npm installed the icon sets into")
    parser.add_argument("--out", type=Path, required=True, help="where the drawn art is kept")
    options = parser.parse_args()
    known = load_concepts(options.data)
    art = {style: load_art(options.data, options.out / "art", style, known) for style in (*TRAIN_STYLES, "openmoji")}
    trained = [one for one in known if not one.held_out and all(one.key in drawn for drawn in art.values())]
    encoder = ClipEncoder("pocket")
    print(f"{'':52} top-1  top-5")
    emoji(encoder, trained, art)
    documents(encoder)
    routing(encoder, art["openmoji"])
    some = trained[:LABELS_AT_ONCE]
    pictures = [over_white(art["openmoji"][concept.key]) for concept in some]
    return int(cost(encoder, pictures, [concept.label for concept in some]) > BAR)


if __name__ == "__main__":
    sys.exit(main())
