"""PRIST step 2-1: a complex question for each of some elements, of which those that take reasoning are kept.

Source: PRIST paper, section 3.2.2 (equation 2) and the scores of figure 7b.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from miras.generate.elements import Element, PictureElements
from miras.generate.written.elements import ShownPicture
from miras.generate.written.inventory import label_of, listing
from miras.generate.written.prompts import render
from miras.generate.written.records import PictureQuestions, ReasoningQuestion
from miras.generate.written.texts import ModelAnswer, all_words, check_english, check_question, tidy
from miras.llm.records import Prompt

LEAST_TARGETS, MOST_TARGETS = 2, 4  # PRIST paper, section 3.2.2: 2 <= K <= min(N, 4)
LEAST_SCORE, KEPT_SCORE, BEST_SCORE = 1, 2, 3


class AskedQuestion(ModelAnswer):
    """A question whose answer is one element."""

    element: str
    """Label of the element."""
    question: str
    score: int
    """1, 2 or 3: how much reasoning it takes."""


class AskedQuestions(ModelAnswer):
    """One question for each of the elements asked for."""

    questions: list[AskedQuestion]


def choose_targets(elements: PictureElements, *, wanted: int, seed: int) -> tuple[int, ...]:
    """Positions of the elements that get a question, ascending; none where fewer than two elements are known.

    Args:
        elements: of one picture.
        wanted: dialogues; taken as the nearest K that the paper allows, 2 to min(N, 4).
        seed: another one chooses others.
    """
    count = min(max(wanted, LEAST_TARGETS), MOST_TARGETS, len(elements.elements))
    if count < LEAST_TARGETS:
        return ()
    dice = random.Random(f"{seed}/written/targets/{elements.image_id}")
    return tuple(sorted(dice.sample(range(len(elements.elements)), count)))


def questions_prompt(picture: ShownPicture, elements: PictureElements, targets: Sequence[int]) -> Prompt:
    """Asks for a question about each of the elements at these positions."""
    asked = {label_of(position): elements.elements[position] for position in targets}

    def check(answer: Any) -> None:
        check_questions(answer, asked)

    texts = render("questions", elements=listing(elements), targets=list(asked))
    return Prompt(
        name="prist/questions",
        key=picture.image_id,
        system=texts.system,
        text=texts.text,
        answer=AskedQuestions,
        picture=picture.path,
        check=check,
    )


def check_questions(answer: AskedQuestions, asked: dict[str, Element]) -> None:
    """Refuses questions for other elements than asked, scores that do not exist, and questions that name their answer.

    Raises:
        ValueError: with a sentence for the model.
    """
    labels = [question.element for question in answer.questions]
    if sorted(labels) != sorted(asked):
        found = ", ".join(labels) or "none"
        raise ValueError(f"there are questions for: {found}; expected exactly one for each of {', '.join(asked)}")
    for question in answer.questions:
        what = f"the question for {question.element}"
        check_question(question.question, what=what)
        if not LEAST_SCORE <= question.score <= BEST_SCORE:
            raise ValueError(f"the score of {question.element} is {question.score}; expected 1, 2 or 3")
        phrase = asked[question.element].caption
        if says(question.question, phrase):
            raise ValueError(f'{what} names its answer, "{phrase}"; ask so that one has to find it')
    check_english({f"the question for {each.element}": each.question for each in answer.questions})


def says(text: str, phrase: str) -> bool:
    """Whether a text holds the words of a phrase one after the other."""
    return f" {' '.join(all_words(phrase))} " in f" {' '.join(all_words(text))} "


def picture_questions(answer: AskedQuestions, elements: PictureElements, *, most: int) -> PictureQuestions:
    """The checked answer as a record, in the order of the elements.

    Args:
        answer: the model's.
        elements: that were shown.
        most: questions to keep; of more that take reasoning, those with the best scores.
    """
    region_ids = {label_of(position): element.region_id for position, element in enumerate(elements.elements)}
    position_of = {label: position for position, label in enumerate(region_ids)}
    asked = sorted(answer.questions, key=lambda question: position_of[question.element])
    good = [question for question in asked if question.score >= KEPT_SCORE]
    kept = {question.element for question in sorted(good, key=lambda question: -question.score)[:most]}
    return PictureQuestions(
        image_id=elements.image_id,
        questions=tuple(
            ReasoningQuestion(
                target=region_ids[question.element],
                question=tidy(question.question),
                score=question.score,
                is_kept=question.element in kept,
            )
            for question in asked
        ),
    )
