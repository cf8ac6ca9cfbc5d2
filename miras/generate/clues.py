"""Clues: what the questions of a dialogue assert about their target, and the check that they lead to it.

A dialogue's questions are a list of clues. Folding them over the picture's objects must end at the target
alone: then the target follows from the picture and the questions, whatever was answered in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from miras.generate.knowledge import USES, all_known, fits
from miras.generate.names import may_be_called
from miras.generate.phrases import may_have_colour
from miras.generate.view import Extreme, Relation, Thing, View, extreme_of, stands

ClueKind = Literal["category", "use", "colour", "text", "extreme", "relation", "part"]
CLUE_KINDS: tuple[ClueKind, ...] = get_args(ClueKind)
_USES = {use.name: use for use in USES}


@dataclass(frozen=True, slots=True)
class Clue:
    """One constraint that a question puts on what is meant."""

    kind: ClueKind
    value: str
    """Class, name of a use, colour, lettering, extreme, relation, or class of a part."""
    anchor: str = ""
    """relation: region id of the thing it is measured from."""


def narrow(view: View, things: Sequence[Thing], clue: Clue) -> list[Thing] | None:
    """The things a clue leaves (for "part": their parts it names).

    Returns:
        None where the clue is too close to call for one of the things: then it must not be asked.
    """
    match clue.kind:
        case "category":
            return _named(view, things, clue.value)
        case "use":
            return _fitting(view, things, clue.value)
        case "colour":
            left = [thing for thing in things if may_have_colour(thing, clue.value)]
            return left if all(thing.colour == clue.value for thing in left) else None
        case "text":
            return [thing for thing in things if thing.text == clue.value]
        case "extreme":
            best = extreme_of(view, things, cast(Extreme, clue.value))
            return None if best is None else [best]
        case "relation":
            return _related(view, things, clue)
        case "part":
            return [part for thing in things for part in thing.parts if part.category == clue.value]


def _fitting(view: View, things: Sequence[Thing], use: str) -> list[Thing] | None:
    """None where a class is unknown, or where something else might be as good: not outlined, or within an object."""
    candidates = view.wholes if _is_whole_scene(view, things) else things
    if not view.is_exhaustive or not all_known(thing.category for thing in candidates):
        return None
    left = [thing for thing in candidates if fits(_USES[use], thing.category)]
    return left if all(thing in things for thing in left) else None


def _named(view: View, things: Sequence[Thing], noun: str) -> list[Thing] | None:
    """None where something of another class may be called so, too (a teddy bear beside a bear), or a part, or a thing
    that lies within an object."""
    candidates = view.things if _is_whole_scene(view, things) else things
    left = [thing for thing in things if thing.category == noun]
    return left if all(thing in left or not may_be_called(thing.category, noun) for thing in candidates) else None


def _is_whole_scene(view: View, things: Sequence[Thing]) -> bool:
    return len(things) == len(view.objects)


def _related(view: View, things: Sequence[Thing], clue: Clue) -> list[Thing] | None:
    anchor = next(thing for thing in view.things if thing.region_id == clue.anchor)
    verdicts = [stands(view, thing, cast(Relation, clue.value), anchor) for thing in things]
    if None in verdicts:
        return None
    return [thing for thing, verdict in zip(things, verdicts, strict=True) if verdict]


def follow(view: View, clues: Sequence[Clue]) -> list[Thing] | None:
    """What remains of the picture's objects after all clues; None where one is too close to call."""
    remaining: list[Thing] | None = list(view.objects)
    for clue in clues:
        if remaining is None:
            return None
        remaining = narrow(view, remaining, clue)
    return remaining


def lead_to(view: View, clues: Sequence[Clue], region_id: str) -> bool:
    """Whether the clues single out exactly this region."""
    remaining = follow(view, clues)
    return remaining is not None and [thing.region_id for thing in remaining] == [region_id]
