"""One-turn dialogues for stage 1: classes, single things, questions without a mask, captions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b

from miras.dialogue.records import TARGET_SLOT, Dialogue, DialogueKind, Turn
from miras.generate import wording, wording_cases
from miras.generate import wording_queries as forms
from miras.generate.facts import absent_classes, absent_in_colour, is_one_of_a_count, is_single_part, known_colours
from miras.generate.knowledge import PART_USES, all_known, fits, uses_of
from miras.generate.language import is_plural, is_uncounted, listed, number, plural, sentence, with_article
from miras.generate.names import is_alive, is_person
from miras.generate.phrases import IN_PICTURE, descriptions, may_have_colour, tells_place, tells_relation
from miras.generate.speech import agreeing, inventory, pronouns, relation_words, say
from miras.generate.view import RELATIONS, Relation, Thing, View, has_own_side, nearest, place, stands

_PATTERN: tuple[DialogueKind, ...] = (
    "referring",
    "semantic",
    "vqa",
    "referring",
    "semantic",
    "vqa",
    "referring",
    "semantic",
    "vqa",
    "caption",
)  # of every ten queries of a picture; training weighs the kinds anew
_ABSENT_SHARE = 0.25  # of the semantic queries ask for something that is not there
_OTHER_WORDS_SHARE = 0.5  # of the referring queries describe the region in other words than its phrase
_OPPOSITE: dict[Relation, Relation] = {"left": "right", "right": "left", "above": "below", "below": "above"}

Query = tuple[str, str, tuple[str, ...], str]  # question, answer, targets, focus


def one_turn_dialogues(
    view: View, image_id: str, count: int, classes: Sequence[str], dice: random.Random
) -> list[Dialogue]:
    """Up to `count` different one-turn dialogues about a picture.

    Args:
        view: the picture.
        image_id: its id.
        count: how many are wanted; a poor picture allows fewer.
        classes: classes of objects that are absent where the picture shows none, for questions about what is not
            there (`facts.absent_classes` says which ones may be given).
        dice: chooses.
    """
    writer = _QueryWriter(view, image_id, classes, dice)
    found: list[Dialogue] = []
    asked: set[str] = set()
    start = dice.randrange(len(_PATTERN))
    for attempt in range(3 * count):
        if len(found) == count:
            break
        kind = _PATTERN[(start + attempt) % len(_PATTERN)]
        query = writer.write(kind)
        if query is None or query[0] in asked:
            continue
        question, answer, targets, focus = query
        asked.add(question)
        turn = Turn.model_construct(question=question, answer=answer, targets=targets)
        found.append(
            Dialogue.model_construct(
                dialogue_id=f"{image_id}-{kind}-{len(found)}",
                image_id=image_id,
                kind=kind,
                focus=focus,
                turns=(turn,),
            )
        )
    return found


class _QueryWriter:
    """Writes one-turn dialogues about one picture."""

    def __init__(self, view: View, image_id: str, classes: Sequence[str], dice: random.Random) -> None:
        self._view = view
        self._dice = dice
        self._named = [thing for thing in view.objects if thing.phrase]
        self._targets = [thing for thing in view.things if view.is_target(thing)]
        self._absent = sorted(absent_classes(view, classes), key=lambda name: _rank(image_id, name))[:4]
        self._phrases = {thing.region_id: thing.phrase for thing in view.things if thing.phrase}

    def write(self, kind: DialogueKind) -> Query | None:
        """A query of this kind; None where the dice chose one that the picture does not allow."""
        match kind:
            case "semantic":
                absent = self._dice.random() < _ABSENT_SHARE
                return self._absent_class() if absent else self._dice.choice((self._class, self._part_class))()
            case "referring":
                return self._referring()
            case "vqa":
                return self._vqa()
            case "caption":
                return self._caption()
            case _:
                raise AssertionError(kind)

    # --- with masks

    def _class(self) -> Query | None:
        if not self._view.objects:
            return None
        chosen = self._dice.choice(self._view.objects)
        noun, things = chosen.category, self._view.called(chosen.category)
        if any(thing.category != noun for thing in things) or is_single_part(self._view, noun):
            return None
        if not self._view.are_all_outlined(noun):
            return None
        coloured = [thing for thing in things if may_have_colour(thing, chosen.colour)]
        is_known = chosen.colour and all(thing.colour == chosen.colour for thing in coloured)
        if is_known and self._dice.random() < 0.3:
            return self._all_of(f"{chosen.colour} {noun}", coloured)
        return self._all_of(noun, things)

    def _part_class(self) -> Query | None:
        """All parts of one name on all objects of one class, where every one of these objects shows it."""
        wholes = [thing for thing in self._view.objects if thing.parts]
        if not wholes:
            return None
        whole = self._dice.choice(wholes)
        part = self._dice.choice(whole.parts)
        same = [thing for thing in self._view.objects if thing.category == whole.category]
        if any(all(each.category != part.category for each in thing.parts) for thing in same) or part.inferred:
            return None
        if has_own_side(part) or is_alive(whole.category):
            return None  # nobody says "all person left hands", or "every dog torso"
        if any(each.others for thing in same for each in (thing, *thing.parts)):
            return None
        noun = f"{whole.category} {part.category}"
        return self._all_of(noun, [each for thing in same for each in thing.parts if each.category == part.category])

    def _all_of(self, noun: str, things: Sequence[Thing]) -> Query | None:
        if not all(thing in self._targets for thing in things):
            return None
        slots = listed([TARGET_SLOT] * len(things)).replace(" and ", " and the ").replace(", ", ", the ")
        answers = forms.SEMANTIC_ANSWERS_ONE if is_one_of_a_count(things[0]) else forms.SEMANTIC_ANSWERS_UNCOUNTED
        if len(things) > 1:
            answers = forms.SEMANTIC_ANSWERS_SEVERAL
        return (
            self._semantic_question(noun),
            say(self._dice, answers, slots=slots, count=number(len(things))),
            tuple(thing.region_id for thing in things),
            noun,
        )

    def _semantic_question(self, noun: str) -> str:
        questions = forms.SEMANTIC_QUESTIONS
        if is_uncounted(noun):
            questions = forms.SEMANTIC_QUESTIONS_UNCOUNTED
        elif is_plural(noun):  # "all wheels", never "every wheels"
            questions = tuple(form for form in questions if "{noun}" not in form)
        return say(self._dice, questions, noun=noun, nouns=plural(noun))

    def _absent_class(self) -> Query | None:
        """Something that is not there: a class of the data set, or a colour that no object of a class has."""
        noun = self._absent_noun()
        if noun is None:
            return None
        answer = say(self._dice, forms.ABSENT_ANSWERS, noun=noun, is_are=_is_are(noun))
        return self._semantic_question(noun), answer, (), noun

    def _absent_noun(self) -> str | None:
        if len(known_colours(self._view)) > 1 and self._dice.random() < 0.5:
            coloured = absent_in_colour(self._view)
            if coloured:
                return self._dice.choice(coloured)
        absent = [noun for noun in self._absent if not is_single_part(self._view, noun)]
        return self._dice.choice(absent) if absent else None

    def _referring(self) -> Query | None:
        if not self._targets:
            return None
        thing = self._dice.choice(self._targets)
        noun = thing.phrase
        if self._dice.random() < _OTHER_WORDS_SHARE:
            noun = self._dice.choice([noun, *descriptions(self._view, thing, self._other_names(thing))][:6])
        questions = agreeing(forms.REFERRING_QUESTIONS, thing.category)
        if IN_PICTURE in noun:
            questions = tuple(form for form in questions if "picture" not in form)
        question = say(self._dice, questions, noun=noun)
        answer = self._dice.choice(agreeing(forms.REFERRING_ANSWERS, thing.category))
        return question, answer, (thing.region_id,), thing.phrase

    def _other_names(self, thing: Thing) -> dict[str, str]:
        """The phrases, with another true one for the whole of a part."""
        whole = thing.whole
        if whole is None or whole.region_id not in self._phrases:
            return self._phrases
        names = [whole.phrase, *descriptions(self._view, whole, self._phrases)]
        return {**self._phrases, whole.region_id: self._dice.choice(names[:4])}

    # --- without masks

    def _vqa(self) -> Query | None:
        if not self._named:
            return None
        makers: tuple[Callable[[Thing], tuple[str, str] | None], ...] = (
            self._colour,
            self._count,
            self._exists,
            self._relation,
            self._relation,
            self._text,
            self._place,
            self._nearest,
            self._part,
            self._use,
        )
        for maker in self._dice.sample(makers, len(makers)):
            written = maker(self._dice.choice(self._named))
            if written is not None:
                return (*written, (), "")
        return None

    def _say_both(self, questions: wording.Forms, answers: wording.Forms, **slots: str) -> tuple[str, str]:
        return say(self._dice, questions, **slots), say(self._dice, answers, **slots)

    def _colour(self, thing: Thing) -> tuple[str, str] | None:
        if is_plural(thing.category):
            return None
        names = [
            name
            for name in descriptions(self._view, thing, self._phrases)
            if thing.colour and thing.colour not in name.split()
        ]
        if not names:
            return None
        noun = self._dice.choice(names[:3])
        return self._say_both(forms.VQA_COLOUR, forms.VQA_COLOUR_ANSWERS, noun=noun, colour=thing.colour)

    def _count(self, thing: Thing) -> tuple[str, str] | None:
        count = sum(other.category == thing.category for other in self._view.things)
        if not is_one_of_a_count(thing) or count != len(self._view.called(thing.category)):
            return None
        if is_single_part(self._view, thing.category) or not self._view.are_all_outlined(thing.category):
            return None
        return self._say_both(
            forms.VQA_COUNT,
            forms.VQA_COUNT_ANSWERS,
            nouns=plural(thing.category),
            count=number(count),
            is_are="is" if count == 1 else "are",
        )

    def _exists(self, thing: Thing) -> tuple[str, str] | None:
        if self._dice.random() < 0.5:
            noun = self._absent_noun()
            if noun is None:
                return None
            slots = {"noun": noun, "noun_a": _some(noun), "is_are": _is_are(noun)}
            return self._say_both(self._exists_forms(noun), forms.VQA_EXISTS_NO, **slots)
        noun = thing.category
        slots = {"noun_a": _some(noun), "place": place(self._view, thing)}
        if len(self._view.called(noun)) > 1:
            return say(self._dice, self._exists_forms(noun), **slots), "Yes, more than one."
        answers = forms.VQA_EXISTS_YES if is_one_of_a_count(thing) else forms.VQA_EXISTS_YES_UNCOUNTED
        return self._say_both(self._exists_forms(noun), answers, **slots)

    def _exists_forms(self, noun: str) -> wording.Forms:
        return forms.VQA_EXISTS[1:] if is_plural(noun) else forms.VQA_EXISTS

    def _relation(self, thing: Thing) -> tuple[str, str] | None:
        """As many yes as no: a true relation is asked for as it is, or turned round."""
        true = [
            (relation, other)
            for other in self._named
            if other is not thing and not (other.category == thing.category and tells_place(other.phrase))
            if not tells_relation(other.phrase)
            for relation in RELATIONS
            if stands(self._view, thing, relation, other)
        ]
        if not true or is_plural(thing.category):
            return None
        relation, anchor = self._dice.choice(true)
        yes = self._dice.random() < 0.5
        asked = relation if yes else _OPPOSITE[relation]
        style = self._dice.randrange(2)
        slots = {
            "noun": thing.phrase,
            "anchor": anchor.phrase,
            "relation": relation_words(self._view, asked, thing, anchor)[style],
            "opposite": relation_words(self._view, relation, thing, anchor)[style],
        }
        answers = forms.VQA_RELATION_YES if yes else forms.VQA_RELATION_NO
        return self._say_both(forms.VQA_RELATION, answers, **slots)

    def _text(self, thing: Thing) -> tuple[str, str] | None:
        if not thing.text or f'"{thing.text}"' in thing.phrase:
            return None
        return self._say_both(forms.VQA_TEXT, forms.VQA_TEXT_ANSWERS, noun=thing.phrase, text=thing.text)

    def _place(self, thing: Thing) -> tuple[str, str] | None:
        if tells_place(thing.phrase) and not has_own_side(thing):
            return None  # the question would tell
        slots = {"noun": thing.phrase, "place": place(self._view, thing), **pronouns(thing)}
        if is_person(thing.category):
            slots["is_are"] = "is"  # the answers say "the person", never "they"
        return self._say_both(forms.VQA_PLACE, agreeing(forms.VQA_PLACE_ANSWERS, thing.category), **slots)

    def _nearest(self, thing: Thing) -> tuple[str, str] | None:
        if not self._view.shows_nothing_else:
            return None
        counted = [other for other in self._view.objects if not other.is_class and not is_uncounted(other.category)]
        other = nearest(self._view, thing, counted) if len(counted) == len(self._view.objects) else None
        if other is None or not other.phrase or is_plural(other.category):
            return None
        slots = {"noun": thing.phrase, "other": other.phrase}
        return self._say_both(forms.VQA_NEAREST, forms.VQA_NEAREST_ANSWERS, **slots)

    def _part(self, thing: Thing) -> tuple[str, str] | None:
        useful = [part for part in thing.parts if (thing.category, part.category) in PART_USES]
        if not useful:
            return None
        part = self._dice.choice(useful).category
        clause = self._dice.choice(PART_USES[thing.category, part])
        slots = {"noun": thing.phrase, "part": part, "clause": clause}
        return self._say_both(forms.VQA_PART, forms.VQA_PART_ANSWERS, **slots)

    def _use(self, thing: Thing) -> tuple[str, str] | None:
        """A use that one object alone is good for."""
        categories = [other.category for other in self._view.wholes]
        if not self._view.is_exhaustive or not all_known(categories):
            return None
        single = [use for use in uses_of(thing.category) if sum(fits(use, category) for category in categories) == 1]
        if not single:
            return None
        clause = self._dice.choice(self._dice.choice(single).clauses)
        slots = {"clause": clause, "name": thing.phrase, "place": place(self._view, thing)}
        questions = wording_cases.WHO_ONE if is_person(thing.category) else wording.USE_ONE
        return self._say_both(questions, agreeing(forms.VQA_USE_ANSWERS, thing.category), **slots)

    def _caption(self) -> Query | None:
        """One sentence with all objects and, where two can be named, one with their places."""
        if not self._view.objects:
            return None
        objects = self._view.wholes
        answers = forms.CAPTION_ANSWERS if len(objects) > 1 else forms.CAPTION_ANSWERS[:1]
        answer = say(self._dice, answers, inventory=inventory(objects))
        named = [thing for thing in self._named if not is_plural(thing.category) and IN_PICTURE not in thing.phrase]
        if len(named) > 1:
            first, last = self._dice.sample(named, 2)
            first_place = place(self._view, first).removesuffix(" of the picture")
            last_place = place(self._view, last).removesuffix(" of the picture")
            details = forms.CAPTION_DETAILS if first_place != last_place else forms.CAPTION_DETAILS_SAME_PLACE
            answer += " " + say(
                self._dice,
                details,
                first=first.phrase,
                last=last.phrase,
                first_place=first_place,
                last_place=last_place,
                first_place_begin=sentence(first_place),
            )
        return self._dice.choice(forms.CAPTION_QUESTIONS), answer, (), ""


def _is_are(noun: str) -> str:
    return "are" if is_plural(noun) else "is"


def _some(noun: str) -> str:
    """What one asks for: "a mug", "any shoes", "any grass"."""
    return f"any {noun}" if is_plural(noun) or is_uncounted(noun) else with_article(noun)


def _rank(image_id: str, name: str) -> bytes:
    """An order of classes of its own for each picture; a new class moves no other."""
    return blake2b(f"{image_id}/{name}".encode(), digest_size=8).digest()
