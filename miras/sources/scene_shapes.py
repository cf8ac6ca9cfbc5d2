"""The objects of rendered scenes: how each category is drawn, part by part, from a few primitives.

An object is drawn in its own frame: x right and y down, in units of its height, top at y = 0, foot at
y = 1, x = 0 in the middle. A part is a code in an 8-bit picture; three tones of the code (plain, dark,
light) give the object relief without changing what it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import ImageDraw

PLAIN, DARK, LIGHT = 0, 64, 128  # added to a part's code; 64 codes are enough for 7 objects of 8 parts
MAX_PARTS = 8
THINNEST_PX = 3.0  # of a part, in a picture of 128 px (measured: thinner masks are lost at 64 px)

# 3 x 5 letters, one row per string. Drawn this coarse so that strokes are 3 px wide.
GLYPHS = {
    "A": ("###", "#.#", "###", "#.#", "#.#"),
    "B": ("##.", "#.#", "##.", "#.#", "##."),
    "C": ("###", "#..", "#..", "#..", "###"),
    "E": ("###", "#..", "##.", "#..", "###"),
    "G": ("###", "#..", "#.#", "#.#", "###"),
    "H": ("#.#", "#.#", "###", "#.#", "#.#"),
    "I": ("###", ".#.", ".#.", ".#.", "###"),
    "K": ("#.#", "##.", "#..", "##.", "#.#"),
    "L": ("#..", "#..", "#..", "#..", "###"),
    "O": ("###", "#.#", "#.#", "#.#", "###"),
    "P": ("###", "#.#", "###", "#..", "#.."),
    "S": ("###", "#..", "###", "..#", "###"),
    "T": ("###", ".#.", ".#.", ".#.", ".#."),
    "U": ("#.#", "#.#", "#.#", "#.#", "###"),
    "X": ("#.#", "#.#", ".#.", "#.#", "#.#"),
}
SIGN_TEXTS = ("GO", "UP", "OK", "HI", "BUS", "TEA")
LABEL_TEXTS = ("A", "C", "H", "L", "T", "X")
TEXTS = SIGN_TEXTS + LABEL_TEXTS


class Pen:
    """Draws one object's parts into a picture of codes.

    Args:
        draw: of the code picture (mode L).
        first_code: code of the object's first part.
        foot_px: (x, y) of the middle of its lower edge.
        height_px: its height.
        mirrored: whether left and right are swapped.
        thinnest_px: no bar is drawn thinner.
    """

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        *,
        first_code: int,
        foot_px: tuple[float, float],
        height_px: float,
        mirrored: bool,
        thinnest_px: float,
    ) -> None:
        self._draw = draw
        self._first_code = first_code
        self._x_px = foot_px[0]
        self._y_px = foot_px[1] - height_px
        self._height_px = height_px
        self._sign = -1.0 if mirrored else 1.0
        self._thinnest_px = thinnest_px
        self.thinnest = thinnest_px / height_px

    def polygon(self, part: int, corners: Sequence[tuple[float, float]], tone: int = PLAIN) -> None:
        self._draw.polygon([self._at(x, y) for x, y in corners], fill=self._first_code + part + tone)

    def box(self, part: int, x0: float, y0: float, x1: float, y1: float, tone: int = PLAIN) -> None:
        self._draw.rectangle(self._span(x0, y0, x1, y1), fill=self._first_code + part + tone)

    def rounded(self, part: int, x0: float, y0: float, x1: float, y1: float, radius: float) -> None:
        span = self._span(x0, y0, x1, y1)
        self._draw.rounded_rectangle(span, radius * self._height_px, fill=self._first_code + part)

    def ellipse(self, part: int, x: float, y: float, rx: float, ry: float, tone: int = PLAIN) -> None:
        self._draw.ellipse(self._span(x - rx, y - ry, x + rx, y + ry), fill=self._first_code + part + tone)

    def bar(self, part: int, x0: float, y0: float, x1: float, y1: float, width: float) -> None:
        """A straight bar between two points, never thinner than the thinnest part."""
        width_px = round(max(width * self._height_px, self._thinnest_px))
        self._draw.line([self._at(x0, y0), self._at(x1, y1)], fill=self._first_code + part, width=width_px)

    def ring(self, part: int, x: float, y: float, radius: float, width: float, degrees: tuple[int, int]) -> None:
        """An arc of a circle, angles clockwise from the right (before mirroring)."""
        start, end = degrees if self._sign > 0 else (180 - degrees[1], 180 - degrees[0])
        span = self._span(x - radius, y - radius, x + radius, y + radius)
        width_px = round(max(width * self._height_px, self._thinnest_px))
        self._draw.arc(span, start, end, fill=self._first_code + part, width=width_px)

    def text(self, part: int, letters: str, x: float, y: float, cell: float) -> None:
        """Letters centred on (x, y), never mirrored; `cell` is the side of one of the 3 x 5 squares."""
        cell_px = max(cell * self._height_px, 1.0)
        columns = 4 * len(letters) - 1
        left, top = self._at(x, y)
        left, top = left - columns * cell_px / 2, top - 2.5 * cell_px
        for position, letter in enumerate(letters):
            self._letter(part, GLYPHS[letter], left + 4 * position * cell_px, top, cell_px)

    def _letter(self, part: int, rows: Sequence[str], left: float, top: float, cell_px: float) -> None:
        fill = self._first_code + part
        for row, squares in enumerate(rows):
            y0, y1 = round(top + row * cell_px), round(top + (row + 1) * cell_px) - 1
            for column, square in enumerate(squares):
                if square == "#":
                    x0, x1 = round(left + column * cell_px), round(left + (column + 1) * cell_px) - 1
                    self._draw.rectangle((x0, y0, x1, y1), fill=fill)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return self._x_px + self._sign * x * self._height_px, self._y_px + y * self._height_px

    def _span(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        if self._sign < 0:
            x0, x1 = -x1, -x0
        height_px, x_px, y_px = self._height_px, self._x_px, self._y_px
        return x0 * height_px + x_px, y0 * height_px + y_px, x1 * height_px + x_px, y1 * height_px + y_px


def _mug(pen: Pen, dice: random.Random, text: str) -> None:
    half = dice.uniform(0.32, 0.4)
    pen.ring(1, half + 0.02, 0.5, dice.uniform(0.23, 0.28), 0.12, (-105, 105))
    pen.rounded(0, -half, 0.06, half, 1.0, 0.12)
    pen.box(0, -half + 0.08, 0.22, -half + 0.18, 0.85, LIGHT)
    pen.ellipse(0, 0.0, 0.1, half, 0.1, DARK)


def _car(pen: Pen, dice: random.Random, text: str) -> None:
    half = dice.uniform(0.95, 1.1)
    roof = dice.uniform(0.42, 0.5)
    pen.polygon(0, [(-roof - 0.2, 0.42), (-roof, 0.02), (roof * 0.6, 0.02), (roof + 0.25, 0.42)])
    pen.rounded(0, -half, 0.38, half, 0.82, 0.14)
    pen.box(0, -half + 0.06, 0.68, half - 0.06, 0.8, DARK)
    pen.polygon(2, [(-roof - 0.06, 0.4), (-roof + 0.05, 0.1), (roof * 0.55, 0.1), (roof + 0.08, 0.4)])
    pen.bar(0, -0.08, 0.08, -0.08, 0.42, 0.06)
    for x in (-0.58, 0.56):
        pen.ellipse(1, x, 0.77, 0.23, 0.23)
        pen.ellipse(1, x, 0.77, 0.09, 0.09, LIGHT)


def _house(pen: Pen, dice: random.Random, text: str) -> None:
    half = dice.uniform(0.42, 0.52)
    eaves = dice.uniform(0.36, 0.44)
    pen.box(0, -half, eaves, half, 1.0)
    pen.box(0, half - 0.1, eaves, half, 1.0, DARK)
    pen.polygon(1, [(-half - 0.1, eaves), (0.0, 0.0), (half + 0.1, eaves)])
    pen.polygon(1, [(0.0, 0.0), (half + 0.1, eaves), (half - 0.08, eaves)], DARK)
    pen.box(2, -half + 0.09, 0.58, -half + 0.34, 1.0)
    pen.box(3, half - 0.42, eaves + 0.12, half - 0.14, eaves + 0.4)


def _tree(pen: Pen, dice: random.Random, text: str) -> None:
    pen.polygon(0, [(-0.07, 0.5), (0.07, 0.5), (0.11, 1.0), (-0.11, 1.0)])
    if dice.random() < 0.5:
        half = dice.uniform(0.34, 0.42)
        for top, bottom in ((0.3, 0.72), (0.14, 0.5), (0.0, 0.3)):
            reach = half * (0.55 + 0.45 * bottom / 0.72)
            pen.polygon(1, [(-reach, bottom), (0.0, top), (reach, bottom)])
            pen.polygon(1, [(reach * 0.35, bottom), (0.0, top), (reach, bottom)], DARK)
        return
    radius = dice.uniform(0.3, 0.36)
    pen.ellipse(1, 0.0, 0.36, radius, 0.35, DARK)
    pen.ellipse(1, -0.03, 0.33, radius - 0.04, 0.32)
    pen.ellipse(1, -0.12, 0.2, 0.1, 0.1, LIGHT)


def _flower(pen: Pen, dice: random.Random, text: str) -> None:
    pen.bar(0, 0.0, 0.35, dice.uniform(-0.05, 0.05), 1.0, 0.08)
    pen.ellipse(0, 0.13, 0.72, 0.13, 0.07)
    petal, reach = dice.uniform(0.14, 0.17), 0.17
    for x, y in ((0, -1), (0.95, -0.31), (0.59, 0.81), (-0.59, 0.81), (-0.95, -0.31)):
        pen.ellipse(1, reach * x, 0.32 + reach * y, petal, petal)
    pen.ellipse(1, 0.0, 0.32, 0.2, 0.2, DARK)
    pen.ellipse(2, 0.0, 0.32, 0.13, 0.13)


def _lamp(pen: Pen, dice: random.Random, text: str) -> None:
    half = dice.uniform(0.28, 0.34)
    pen.bar(1, 0.0, 0.4, 0.0, 0.92, 0.08)
    pen.ellipse(0, 0.0, 0.93, 0.24, 0.08)
    pen.polygon(2, [(-half * 0.5, 0.0), (half * 0.5, 0.0), (half, 0.45), (-half, 0.45)])
    pen.polygon(2, [(half * 0.2, 0.0), (half * 0.5, 0.0), (half, 0.45), (half * 0.5, 0.45)], DARK)


def _boat(pen: Pen, dice: random.Random, text: str) -> None:
    half = dice.uniform(0.5, 0.58)
    pen.bar(2, -0.06, 0.0, -0.06, 0.76, 0.07)
    pen.polygon(1, [(0.02, 0.04), (dice.uniform(0.4, 0.48), 0.66), (0.02, 0.66)])
    pen.polygon(1, [(-0.14, 0.2), (-0.14, 0.66), (-0.4, 0.66)], DARK)
    pen.polygon(0, [(-half, 0.73), (half, 0.73), (half * 0.68, 1.0), (-half * 0.68, 1.0)])
    pen.polygon(0, [(-half * 0.8, 0.9), (half * 0.8, 0.9), (half * 0.68, 1.0), (-half * 0.68, 1.0)], DARK)


def _clock(pen: Pen, dice: random.Random, text: str) -> None:
    for x in (-0.3, 0.3):
        pen.bar(0, x * 0.7, 0.8, x, 0.98, 0.1)
    pen.ellipse(0, 0.0, 0.47, 0.47, 0.47)
    pen.ellipse(0, 0.0, 0.48, 0.4, 0.4, DARK)
    pen.ellipse(1, 0.0, 0.47, 0.36, 0.36)
    x, y = dice.choice(((0.0, -0.26), (0.18, -0.18), (0.25, 0.0), (-0.18, -0.18)))
    pen.bar(2, 0.0, 0.5, x, 0.47 + y, 0.07)
    pen.bar(2, 0.0, 0.47, *dice.choice(((-0.17, 0.52), (0.1, 0.63), (-0.12, 0.62))), 0.07)


def _sign(pen: Pen, dice: random.Random, text: str) -> None:
    half = 0.12 + 0.15 * len(text)
    pen.bar(1, 0.0, 0.5, 0.0, 1.0, 0.09)
    pen.rounded(0, -half, 0.0, half, 0.56, 0.08)
    pen.text(2, text, 0.0, 0.285, 0.075)


def _bottle(pen: Pen, dice: random.Random, text: str) -> None:
    half = dice.uniform(0.19, 0.22)
    pen.polygon(0, [(-0.08, 0.08), (0.08, 0.08), (0.09, 0.24), (half, 0.38), (-half, 0.38), (-0.09, 0.24)])
    pen.rounded(0, -half, 0.34, half, 1.0, 0.06)
    pen.box(0, half - 0.07, 0.4, half - 0.01, 0.95, DARK)
    pen.box(1, -0.11, 0.0, 0.11, 0.12)
    pen.box(2, -half, 0.46, half, 0.86)
    pen.text(3, text, 0.0, 0.66, 0.066)


def _fish(pen: Pen, dice: random.Random, text: str) -> None:
    half = dice.uniform(0.62, 0.75)
    pen.polygon(1, [(half - 0.14, 0.55), (half + 0.3, 0.22), (half + 0.2, 0.55), (half + 0.3, 0.9)])
    pen.polygon(2, [(-0.3, 0.3), (0.0, -0.06), (0.42, -0.04), (0.36, 0.36)])
    pen.ellipse(0, 0.0, 0.57, half, 0.37)
    pen.ellipse(0, 0.0, 0.68, half * 0.75, 0.2, LIGHT)
    pen.ellipse(0, -half + 0.24, 0.46, 0.07, 0.07, DARK)


def _umbrella(pen: Pen, dice: random.Random, text: str) -> None:
    half = dice.uniform(0.46, 0.54)
    pen.bar(1, 0.0, 0.3, 0.0, 0.88, 0.07)
    pen.ring(1, 0.1, 0.86, 0.12, 0.07, (0, 180))
    dome = [(-1.0, 1.0), (-0.92, 0.55), (-0.6, 0.16), (0.0, 0.0), (0.6, 0.16), (0.92, 0.55), (1.0, 1.0)]
    hem = [(0.67, 0.86), (0.33, 1.0), (0.0, 0.86), (-0.33, 1.0), (-0.67, 0.86)]
    pen.polygon(0, [(half * x, 0.46 * y) for x, y in dome + hem])
    pen.polygon(0, [(0.0, 0.0), (half * 0.33, 0.46), (0.0, 0.4), (-half * 0.33, 0.46)], LIGHT)


@dataclass(frozen=True)
class Shape:
    """How a category looks."""

    parts: tuple[str, ...]
    """Part names; a part's position is its number in `draw`."""
    half_width: float
    """At most, in heights."""
    height: float
    """Usual height relative to other categories."""
    draw: Callable[[Pen, random.Random, str], None]
    paints: dict[str, str]
    """Part -> its paint: "own", "own dark" or "own light" (the object's colour), "ink" (white or black,
    whichever is read better on it), or a fixed paint."""
    texts: tuple[str, ...] = ()
    """What may be written on it."""


SHAPES: dict[str, Shape] = {
    "mug": Shape(("body", "handle"), 0.7, 0.75, _mug, {"body": "own", "handle": "own dark"}),
    "car": Shape(("body", "wheels", "window"), 1.1, 0.72, _car, {"body": "own", "wheels": "coal", "window": "glass"}),
    "house": Shape(
        ("wall", "roof", "door", "window"),
        0.62,
        1.15,
        _house,
        {"wall": "own", "roof": "slate", "door": "wood", "window": "glass"},
    ),
    "tree": Shape(("trunk", "crown"), 0.42, 1.3, _tree, {"trunk": "wood", "crown": "own"}),
    "flower": Shape(
        ("stem", "petals", "centre"), 0.36, 1.0, _flower, {"stem": "leaf", "petals": "own", "centre": "honey"}
    ),
    "lamp": Shape(("base", "pole", "shade"), 0.34, 1.15, _lamp, {"base": "coal", "pole": "steel", "shade": "own"}),
    "boat": Shape(("hull", "sail", "mast"), 0.58, 1.1, _boat, {"hull": "own", "sail": "paper", "mast": "wood"}),
    "clock": Shape(("rim", "face", "hands"), 0.48, 0.9, _clock, {"rim": "own", "face": "paper", "hands": "coal"}),
    "sign": Shape(
        ("board", "pole", "text"),
        0.57,
        1.1,
        _sign,
        {"board": "own", "pole": "steel", "text": "ink"},
        SIGN_TEXTS,
    ),
    "bottle": Shape(
        ("body", "cap", "label", "text"),
        0.22,
        1.2,
        _bottle,
        {"body": "own", "cap": "coal", "label": "paper", "text": "coal"},
        LABEL_TEXTS,
    ),
    "fish": Shape(("body", "tail", "fin"), 1.05, 0.62, _fish, {"body": "own", "tail": "own dark", "fin": "own dark"}),
    "umbrella": Shape(("canopy", "handle"), 0.54, 1.05, _umbrella, {"canopy": "own", "handle": "wood"}),
}
