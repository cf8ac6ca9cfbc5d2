"""PRIST step 3: a language model makes a dialogue of each path of the reasoning tree.

Source: PRIST paper, section 3.2.3. The model writes the questions, the answers and the request for the mask; the
answer to the request is one of ours, with the slot of the target.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from miras.dialogue.records import Dialogue, Turn
from miras.generate import wording
from miras.generate.elements import PictureElements
from miras.generate.tree import ReasoningTree, TreePath
from miras.generate.written.elements import ShownPicture
from miras.generate.written.inventory import label_of, listing
from miras.generate.written.prompts import render
from miras.generate.written.questions import says
from miras.generate.written.texts import (
    MAX_ANSWER_WORDS,
    MAX_QUESTION_WORDS,
    ModelAnswer,
    check_english,
    check_question,
    check_text,
    content_words,
    tidy,
)
from miras.llm.records import Prompt

NAMING_ANSWERS = 2  # one of so many last answers speaks of the target
_ASKS_FOR_A_MASK = re.compile(
    r"\b(?:segment|mask|outlin|highlight|mark(?:ed|ing)?\b|pixel|trac(?:e|ing)\b|delineat|contour|silhouette"
    r"|cut\w* out\b)",
    re.IGNORECASE,
)


class WrittenTurn(ModelAnswer):
    """A question and its answer."""

    step: int
    """Number of the step of the way that it serves."""
    question: str
    answer: str


class WrittenDialogue(ModelAnswer):
    """The conversation and its request."""

    turns: list[WrittenTurn]
    request: str
    """Asks for the mask of what the turns have led to."""


def dialogue_prompt(
    picture: ShownPicture, elements: PictureElements, tree: ReasoningTree, path: TreePath, *, max_turns: int
) -> Prompt:
    """Asks for the dialogue of one path, of at most so many turns, the request included."""
    steps = [tree.nodes[node].clue for node in path.nodes[1:]]
    labels = {element.region_id: label_of(position) for position, element in enumerate(elements.elements)}

    def check(answer: Any) -> None:
        check_dialogue(answer, focus=path.focus, num_steps=len(steps), max_turns=max_turns)

    texts = render(
        "dialogue",
        elements=listing(elements),
        target={"label": labels[path.target], "phrase": path.focus},
        question=path.reasoning_question,
        path=steps,
        fewest=len(steps),
        most=max_turns - 1,
    )
    return Prompt(
        name="prist/dialogue",
        key=path.dialogue_id,
        system=texts.system,
        text=texts.text,
        answer=WrittenDialogue,
        picture=picture.path,
        check=check,
    )


def check_dialogue(answer: WrittenDialogue, *, focus: str, num_steps: int, max_turns: int) -> None:
    """Refuses a dialogue that does not go the way of its path, or does not end in a request for its target's mask.

    Args:
        answer: of the model.
        focus: phrase of the target.
        num_steps: nodes of the path; each takes a turn at least, so that paths of min_turns - 1 nodes make long
            enough dialogues.
        max_turns: with the request.

    Raises:
        ValueError: with a sentence for the model.
    """
    if not num_steps <= len(answer.turns) <= max_turns - 1:
        raise ValueError(f"there are {len(answer.turns)} turns; expected {num_steps} to {max_turns - 1}")
    _check_steps([turn.step for turn in answer.turns], num_steps)
    for number, turn in enumerate(answer.turns, 1):
        check_question(turn.question, what=f"question {number}")
        check_text(turn.answer, what=f"answer {number}", max_words=MAX_ANSWER_WORDS)
    questions = [tidy(turn.question).casefold() for turn in answer.turns]
    if len(set(questions)) < len(questions):
        raise ValueError("a question is asked twice; every turn asks something new")
    check_english({f"turn {n}": f"{turn.question} {turn.answer}" for n, turn in enumerate(answer.turns, 1)})
    check_leads_to(answer.turns, focus)
    check_request(answer.request, focus)


def _check_steps(steps: Sequence[int], num_steps: int) -> None:
    if list(steps) != sorted(steps) or set(steps) != set(range(1, num_steps + 1)):
        raise ValueError(f"the turns serve the steps {list(steps)}; expected 1 to {num_steps} in order, none left out")


def check_leads_to(turns: Sequence[WrittenTurn], focus: str) -> None:
    """Refuses turns whose questions give their target away, or that never come to it.

    Of PRIST's published dialogues one in seven would fail here: the prompt asks for more than they keep to.

    Raises:
        ValueError: with a sentence for the model.
    """
    told = content_words(focus)
    answered: set[str] = set()
    for number, turn in enumerate(turns, 1):
        if says(turn.question, focus) and not told <= answered:
            raise ValueError(f'question {number} says "{focus}" before the answers have; ask without naming it')
        answered |= content_words(turn.answer)
    ending = frozenset().union(*(content_words(turn.answer) for turn in turns[-NAMING_ANSWERS:]))
    if told and not told & ending:
        raise ValueError(f'the last answers do not come to "{focus}"; they have to say that this is what was meant')
    if 2 * len(told & content_words(" ".join(f"{turn.question} {turn.answer}" for turn in turns))) < len(told):
        raise ValueError(f'the dialogue does not lead to "{focus}": most of these words are never said')


def check_request(request: str, focus: str) -> None:
    """Refuses a last question that asks for no mask, or that says of what.

    Raises:
        ValueError: with a sentence for the model.
    """
    check_text(request, what="the request", max_words=MAX_QUESTION_WORDS)
    check_english({"the request": request})
    if not _ASKS_FOR_A_MASK.search(request):
        raise ValueError("the request asks for no mask; ask to segment, mark or outline it in the picture")
    told = content_words(focus)
    if says(request, focus) or (told and told <= content_words(request)):
        raise ValueError(f'the request names "{focus}"; ask for the mask without saying of what')


def written_dialogue(answer: WrittenDialogue, path: TreePath, *, image_id: str, seed: int) -> Dialogue:
    """The checked answer as a dialogue; our wording of the last answer follows from seed and dialogue id alone."""
    dice = random.Random(f"{seed}/written/answer/{path.dialogue_id}")
    turns = [Turn(question=tidy(turn.question), answer=tidy(turn.answer)) for turn in answer.turns]
    last = Turn(question=tidy(answer.request), answer=dice.choice(wording.REQUEST_ANSWERS), targets=(path.target,))
    return Dialogue(
        dialogue_id=path.dialogue_id, image_id=image_id, kind="prist", focus=path.focus, turns=(*turns, last)
    )
