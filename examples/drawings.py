"""Sixteen small pictures, drawn here, for the other examples to search."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

SIDE = 256

Draw = ImageDraw.ImageDraw


def _star(pen: Draw, x: float, y: float, radius: float, points: int, inner: float, fill: str) -> None:
    corners = []
    for i in range(2 * points):
        reach = radius if i % 2 == 0 else radius * inner
        angle = math.pi * i / points - math.pi / 2
        corners.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    pen.polygon(corners, fill=fill)


def sun(pen: Draw) -> None:
    _star(pen, 128, 128, 118, 12, 0.62, "#ffb300")
    pen.ellipse((62, 62, 194, 194), fill="#ffd740")


def star(pen: Draw) -> None:
    _star(pen, 128, 138, 120, 5, 0.42, "#ffc107")


def moon(pen: Draw) -> None:
    pen.ellipse((28, 28, 228, 228), fill="#fdd835")
    pen.ellipse((90, 8, 270, 188), fill="white")


def red_heart(pen: Draw) -> None:
    pen.ellipse((24, 36, 136, 148), fill="#e53935")
    pen.ellipse((120, 36, 232, 148), fill="#e53935")
    pen.polygon([(38, 128), (218, 128), (128, 232)], fill="#e53935")
    pen.ellipse((62, 60, 194, 170), fill="#e53935")


def red_apple(pen: Draw) -> None:
    pen.ellipse((30, 70, 150, 236), fill="#d32f2f")
    pen.ellipse((106, 70, 226, 236), fill="#d32f2f")
    pen.line((128, 90, 140, 30), fill="#5d4037", width=12)
    pen.ellipse((140, 26, 205, 60), fill="#43a047")


def house(pen: Draw) -> None:
    pen.rectangle((50, 120, 206, 232), fill="#ffe0b2")
    pen.polygon([(24, 128), (128, 28), (232, 128)], fill="#c62828")
    pen.rectangle((108, 164, 148, 232), fill="#6d4c41")
    pen.rectangle((164, 144, 192, 172), fill="#81d4fa")


def tree(pen: Draw) -> None:
    pen.rectangle((112, 170, 144, 244), fill="#6d4c41")
    for box in ((48, 70, 148, 170), (108, 70, 208, 170), (74, 14, 182, 130), (74, 90, 182, 190)):
        pen.ellipse(box, fill="#388e3c")


def evergreen(pen: Draw) -> None:
    pen.rectangle((114, 206, 142, 248), fill="#6d4c41")
    for top, width in ((12, 52), (66, 76), (124, 98)):
        pen.polygon([(128, top), (128 - width, top + 88), (128 + width, top + 88)], fill="#2e7d32")


def fish(pen: Draw) -> None:
    pen.polygon([(180, 128), (244, 70), (244, 186)], fill="#1e88e5")
    pen.ellipse((14, 64, 204, 192), fill="#42a5f5")
    pen.ellipse((48, 104, 70, 126), fill="white")
    pen.ellipse((54, 110, 64, 120), fill="black")


def cloud(pen: Draw) -> None:
    for box in ((20, 108, 120, 204), (66, 60, 176, 200), (130, 94, 238, 204)):
        pen.ellipse(box, fill="#b0bec5")
    pen.rectangle((70, 150, 190, 204), fill="#b0bec5")


def umbrella(pen: Draw) -> None:
    pen.line((128, 30, 128, 216), fill="#424242", width=10)
    pen.arc((84, 190, 133, 240), 0, 180, fill="#424242", width=10)
    pen.pieslice((18, 34, 238, 234), 180, 360, fill="#7b1fa2")


def balloon(pen: Draw) -> None:
    pen.ellipse((66, 14, 190, 170), fill="#f44336")
    pen.polygon([(128, 164), (114, 186), (142, 186)], fill="#f44336")
    pen.line((128, 186, 120, 214, 134, 246), fill="#757575", width=4)


def smile(pen: Draw) -> None:
    pen.ellipse((18, 18, 238, 238), fill="#ffd54f")
    pen.ellipse((78, 84, 104, 120), fill="#5d4037")
    pen.ellipse((152, 84, 178, 120), fill="#5d4037")
    pen.arc((70, 90, 186, 196), 20, 160, fill="#5d4037", width=12)


def clock(pen: Draw) -> None:
    pen.ellipse((18, 18, 238, 238), fill="#eceff1", outline="#455a64", width=14)
    pen.line((128, 128, 128, 56), fill="#263238", width=10)
    pen.line((128, 128, 180, 150), fill="#263238", width=10)


def snowman(pen: Draw) -> None:
    for box in ((58, 124, 198, 250), (78, 50, 178, 140)):
        pen.ellipse(box, fill="#f5f9ff", outline="#90a4ae", width=5)
    pen.rectangle((92, 14, 164, 60), fill="#263238")
    pen.rectangle((74, 54, 182, 66), fill="#263238")
    pen.polygon([(128, 96), (128, 110), (166, 106)], fill="#fb8c00")
    for x, y in ((108, 84), (144, 84), (128, 160), (128, 190)):
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill="#263238")


def mushroom(pen: Draw) -> None:
    pen.rounded_rectangle((92, 120, 164, 240), 24, fill="#ffe0b2")
    pen.pieslice((18, 24, 238, 250), 180, 360, fill="#e53935")
    for x, y, r in ((80, 92, 17), (136, 62, 20), (186, 104, 15)):
        pen.ellipse((x - r, y - r, x + r, y + r), fill="white")


DRAWINGS: tuple[Callable[[Draw], None], ...] = (
    sun, star, moon, red_heart, red_apple, house, tree, evergreen,
    fish, cloud, umbrella, balloon, smile, clock, snowman, mushroom,
)  # fmt: skip


def draw_all(folder: Path) -> list[Path]:
    """Draw the pictures into a folder, made if it is not there, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for drawing in DRAWINGS:
        picture = Image.new("RGB", (SIDE, SIDE), "white")
        drawing(ImageDraw.Draw(picture))
        path = folder / f"{drawing.__name__.replace('_', '-')}.png"
        picture.save(path)
        paths.append(path)
    return paths


if __name__ == "__main__":
    for path in draw_all(Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")):
        print(path)
