"""Phrases that identify regions: the shortest noun phrase that fits exactly one thing in its picture.

Works for any source: rendered scenes with colours and lettering, or annotation files with class names
only. Where class names speak of left or right themselves ("front left light": the car's own left),
positions say "in the picture".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from miras.dialogue.records import Region
from miras.generate.language import ordinal
from miras.generate.view import Extreme, Relation, Thing, View, extreme_of, stands, view_of

_PAIR: dict[Extreme, str] = {
    "left": "left",
    "right": "right",
    "top": "upper",
    "bottom": "lower",
    "large": "larger",
    "small": "smaller",
}
_MANY: dict[Extreme, str] = {
    "left": "leftmost",
    "right": "rightmost",
    "top": "topmost",
    "bottom": "lowest",
    "large": "largest",
    "small": "smallest",
}
EXTREME_WORDS: dict[Extreme, frozenset[str]] = {which: frozenset({_PAIR[which], _MANY[which]}) for which in _PAIR}
_RELATED: dict[Relation, str] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}
_LIES_ON = frozenset({"text", "label", "logo", "writing"})
_OWN_SIDES = frozenset({"left", "right", "front", "back", "rear"})


def identify(regions: Iterable[Region]) -> dict[str, str]:
    """A phrase for every region that words can single out within its picture.

    Args:
        regions: all regions of ONE picture; their phrases are ignored.

    Returns:
        region id -> phrase without article, unique within the picture. A region that is missing cannot be
        told apart from another one (or has no mask, or is a part of such a one): it must not be a target.
    """
    view = view_of(regions)
    phrases: dict[str, str] = {}
    taken: set[str] = set()
    for thing in _wholes_first(view):
        phrase = next((words for words in descriptions(view, thing, phrases) if words not in taken), None)
        if phrase is not None:
            phrases[thing.region_id] = phrase
            taken.add(phrase)
    return phrases


def descriptions(view: View, thing: Thing, phrases: dict[str, str]) -> Iterator[str]:
    """Every phrase of ours that fits this thing and no other one of its picture, shortest first.

    Args:
        view: the picture.
        thing: one of its things.
        phrases: of wholes, which descriptions of parts are built on (region id -> phrase).
    """
    if thing.whole is None or thing.inferred:
        rivals = [other for other in view.things if other.category == thing.category]
        yield from unique_nouns(view, thing, rivals)
    if thing.whole is None:
        yield from _related(view, thing, rivals)
        return
    whole = phrases.get(thing.whole.region_id)
    if whole is None:
        return
    siblings = [other for other in thing.whole.parts if other.category == thing.category]
    link = "on" if thing.inferred or thing.category in _LIES_ON else "of"
    for noun in unique_nouns(view, thing, siblings):
        yield f"{noun} {link} the {whole}"


def unique_nouns(view: View, thing: Thing, rivals: Sequence[Thing]) -> Iterator[str]:
    """Class name with colour, lettering, place or size, where that singles the thing out among rivals.

    Args:
        view: the picture.
        thing: what is described.
        rivals: things of the same class, itself among them.
    """
    coloured = f"{thing.colour} {thing.category}".strip()
    same_colour = [other for other in rivals if other.colour == thing.colour]
    if len(rivals) == 1:
        yield thing.category
    if thing.colour and len(same_colour) == 1:
        yield coloured
    if thing.text and sum(other.text == thing.text for other in rivals) == 1 and thing.category != "text":
        yield f'{thing.category} saying "{thing.text}"'
    if len(rivals) > 1:
        yield from _by_extreme(view, thing, rivals, thing.category)
    if thing.colour and 1 < len(same_colour) < len(rivals):
        yield from _by_extreme(view, thing, same_colour, coloured)
    if len(rivals) > 2:
        yield from _by_order(view, thing, rivals)


def _by_extreme(view: View, thing: Thing, rivals: Sequence[Thing], noun: str) -> Iterator[str]:
    words = _PAIR if len(rivals) == 2 else _MANY
    ending = " in the picture" if _speaks_of_own_sides(view) else ""
    for which, word in words.items():
        if extreme_of(view, rivals, which) is thing:
            yield f"{word} {noun}{ending if which not in ('large', 'small') else ''}"


def _by_order(view: View, thing: Thing, rivals: Sequence[Thing]) -> Iterator[str]:
    """ "second mug from the left", where the whole row is in clear order."""
    row = sorted(rivals, key=lambda other: other.x)
    if len(row) > 8 or any(extreme_of(view, pair, "left") is not pair[0] for pair in pairwise(row)):
        return
    position = row.index(thing)
    if position == (len(row) - 1) / 2:
        yield f"middle {thing.category}" + (" in the picture" if _speaks_of_own_sides(view) else "")
    ending = " of the picture" if _speaks_of_own_sides(view) else ""
    if position <= len(row) // 2:
        yield f"{ordinal(position + 1)} {thing.category} from the left{ending}"
    else:
        yield f"{ordinal(len(row) - position)} {thing.category} from the right{ending}"


def _related(view: View, thing: Thing, rivals: Sequence[Thing]) -> Iterator[str]:
    """ "mug to the left of the clock", where the clock is the only one of its class."""
    for anchor in view.objects:
        if any(other.category == anchor.category for other in view.things if other is not anchor):
            continue
        for relation, words in _RELATED.items():
            verdicts = [stands(view, other, relation, anchor) for other in rivals]
            if None not in verdicts and verdicts.count(True) == 1 and verdicts[rivals.index(thing)]:
                yield f"{thing.category} {words} the {anchor.category}"


def _speaks_of_own_sides(view: View) -> bool:
    return any(_OWN_SIDES.intersection(thing.category.split()) for thing in view.things)


def _wholes_first(view: View) -> list[Thing]:
    ordered = list(view.objects)
    for thing in ordered:  # grows while it is read: parts follow their wholes
        ordered.extend(thing.parts)
    return ordered
