"""The text turns of one path of a reasoning tree: its clues as questions, and turns that stay with a find."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from miras.generate import wording, wording_cases
from miras.generate.clues import Clue
from miras.generate.knowledge import PART_USES, USES
from miras.generate.language import is_plural, is_uncounted, listed, number, plural, with_article
from miras.generate.names import is_alive, is_person, names_a_side
from miras.generate.phrases import IN_PICTURE, tells_place, tells_relation
from miras.generate.speech import (
    agreeing,
    ask,
    group,
    inventory,
    plain_name,
    pronouns,
    relation_words,
    say,
    without_counts,
)
from miras.generate.tree import Node
from miras.generate.view import (
    RELATIONS,
    Extreme,
    Relation,
    Thing,
    View,
    extreme_of,
    has_own_side,
    place,
    place_in_whole,
    stands,
)

_CLAUSES = {use.name: use.clauses for use in USES}
_TURN_WEIGHTS = {3: 12, 4: 50, 5: 24, 6: 9, 7: 5}  # PRIST: mean 3.9 in its test file, up to 7
_LINK_SHARE = 0.3  # of the later questions begin with "And", "Now", ...
_PART_BY_USE_SHARE = 0.65  # of the questions for a part of known use; the others name the part
_WORDS_OF_PLACE = {
    "left": frozenset({"left"}),
    "right": frozenset({"right"}),
    "top": frozenset({"top", "upper"}),
    "bottom": frozenset({"bottom", "lower"}),
}  # as `place` says them

QuestionAnswer = tuple[str, str]


def own_parts(thing: Thing) -> list[Thing]:
    """Those that the source names; a person in a car is no part of it."""
    return [part for part in thing.parts if not part.inferred]


@dataclass(frozen=True, eq=False)
class _Filler:
    """A turn that adds no clue."""

    write: Callable[[], QuestionAnswer]
    names_subject: bool = True
    """Whether its answer is fit to be the last before the request: it names what was found in full."""
    is_place: bool = False
    """Whether it asks where the object is."""


class PathWriter:
    """Writes the turns of one path, the request left out.

    Args:
        view: the picture.
        leaf: the path's end, where its target alone is left.
        dice: chooses the words and the length.
    """

    def __init__(self, view: View, leaf: Node, dice: random.Random) -> None:
        self._view = view
        self._chain = leaf.chain()
        self._dice = dice
        self._turn = 0
        self._is_last = False
        self._asked_clauses: set[str] = set()

    def write(self, min_turns: int, max_turns: int) -> list[QuestionAnswer]:
        """Questions and answers; the last answer states the target's phrase.

        Args:
            min_turns: of the whole dialogue, the request included; at most 5 can be promised.
            max_turns: likewise; larger than the number of the path's clues.
        """
        plan = self._plan(self._text_turns(min_turns, max_turns))
        written = []
        for self._turn, write in enumerate(plan):
            self._is_last = self._turn == len(plan) - 1
            written.append(write())
        return written

    def _text_turns(self, min_turns: int, max_turns: int) -> int:
        lengths = range(max(min_turns, len(self._chain) + 1), max_turns + 1)
        return self._dice.choices(lengths, [_TURN_WEIGHTS.get(length, 1) for length in lengths])[0] - 1

    def _plan(self, wanted: int) -> list[Callable[[], QuestionAnswer]]:
        """The writers in order: scene, clues to the object, more on it, clues to the part, more on that."""
        found = 1 + next(index for index, node in enumerate(self._chain) if len(node.things) == 1)
        opener, recap = _Filler(self._overview), _Filler(self._recap)
        middle = self._on_object(self._chain[found - 1].things[0])
        end = self._on_part(self._chain[-1].things[0]) if len(self._chain) > found else []
        chosen = self._choose([opener, recap, *middle, *end], wanted - len(self._chain))
        clues = [_Filler(lambda node=node: self._clue(node)) for node in self._chain]  # type: ignore[misc]
        turns = [
            *(turn for turn in [opener] if turn in chosen),
            *clues[:found],
            *(turn for turn in middle if turn in chosen),
            *clues[found:],
            *(turn for turn in end if turn in chosen),
            *(turn for turn in [recap] if turn in chosen),
        ]
        if not turns[-1].names_subject:
            turns[-1] = recap
        return [turn.write for turn in turns]

    def _choose(self, pool: list[_Filler], count: int) -> list[_Filler]:
        """`count` of them, or all; where the clues have asked for the place, it is only asked again at need."""
        asked = any(node.clue is not None and node.clue.kind == "category" for node in self._chain)
        fresh = [filler for filler in pool if not (asked and filler.is_place)]
        if len(fresh) >= count:
            pool = fresh
        return self._dice.sample(pool, min(len(pool), count))

    def _on_object(self, thing: Thing) -> list[_Filler]:
        told = {node.clue.kind for node in self._chain if node.clue is not None}
        fillers = []
        parts = own_parts(thing)
        if is_plural(thing.category) or is_person(thing.category):  # these questions say "it"
            return [_Filler(lambda: self._place(thing), is_place=True)]
        if thing.colour and "colour" not in told:
            fillers.append(_Filler(lambda: self._colour(thing), names_subject=False))
        if thing.text and "text" not in told:
            fillers.append(_Filler(lambda: self._text(thing), names_subject=False))
        if len(parts) > 1:
            fillers.append(_Filler(lambda: self._parts(thing), names_subject=False))
        if self._size(thing):
            fillers.append(_Filler(lambda: self._compare_size(thing)))
        if (found := self._clear_relation(thing)) is not None:
            fillers.append(_Filler(lambda: self._side_of(thing, *found)))
        return [*fillers, _Filler(lambda: self._place(thing), is_place=True)]

    def _on_part(self, part: Thing) -> list[_Filler]:
        fillers = [] if self._side_of_whole(part) is None else [_Filler(lambda: self._side(part))]
        fillers.append(_Filler(lambda: self._place(part), is_place=True))
        if self._part_clauses(part):
            fillers.append(_Filler(lambda: self._purpose(part)))
        return fillers

    # --- clues

    def _clue(self, node: Node) -> QuestionAnswer:
        assert node.clue is not None
        assert node.parent is not None
        match node.clue.kind:
            case "use":
                return self._use(node.things, node.clue)
            case "category":
                return self._category(node.things, opening=node.parent.clue is None)
            case "part":
                return self._part(node.things)
            case _:
                return self._telling(node.parent.things, node.things, node.clue)

    def _use(self, things: list[Thing], clue: Clue) -> QuestionAnswer:
        clause = self._dice.choice(_CLAUSES[clue.value])
        are_people = all(is_person(thing.category) for thing in things)
        if len(things) > 1:
            questions = wording_cases.WHO_SEVERAL if are_people else wording.USE_SEVERAL
            return self._several(wording.SEVERAL_ANSWERS, things, self._ask(questions, clause=clause))
        answer = self._one(wording.USE_ONE_ANSWERS, things[0], clause=clause)
        return self._ask(wording_cases.WHO_ONE if are_people else wording.USE_ONE, clause=clause), answer

    def _category(self, things: list[Thing], *, opening: bool) -> QuestionAnswer:
        noun = things[0].category
        words = {"noun": noun, "noun_a": with_article(noun), "nouns": plural(noun)}
        if len(things) > 1:
            questions = wording.NOUN_SEVERAL if opening else wording.WHICH_CATEGORY_SEVERAL
            questions = without_counts(questions, things)
            if any(thing.others for thing in things):
                return self._ask(questions, **words), say(self._dice, wording_cases.OPEN_ENDED_ANSWERS)
            return self._several(wording_cases.NOUN_SEVERAL_ANSWERS, things, self._ask(questions, **words))
        questions = agreeing(wording.NOUN_ONE if opening else wording.WHICH_CATEGORY_ONE, noun)
        if is_uncounted(noun) or (names_a_side(noun) and not opening):  # a car has no second front left light
            questions = tuple(form for form in questions if "{noun_a}" not in form)
        return self._ask(questions, **words), self._one(wording.NOUN_ONE_ANSWERS, things[0])

    def _telling(self, before: list[Thing], left: list[Thing], clue: Clue) -> QuestionAnswer:
        forms, slots = self._telling_forms(before, left, clue)
        question = self._ask(without_counts(forms, before), group=group(before), **slots)
        if len(left) == 1:
            return question, self._one(self._fitting_place(wording.WHICH_ONE_ANSWERS, left[0], clue), left[0])
        if len({plain_name(thing) for thing in before}) == 1 and "how many" not in question.lower():
            return question, say(self._dice, wording_cases.SOME_LEFT_ANSWERS, count=number(len(left)))
        return self._several(wording.WHICH_SEVERAL_ANSWERS, left, question)

    def _fitting_place(self, answers: wording.Forms, thing: Thing, clue: Clue) -> wording.Forms:
        """The answers without those that tell the place, where the leftmost thing is still in the middle."""
        if clue.kind != "extreme" or clue.value not in _WORDS_OF_PLACE:
            return answers
        if not _WORDS_OF_PLACE[clue.value].isdisjoint(place(self._view, thing).split()):
            return answers
        return tuple(form for form in answers if "{place}" not in form)

    def _telling_forms(
        self, before: list[Thing], left: list[Thing], clue: Clue
    ) -> tuple[wording.Forms, dict[str, str]]:
        one = len(left) == 1
        if clue.kind == "colour":
            forms = wording.WHICH_COLOUR_ONE if one else wording.WHICH_COLOUR_SEVERAL
            return forms, {"colour": clue.value}
        if clue.kind == "text":
            return wording.WHICH_TEXT, {"text": clue.value}
        if clue.kind == "extreme":
            are_two = len(before) == 2 and not any(thing.others for thing in before)
            table = wording.EXTREME_OF_TWO if are_two else wording.EXTREME_OF_MANY
            return wording.WHICH_EXTREME, {"extreme": self._dice.choice(table[cast(Extreme, clue.value)])}
        anchor = next(thing for thing in self._view.things if thing.region_id == clue.anchor)
        relation = self._dice.choice(relation_words(self._view, cast(Relation, clue.value), anchor, *left))
        forms = wording.WHICH_RELATED_ONE if one else wording.WHICH_RELATED_SEVERAL
        return forms, {"relation": relation, "anchor": anchor.phrase}

    def _part(self, parts: list[Thing]) -> QuestionAnswer:
        part, whole = parts[0], parts[0].whole
        assert whole is not None
        if len(parts) > 1:
            words = {"nouns": plural(part.category), "whole": whole.category}
            questions = wording.PARTS_SEVERAL
            if part.inferred:
                of_person = is_person(whole.category)
                questions = wording_cases.INSIDE_PERSON_SEVERAL if of_person else wording_cases.INSIDE_SEVERAL
            questions = without_counts(agreeing(questions, whole.category), parts)
            return self._several(wording_cases.NOUN_SEVERAL_ANSWERS, parts, self._ask(questions, **words))
        words = {"noun": whole.category, "part": part.category, "part_a": with_article(part.category)}
        clauses = self._part_clauses(part)
        if clauses and self._dice.random() < _PART_BY_USE_SHARE:
            words["clause"] = self._dice.choice(clauses)
            self._asked_clauses.add(words["clause"])
            answers = self._sayable(wording.PART_BY_USE_ANSWERS, part)
            return self._ask(agreeing(wording.PART_BY_USE, whole.category), **words), self._one(answers, part, **words)
        questions = agreeing(self._part_questions(part), whole.category)
        if is_uncounted(part.category):
            questions = tuple(form for form in questions if "{part_a}" not in form) or questions
        answers = self._sayable(wording.PART_BY_NAME_ANSWERS, part)
        return self._ask(questions, **words, **pronouns(part)), self._one(answers, part, **words)

    @staticmethod
    def _part_questions(part: Thing) -> wording.Forms:
        """Questions for a part by its name; whether a cat has a torso is not asked."""
        assert part.whole is not None
        if not part.inferred:
            is_sure = is_alive(part.whole.category)
            return tuple(form for form in wording.PART_BY_NAME if not (is_sure and "{part_a}" in form))
        return wording_cases.INSIDE_PERSON_BY_NAME if is_person(part.whole.category) else wording_cases.INSIDE_BY_NAME

    def _sayable(self, answers: wording.Forms, part: Thing) -> wording.Forms:
        """The answers without those that name a side of the whole, where that is not to be said."""
        if self._side_of_whole(part) is not None:
            return answers
        return tuple(form for form in answers if "{side}" not in form)

    def _side_of_whole(self, part: Thing) -> str | None:
        """Where on its whole a part is; None on people and animals, which have no "top", and where a left or right
        would be taken for the whole's own."""
        assert part.whole is not None
        if is_alive(part.whole.category):
            return None
        side = place_in_whole(part)
        has_sides = self._view.own_sides or any(has_own_side(sibling) for sibling in part.whole.parts)
        return None if has_sides and names_a_side(side) else side

    def _part_clauses(self, part: Thing) -> list[str]:
        """What the part is for, as far as it has not been asked yet."""
        assert part.whole is not None
        clauses = PART_USES.get((part.whole.category, part.category), ())
        return [clause for clause in clauses if clause not in self._asked_clauses]

    # --- turns without a clue

    def _overview(self) -> QuestionAnswer:
        things = self._view.wholes
        words = {"inventory": inventory(things), "count": number(len(things))}
        if len(things) > 1 and self._view.shows_nothing_else and self._dice.random() < 0.25:
            question = self._ask(wording.OVERVIEW_COUNT_QUESTIONS)
            return question, say(self._dice, wording.OVERVIEW_COUNT_ANSWERS, **words)
        return self._ask(wording.OVERVIEW_QUESTIONS), say(self._dice, wording.OVERVIEW_ANSWERS, **words)

    def _colour(self, thing: Thing) -> QuestionAnswer:
        return self._ask(wording.COLOUR_QUESTIONS), self._one(
            wording.COLOUR_ANSWERS, thing, name=thing.category, colour=thing.colour
        )

    def _text(self, thing: Thing) -> QuestionAnswer:
        return self._ask(wording.TEXT_QUESTIONS), self._one(
            wording.TEXT_ANSWERS, thing, name=thing.category, text=thing.text
        )

    def _parts(self, thing: Thing) -> QuestionAnswer:
        parts = own_parts(thing)
        names = list(dict.fromkeys(part.category for part in parts))
        counted_parts = [plural(name) if sum(part.category == name for part in parts) > 1 else name for name in names]
        return self._ask(wording.PARTS_QUESTIONS), self._one(
            wording.PARTS_ANSWERS, thing, name=thing.category, parts=listed(counted_parts[:6])
        )

    def _size(self, thing: Thing) -> str:
        """large or small where the thing is clearly the largest or smallest object, else ""."""
        if len(self._view.objects) < 3 or not self._view.shows_nothing_else:
            return ""
        sizes: tuple[Extreme, Extreme] = ("large", "small")
        return next((size for size in sizes if extreme_of(self._view, self._view.objects, size) is thing), "")

    def _compare_size(self, thing: Thing) -> QuestionAnswer:
        size = self._size(thing)
        return self._ask(wording.SIZE_QUESTIONS), self._one(
            wording.SIZE_ANSWERS, thing, size=f"{size.removesuffix('e')}est", plain_size=size
        )

    def _place(self, thing: Thing) -> QuestionAnswer:
        question = self._ask(wording.PLACE_QUESTIONS, **pronouns(thing))
        return question, self._one(wording.PLACE_ANSWERS, thing)

    def _clear_relation(self, thing: Thing) -> tuple[Relation, Thing] | None:
        """One of the relations in which a thing clearly stands to another object that has a phrase."""
        others = [
            other
            for other in self._view.objects
            if other is not thing
            and other.phrase
            and not tells_relation(other.phrase)
            and not (other.category == thing.category and tells_place(other.phrase))
        ]
        for other in self._dice.sample(others, min(2, len(others))):
            clear = [relation for relation in RELATIONS if stands(self._view, thing, relation, other)]
            if clear:
                return self._dice.choice(clear), other
        return None

    def _side_of(self, thing: Thing, relation: Relation, anchor: Thing) -> QuestionAnswer:
        forms = relation_words(self._view, relation, thing, anchor)
        questions = wording.DOWN_QUESTIONS
        if relation in ("left", "right"):
            in_picture = forms is wording_cases.RELATIONS_IN_PICTURE[relation]
            questions = wording_cases.ACROSS_IN_PICTURE_QUESTIONS if in_picture else wording.ACROSS_QUESTIONS
        words = self._dice.choice(forms)
        question = self._ask(questions, anchor=anchor.phrase)
        return question, self._one(wording.SIDE_OF_ANSWERS, thing, anchor=anchor.phrase, relation=words)

    def _side(self, part: Thing) -> QuestionAnswer:
        assert part.whole is not None
        question = self._ask(wording.SIDE_QUESTIONS, noun=part.whole.category, **pronouns(part))
        return question, self._one(wording.SIDE_ANSWERS, part, side=place_in_whole(part))

    def _purpose(self, part: Thing) -> QuestionAnswer:
        assert part.whole is not None
        clauses = self._part_clauses(part) or list(PART_USES[part.whole.category, part.category])
        question = self._ask(wording.PURPOSE_QUESTIONS, noun=part.whole.category, **pronouns(part))
        words = {"part": part.category, "clause": self._dice.choice(clauses)}
        return question, self._one(wording.PURPOSE_ANSWERS, part, **words)

    def _recap(self) -> QuestionAnswer:
        return self._ask(wording.RECAP_QUESTIONS), self._one(wording.RECAP_ANSWERS, self._chain[-1].things[0])

    # --- sentences

    def _ask(self, forms: Sequence[str], **slots: str) -> str:
        link = self._turn > 0 and self._dice.random() < _LINK_SHARE
        return ask(self._dice, forms, link=self._dice.choice(wording.LINKS) if link else "", **slots)

    def _one(self, forms: wording.Forms, thing: Thing, **slots: str) -> str:
        """An answer about one thing; the last one before the request always names it in full."""
        slots.setdefault("name", thing.phrase or plain_name(thing))
        where = place(self._view, thing)
        is_said = slots["name"].endswith(IN_PICTURE)
        slots.setdefault("place", where.removesuffix(" of the picture") if is_said else where)
        if thing.whole is not None:
            slots.setdefault("side", place_in_whole(thing))
        is_are = "are" if is_plural(thing.category) else "is"
        return say(self._dice, agreeing(forms, thing.category), **slots, is_are=is_are)

    def _several(self, forms: Sequence[str], things: Sequence[Thing], question: str) -> QuestionAnswer:
        """The question with an answer that lists things, and counts them where the question does."""
        alike = len({plain_name(thing) for thing in things}) == 1
        if "how many" in question.lower() or "count" in question:
            forms = wording.COUNT_ANSWERS_ALIKE if alike else wording.COUNT_ANSWERS
        elif alike:  # "two things come into question: two signs" counts twice
            forms = [form for form in forms if "{count}" not in form]
        listing = {"inventory": inventory(things), "definite": inventory(things, definite=True)}
        return question, say(self._dice, forms, count=number(len(things)), **listing)
