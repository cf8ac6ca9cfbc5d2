"""MRSeg dialogues: several masks in a row, and questions that speak of earlier ones (SegLLM, section 4.1 and A.5).

Five kinds, told by their ids:

- `<image_id>-mrseg-<n>`: 2 to 6 turns. Direct questions, questions for what stands in a relation to an earlier
  target, for its parts, for all of a class, for the other one of two, for the same one again, and for what is not
  there. Half of the references name the earlier target, half only point ("it", "the object from your second answer").
- `<image_id>-hard-other-<n>`: one turn in which the person points at one of two things of a class and asks for
  the other one. Both ways round the question reads the same, so that the mask alone can tell.
- `<image_id>-hard-same-<n>`: the same with "this one": the answer is the mask that was given.
- `<image_id>-interactional-<n>`: 2 turns, for a thing and for what it wears, holds, stands on ..., where the source
  states how things stand to each other (Visual Genome).
- `<image_id>-attribute-<n>`: one turn, for the one thing of its class with an attribute that the source states, or for
  the one thing that fits a definition; of kind "referring", as it speaks of no mask.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from miras.dialogue.records import Dialogue, Turn
from miras.generate import wording_mrseg as forms
from miras.generate.config import Wording
from miras.generate.facts import Facts, are_single_objects
from miras.generate.speech import agreeing, say
from miras.generate.stated import attribute_turns, interactional_turns
from miras.generate.turns import DialogueWriter, make_turn
from miras.generate.view import Thing, View
from miras.generate.wording import Forms

MIN_TURNS, MAX_TURNS = 2, 6  # the public recipe trains on at most six rounds


def mrseg_dialogues(
    view: View,
    image_id: str,
    dice: random.Random,
    *,
    count: int,
    pairs: int,
    classes: Sequence[str],
    parts: Mapping[str, frozenset[str]],
    wording: Wording,
) -> list[Dialogue]:
    """Dialogues of kind "mrseg", and attribute questions, about one picture; a poor one allows fewer than asked for.

    Args:
        view: the picture.
        image_id: its id.
        dice: chooses.
        count: dialogues of several turns; every one has at least one question about an earlier mask. Where it is not
            0, up to four interactional dialogues and two with attributes come on top of it.
        pairs: groups of things of one class that are asked about with "the other one" and "this one". Two of a
            class give two hard-other, two hard-same and two dialogues of two turns; more of a class give two
            hard-same.
        classes: classes of objects that are absent where the picture shows none, for questions about what is not
            there (`facts.absent_classes` says which ones may be given).
        parts: class -> names of parts that the data set has on it, for the same; a class without an entry is not
            said to lack any part.
        wording: the set of sentences.
    """
    facts, words = Facts(view, classes, parts), forms.WORDS[wording]
    if not facts.objects:
        return []
    written: list[tuple[Turn, ...]] = []
    for _ in range(2 * count):
        if len(written) == count:
            break
        turns = DialogueWriter(facts, words, dice).write(dice.randint(MIN_TURNS, MAX_TURNS))
        if turns and turns not in written:
            written.append(turns)
    others: list[Turn] = []
    same: list[Turn] = []
    for group in _hard_groups(facts, pairs, dice):
        first, second = dice.sample([thing for thing in group if thing.region_id in facts.targets], 2)
        same += _hard_turns(words.same, {first: first, second: second}, dice)
        if facts.pair_of(first):
            others += _hard_turns(words.other, {first: second, second: first}, dice)
            written.append(DialogueWriter(facts, words, dice).write_pair(first, by_phrase=True))
            written.append(DialogueWriter(facts, words, dice).write_pair(second, by_phrase=False))
    dialogues: dict[str, Sequence[tuple[Turn, ...]]] = {
        "mrseg": written,
        "hard-other": [(turn,) for turn in others],
        "hard-same": [(turn,) for turn in same],
        "interactional": interactional_turns(facts, words, dice) if count else [],
        "attribute": attribute_turns(facts, words, dice) if count else [],
    }
    return [
        Dialogue.model_construct(
            dialogue_id=f"{image_id}-{name}-{index}",
            image_id=image_id,
            kind="referring" if name == "attribute" else "mrseg",
            focus=_last_target(facts, turns).phrase,
            turns=turns,
        )
        for name, of_name in dialogues.items()
        for index, turns in enumerate(of_name)
    ]


def _last_target(facts: Facts, turns: Sequence[Turn]) -> Thing:
    return next(facts.targets[turn.targets[0]] for turn in reversed(turns) if turn.targets)


# --- hard pairs


def _hard_groups(facts: Facts, count: int, dice: random.Random) -> list[list[Thing]]:
    """Classes with at least two objects that may be targets, pairs first: all things of each."""
    groups = [
        group
        for group in facts.of_class.values()
        if are_single_objects(group) and sum(thing.region_id in facts.targets for thing in group) > 1
    ]
    dice.shuffle(groups)
    return sorted(groups, key=lambda group: not facts.pair_of(group[0]))[:count]


def _hard_turns(questions: Forms, target_of: Mapping[Thing, Thing], dice: random.Random) -> list[Turn]:
    """A turn for each thing pointed at; one question for all, so that words cannot tell them apart."""
    noun = next(iter(target_of)).category
    question = say(dice, agreeing(questions, noun), noun=noun)
    return [
        make_turn(question, dice.choice(forms.ANSWERS), targets=[target], points_at=(shown.region_id,))
        for shown, target in target_of.items()
    ]
