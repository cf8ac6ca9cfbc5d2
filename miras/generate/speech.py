"""Choosing words: sentences from the forms of `wording`, inventories, groups, pronouns."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from miras.generate import wording, wording_cases
from miras.generate.language import counted, is_plural, listed, number, plural, sentence, several
from miras.generate.names import is_person
from miras.generate.view import Relation, Thing, View, has_own_side
from miras.generate.wording import Forms

MIN_QUESTION_WORDS, MAX_QUESTION_WORDS = 5, 19  # of PRIST's questions, measured on its public test file
_LONGEST_LIST = 5


def say(dice: random.Random, forms: Sequence[str], **slots: str) -> str:
    """One of the forms, filled. Forms must not be empty; every slot they use must be given."""
    return sentence(dice.choice(forms).format(**slots))


def ask(dice: random.Random, forms: Sequence[str], *, link: str = "", **slots: str) -> str:
    """A question of 5 to 19 words, where the forms allow one.

    Args:
        dice: chooses.
        forms: to choose from.
        link: a word that ties it to the turn before ("And"), used where the question stays short enough.
        slots: the words to fill in.
    """
    filled = [form.format(**slots) for form in dice.sample(forms, len(forms))]
    fitting = [text for text in filled if MIN_QUESTION_WORDS <= len(text.split()) <= MAX_QUESTION_WORDS]
    question = (fitting or filled)[0]
    if link and len(question.split()) < MAX_QUESTION_WORDS and not question.startswith("I "):
        question = f"{link} {question[:1].lower()}{question[1:]}"
    return sentence(question)


@cache
def agreeing(forms: Forms, noun: str) -> Forms:
    """The forms that can be said of a noun: all; for a plural those without "is", "it", ...; of people no "it".

    Where no form is left, all are given back.
    """
    if is_plural(noun):
        return tuple(form for form in forms if not _SINGULAR.search(form)) or forms
    if is_person(noun):
        return tuple(form for form in forms if not _LIFELESS.search(form)) or forms
    return forms


_LIFELESS = re.compile(r"(?<!\{)\b(?:it|its|thing|object)\b", re.IGNORECASE)
_SINGULAR = re.compile(r"(?<!\{)\b(?:is|does|has|it|its|this|one)\b", re.IGNORECASE)


def without_counts(forms: Forms, things: Sequence[Thing]) -> Forms:
    """The forms that may be asked about these things: not how many, where there may be more than are outlined."""
    if not any(thing.others for thing in things):
        return forms
    return tuple(form for form in forms if "how many" not in form.lower())


def relation_words(view: View, relation: Relation, *things: Thing) -> Forms:
    """How to say that a thing is left of, right of, above or below another, as people of the picture would.

    Where things have a left and right of their own, the picture's are said to be the picture's.
    """
    if view.own_sides or any(has_own_side(thing) for thing in things):
        return wording_cases.RELATIONS_IN_PICTURE[relation]
    return wording.RELATIONS_IN_WORDS[relation]


def plain_name(thing: Thing) -> str:
    """Colour and class, which need not identify: "red mug"."""
    return f"{thing.colour} {thing.category}".strip()


def inventory(things: Sequence[Thing], *, definite: bool = False) -> str:
    """What there is, in one list: "two red mugs and a green bottle"; long lists name classes only.

    Where there may be more of a class than is outlined, it has no number: "mugs".

    Args:
        things: at least one.
        definite: "the two red mugs and the green bottle" instead.
    """
    counts = Counter(plain_name(thing) for thing in things)
    if len(counts) > _LONGEST_LIST:
        counts = Counter(thing.category for thing in things)
    open_ended = {name for thing in things if thing.others for name in (thing.category, plain_name(thing))}
    items = [_item(name, count, definite, name in open_ended) for name, count in counts.most_common()]
    if len(items) > _LONGEST_LIST:
        items = [*items[: _LONGEST_LIST - 1], "other things"]
    return listed(items)


def _item(name: str, count: int, definite: bool, is_open_ended: bool) -> str:
    if definite and count == 1:
        return f"the {name}"
    words = plural(name) if is_open_ended and count > 1 else counted(name, count)
    return f"the {words}" if definite else words


def group(things: Sequence[Thing]) -> str:
    """What several things are called together: "the two mugs", "the three lights", "the two things".

    Where there may be more than are outlined: "the mugs".
    """
    noun = _common_noun([thing.category for thing in things])
    if any(thing.others for thing in things):
        return f"the {plural(noun)}"
    return f"the {number(len(things))} {several(noun)}"


def _common_noun(categories: Sequence[str]) -> str:
    """The words that all names end with ("front left light", "back light" -> "light"), or "thing"."""
    shared: list[str] = []
    for words in zip(*(reversed(category.split()) for category in categories), strict=False):
        if len(set(words)) > 1:
            break
        shared.insert(0, words[0])
    return " ".join(shared) or "thing"


def pronouns(thing: Thing) -> dict[str, str]:
    """Slots `it`, `them` and `is_are` for a thing; "wheels" and people are they."""
    if is_plural(thing.category) or is_person(thing.category):
        return {"it": "they", "them": "them", "is_are": "are"}
    return {"it": "it", "them": "it", "is_are": "is"}
