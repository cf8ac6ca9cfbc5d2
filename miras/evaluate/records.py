"""The two public tables of an evaluation: questions with their truth, and predictions. Scoring reads nothing else.

Both are JSON Lines. Whoever has a benchmark's `questions.jsonl` can write a `predictions.jsonl` and have it scored
(`miras score`); docs/evaluation.md shows a line of each.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from miras.dialogue.records import DialogueKind, Frozen, Rle

History = Literal["own", "reference", "none", "any"]
"""What the model had read before the question: its own answers, the reference answers, nothing; any: a baseline that
reads nothing."""
FINAL = "stage2"
"""Name of the trained model that the other rows are compared with."""
BLIND = "no-picture"
"""Name of the same model shown a grey picture."""

QuestionKey = tuple[str, str, int]
PredictionKey = tuple[str, str, str, str, int]


class Question(Frozen):
    """One turn of a benchmark, with its truth."""

    benchmark: str = Field(min_length=1)
    """Its name, such as "dialogues" or "refcoco-testA"."""
    dialogue_id: str = Field(min_length=1)
    turn: int = Field(ge=0)
    """Index within the dialogue."""
    image_id: str
    """Empty: a dialogue without picture."""
    file_name: str = ""
    """Of the picture, in the data set's folder of pictures."""
    size: tuple[int, int]
    """(height, width) of the picture in pixels: the size of every mask; (0, 0) without picture."""
    kind: DialogueKind
    is_last: bool
    """Whether this turn is the dialogue's last."""
    asks_for_mask: bool
    """Whether its mask is scored. Of a PRIST dialogue the last turn alone; the right mask may be an empty one."""
    question: str
    reference: str
    """The reference answer, with markers `[OBJ]phrase[SEG]`."""
    focus: str = ""
    """What the dialogue leads to."""
    targets: tuple[str, ...] = ()
    """Phrases of the targets; empty: there is none."""
    target: Rle | None = None
    """Union of the targets' masks. None: no target, or one whose mask nobody has drawn (counted as unscored)."""
    ignored: Rle | None = None
    """Pixels that count for neither mask (label 255 of the public sets)."""
    tags: dict[str, str] = Field(default_factory=dict)
    """What scores are told apart by besides size, turn, focus and number of targets: {"query": "long"}."""

    @property
    def key(self) -> QuestionKey:
        """Unique in a file of questions."""
        return self.benchmark, self.dialogue_id, self.turn

    @property
    def is_scorable(self) -> bool:
        """Whether the truth of its mask is known."""
        return self.target is not None or not self.targets


class PredictedMask(Frozen):
    """A mask and the phrase it was given with."""

    phrase: str = ""
    mask: Rle


class Prediction(Frozen):
    """One answered turn."""

    benchmark: str = Field(min_length=1)
    model: str = Field(min_length=1)
    """stage1, stage2, no-picture, a baseline (whole-image, random-object, largest-object), or any name."""
    history: History = "own"
    dialogue_id: str = Field(min_length=1)
    turn: int = Field(ge=0)
    answer: str = ""
    """Text, with markers where the model writes them; empty for baselines."""
    masks: tuple[PredictedMask, ...] = ()
    """In the order of the answer; their union is scored. None: the model pointed at nothing."""
    seconds: float = Field(default=0.0, ge=0)
    """Wall time of the answer, an equal share of its batch's."""
    is_cut: bool = False
    """Whether the answer was cut off at the longest length allowed."""
    raw: str = ""
    """What the model wrote, where `answer` was read out of it."""
    error: str = ""
    """Why there is no answer. Scored as an empty one, and counted."""

    @property
    def key(self) -> PredictionKey:
        """Unique in a file of predictions."""
        return self.benchmark, self.model, self.history, self.dialogue_id, self.turn

    @property
    def question_key(self) -> QuestionKey:
        """Of the question it answers."""
        return self.benchmark, self.dialogue_id, self.turn
