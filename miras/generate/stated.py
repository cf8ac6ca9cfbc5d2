"""MRSeg questions about what a source states: relations between regions, attributes, definitions of classes.

Source: SegLLM, section 4.1 and A.5 (Visual Genome's relationships, COCO's attributes).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from miras.dialogue.records import Turn
from miras.generate.facts import Facts, is_one_of_a_count
from miras.generate.language import is_uncounted
from miras.generate.phrases import may_have_colour
from miras.generate.predicates import Predicate, read_predicate
from miras.generate.turns import DialogueWriter
from miras.generate.view import Thing
from miras.generate.wording_mrseg import Words

MAX_RELATIONS = 4  # of a picture
MAX_ATTRIBUTES = 2  # of a picture (assumed): they have one turn, and the picture's other dialogues several
MIN_DEFINITION_WORDS = 4  # "a human being" fits too much (assumed)
MAX_DEFINITION_WORDS = 20  # a longer one is an article (assumed)


_NAMES = {"pattern_marking": "pattern"}  # PACO's names that nobody says


@dataclass(frozen=True)
class _Related:
    subject: Thing
    predicate: Predicate
    other: Thing
    is_open: bool
    """Whether the subject stands so to nothing else at all."""


def interactional_turns(facts: Facts, words: Words, dice: random.Random) -> list[tuple[Turn, ...]]:
    """Dialogues of two turns: for a thing, then for what it wears, holds, stands on, as the source states it.

    At most `MAX_RELATIONS`; a relation is left out where its two things cannot both be told from others by what is
    said, where one is a part of the other, or where its predicate makes no sentence.
    """
    found = list(_relations(facts))
    chosen = dice.sample(found, min(MAX_RELATIONS, len(found)))
    return [
        DialogueWriter(facts, words, dice).write_relation(
            related.subject, related.predicate, related.other, is_open=related.is_open
        )
        for related in chosen
    ]


def _relations(facts: Facts) -> Iterator[_Related]:
    for subject in facts.targets.values():
        sound = [
            (predicate, facts.things[object_id])
            for text, object_id in subject.relations
            if object_id in facts.things and (predicate := read_predicate(text)) is not None
        ]
        for predicate, other in sound:
            same = [thing for stated, thing in sound if stated == predicate]
            alike = [thing for thing in same if thing in facts.view.called(other.category)]
            is_family = subject in (other, other.whole) or other is subject.whole
            if alike == [other] and other.region_id in facts.targets and not is_family and not other.is_group:
                yield _Related(subject, predicate, other, is_open=same == [other])


def attribute_turns(facts: Facts, words: Words, dice: random.Random) -> list[tuple[Turn, ...]]:
    """Dialogues of one turn: for the one thing of its class that has a stated attribute, or fits a definition.

    At most `MAX_ATTRIBUTES`, of different things.
    """
    things = [
        thing
        for thing in facts.targets.values()
        if thing.whole is None and is_one_of_a_count(thing) and facts.view.are_all_outlined(thing.category)
    ]
    written: list[tuple[Turn, ...]] = []
    for thing in dice.sample(things, len(things)):
        phrases = [*_by_attribute(facts, thing, words), *_by_definition(facts, thing, words)]
        if phrases and len(written) < MAX_ATTRIBUTES:
            written.append((DialogueWriter(facts, words, dice).ask_for(thing, dice.choice(phrases)),))
    return written


def _by_attribute(facts: Facts, thing: Thing, words: Words) -> Iterator[str]:
    rivals = [other for other in facts.view.called(thing.category) if other is not thing]
    if not rivals:
        return  # "the mug made of wood" says no more than "the mug"
    for name, value in _stated(thing).items():
        if all(_differs(other, name, value) for other in rivals):
            for clause in words.attribute_clauses.get(name, words.attribute_clauses[""]):
                filled = clause.format(name=_NAMES.get(name, name.replace("_", " ")), value=value)
                yield from (form.format(noun=thing.category, clause=filled) for form in words.attribute)


def _stated(thing: Thing) -> dict[str, str]:
    named = {"colour": thing.colour, "text": thing.text}
    return {**{name: value for name, value in named.items() if value}, **_single(thing.attributes)}


def _single(attributes: Mapping[str, str]) -> dict[str, str]:
    """Those with one value; "wood, metal" would need its own sentence."""
    return {name: value for name, value in attributes.items() if "," not in value}


def _differs(other: Thing, name: str, value: str) -> bool:
    """Whether another thing surely does not have this value: it states a different one."""
    if name == "colour":
        return not may_have_colour(other, value)
    if name == "text":
        return other.text not in ("", value)
    stated = other.attributes.get(name, "")
    return bool(stated) and value not in [each.strip() for each in stated.split(",")]


def _by_definition(facts: Facts, thing: Thing, words: Words) -> list[str]:
    """For the only thing of its class."""
    definition = thing.definition
    fits = MIN_DEFINITION_WORDS <= len(definition.split()) <= MAX_DEFINITION_WORDS and '"' not in definition
    is_single = len(facts.view.called(thing.category)) == 1 and not is_uncounted(thing.category)
    if not fits or not is_single or thing.category.lower() in definition.lower():
        return []
    return [form.format(definition=definition) for form in words.defined]
