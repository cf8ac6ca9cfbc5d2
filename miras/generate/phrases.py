"""Phrases that identify regions: the shortest noun phrase that fits exactly one thing in its picture.

Works for any source: rendered scenes with colours and lettering, or annotation files with class names
only. Where class names speak of left or right themselves ("front left light": the car's own left),
positions say "in the picture". A colour tells a thing apart only where every other one has a stated, different colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from miras.dialogue.records import Region
from miras.generate.language import ordinal
from miras.generate.names import is_person
from miras.generate.view import Extreme, Relation, Thing, View, extreme_of, has_own_side, stands, view_of

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
PLACE_WORDS = frozenset(word for which in ("left", "right", "top", "bottom") for word in (_PAIR[which], _MANY[which]))
EXTREME_WORDS: dict[Extreme, frozenset[str]] = {which: frozenset({_PAIR[which], _MANY[which]}) for which in _PAIR}
_RELATED: dict[Relation, str] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}
_RELATED_IN_PICTURE: dict[Relation, str] = {
    **_RELATED,
    "left": "further left in the picture than",
    "right": "further right in the picture than",
}  # where things have a left and right of their own
_LIES_ON = frozenset({"text", "label", "logo", "writing"})
IN_PICTURE = " in the picture"
_SIDE_WORDS = frozenset({"left", "right", "leftmost", "rightmost"})
_SHADES = frozenset({"and", "light", "dark", "pale", "bright", "deep"})


def identify(regions: Iterable[Region]) -> dict[str, str]:
    """A phrase for every region that words can single out within its picture.

    Args:
        regions: all regions of ONE picture; their phrases are ignored.

    Returns:
        region id -> phrase without article, unique within the picture. A region that is missing cannot be
        told apart from another one, outlined or not (or has no mask, or is a part of such a one): it must not be a
        target.
    """
    view = view_of(regions)
    phrases: dict[str, str] = {}
    taken: set[str] = set()
    for thing in _wholes_first(view):
        if thing.others == "yes":
            continue
        phrase = next((words for words in descriptions(view, thing, phrases) if words not in taken), None)
        if phrase is not None:
            phrases[thing.region_id] = phrase
            taken.add(phrase)
    return phrases


def descriptions(view: View, thing: Thing, phrases: Mapping[str, str]) -> Iterator[str]:
    """Every phrase of ours that fits this thing and no other one of its picture, shortest first.

    Args:
        view: the picture.
        thing: one of its things.
        phrases: of wholes, which descriptions of parts are built on (region id -> phrase).
    """
    if thing.whole is None or thing.inferred:
        rivals = view.called(thing.category)
        yield from unique_nouns(view, thing, rivals, ending=IN_PICTURE if view.own_sides else "")
    if thing.whole is None:
        yield from _related(view, thing, rivals)
        return
    whole = phrases.get(thing.whole.region_id)
    if whole is None:
        return
    siblings = [other for other in thing.whole.parts if other.category == thing.category]
    lies_on = thing.inferred and not is_person(thing.whole.category)  # "cup on the table", "cup of the left person"
    link = "on" if lies_on or thing.category in _LIES_ON else "of"
    for noun in unique_nouns(view, thing, siblings):
        words = f"{noun} {link} the {whole}"
        yield words + (IN_PICTURE if _mixes_sides(thing, noun, whole) else "")


def _mixes_sides(part: Thing, noun: str, whole: str) -> bool:
    """Whether a left or right of the picture would be taken for the thing's own: "left ear of the right dog"."""
    assert part.whole is not None
    if IN_PICTURE in whole or not any(has_own_side(sibling) for sibling in part.whole.parts):
        return False
    said, said_of_whole = (
        _SIDE_WORDS.intersection(words.replace(own, "").split())
        for words, own in ((noun, part.category), (whole, part.whole.category))
    )
    return bool(said) or (has_own_side(part) and bool(said_of_whole))


def unique_nouns(view: View, thing: Thing, rivals: Sequence[Thing], *, ending: str = "") -> Iterator[str]:
    """Class name with colour, lettering, place or size, where that singles the thing out among rivals.

    Args:
        view: the picture.
        thing: what is described.
        rivals: things that the class name may be said of, itself among them.
        ending: follows places in the picture.
    """
    coloured = f"{thing.colour} {thing.category}"
    same_colour = [other for other in rivals if may_have_colour(other, thing.colour)] if thing.colour else []
    if len(rivals) == 1:
        yield thing.category
    if len(same_colour) == 1:
        yield coloured
    if thing.text and sum(other.text == thing.text for other in rivals) == 1 and thing.category != "text":
        yield f'{thing.category} saying "{thing.text}"'
    if len(rivals) > 1:
        yield from _by_extreme(view, thing, rivals, thing.category, ending)
    if 1 < len(same_colour) < len(rivals) and all(other.colour == thing.colour for other in same_colour):
        yield from _by_extreme(view, thing, same_colour, coloured, ending)
    if len(rivals) > 2:
        yield from _by_order(view, thing, rivals, ending)


def may_have_colour(thing: Thing, colour: str) -> bool:
    """Whether people may call a thing so: its colour is not known, is this one, a shade of it, or has it in it."""
    if not thing.colour or thing.colour == colour:
        return True
    return not _hues(thing.colour).isdisjoint(_hues(colour))


def tells_place(phrase: str) -> bool:
    """Whether a phrase of ours says where its thing is among others of its class."""
    return not PLACE_WORDS.isdisjoint(phrase.split()) or " from the " in phrase


def tells_relation(phrase: str) -> bool:
    """Whether a phrase of ours names another thing that its thing is beside, so that it says too much for an anchor."""
    return any(f" {words} the " in phrase for words in (*_RELATED.values(), *_RELATED_IN_PICTURE.values()))


def _hues(colour: str) -> set[str]:
    return set(colour.replace("-", " ").replace(",", " ").split()) - _SHADES


def _by_extreme(view: View, thing: Thing, rivals: Sequence[Thing], noun: str, ending: str) -> Iterator[str]:
    words = _PAIR if len(rivals) == 2 else _MANY
    for which, word in words.items():
        if extreme_of(view, rivals, which) is thing:
            yield f"{word} {noun}{ending if which not in ('large', 'small') else ''}"


def _by_order(view: View, thing: Thing, rivals: Sequence[Thing], ending: str) -> Iterator[str]:
    """ "second mug from the left", where the whole row is in clear order, whichever edges one goes by.

    Nothing for the ends of the row, which are the leftmost and the rightmost one.
    """
    row = sorted(rivals, key=lambda other: other.x)
    if len(row) > 8 or not all(_side_by_side(view, pair) for pair in pairwise(row)):
        return
    before, behind = row.index(thing), len(row) - 1 - row.index(thing)
    if 0 in (before, behind):
        return
    if before == behind:
        yield f"middle {thing.category}{ending}"
    elif before < behind:
        yield f"{ordinal(before + 1)} {thing.category} from the left{ending}"
    else:
        yield f"{ordinal(behind + 1)} {thing.category} from the right{ending}"


def _side_by_side(view: View, pair: tuple[Thing, Thing]) -> bool:
    return extreme_of(view, pair, "left") is pair[0] and extreme_of(view, pair, "right") is pair[1]


def _related(view: View, thing: Thing, rivals: Sequence[Thing]) -> Iterator[str]:
    """ "mug to the left of the clock", where the clock is the only one of its class."""
    related = _RELATED_IN_PICTURE if view.own_sides else _RELATED
    for anchor in view.objects:
        if anchor in rivals or len(view.called(anchor.category)) > 1 or not anchor.category:
            continue
        if anchor.others == "yes":
            continue
        for relation, words in related.items():
            verdicts = [stands(view, other, relation, anchor) for other in rivals]
            if None not in verdicts and verdicts.count(True) == 1 and verdicts[rivals.index(thing)]:
                yield f"{thing.category} {words} the {anchor.category}"


def _wholes_first(view: View) -> list[Thing]:
    ordered = list(view.objects)
    for thing in ordered:  # grows while it is read: parts follow their wholes
        ordered.extend(thing.parts)
    return ordered
