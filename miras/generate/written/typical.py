"""Answers as long as those of a language model, for an estimate of what asking it costs; never part of a data set.

They pass the checks of their prompts. Numbers of words are PRIST's where it has such texts (questions
of 10, answers of 12 words, 3 turns before the request), else assumed.
"""

from __future__ import annotations

from collections.abc import Sequence

from miras.generate.written.dialogues import WrittenDialogue, WrittenTurn
from miras.generate.written.elements import Attribute, ShownPicture, VisibleElement, VisibleElements
from miras.generate.written.inventory import label_of
from miras.generate.written.questions import BEST_SCORE, AskedQuestion, AskedQuestions
from miras.generate.written.tree import ROOT, PathEnd, ReasoningSteps, Step

ELEMENTS = 8  # between the 3 and 12 asked for
STEPS = 3  # of a path
_PER_FIRST_STEP = 2  # paths that share their first step


def typical_elements(picture: ShownPicture) -> VisibleElements:
    """Some outlined regions and some new elements."""
    labels: list[str | None] = [region.label for region in picture.regions[: ELEMENTS // 2]]
    labels += [None] * (ELEMENTS - len(labels))
    return VisibleElements(elements=[_element(number, label) for number, label in enumerate(labels, 1)])


def _element(number: int, label: str | None) -> VisibleElement:
    return VisibleElement(
        name="wooden thing",
        phrase=f"wooden thing number {number} beside the narrow door",
        description="A flat piece of dark wood with a round hole in the middle. It leans on the wall, and a short rope "
        "is tied to the end of it.",
        attributes=[
            Attribute(name="colour", value="dark brown"),
            Attribute(name="material", value="wood"),
            Attribute(name="state", value="leaning"),
        ],
        position="left of the middle, in front of the wall",
        region=label,
    )


def typical_questions(targets: Sequence[int]) -> AskedQuestions:
    """A question for the element at each of these positions, all worth keeping."""
    question = "If a guest came in with wet shoes, what would the owner of this place have to move aside for her first?"
    return AskedQuestions(
        questions=[AskedQuestion(element=label_of(target), question=question, score=BEST_SCORE) for target in targets]
    )


def typical_tree(labels: Sequence[str], *, fewest: int, most: int) -> ReasoningSteps:
    """Paths to these elements; two of them share their first step."""
    length = min(max(STEPS, fewest), most)
    nodes: list[Step] = []
    ends: list[PathEnd] = []
    first = ROOT
    for number, label in enumerate(labels):
        shares = length > 1 and number % _PER_FIRST_STEP > 0
        parent = first if shares else ROOT
        for position in range(1 if shares else 0, length):
            nodes.append(_step(len(nodes) + 1, parent))
            parent = nodes[-1].node
            if position == 0:
                first = parent
        ends.append(PathEnd(element=label, last_node=parent))
    return ReasoningSteps(nodes=nodes, paths=ends)


def _step(node: int, parent: int) -> Step:
    return Step(
        node=node,
        parent=parent,
        question="What would a person who comes in here have to look at next?",
        answer="There is a thing at the wall that she would have to walk around.",
    )


def typical_dialogue(focus: str, steps: int) -> WrittenDialogue:
    """A turn for each step of the way to the focus."""
    turns = [
        WrittenTurn(
            step=step,
            question=f"And what is there to be seen if I look at it for the {step}. time?",
            answer="There is something at the wall that one would have to walk around first.",
        )
        for step in range(1, steps)
    ]
    last = WrittenTurn(
        step=steps,
        question="So which one of all these is it that I am looking for?",
        answer=f"You are looking for this: the {focus}, as it is in front of the wall.",
    )
    return WrittenDialogue(turns=[*turns, last], request="Please outline in the picture what all this has led us to.")
