"""What the written recipe stores besides the annotated one's records: questions, raw answers, what came to nothing."""

from __future__ import annotations

from typing import Literal

from miras.dialogue.records import Frozen, Rejected
from miras.llm.records import WhyUnanswered

Step = Literal["elements", "questions", "tree", "dialogue"]


_ADVICE: dict[WhyUnanswered, str] = {
    "refused": "the model will not talk about this; leave it out, or ask another model",
    "truncated": "allow longer answers (max_answer_tokens)",
    "failed": "run the same command again; what was answered is not asked again",
}
_ADVICE_FOR_BAD_ANSWERS = "read the raw answers here; allow more repairs (max_repairs), or ask another model"


def advice(cause: WhyUnanswered) -> str:
    """What to do about a request without a usable answer."""
    return _ADVICE.get(cause, _ADVICE_FOR_BAD_ANSWERS)


class ReasoningQuestion(Frozen):
    """A complex question whose answer is one element of the picture (PRIST step 2-1)."""

    target: str
    """Region id of the element."""
    question: str
    score: int
    """How much reasoning it takes, 1 to 3, as the language model judges."""
    is_kept: bool
    """Whether a path of the tree is made for it."""


class PictureQuestions(Frozen):
    """All questions of one picture."""

    image_id: str
    questions: tuple[ReasoningQuestion, ...]


class RawAnswer(Frozen):
    """An answer as it came, beside the record made of it."""

    step: Step
    key: str
    """The record it became: an image id, or a dialogue id."""
    prompt: str
    """Name of the prompt."""
    model: str
    raw: str
    repairs: int
    """How often the model had to be asked again."""


class UnansweredRequest(Rejected):
    """A request that got no usable answer: what would have come of it is missing."""

    image_id: str
    step: Step
    key: str
    cause: WhyUnanswered
    raw: tuple[str, ...]
    """Everything that was answered, first to last."""


class SilentPicture(Rejected):
    """A picture about which there is nothing to say: every request was answered."""
