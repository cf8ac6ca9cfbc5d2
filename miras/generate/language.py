"""Small English: plurals, articles, lists, numbers."""

from __future__ import annotations

from collections.abc import Sequence

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_SAME_IN_PLURAL = frozenset({"fish", "sheep", "deer", "aircraft"})
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
}
_UNCOUNTED = frozenset({"text", "grass", "water", "sky", "hair", "food"})
_SINGULAR_IN_S = frozenset({"bus", "lens", "gas", "canvas", "tennis", "chassis"})


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
    """Whether a noun names several things as it stands ("wheels", "petals")."""
    last = noun.rsplit(" ", 1)[-1]
    return last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in _SINGULAR_IN_S


def is_uncounted(noun: str) -> bool:
    """Whether one says "some grass", not "a grass"."""
    return noun in _UNCOUNTED


def plural(noun: str) -> str:
    """The plural of a noun; only its last word changes."""
    head, space, last = noun.rpartition(" ")
    return head + space + _plural_word(last)


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
    if is_uncounted(noun):
        return f"some {noun}"
    if is_plural(noun.split(" of ")[0].split(" saying ")[0]):
        return noun
    return ("an " if noun[:1].lower() in "aeiou" else "a ") + noun


def counted(noun: str, count: int) -> str:
    """ "a mug", "three mugs"."""
    return with_article(noun) if count == 1 else f"{number(count)} {plural(noun)}"


def listed(items: Sequence[str], joint: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {joint} {items[-1]}"


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
