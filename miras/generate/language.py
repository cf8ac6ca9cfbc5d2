"""Small English: plurals, articles, lists, numbers."""

from __future__ import annotations

from collections.abc import Sequence

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_SAME_IN_PLURAL = frozenset({"fish", "sheep", "deer", "aircraft", "series", "species"})
_IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "mouse": "mice",
    "knife": "knives",
    "foot": "feet",
    "tooth": "teeth",
    "leaf": "leaves",
    "shelf": "shelves",
    "wife": "wives",
    "wolf": "wolves",
    "calf": "calves",
    "scarf": "scarves",
    "loaf": "loaves",
    "half": "halves",
    "goose": "geese",
    "ox": "oxen",
    "tomato": "tomatoes",
    "potato": "potatoes",
    "fireman": "firemen",
    "policeman": "policemen",
    "snowman": "snowmen",
}
_UNCOUNTED_LIST = """
    text grass water sky hair food skin snow sand mud dirt soil gravel ground vegetation foliage terrain sea ocean rice
    bread cereal broccoli spinach lettuce celery meat beef pork bacon ham cheese butter cream milk juice
    coffee tea beer wine pasta spaghetti salad soup sauce corn paper cardboard wood metal plastic concrete ice smoke
    steam fog fire luggage furniture clothing jewelry equipment machinery traffic wiring ketchup mustard salt sugar
    chocolate popcorn salsa guacamole honey jam fur wool silverware tableware scaffolding rubble seaweed
"""
_UNCOUNTED = frozenset(_UNCOUNTED_LIST.split())
_SINGULAR_IN_S_LIST = "bus minibus lens gas canvas tennis chassis cutlass atlas iris citrus hummus christmas"
_SINGULAR_IN_S = frozenset(_SINGULAR_IN_S_LIST.split())
_PAIR_LIST = """
trousers jeans pants shorts leggings tights stockings spectacles glasses sunglasses goggles scissors pliers tongs
"""
_PAIRS = frozenset(_PAIR_LIST.split())
_ONE_EVERYWHERE = frozenset({"sky", "ground", "sea", "ocean"})
# A mask of the whole class is one thing even where it is cut in pieces: the ground, and what a person wears one of.
_ONE_OF_ITS_KIND_LIST = """
    road street pavement sidewalk runway path track floor ceiling wall lawn field hill mountain river lake sea beach
    background court
    blazer blouse bodysuit bra cape cardigan coat dress hat hoodie jacket jumper necklace purse romper scarf shirt skirt
    suit sweater sweatshirt t-shirt tie top vest belt bag wallet watch swimwear underwear intimate
"""
_COMES_IN_SEVERAL = frozenset({"wheel", "tire", "tyre", "hubcap", "headlight", "taillight"})
_ONE_OF_ITS_KIND = frozenset(_ONE_OF_ITS_KIND_LIST.split())


def number(count: int) -> str:
    """A count in words up to twelve, in figures above."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def ordinal(position: int) -> str:
    """1 -> "first"; up to eight.

    Raises:
        IndexError: for more than eight.
    """
    return _ORDINALS[position - 1]


def is_plural(noun: str) -> bool:
    """Whether a noun names several things as it stands ("wheels", "petals"); a group of cars is one."""
    last = noun.split(" of ", 1)[0].rsplit(" ", 1)[-1]
    return last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in _SINGULAR_IN_S


def is_uncounted(noun: str) -> bool:
    """Whether one says "some grass", not "a grass"; the last word decides ("cat hair"), or that before "of"."""
    return noun.split(" of ", 1)[0].rsplit(" ", 1)[-1] in _UNCOUNTED


def comes_in_several(noun: str) -> bool:
    """Whether several pieces of one mask are several things: annotators outline all wheels of a car at once."""
    return noun.rsplit(" ", 1)[-1] in _COMES_IN_SEVERAL


def is_one_of_its_kind(noun: str) -> bool:
    """Whether several pieces of it are still one thing: the road behind a pole, a coat under a bag."""
    return noun.rsplit(" ", 1)[-1] in _ONE_OF_ITS_KIND


def plural(noun: str) -> str:
    """The plural of a noun; only its last word changes, or the one before "of" ("groups of cars")."""
    noun, of, rest = noun.partition(" of ")
    head, space, last = noun.rpartition(" ")
    return head + space + _plural_word(last) + of + rest


def _plural_word(word: str) -> str:
    if word in _SAME_IN_PLURAL or is_plural(word):
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def with_article(noun: str) -> str:
    """A noun phrase with "a" or "an"; none before a plural, "some" before what is not counted."""
    if noun in _ONE_EVERYWHERE:
        return f"the {noun}"
    if is_uncounted(noun):
        return f"some {noun}"
    if is_plural(noun.split(" saying ")[0]):
        return noun
    return ("an " if _begins_with_a_vowel(noun) else "a ") + noun


def _begins_with_a_vowel(noun: str) -> bool:
    return noun[:1].lower() in "aeiou" and not noun.lower().startswith(("uni", "use", "ute", "euro", "one"))


def counted(noun: str, count: int) -> str:
    """ "a mug", "three mugs", "two pairs of trousers"."""
    return with_article(noun) if count == 1 else f"{number(count)} {several(noun)}"


def several(noun: str) -> str:
    """The plural as it follows a number: "mugs", "pairs of trousers"."""
    return f"pairs of {noun}" if noun.rsplit(" ", 1)[-1] in _PAIRS else plural(noun)


def listed(items: Sequence[str], joint: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {joint} {items[-1]}"


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
