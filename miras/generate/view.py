"""What the teacher sees of a picture: things with boxes and sizes, and which of them stand how to each other.

Every comparison answers True, False or None: None means too close to call, and nothing is ever said or
asked that rests on a None. Positions are the picture's own: left is the viewer's left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pycocotools import mask as coco_mask

from miras.dialogue.masks import CANVAS_PX
from miras.dialogue.records import Region, Rle
from miras.generate.language import comes_in_several, is_one_of_its_kind, is_plural, is_uncounted, plural
from miras.generate.names import may_be_called, names_a_side, spoken
from miras.generate.pieces import num_pieces

Direction = Literal["left", "right", "top", "bottom"]
Extreme = Literal["left", "right", "top", "bottom", "large", "small"]
Relation = Literal["left", "right", "above", "below"]
EXTREMES: tuple[Extreme, ...] = ("left", "right", "top", "bottom", "large", "small")
RELATIONS: tuple[Relation, ...] = ("left", "right", "above", "below")

CLEAR_SHIFT = 0.06  # of the picture's side: a smaller lead of one centre over another is not seen (assumed)
CLEAR_RATIO = 1.35  # of two areas: below, "larger" is a matter of opinion (assumed)
INSIDE_SHARE = 0.9  # of a mask that lies in another one, to be taken for a part of it
PART_AREA_SHARE = 0.5  # a part is at most this much of its whole
OTHERS = "others"  # attribute of a region whose class has, or may have, objects that are not outlined: yes, maybe
LEAST_TARGET_CANVAS_PX = 304  # smallest mask of PRIST on its 1024 px canvas (section 3)


@dataclass(eq=False, slots=True)
class Thing:
    """A region with what is said of it."""

    region_id: str
    category: str
    """Words with blanks, as the text uses them."""
    colour: str
    text: str
    phrase: str
    """Identifies it; "" where the source's phrase does not (it names another one too) or where none is."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels, ends exclusive."""
    area_px: int
    mask: Rle | None = None
    class_name: str = ""
    """The source's class as words; `category` is its plural where one mask covers several ("cars")."""
    is_class: bool = False
    """Whether the mask covers all of its class in the picture, so that nobody knows how many there are."""
    is_group: bool = False
    """Whether it stands for many of a class at once ("group of people")."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What the source states besides colour and text: {"material": "wood"}; no bookkeeping."""
    definition: str = ""
    """Of its class, where the source has one."""
    synonyms: frozenset[str] = frozenset()
    """Other names of its class."""
    others: str = ""
    """Whether the picture shows others of its class that are not outlined: "" (no), maybe, yes."""
    relations: tuple[tuple[str, str], ...] = ()
    """(predicate, region id of the other one), as the source states them."""
    whole: Thing | None = None
    inferred: bool = False
    """Whether `whole` is a guess from nested masks."""
    parts: list[Thing] = field(default_factory=list)

    @property
    def x(self) -> float:
        return (self.box[0] + self.box[2]) / 2

    @property
    def y(self) -> float:
        return (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class View:
    """One picture's things."""

    width: int
    height: int
    things: tuple[Thing, ...]
    """Regions with a mask that is not empty, in the order of the table."""
    objects: tuple[Thing, ...]
    """Those that are no part of another."""
    own_sides: bool = False
    """Whether objects have sides of their own ("front left light": the car's left): then left and right of the
    picture are always said to be the picture's."""
    is_exhaustive: bool = True
    """Whether there is nothing here of a class of the source that has no region here."""
    _called: dict[str, tuple[Thing, ...]] = field(default_factory=dict, repr=False, compare=False)

    def called(self, noun: str) -> tuple[Thing, ...]:
        """All things that this class name may be said of: a sports car, a group of cars and of course a car."""
        if noun not in self._called:
            self._called[noun] = tuple(thing for thing in self.things if may_be_called(thing.category, noun))
        return self._called[noun]

    @property
    def wholes(self) -> tuple[Thing, ...]:
        """All things that the source does not call parts; `objects` leaves out those that lie within another one."""
        return tuple(thing for thing in self.things if thing.whole is None or thing.inferred)

    def are_all_outlined(self, noun: str) -> bool:
        """Whether no object that this class name may be said of is without a region."""
        return not any(thing.others for thing in self.called(noun))

    @property
    def shows_nothing_else(self) -> bool:
        """Whether the picture holds nothing but its regions, so that classes can be compared and things counted.

        No source states it. It is taken for true where every object has a stated colour, as in rendered scenes: who
        annotates photographs leaves out the wall and the floor, and states no colours (assumed).
        """
        return self.is_exhaustive and all(thing.colour for thing in self.objects)

    def is_target(self, thing: Thing) -> bool:
        """Whether a thing may be asked for: it has a phrase, and its mask is not too small."""
        side_canvas = max(self.width, self.height) / CANVAS_PX
        return bool(thing.phrase) and thing.area_px >= LEAST_TARGET_CANVAS_PX * side_canvas**2


def view_of(regions: Iterable[Region], *, is_exhaustive: bool = True) -> View:
    """The things of one picture's regions; regions without a mask or with an empty one are not seen.

    Args:
        regions: all of the picture's.
        is_exhaustive: as `Picture.is_exhaustive`.
    """
    masked = [region for region in regions if region.mask is not None]
    if not masked:
        return View(0, 0, (), ())
    codes = [_coco(region.mask) for region in masked if region.mask is not None]
    areas, boxes = coco_mask.area(codes).tolist(), coco_mask.toBbox(codes).tolist()
    phrases = _identifying_phrases(masked)
    things: dict[str, Thing] = {}
    for region, area_px, (x, y, width, height) in zip(masked, areas, boxes, strict=True):
        if area_px:
            box = (x, y, x + width, y + height)
            things[region.region_id] = _thing(region, phrases.get(region.region_id, ""), box, area_px)
    parents = {region.region_id: region.parent_id for region in masked if region.parent_id in things}
    guessed = {} if parents else _nested(things, dict(zip([r.region_id for r in masked], codes, strict=True)))
    for region_id, parent_id in (parents | guessed).items():
        if region_id in things and parent_id is not None:
            part, whole = things[region_id], things[parent_id]
            part.whole, part.inferred = whole, region_id in guessed
            whole.parts.append(part)
    assert masked[0].mask is not None
    picture_height, picture_width = masked[0].mask.size
    found = tuple(things.values())
    objects = tuple(thing for thing in found if thing.whole is None)
    own_sides = any(has_own_side(thing) for thing in objects)
    return View(picture_width, picture_height, found, objects, own_sides, is_exhaustive)


def _thing(region: Region, phrase: str, box: tuple[float, float, float, float], area_px: int) -> Thing:
    class_name, stated = spoken(region.category), region.attributes
    is_class, category = stated.get("kind") == "semantic", class_name
    if is_class or comes_in_several(class_name):
        category = _plural_of_pieces(class_name, region)
    return Thing(
        region_id=region.region_id,
        category=category,
        colour=stated.get("colour", ""),
        text=stated.get("text", ""),
        phrase=phrase,
        box=box,
        area_px=area_px,
        mask=region.mask,
        class_name=class_name,
        is_class=is_class or category != class_name,
        is_group=stated.get("crowd") == "yes",
        attributes={key: value for key, value in stated.items() if key not in _NOT_ASKED_FOR and value},
        definition=stated.get("definition", ""),
        synonyms=frozenset(filter(None, stated.get("synonyms", "").split(", "))),
        others=stated.get(OTHERS, ""),
        relations=tuple((relation.predicate, relation.object_id) for relation in region.relations),
    )


_NOT_ASKED_FOR_LIST = """
    colour text synonyms definition sense crowd dataset annotation kind occluded cropped truncated difficult pose
    object part area license source described_as others
"""
_NOT_ASKED_FOR = frozenset(
    _NOT_ASKED_FOR_LIST.split()
)  # colour and text have their own place; the rest is the source's bookkeeping


def _plural_of_pieces(class_name: str, region: Region) -> str:
    """The class name, in the plural where the mask has several pieces that are far from each other."""
    counted = not (is_plural(class_name) or is_uncounted(class_name) or is_one_of_its_kind(class_name))
    return plural(class_name) if counted and region.mask is not None and num_pieces(region.mask) > 1 else class_name


def has_own_side(thing: Thing) -> bool:
    """Whether its class name holds a left or right of its own ("left ear")."""
    return names_a_side(thing.category)


def _identifying_phrases(regions: Sequence[Region]) -> dict[str, str]:
    """Region id -> phrase, where nothing else has that phrase or may be called so by its class.

    Nothing identifies a thing, or a part of it, beside others of its class that are not outlined.
    """
    phrases = Counter(spoken(region.phrase) for region in regions)
    classes = Counter(spoken(region.category) for region in regions)
    doubtful = {region.region_id for region in regions if region.attributes.get(OTHERS) == "yes"}
    found = {}
    for region in regions:
        phrase, own = spoken(region.phrase), spoken(region.category)
        if phrases[phrase] > 1 or not doubtful.isdisjoint((region.region_id, region.parent_id)):
            continue
        if phrase == own:
            is_shared = classes[own] > 1 or any(may_be_called(name, own) for name in classes if name != own)
        else:
            is_shared = classes[phrase] > 0
        if not is_shared:
            found[region.region_id] = region.phrase
    return found


def _coco(rle: Rle) -> dict[str, object]:
    return {"size": list(rle.size), "counts": rle.counts}


def _nested(things: dict[str, Thing], codes: dict[str, dict[str, object]]) -> dict[str, str]:
    """Part -> smallest much larger thing of another class that holds nearly all of it."""
    found: dict[str, str] = {}
    by_size = sorted(things.values(), key=lambda thing: thing.area_px)
    for index, part in enumerate(by_size):
        for whole in by_size[index + 1 :]:
            if (
                whole.category != part.category
                and not (part.is_class or part.is_group or whole.is_group)
                and part.area_px <= PART_AREA_SHARE * whole.area_px
                and _box_inside(part.box, whole.box)
                and _inside_share(codes[part.region_id], codes[whole.region_id], part.area_px) > INSIDE_SHARE
            ):
                found[part.region_id] = whole.region_id
                break
    return found


def _box_inside(inner: tuple[float, ...], outer: tuple[float, ...]) -> bool:
    """Whether at least `INSIDE_SHARE` of a box may lie in the other, a quick test before the exact one."""
    width = min(inner[2], outer[2]) - max(inner[0], outer[0])
    height = min(inner[3], outer[3]) - max(inner[1], outer[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return width > 0 and height > 0 and width * height > 0.5 * area


def _inside_share(inner: object, outer: object, inner_area_px: int) -> float:
    return float(coco_mask.area(coco_mask.merge([inner, outer], intersect=True))) / inner_area_px


_KEYS: dict[Extreme, Callable[[Thing], float]] = {
    "left": lambda thing: -thing.x,
    "right": lambda thing: thing.x,
    "top": lambda thing: -thing.y,
    "bottom": lambda thing: thing.y,
    "large": lambda thing: thing.area_px,
    "small": lambda thing: 1.0 / thing.area_px,
}
_EDGES: dict[Extreme, Callable[[Thing], float]] = {
    "left": lambda thing: -thing.box[0],
    "right": lambda thing: thing.box[2],
    "top": lambda thing: -thing.box[1],
    "bottom": lambda thing: thing.box[3],
}


def extreme_of(view: View, things: Sequence[Thing], which: Extreme) -> Thing | None:
    """The one that is clearly furthest left, largest, ... of several; None when two are too close.

    In place it must lead with its middle and not be behind with its edge (a tall tree beside a cup).
    """
    if len(things) < 2:
        return things[0] if things else None
    key = _KEYS[which]
    best, second = sorted(things, key=key, reverse=True)[:2]
    if which in ("large", "small"):
        return best if key(best) >= CLEAR_RATIO * key(second) else None
    side = view.width if which in ("left", "right") else view.height
    edge = _EDGES[which]
    leads = key(best) - key(second) >= CLEAR_SHIFT * side and edge(best) >= max(map(edge, things))
    return best if leads else None


def stands(view: View, thing: Thing, relation: Relation, anchor: Thing) -> bool | None:
    """Whether a thing is left of, right of, above or below another; None where people would disagree.

    True needs a clear lead of the centre and boxes that hardly overlap along that axis; False needs the
    centre on the other side or level. Opposite relations exclude each other.
    """
    if relation in ("left", "right"):
        low, high, other_low, other_high = thing.box[0], thing.box[2], anchor.box[0], anchor.box[2]
        side = view.width
    else:
        low, high, other_low, other_high = thing.box[1], thing.box[3], anchor.box[1], anchor.box[3]
        side = view.height
    if relation in ("right", "below"):
        low, high, other_low, other_high = -high, -low, -other_high, -other_low
    lead = (other_low + other_high - low - high) / 2
    overlap = high - other_low
    if lead >= CLEAR_SHIFT * side and overlap <= 0.25 * min(high - low, other_high - other_low):
        return True
    return False if lead <= 0.01 * side else None


def place(view: View, thing: Thing) -> str:
    """Where in the picture, in thirds: "in the upper left of the picture"."""
    column = min(2, int(3 * thing.x / view.width))
    row = min(2, int(3 * thing.y / view.height))
    return f"{_PLACES[row][column]} of the picture"


_PLACES = (
    ("in the upper left", "at the top", "in the upper right"),
    ("on the left", "in the middle", "on the right"),
    ("in the lower left", "at the bottom", "in the lower right"),
)


def place_in_whole(part: Thing) -> str:
    """Where on its whole a part lies: "at the top", "on the left side", "in the middle"."""
    assert part.whole is not None
    x0, y0, x1, y1 = part.whole.box
    across, down = (part.x - x0) / (x1 - x0) - 0.5, (part.y - y0) / (y1 - y0) - 0.5
    if max(abs(across), abs(down)) < 0.17:
        return "in the middle"
    if abs(down) >= abs(across):
        return "at the top" if down < 0 else "at the bottom"
    return "on the left side" if across < 0 else "on the right side"


def nearest(view: View, thing: Thing, others: Sequence[Thing]) -> Thing | None:
    """The other thing whose box is clearly nearest, by gap between boxes; None when two are about as near."""
    ranked = sorted((gap(thing, other), index) for index, other in enumerate(others) if other is not thing)
    if not ranked:
        return None
    if len(ranked) > 1 and ranked[1][0] - ranked[0][0] < CLEAR_SHIFT * max(view.width, view.height):
        return None
    return others[ranked[0][1]]


def gap(first: Thing, second: Thing) -> float:
    """Pixels between two boxes; 0 where they touch or overlap."""
    across = max(first.box[0], second.box[0]) - min(first.box[2], second.box[2])
    down = max(first.box[1], second.box[1]) - min(first.box[3], second.box[3])
    return float((max(across, 0.0) ** 2 + max(down, 0.0) ** 2) ** 0.5)
