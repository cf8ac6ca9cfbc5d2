"""Words for the short part names of PASCAL-Part: "rfuleg" is the right front upper leg.

Left and right are the object's own. Source: the list of parts published with the data set (Chen et al., 2014).
"""

from __future__ import annotations

import re

from miras.errors import DataError
from miras.sources.annotations import category_name

OBJECTS = {
    "diningtable": "dining table",
    "table": "dining table",  # so in PASCAL-Part; other tables are not annotated
    "pottedplant": "potted plant",
    "tvmonitor": "TV monitor",
}
_NUMBERED = re.compile(r"_\d+$")  # "wheel_2": one of several, in no order

_SIDES = {"l": "left", "r": "right"}
_ENDS = {"f": "front", "b": "back"}
_AS_THEY_STAND = (
    *("beak", "body", "cap", "coach", "door", "engine", "hair", "handlebar", "head", "headlight", "mouth", "muzzle"),
    *("neck", "nose", "plant", "pot", "saddle", "screen", "stern", "tail", "torso", "wheel", "window"),
)
_OF_A_SIDE = {
    "ear": "ear",
    "ebrow": "eyebrow",
    "eye": "eye",
    "foot": "foot",
    "hand": "hand",
    "horn": "horn",
    "larm": "lower arm",
    "leg": "leg",
    "lleg": "lower leg",
    "uarm": "upper arm",
    "uleg": "upper leg",
    "wing": "wing",
}
_OF_A_LIMB = {"ho": "hoof", "leg": "leg", "lleg": "lower leg", "pa": "paw", "uleg": "upper leg"}
_FACES = ("back", "front", "left", "right", "roof")
_CARRIERS = {"": "", "c": "coach ", "h": "head "}  # of a train: its coaches, its head

PARTS = (
    {name: name for name in _AS_THEY_STAND}
    | {side + short: f"{_SIDES[side]} {words}" for side in _SIDES for short, words in _OF_A_SIDE.items()}
    | {
        side + end + short: f"{_SIDES[side]} {_ENDS[end]} {words}"
        for side in _SIDES
        for end in _ENDS
        for short, words in _OF_A_LIMB.items()
    }
    | {f"{short}{face}side": f"{words}{face} side" for short, words in _CARRIERS.items() for face in _FACES}
    | {f"{side}mirror": f"{side} mirror" for side in _SIDES.values()}
    | {f"{end}liplate": f"{words} licence plate" for end, words in _ENDS.items()}
    | {f"{end}wheel": f"{words} wheel" for end, words in _ENDS.items()}
    | {"chainwheel": "chain wheel"}
)


def object_words(raw: object) -> str:
    """Words for a class: "tvmonitor" -> "TV monitor".

    Raises:
        DataError: as `category_name`.
    """
    name = category_name(raw)
    return OBJECTS.get(name, name)


def part_words(raw: object) -> str:
    """Words for a part without its object: "lfpa" -> "left front paw", "wheel_2" -> "wheel".

    Raises:
        DataError: as `category_name`, or no part of PASCAL-Part has this name.
    """
    short = _NUMBERED.sub("", str(raw))
    if short not in PARTS:
        raise DataError(f"{category_name(raw)!r} is the name of no part in PASCAL-Part, such as lfleg or wheel_1")
    return PARTS[short]
