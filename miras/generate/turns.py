"""The turns of an MRSeg dialogue, one after the other: each knows what the answers before it have shown.

The types of questions are SegLLM's (section 4.1 and A.5).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from miras.dialogue.records import TARGET_SLOT, Turn
from miras.generate import wording_mrseg as forms
from miras.generate.facts import Facts, are_single_objects, is_one_of_a_count, is_single_part
from miras.generate.language import is_plural, is_uncounted, listed, number, ordinal, plural
from miras.generate.names import is_person, names_a_side
from miras.generate.phrases import may_have_colour, tells_place, tells_relation
from miras.generate.predicates import Predicate
from miras.generate.relations import SpatialRelation, clearly, none_stands, relation_between
from miras.generate.speech import agreeing, plain_name, say
from miras.generate.view import RELATIONS, Thing, has_own_side
from miras.generate.wording import Forms
from miras.generate.wording_mrseg import Words
from miras.generate.wording_queries import (
    ABSENT_ANSWERS,
    SEMANTIC_ANSWERS_ONE,
    SEMANTIC_ANSWERS_SEVERAL,
    SEMANTIC_ANSWERS_UNCOUNTED,
)

_FREE_SHARE = 1 / 3  # of the later turns speak of no earlier one
_NAMED_SHARE = 0.5  # of the references name what they mean
_LATEST_SHARE = 0.5  # of the references are to the latest mask, where another one is there, too
_OBJECT_SHARE = 0.75  # of the direct questions are for whole objects: these have parts to go on with
_ABSENT_SHARE = 0.15  # of the questions are for what is not there
_OTHER_WORDS_SHARE = 0.5  # of the direct questions describe the region in other words than its phrase
_ANY_OBJECT_SHARE = 0.15  # of the positional questions are for "the object", where only one stands there
_COLOUR_SHARE = 0.3  # of them name the target's colour
_OPEN_SHARE = 0.5  # of the interactional questions do not name the class, where they can do without
_LINK_SHARE = 0.25  # of the later questions begin with "And", "Then", ...
_TRIES = 4  # per turn, before a dialogue ends


_PRONOUNS = frozenset({"it", "them"})
_THINGS = {"object": "object", "thing": "thing"}
_PARTICLE = re.compile(r"\b([Pp]ick|[Pp]oint|[Cc]ut|[Cc]olour) (out|in) (?:it|them)\b")


def make_turn(
    question: str,
    answer: str,
    *,
    targets: Sequence[Thing] = (),
    refers_to: tuple[int, ...] = (),
    points_at: tuple[str, ...] = (),
) -> Turn:
    """A turn of an MRSeg dialogue.

    Where a mask has to tell what is meant, the answer names the class alone: a full phrase ("the left red mug") would
    teach the mask decoder to read the words instead.
    """
    return Turn.model_construct(
        question=question,
        answer=answer,
        targets=tuple(thing.region_id for thing in targets),
        names=tuple(thing.category for thing in targets) if refers_to or points_at else (),
        refers_to=refers_to,
        points_at=points_at,
    )


@dataclass(frozen=True)
class _Reference:
    """An earlier target, as a question speaks of it."""

    turn: int
    thing: Thing
    text: str
    """ "the red mug", "it", "the object from your second answer"."""
    its: str
    """ "its", "their" or "this person's" where the text is a pronoun, else ""."""


class DialogueWriter:
    """Writes one dialogue, turn by turn.

    Args:
        facts: about the picture.
        words: one of the two sets of sentences.
        dice: chooses.
    """

    def __init__(self, facts: Facts, words: Words, dice: random.Random) -> None:
        self._facts = facts
        self._view = facts.view
        self._words = words
        self._dice = dice
        self._turns: list[Turn] = []
        self._shown: dict[int, Thing] = {}  # turn -> its target, where it has exactly one
        self._asked: set[str] = set()  # region ids of all targets so far

    def write(self, num_turns: int) -> tuple[Turn, ...]:
        """At most so many turns; none where the dice found no question about an earlier mask."""
        while len(self._turns) < num_turns:
            turn = self._next(must_refer=len(self._turns) == num_turns - 1 and not self._has_reference())
            if turn is None:
                break
            self._add(turn)
        return tuple(self._turns) if self._has_reference() else ()

    def write_pair(self, first: Thing, *, by_phrase: bool) -> tuple[Turn, ...]:
        """Two turns, for one of two things and for the other one.

        Args:
            first: the one that the first answer shows.
            by_phrase: whether the first question names it; else it leaves the choice to the answer.
        """
        if by_phrase:
            self._add(self.ask_for(first))
        else:
            either = self._dice.choice(self._words.either).format(nouns=plural(first.category))
            question = self._ask(either, noun=first.category, requests=self._words.commands)
            self._add(make_turn(question, self._answer([first]), targets=[first]))
        other = self._other()
        assert other is not None
        self._add(other)
        return tuple(self._turns)

    def write_relation(self, subject: Thing, predicate: Predicate, other: Thing, *, is_open: bool) -> tuple[Turn, ...]:
        """Two turns, for a thing and for the one that it stands in a stated relation to.

        Args:
            subject: a target.
            predicate: what it does with the other one.
            other: a target; the only one of its class that the subject does this with.
            is_open: whether the second question may leave out its class, because there is no other such thing at all.
        """
        self._add(self.ask_for(subject))
        reference = self._refer()
        is_many = is_plural(subject.category)
        clause = predicate.clause(is_many=is_many)
        if is_open and self._dice.random() < _OPEN_SHARE:
            slots = {"reference": reference.text, "clause": clause, "them": forms.pronouns(other.category)["them"]}
            asks = predicate.asks(reference.text, is_many=is_many)
            question = say(self._dice, self._words.interactional_open, asks=asks, **slots)
        else:
            form = self._dice.choice(self._words.interactional)
            what = form.format(noun=other.category, reference=reference.text, clause=clause)
            question = self._ask(what, noun=other.category)
        self._add(make_turn(question, self._answer([other]), targets=[other], refers_to=(0,)))
        return tuple(self._turns)

    def ask_for(self, thing: Thing, noun_phrase: str = "") -> Turn:
        """A direct question for one thing, by its phrase or by another noun phrase (with its article)."""
        what = noun_phrase or forms.DIRECT.format(noun=thing.phrase)
        return make_turn(self._ask(what, noun=thing.category), self._answer([thing]), targets=[thing])

    def _has_reference(self) -> bool:
        return any(turn.refers_to for turn in self._turns)

    def _add(self, turn: Turn) -> None:
        if len(turn.targets) == 1:
            self._shown[len(self._turns)] = self._facts.targets[turn.targets[0]]
        self._asked.update(turn.targets)
        self._turns.append(turn)

    def _next(self, *, must_refer: bool) -> Turn | None:
        asked = {turn.question for turn in self._turns}
        for _ in range(_TRIES):
            turn = self._maker(must_refer=must_refer)()
            if turn is not None and turn.question not in asked:
                return turn
        return None

    def _maker(self, *, must_refer: bool) -> Callable[[], Turn | None]:
        if self._shown and (must_refer or self._dice.random() >= _FREE_SHARE):
            makers = (self._positional, self._hierarchical, self._other, self._same)
            return self._dice.choices(makers, (45, 35, 10, 10))[0]
        return self._dice.choices((self._direct, self._every, self._absent), (70, 15, 15))[0]

    def _ask(self, what: str, *, noun: str, requests: Forms = (), link: str = "") -> str:
        """A request for `what`, which is one or several of the class `noun`."""
        if self._turns and not link and self._dice.random() < _LINK_SHARE:
            link = self._dice.choice(self._words.links)
        request = self._dice.choice(requests or self._words.requests)
        question = request.format(what=what, is_are="are" if is_plural(noun) else "is", **forms.pronouns(noun))
        if what in _PRONOUNS:
            question = _PARTICLE.sub(rf"\1 {what} \2", question)  # "pick it out", not "pick out it"
        if link and not question.startswith("I "):
            question = question[:1].lower() + question[1:]
        return f"{link} {question}" if link else question

    def _answer(self, things: Sequence[Thing]) -> str:
        if len(things) == 1:
            return self._dice.choice(forms.ANSWERS)
        slots = listed([f"the {TARGET_SLOT}"] * len(things)).removeprefix("the ")
        return say(self._dice, SEMANTIC_ANSWERS_SEVERAL, slots=slots, count=number(len(things)))

    def _new(self, things: Sequence[Thing]) -> bool:
        """Whether all of them may be asked for, and not all have been."""
        return self._facts.are_targets(things) and not self._asked.issuperset(thing.region_id for thing in things)

    # --- questions that speak of no earlier mask

    def _direct(self) -> Turn | None:
        targets = [
            thing
            for thing in self._facts.targets.values()
            if self._new([thing]) and not any(_belongs(thing, whole) for whole in self._shown.values())
        ]  # a part of what was shown is asked for with a reference
        wholes = [thing for thing in targets if thing.whole is None]
        if not targets:
            return None
        thing = self._dice.choice(wholes if wholes and self._dice.random() < _OBJECT_SHARE else targets)
        noun = thing.phrase
        if self._dice.random() < _OTHER_WORDS_SHARE:
            noun = self._dice.choice([noun, *filter(self._names_none_shown, self._facts.names(thing))])
        return self.ask_for(thing, forms.DIRECT.format(noun=noun))

    def _names_none_shown(self, name: str) -> bool:
        return not any(f"the {thing.category}" in name for thing in self._shown.values())

    def _every(self) -> Turn | None:
        noun = self._dice.choice(self._facts.objects).category
        things = self._facts.of_class[noun]
        if not self._new(things) or not self._facts.are_all(noun) or is_single_part(self._view, noun):
            return None
        if len(things) > 1:
            return make_turn(self._ask_for_all(noun), self._answer(things), targets=things)
        answers = SEMANTIC_ANSWERS_ONE if is_one_of_a_count(things[0]) else SEMANTIC_ANSWERS_UNCOUNTED
        return make_turn(self._ask_for_all(noun), say(self._dice, answers, slots=TARGET_SLOT), targets=things)

    def _ask_for_all(self, noun: str) -> str:
        form = forms.ALL_UNCOUNTED if is_uncounted(noun) else self._dice.choice(self._words.every)
        what = form.format(noun=noun, nouns=plural(noun))
        return self._ask(what, noun=plural(noun), requests=self._words.commands)

    def _absent(self) -> Turn | None:
        if not self._facts.absent:
            return None
        noun = self._dice.choice(self._dice.choice(self._facts.absent))
        if self._dice.random() < 0.5 or is_single_part(self._view, noun):
            question = self._ask(forms.DIRECT.format(noun=noun), noun=noun)
        else:
            question = self._ask_for_all(noun)
        is_are = "are" if is_plural(noun) else "is"
        return make_turn(question, say(self._dice, ABSENT_ANSWERS, noun=noun, is_are=is_are))

    # --- questions that do

    def _refer(self, turns: Sequence[int] = ()) -> _Reference:
        """One of these turns, of all with one target if none are given: named or pointed at."""
        turns = turns or list(self._shown)
        turn = turns[-1] if self._dice.random() < _LATEST_SHARE else self._dice.choice(turns)
        thing = self._shown[turn]
        if self._dice.random() < _NAMED_SHARE and not tells_relation(thing.phrase):
            return _Reference(turn, thing, f"the {thing.phrase}", "")
        if turn < len(self._turns) - 1 or self._dice.random() < 0.3:
            are_people = is_person(thing.class_name or thing.category)
            slots = dict.fromkeys(("object", "thing"), thing.category) if are_people else _THINGS
            text = self._dice.choice(self._words.earlier).format(ordinal=ordinal(turn + 1), **slots)
            return _Reference(turn, thing, text, "")
        form, words = self._dice.choice(self._words.latest), forms.pronouns(thing.category)
        return _Reference(turn, thing, form.format_map(words), words["its"] if form == forms.IT else "")

    def _positional(self) -> Turn | None:
        reference = self._refer()
        if self._dice.random() < _ABSENT_SHARE:
            return self._nothing_there(reference)
        for target in self._dice.sample(self._facts.objects, len(self._facts.objects)):
            relation = relation_between(target=target, reference=reference.thing)
            if relation == "same" or not self._new([target]) or _belongs(reference.thing, target):
                continue
            if relation == "overlap" and (target.is_class or reference.thing.is_class):
                continue  # their boxes overlap, they do not
            if not clearly(self._view, target, relation, reference.thing):
                continue
            for noun, rivals in self._nouns(target):
                others = [rival for rival in rivals if rival not in (target, reference.thing)]
                if none_stands(self._view, others, relation, reference.thing):
                    question = self._related(noun, relation, reference)
                    return make_turn(question, self._answer([target]), targets=[target], refers_to=(reference.turn,))
        return None

    def _nouns(self, target: Thing) -> Iterator[tuple[str, Sequence[Thing]]]:
        """What to call it, and what else is called so."""
        same_class = self._view.called(target.category)
        has_objects = self._view.shows_nothing_else and not any(
            thing.is_class or is_uncounted(thing.category) for thing in self._view.objects
        )
        if self._dice.random() < _ANY_OBJECT_SHARE and has_objects and not is_plural(target.category):
            yield "object", self._view.objects
        if target.colour and self._dice.random() < _COLOUR_SHARE:
            yield plain_name(target), [other for other in same_class if may_have_colour(other, target.colour)]
        yield target.category, same_class

    def _related(self, noun: str, relation: SpatialRelation, reference: _Reference) -> str:
        """A question for a thing of this name that stands in the relation to an earlier target."""
        what = self._dice.choice(self._words.relational).format(
            noun=noun,
            relation=self._relation_words(relation, noun, reference.thing),
            reference=reference.text,
            is_are="are" if is_plural(noun) else "is",
        )
        return self._ask(what, noun=noun)

    def _relation_words(self, relation: SpatialRelation, noun: str, anchor: Thing) -> str:
        sided = self._view.own_sides or names_a_side(noun) or has_own_side(anchor)
        return self._dice.choice((self._words.relations_in_picture if sided else self._words.relations)[relation])

    def _nothing_there(self, reference: _Reference) -> Turn | None:
        """A question for a thing of a class that is in the picture, but not on that side."""
        noun, relation = self._dice.choice(self._facts.objects).category, self._dice.choice(RELATIONS)
        if noun == reference.thing.category and tells_place(reference.thing.phrase):
            return None  # nobody looks for a mug left of the leftmost mug
        things = [thing for thing in self._view.called(noun) if thing is not reference.thing]
        if not self._view.are_all_outlined(noun):
            return None
        if not things or not none_stands(self._view, things, relation, reference.thing):
            return None
        answer = say(
            self._dice,
            forms.NOTHING_THERE,
            noun=noun,
            is_are="are" if is_plural(noun) else "is",
            relation=self._relation_words(relation, noun, reference.thing),
            reference=f"the {reference.thing.phrase}",
        )
        return make_turn(self._related(noun, relation, reference), answer, refers_to=(reference.turn,))

    def _hierarchical(self) -> Turn | None:
        turns = [turn for turn, thing in self._shown.items() if _own_parts(thing)]
        if not turns:
            return None
        reference = self._refer(turns)
        whole = reference.thing
        missing = self._facts.missing_parts(whole)
        if missing and self._dice.random() < _ABSENT_SHARE:
            name = self._dice.choice(missing)
            slots = {"whole": whole.phrase, "part": name, "has": "have" if is_plural(whole.category) else "has"}
            answer = say(self._dice, forms.NO_SUCH_PART, **slots, is_are="are" if is_plural(name) else "is")
            return make_turn(self._ask_for_part(name, reference), answer, refers_to=(reference.turn,))
        name = self._dice.choice(_own_parts(whole)).category
        things = [part for part in _own_parts(whole) if part.category == name]
        if not self._new(things):
            return None
        noun = plural(name) if len(things) > 1 and not is_uncounted(name) else name
        question = self._ask_for_part(noun, reference)
        return make_turn(question, self._answer(things), targets=things, refers_to=(reference.turn,))

    def _ask_for_part(self, noun: str, reference: _Reference) -> str:
        form = forms.ITS_PART if reference.its else self._dice.choice(self._words.hierarchical)
        what = form.format(part=noun, reference=reference.text, its=reference.its)
        return self._ask(what, noun=noun)

    def _other(self) -> Turn | None:
        turn, thing = self._dice.choice(list(self._shown.items()))
        others = [other for other in self._facts.pair_of(thing) if other is not thing]
        if not self._new(others):
            return None
        question = say(self._dice, agreeing(self._words.other, thing.category), noun=self._class_or_one(turn))
        return make_turn(question, self._answer(others), targets=others, refers_to=(turn,))

    def _same(self) -> Turn | None:
        reference = self._refer()
        thing = reference.thing
        if reference.turn == len(self._turns) - 1 and are_single_objects([thing]) and self._dice.random() < 0.5:
            forms_of_same = agreeing(self._words.same, thing.category)
            question = say(self._dice, forms_of_same, noun=self._class_or_one(reference.turn))
        else:
            link = self._dice.choice(self._words.again)
            question = self._ask(reference.text, noun=thing.category, requests=self._words.commands, link=link)
        return make_turn(question, self._answer([thing]), targets=[thing], refers_to=(reference.turn,))

    def _class_or_one(self, turn: int) -> str:
        is_latest = turn == len(self._turns) - 1
        return "one" if is_latest and self._dice.random() < 0.5 else self._shown[turn].category


def _own_parts(thing: Thing) -> list[Thing]:
    """Those that the source names; a person in a car is no part of it."""
    return [part for part in thing.parts if part.category and not part.inferred]


def _belongs(part: Thing, whole: Thing) -> bool:
    """Whether a thing is a part of another, or of a part of it."""
    return part.whole is not None and (part.whole is whole or _belongs(part.whole, whole))
