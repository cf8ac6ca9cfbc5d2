"""The gallery of a page: which cases are shown, and what stands on each card."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from miras.dialogue.rendering import plain_text
from miras.errors import DataError
from miras.evaluate.galleries import PictureShelf, Turns, panels, talk_key, turns_of
from miras.evaluate.records import Question
from miras.evaluate.scoring import Answered, Scored
from miras.evaluate.tables import outcome

PANEL_PX = 300
CHOICES = {
    "best": "Best",
    "median": "Around the median",
    "worst": "Worst, large targets first",
    "absent": "Marked something that is not there",
    "random": "Drawn at random from the others",
}
OUTCOME_NAMES = {
    "found": "found",
    "wrong_place": "right phrase, wrong place",
    "other_phrase": "named something else",
    "no_mask": "no mask",
    "rightly_none": "nothing there, no mask",
    "absent": "nothing there, marked all the same",
}


@dataclass(frozen=True)
class Bubble:
    """A turn as it was held."""

    question: str
    answer: str | None
    """With markers; None: the turn was not asked."""
    reference: str
    is_same: bool
    """Whether the answer is the reference, word for word."""
    error: str


@dataclass(frozen=True)
class Card:
    """One case."""

    dialogue_id: str
    targets: str
    """Their phrases; empty: there is none."""
    iou_percent: float
    outcome: str
    """A key of `OUTCOME_NAMES`."""
    pills: tuple[str, ...]
    bubbles: tuple[Bubble, ...]
    """Up to the turn whose mask is shown."""
    panels: tuple[Image.Image, ...]
    """Picture, truth, prediction; none when the picture cannot be opened."""
    trouble: str
    """Why there is no picture."""


class Dealer:
    """Makes cards of the cases of one evaluation."""

    def __init__(self, questions: Iterable[Question], answered: Sequence[Answered], shelf: PictureShelf | None) -> None:
        self._turns: Turns = turns_of(answered)
        self._questions: dict[tuple[str, str], list[Question]] = defaultdict(list)
        for question in questions:
            self._questions[question.benchmark, question.dialogue_id].append(question)
        self._shelf = shelf

    def card(self, item: Scored) -> Card:
        """What the page shows of a case."""
        drawn, trouble = self._panels(item)
        number, asked = item.question.turn, self._questions[item.question.benchmark, item.question.dialogue_id]
        pills = [item.sample.size_class] if item.sample.size_class else []
        if len(asked) > 1:
            pills.append(f"turn {number + 1} of {len(asked)}")
        if item.prediction.is_cut:
            pills.append("answer cut off")
        return Card(
            dialogue_id=item.question.dialogue_id,
            targets=", ".join(item.question.targets),
            iou_percent=100 * item.sample.iou,
            outcome=fate(item),
            pills=tuple(pills),
            bubbles=tuple(self._bubbles(item, sorted(asked, key=lambda question: question.turn))),
            panels=drawn,
            trouble=trouble,
        )

    def _bubbles(self, item: Scored, asked: Sequence[Question]) -> Iterable[Bubble]:
        told = {turn.question.turn: turn.prediction for turn in self._turns[talk_key(item)]}
        for question in asked:
            if question.turn > item.question.turn:
                return
            prediction = told.get(question.turn)
            answer = prediction.answer if prediction else None
            reference = plain_text(question.reference)
            yield Bubble(
                question=question.question,
                answer=answer,
                reference=reference,
                is_same=answer is not None and plain_text(answer) == reference,
                error=prediction.error if prediction else "",
            )

    def _panels(self, item: Scored) -> tuple[tuple[Image.Image, ...], str]:
        if self._shelf is None:
            return (), "No pictures were given."
        try:
            return tuple(panels(item, self._shelf, side_px=PANEL_PX)), ""
        except DataError as error:
            return (), str(error)


def fate(item: Scored) -> str:
    """What became of a case: a key of `OUTCOME_NAMES`."""
    if item.sample.target_px:
        return outcome(item)
    return "absent" if item.sample.predicted_px else "rightly_none"


def choose_cases(
    items: Sequence[Scored], *, num_examples: int, num_failures: int, num_random: int, seed: int
) -> Mapping[str, list[Scored]]:
    """Cases by choice, in the order of `CHOICES`; no case comes twice, and a choice without cases is absent.

    Worst first, so that few cases are all failures rather than all the best ones.

    Args:
        items: of one model, benchmark and history.
        num_examples: of the best, and of those around the median.
        num_failures: of the worst, and of things marked that are not there.
        num_random: drawn from all; those shown already are left out.
        seed: of the draw.
    """
    ranked = sorted(
        (item for item in items if item.sample.target_px),
        key=lambda item: (item.sample.iou, -item.sample.target_px, item.question.dialogue_id, item.question.turn),
    )
    worst, rest = ranked[:num_failures], ranked[num_failures:]
    best = rest[::-1][:num_examples]
    rest = rest[: len(rest) - len(best)]
    middle = min(max(0, len(ranked) // 2 - len(worst) - num_examples // 2), max(0, len(rest) - num_examples))
    median = rest[middle : middle + num_examples]
    absent = [item for item in items if fate(item) == "absent"]
    absent.sort(key=lambda item: (-item.sample.predicted_px, item.question.dialogue_id))
    shown = {item.question.key for item in (*worst, *best, *median)}
    drawn = random.Random(seed).sample(ranked, min(num_random, len(ranked)))
    chosen = {
        "best": best,
        "median": median,
        "worst": worst,
        "absent": absent[:num_failures],
        "random": [item for item in drawn if item.question.key not in shown],
    }
    return {name: chosen[name] for name in CHOICES if chosen[name]}
