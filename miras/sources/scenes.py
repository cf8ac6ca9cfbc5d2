"""Rendered scenes: pictures of coloured objects with parts and lettering, with exact masks, from a seed.

Every primitive is drawn once, as a code, into one 8-bit picture; the colours are a palette of the codes
with light and grain from a bank, and every mask is a comparison of codes, so masks are exact and know
occlusion. Measured on one core: more than 800 scenes of 128 px a second.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Region
from miras.sources.records import SourcePicture
from miras.sources.scene_shapes import DARK, LIGHT, MAX_PARTS, SHAPES, TEXTS, THINNEST_PX, Pen

CATEGORIES: tuple[str, ...] = tuple(SHAPES)
COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
PARTS: dict[str, tuple[str, ...]] = {category: shape.parts for category, shape in SHAPES.items()}
ALL_PARTS: tuple[tuple[str, str], ...] = tuple((category, part) for category, parts in PARTS.items() for part in parts)

MIN_OBJECTS, MAX_OBJECTS = 3, 6
REFERENCE_PX = 128  # sizes in pixels below are meant for a picture of this side
MIN_PART_PX = 32  # smaller visible parts are drawn but are no regions: nothing can be learned of them
MIN_VISIBLE_SHARE = 0.8  # of the frame of an object that nearer objects leave free

_PAINTS = {
    "red": (212, 44, 44),
    "orange": (240, 136, 30),
    "yellow": (246, 214, 50),
    "green": (52, 158, 64),
    "turquoise": (46, 196, 190),
    "blue": (48, 92, 212),
    "purple": (134, 58, 178),
    "pink": (246, 130, 178),
    "coal": (44, 44, 50),
    "steel": (132, 138, 148),
    "glass": (196, 226, 244),
    "slate": (92, 78, 84),
    "wood": (128, 84, 48),
    "leaf": (74, 128, 58),
    "honey": (250, 226, 130),
    "paper": (248, 246, 238),
}
_FAR, _NEAR, _HILL, _EDGE, _SHADOW = 240, 241, 242, 243, 244  # codes of the background
# (far, hill or skirting, near): sky, hills and ground, or wall, skirting board and floor
_OUTDOORS = (
    ((198, 222, 240), (160, 192, 156), (176, 202, 148)),
    ((232, 226, 236), (176, 178, 196), (206, 196, 168)),
    ((246, 226, 206), (190, 170, 160), (200, 188, 160)),
    ((210, 218, 226), (170, 186, 186), (190, 192, 194)),
)
_INDOORS = (
    ((226, 220, 204), (246, 244, 238), (186, 164, 138)),
    ((206, 216, 214), (240, 240, 236), (170, 158, 150)),
    ((224, 206, 204), (244, 238, 234), (196, 182, 170)),
    ((214, 210, 228), (242, 240, 246), (168, 166, 176)),
)
_BANK_SIZE = 16


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene."""

    slot: int
    """Position in `Scene.objects`, from 0."""
    category: str
    colour: str
    text: str
    """What is written on it, or ""."""
    instance: int
    """0 for the first object of its category in the scene, 1 for the second, ..."""
    parts: dict[str, int]
    """Part name -> its code in `Scene.codes`, hidden parts too."""


@dataclass(frozen=True)
class Scene:
    """A rendered scene."""

    pixels: np.ndarray
    """uint8 [H, W, 3], RGB."""
    codes: np.ndarray
    """uint8 [H, W]: 0 = background, else `1 + MAX_PARTS * slot + part`."""
    objects: tuple[SceneObject, ...]
    """From back to front."""


@dataclass(frozen=True)
class DenseLabels:
    """What each pixel shows; every array is uint8 [H, W], 0 = background, else 1 + index."""

    part: np.ndarray
    """1 + index into `ALL_PARTS`."""
    colour: np.ndarray
    """1 + index into `COLOURS`, of the object (also on its parts of another paint)."""
    category: np.ndarray
    """1 + index into `CATEGORIES`."""
    instance: np.ndarray
    """1 + slot of the object."""
    text: np.ndarray
    """1 + index into `TEXTS`, on the parts named "text" only."""


@dataclass(frozen=True)
class _Placed:
    category: str
    colour: str
    text: str
    foot_px: tuple[float, float]
    height_px: float
    mirrored: bool

    def frame(self) -> tuple[float, float, float, float]:
        half = SHAPES[self.category].half_width * self.height_px
        x, y = self.foot_px
        return x - half, y - self.height_px, x + half, y


def render_scene(seed: int, *, size_px: int = REFERENCE_PX) -> Scene:
    """The scene of a seed: the same seed and size give the same bytes.

    Args:
        seed: any integer.
        size_px: side of the square picture; 64 at least, as smaller parts cannot be seen.
    """
    dice = random.Random(seed)
    placed = _place(dice, size_px)
    canvas = Image.new("L", (size_px, size_px), _FAR)
    draw = ImageDraw.Draw(canvas)
    palette = np.zeros((256, 3), np.uint16)
    _draw_background(draw, palette, dice, size_px)
    for item in placed:
        _draw_shadow(draw, item)
    seen: dict[str, int] = {}
    objects = []
    for slot, item in enumerate(placed):
        first_code = 1 + MAX_PARTS * slot
        _paint(palette, item, first_code)
        pen = Pen(
            draw,
            first_code=first_code,
            foot_px=item.foot_px,
            height_px=item.height_px,
            mirrored=item.mirrored,
            thinnest_px=THINNEST_PX * size_px / REFERENCE_PX,
        )
        SHAPES[item.category].draw(pen, dice, item.text)
        instance = seen[item.category] = seen.get(item.category, -1) + 1
        codes = {part: first_code + index for index, part in enumerate(PARTS[item.category])}
        objects.append(SceneObject(slot, item.category, item.colour, item.text, instance, codes))
    drawn = np.asarray(canvas)
    light = _light_bank(size_px)[dice.randrange(_BANK_SIZE)]
    pixels = np.minimum((palette.take(drawn, axis=0) * light) >> 7, 255).astype(np.uint8)
    return Scene(pixels=pixels, codes=_PUBLIC_CODE.take(drawn), objects=tuple(objects))


def dense_labels(scene: Scene) -> DenseLabels:
    """What each pixel of a scene shows, as indices into the vocabulary."""
    tables = np.zeros((5, 1 + MAX_PARTS * MAX_OBJECTS), np.uint8)
    for item in scene.objects:
        for part, code in item.parts.items():
            tables[0, code] = 1 + ALL_PARTS.index((item.category, part))
            tables[1, code] = 1 + COLOURS.index(item.colour)
            tables[2, code] = 1 + CATEGORIES.index(item.category)
            tables[3, code] = 1 + item.slot
            tables[4, code] = 1 + TEXTS.index(item.text) if part == "text" else 0
    part, colour, category, instance, text = tables[:, scene.codes]
    return DenseLabels(part=part, colour=colour, category=category, instance=instance, text=text)


def scene_regions(scene: Scene, image_id: str) -> tuple[Region, ...]:
    """The objects of a scene and their parts that are large enough to be pointed at; phrases are "".

    Region ids are `<image_id>/<slot>` and `<image_id>/<slot>.<part>`.
    """
    area_px = np.bincount(scene.codes.ravel(), minlength=256)
    least_px = MIN_PART_PX * scene.codes.size / REFERENCE_PX**2
    regions = []
    for item in scene.objects:
        first, last = min(item.parts.values()), max(item.parts.values())
        object_id = f"{image_id}/{item.slot}"
        readable = "text" in item.parts and area_px[item.parts["text"]] >= least_px
        attributes = {"colour": item.colour} | ({"text": item.text} if readable else {})
        regions.append(
            Region.model_construct(
                region_id=object_id,
                image_id=image_id,
                phrase="",
                mask=masks.encode((scene.codes >= first) & (scene.codes <= last)),
                category=item.category,
                attributes=attributes,
                parent_id=None,
            )
        )
        regions += [
            Region.model_construct(
                region_id=f"{object_id}.{part}",
                image_id=image_id,
                phrase="",
                mask=masks.encode(scene.codes == code),
                category=part,
                attributes={"text": item.text} if part == "text" else {},
                parent_id=object_id,
            )
            for part, code in item.parts.items()
            if area_px[code] >= least_px
        ]
    return tuple(regions)


class ScenesSource(Section):
    """Scenes rendered by miras."""

    reader: Literal["scenes"]
    count: int = Field(gt=0)
    """How many to render."""
    size_px: int = Field(ge=64)
    """Side of a scene, pixels."""
    seed: int = Field(ge=0)


def read(*, count: int, size_px: int, seed: int) -> Iterator[SourcePicture]:
    """The first `count` scenes of a seed, each with its regions.

    Scene `i` of a seed is the same whatever `count` is.
    """
    for index in range(count):
        scene_seed = seed * 1_000_003 + index
        scene = render_scene(scene_seed, size_px=size_px)
        image_id = f"scene-{seed}-{index:06d}"
        yield SourcePicture(
            image_id=image_id,
            pixels=Image.fromarray(scene.pixels),
            origin=f"scene seed {scene_seed}",
            regions=scene_regions(scene, image_id),
        )


def _place(dice: random.Random, size_px: int) -> list[_Placed]:
    """Objects that hide each other little, from back (higher) to front (lower)."""
    wanted = dice.randint(MIN_OBJECTS, MAX_OBJECTS)
    placed: list[_Placed] = []
    tries = 0
    while len(placed) < wanted:
        tries += 1
        item = _propose(dice, placed, size_px, shrink=max(0.55, 1.0 - 0.012 * tries))
        if all(_overlap(item.frame(), other.frame()) < 1.0 - MIN_VISIBLE_SHARE for other in placed):
            placed.append(item)
        elif tries > 120 and len(placed) >= MIN_OBJECTS:
            break
    return sorted(placed, key=lambda item: item.foot_px[1])


def _propose(dice: random.Random, placed: list[_Placed], size_px: int, *, shrink: float) -> _Placed:
    category, colour = dice.choice(CATEGORIES), dice.choice(COLOURS)
    if placed and dice.random() < 0.24:  # a second one of its kind, so that one has to say which
        twin = dice.choice(placed)
        category = twin.category
        if dice.random() < 0.3:
            colour = twin.colour
    shape = SHAPES[category]
    height = 0.3 * shape.height * dice.uniform(0.72, 1.35) * shrink
    half = shape.half_width * height
    x = dice.uniform(half + 0.01, max(half + 0.01, 0.99 - half))
    y = dice.uniform(max(0.42, height + 0.02), 0.97)
    return _Placed(
        category=category,
        colour=colour,
        text=dice.choice(shape.texts) if shape.texts else "",
        foot_px=(x * size_px, y * size_px),
        height_px=height * size_px,
        mirrored=dice.random() < 0.5,
    )


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Share of the smaller frame that lies in the other."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return width * height / min(areas)


def _draw_background(draw: ImageDraw.ImageDraw, palette: np.ndarray, dice: random.Random, size_px: int) -> None:
    outdoors = dice.random() < 0.5
    far, between, near = dice.choice(_OUTDOORS if outdoors else _INDOORS)
    horizon = dice.uniform(0.24, 0.38) * size_px
    palette[_FAR], palette[_HILL], palette[_NEAR] = far, between, near
    palette[_EDGE] = [round(0.9 * value) for value in near]
    palette[_SHADOW] = [round(0.78 * value) for value in near]
    if outdoors:
        for _ in range(3):
            x, rise = dice.uniform(0, size_px), dice.uniform(0.04, 0.12) * size_px
            reach = dice.uniform(0.2, 0.45) * size_px
            draw.ellipse((x - reach, horizon - rise, x + reach, horizon + rise), fill=_HILL)
    else:
        draw.rectangle((0, horizon - 0.03 * size_px, size_px, horizon), fill=_HILL)
    draw.rectangle((0, horizon, size_px, size_px), fill=_NEAR)
    if not outdoors:  # floor boards run towards a point behind the wall
        for lane in range(-6, 7):
            foot = size_px * (0.5 + 0.22 * lane)
            draw.line((size_px * (0.5 + 0.1 * lane), horizon + 1, foot, size_px), fill=_EDGE)


def _draw_shadow(draw: ImageDraw.ImageDraw, item: _Placed) -> None:
    x0, _, x1, y = item.frame()
    rise = 0.07 * item.height_px
    draw.ellipse((x0, y - rise, x1 + rise, y + rise), fill=_SHADOW)


def _paint(palette: np.ndarray, item: _Placed, first_code: int) -> None:
    own = _PAINTS[item.colour]
    luminance = 0.3 * own[0] + 0.59 * own[1] + 0.11 * own[2]
    special = {
        "own": own,
        "own dark": tuple(round(0.74 * value) for value in own),
        "ink": _PAINTS["coal" if luminance > 130 else "paper"],
    }
    for index, paint in enumerate(SHAPES[item.category].paints.values()):
        red, green, blue = special[paint] if paint in special else _PAINTS[paint]
        code = first_code + index
        palette[code] = red, green, blue
        palette[code + DARK] = red * 4 // 5, green * 4 // 5, blue * 4 // 5
        palette[code + LIGHT] = (2 * red + 255) // 3, (2 * green + 255) // 3, (2 * blue + 255) // 3


def _public_codes() -> np.ndarray:
    """Drawn code -> public code: tones merged, backgrounds 0."""
    codes = np.arange(256)
    return np.where(codes < 3 * DARK, codes % DARK, 0).astype(np.uint8)


_PUBLIC_CODE = _public_codes()


@lru_cache(maxsize=4)
def _light_bank(size_px: int) -> np.ndarray:
    """Light and grain, [_BANK_SIZE, size, size, 3] uint16, in 1/128 (128 leaves a colour as it is)."""
    rng = np.random.default_rng(20240)
    y, x = np.mgrid[0:size_px, 0:size_px] / size_px
    bank = np.empty((_BANK_SIZE, size_px, size_px, 3), np.uint16)
    for index in range(_BANK_SIZE):
        angle = rng.uniform(0, 2 * np.pi)
        slope = 9 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
        grain = rng.normal(0, 2.5, (size_px, size_px, 3)) + rng.normal(0, 2.5, (size_px, size_px, 1))
        bank[index] = np.clip(np.round(126 + slope[..., None] + grain), 96, 160)
    bank.setflags(write=False)
    return bank
