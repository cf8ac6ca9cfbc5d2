"""What things and their parts are for: the common knowledge that reasoning questions lean on.

Every clause begins with "can", "could" or "would", so that it agrees with one thing or several. A use is
only asked for where every class in the picture is known here, and `CLASSES` lists ALL classes it fits: a
use that might fit an unlisted class would make a question ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """Something that certain classes can do or be used for."""

    name: str
    classes: frozenset[str]
    clauses: tuple[str, ...]
    """Follow "which object" or "the mug"."""


def _use(name: str, classes: str, *clauses: str) -> Use:
    return Use(name, frozenset(classes.split(", ")), clauses)


USES: tuple[Use, ...] = (
    _use(
        "drink",
        "mug, bottle, cup, wine glass",
        "could hold something to drink",
        "could be emptied by a thirsty person",
        "can be filled with water and drunk from",
        "would quench your thirst once filled",
    ),
    _use(
        "hot drink",
        "mug, cup",
        "could keep your morning coffee warm",
        "would be used to serve hot tea",
        "could hold cocoa on a cold day",
    ),
    _use(
        "closed drink",
        "bottle",
        "could carry juice without spilling it",
        "can be screwed shut to keep a drink inside",
        "would keep a drink fresh on a journey",
    ),
    _use(
        "road",
        "car, bus, truck, motorcycle",
        "could be driven along a road",
        "would have to stop at a red light",
        "can run out of petrol on the road",
    ),
    _use(
        "travel",
        "car, boat, bus, truck, motorcycle, train, bicycle, airplane, horse",
        "could carry people to another town",
        "can take a passenger on a trip",
        "would be used for travelling",
    ),
    _use(
        "sail",
        "boat",
        "could cross a lake with the help of the wind",
        "can be steered into a harbour",
        "would float across the sea with people on board",
    ),
    _use(
        "live in",
        "house",
        "could be the home of a family",
        "can be lived in",
        "would have people sleeping inside at night",
    ),
    _use(
        "grow",
        "tree, flower",
        "would need rain and sun to grow",
        "can grow out of the soil",
        "could be watered by a gardener",
    ),
    _use(
        "indoor plant",
        "potted plant",
        "could be watered on a windowsill",
        "would have to be repotted when it gets too big",
    ),
    _use(
        "nest",
        "tree",
        "could hold a nest with young birds",
        "would lose its leaves in autumn",
        "can be climbed by a squirrel",
    ),
    _use(
        "bloom",
        "flower",
        "would be visited by a bee looking for nectar",
        "could be picked and put into a vase",
        "can open in the morning sun and smell sweet",
    ),
    _use(
        "light",
        "lamp",
        "could light up a dark room",
        "would be switched on at night to read a book",
        "can make a room brighter in the evening",
    ),
    _use(
        "time",
        "clock",
        "can tell you what time it is",
        "could wake someone up in the morning",
        "would show whether you are late",
    ),
    _use(
        "inform",
        "sign",
        "could tell people on the street where to go",
        "would be put up beside a road to inform people",
        "can give passers-by a short message",
    ),
    _use("stop", "stop sign", "would make a driver stop at the crossing", "can tell drivers to stop and look"),
    _use(
        "swim",
        "fish",
        "could breathe under water",
        "can swim without ever learning it",
        "would be caught with a net",
    ),
    _use(
        "rain",
        "umbrella",
        "would be taken along for a walk in the rain",
        "can be opened above your head in bad weather",
        "could be folded up when the rain stops",
    ),
    _use("sit", "chair, couch, bench", "could be sat on by a tired person", "can give someone a seat"),
    _use("pet", "cat, dog", "could be kept as a pet and stroked", "would be glad to live with a family"),
    _use(
        "animal",
        "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
        "can move about by itself looking for food",
        "could be studied by a zoologist",
    ),
    _use("human", "person", "could answer a question in words", "can read and write"),
    _use(
        "fruit",
        "banana, apple, orange",
        "could be picked from a tree and eaten",
        "would go into a fruit salad",
    ),
    _use("screen", "tv, laptop, cell phone", "could show you a film", "can be switched on to watch videos"),
    # parts of vehicles that annotation files list without a whole ("front left light")
    _use(
        "shine",
        "light, headlight, taillight",
        "would be switched on when it gets dark",
        "can help others to notice the car at night",
    ),
    _use(
        "roll",
        "wheel, tyre, tire",
        "can turn and let the car move",
        "would touch the road while driving",
        "could get a puncture",
    ),
    _use(
        "see through",
        "glass, window, windshield, windscreen",
        "can be looked through from the inside",
        "would be cleaned by the wipers or by hand for a clear view",
        "could break into splinters when hit by a stone",
    ),
    _use(
        "get in",
        "door",
        "would be opened to get into the car",
        "can be pulled open by a passenger",
        "could let somebody climb in",
    ),
    _use(
        "bump",
        "bumper",
        "could soften the blow in a slow crash",
        "would be hit first when parking goes wrong",
    ),
    _use(
        "look back",
        "mirror",
        "can show the driver what comes from behind",
        "would be adjusted before driving off",
    ),
    _use("engine", "hood, bonnet", "can be lifted to reach the engine", "would be opened to check the oil"),
    _use(
        "luggage",
        "trunk, boot, tailgate",
        "would be opened to load the luggage",
        "can give access to the space for bags",
    ),
)

# (object, part) -> clauses that fit this part of the object and no other one
PART_USES: dict[tuple[str, str], tuple[str, ...]] = {
    ("mug", "handle"): ("can be gripped to lift it", "would be held between your fingers"),
    ("mug", "body"): ("would get warm from hot tea inside", "can be filled with coffee"),
    ("car", "wheels"): ("would touch the road", "can turn round and round to move it"),
    ("car", "window"): ("can be looked through by the driver", "could be rolled down to let in fresh air"),
    ("car", "body"): ("would be polished after a wash", "can be dented in a crash and painted again"),
    ("house", "wall"): ("can carry the weight of the roof", "would be painted by the people who live there"),
    ("house", "roof"): ("would keep the rain out", "can be covered with tiles against the weather"),
    ("house", "door"): ("would be walked through to enter", "can be locked when everyone leaves"),
    ("house", "window"): ("can let daylight into the room", "would be opened for fresh air"),
    ("tree", "trunk"): ("can carry the weight of all the leaves", "would be cut to make wooden boards"),
    ("tree", "crown"): ("would give you shade on a hot day", "could hide a nest among its leaves"),
    ("flower", "stem"): ("can carry water up from the soil", "would be cut to put it into a vase"),
    ("flower", "petals"): ("would attract bees with their colour", "could fall off one by one when it fades"),
    ("flower", "centre"): ("would hold the pollen", "can be found in the very middle where bees land"),
    ("lamp", "base"): ("can keep it from falling over", "would touch the table it stands on"),
    ("lamp", "pole"): ("can hold the shade up high", "would connect the top with the foot"),
    ("lamp", "shade"): ("would soften the glare of the bulb", "can spread the light gently"),
    ("boat", "hull"): ("can keep it afloat", "would be under the feet of the sailors"),
    ("boat", "sail"): ("would catch the wind", "could be torn by a storm"),
    ("boat", "mast"): ("can hold the cloth up high", "would be climbed to look far across the sea"),
    ("clock", "rim"): ("would run all around the outside", "can hold the glass in its place"),
    ("clock", "face"): ("would carry the numbers", "can lie behind the pointers as a pale disc"),
    ("clock", "hands"): ("would move as the minutes pass", "can point to the hour"),
    ("sign", "board"): ("can carry the lettering", "would be painted to stand out from far away"),
    ("sign", "pole"): ("can hold it up above the ground", "would be stuck into the ground"),
    ("sign", "text"): ("would be read aloud by a child", "can be spelled letter by letter"),
    ("bottle", "body"): ("would be filled with the drink", "can break when it falls on the floor"),
    ("bottle", "cap"): ("would be twisted off to open it", "can keep the drink from running out"),
    ("bottle", "label"): ("can be peeled off as a piece of paper", "would be glued around it"),
    ("bottle", "text"): ("would be read aloud by a child", "can be spelled out by someone who reads"),
    ("fish", "body"): ("would be covered with scales", "can hold the heart and the bones"),
    ("fish", "tail"): ("can push it forward through the water", "would swing from side to side behind it"),
    ("fish", "fin"): ("can keep it upright while it swims", "would stick out of the water on its back"),
    ("umbrella", "canopy"): ("would keep the rain off", "can be stretched wide and folded again"),
    ("umbrella", "handle"): ("would be held in the hand", "can hang over your arm when it is folded"),
}

_KNOWN_CLASSES: frozenset[str] = frozenset().union(*(use.classes for use in USES))
_SIDES = frozenset({"front", "back", "rear", "left", "right", "middle"})


def known_as(category: str) -> str | None:
    """The class by which a category is known here: itself without words of side; None when unknown."""
    plain = " ".join(word for word in category.split() if word not in _SIDES)
    return plain if plain in _KNOWN_CLASSES else None


def uses_of(category: str) -> list[Use]:
    """What a class is good for, in the order of `USES`."""
    known = known_as(category)
    return [use for use in USES if known in use.classes]


def fits(use: Use, category: str) -> bool:
    """Whether a class is good for it."""
    return known_as(category) in use.classes


def all_known(categories: Iterable[str]) -> bool:
    """Whether every class is known, so that it can be said which of them a use fits."""
    return all(known_as(category) is not None for category in categories)
