"""Class names of data sets as words, and what may be said of what they name."""

from __future__ import annotations

import re

from miras.generate.language import plural


def spoken(category: str) -> str:
    """A class name as words: "front_left_light" -> "front left light", "SignSymbol" -> "sign"."""
    if category not in _SPOKEN:
        words = _WORD_BORDER.sub(" ", category.replace("_", " ")).split()
        name = " ".join(word if word in _ACRONYMS else word.lower() for word in words)
        name = _KIND_OF.sub(r"\g<kind> \g<thing>", _CATCH_ALL.sub("", name))
        _SPOKEN[category] = _BETTER_NAMES.get(name, name)
    return _SPOKEN[category]


_SPOKEN: dict[str, str] = {}  # as many as there are class names
_WORD_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_CATCH_ALL = re.compile(r"(?:-(?:other|merged|stuff))+$")  # COCO's "sky-other-merged"
_KIND_OF = re.compile(r"^(?P<thing>wall|floor|ceiling|window)-(?P<kind>[a-z]+)$")  # COCO's "wall-brick"
_ACRONYMS = frozenset({"TV", "CD", "DVD", "PC", "LED", "ATM", "USB"})
_BETTER_NAMES = {
    "sign symbol": "sign",
    "front glass": "windscreen",
    "back glass": "rear window",
    "jean": "jeans",
    "trouser": "trousers",
    "short pants": "shorts",
    "sunglass": "sunglasses",
    "tv monitor": "TV monitor",
}  # names of public data sets that nobody says
_PEOPLE_LIST = "person man woman boy girl child kid baby lady guy pedestrian bicyclist cyclist rider skier player"
_PEOPLE = frozenset(_PEOPLE_LIST.split())
_ANIMAL_LIST = """
    animal bird cat kitten dog puppy horse pony sheep lamb goat cow calf bull pig elephant bear zebra giraffe lion tiger
    monkey rabbit deer duck goose chicken
"""
_ANIMALS = frozenset(_ANIMAL_LIST.split())
_NAMES_SOMETHING_ELSE = frozenset({"hot dog", "sea horse", "fire engine"})  # the last word is not what it is


def is_person(category: str) -> bool:
    """Whether a class is one of people, of whom one does not say "it"."""
    return category in _PEOPLE


def is_alive(category: str) -> bool:
    """Whether a class is one of people or animals, whose parts are not "at the top of it"."""
    is_animal = category.rsplit(" ", 1)[-1] in _ANIMALS and category not in _NAMES_SOMETHING_ELSE
    return is_person(category) or is_animal


def may_be_called(category: str, noun: str) -> bool:
    """Whether people may call a thing of this class so: a teddy bear "bear", a group of cars "car", a man "person", one
    mask of several wheels "wheel", and one wheel of several "wheels"."""
    if noun in (category, plural(category)) or category == plural(noun):
        return True
    if "person" in (category, noun) and category in _PEOPLE and noun in _PEOPLE:
        return True
    if category.startswith("group of "):
        return category == f"group of {plural(noun)}"
    return category.endswith(f" {noun}") and category not in _NAMES_SOMETHING_ELSE


def names_a_side(words: str) -> bool:
    """Whether a left or right is among the words."""
    return not _OWN_SIDES.isdisjoint(words.split())


_OWN_SIDES = frozenset({"left", "right"})
