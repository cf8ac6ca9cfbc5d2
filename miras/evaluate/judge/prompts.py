"""The judge's questions: templates in the folder `prompts`, each with the blocks `system` and `text`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

from miras.evaluate.judge.records import BEST_SCORE, DIMENSIONS, Dimension, JudgedDialogue, Order, Side, TurnText
from miras.llm.records import Prompt
from miras.llm.schema import answer_schema

VERSION_DIGITS = 12


class _JudgeAnswer(BaseModel):
    """Reasons come first, so that the judgement follows from them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    remarks: str
    """Strengths and weaknesses, one to three sentences."""


class ScoredDialogue(_JudgeAnswer):
    """What the judge thinks of one dialogue."""

    progression: float = Field(strict=True)
    """0 to 5."""
    logical_coherence: float = Field(strict=True)
    """0 to 5."""
    content_consistency: float = Field(strict=True)
    """0 to 5."""
    target_relevance: float = Field(strict=True)
    """0 to 5."""

    def scores(self) -> dict[Dimension, float]:
        """By dimension."""
        return {dimension: getattr(self, dimension) for dimension in DIMENSIONS}


class ComparedDialogues(_JudgeAnswer):
    """Which of two dialogues the judge prefers."""

    better: Literal["first", "second", "equal"]


def score_prompt(dialogue: JudgedDialogue, side: Side, *, reading: int, picture: Path | None) -> Prompt:
    """Asks for the four scores of one side's dialogue.

    The question does not tell whose answers they are; readings differ in `draw` alone.
    """
    return _prompt(
        "score",
        dialogue,
        answer=ScoredDialogue,
        picture=picture,
        draw=reading,
        turns=dialogue.turns[side],
    )


def compare_prompt(dialogue: JudgedDialogue, order: Order, *, picture: Path | None) -> Prompt:
    """Asks which of the two sides' dialogues is better, without telling which is whose."""
    model, reference = dialogue.turns["model"], dialogue.turns["reference"]
    first, second = (model, reference) if order == "model first" else (reference, model)
    return _prompt(
        "compare",
        dialogue,
        answer=ComparedDialogues,
        picture=picture,
        draw=0,
        first=first,
        second=second,
    )


def prompt_version() -> str:
    """Hash of everything that words the questions: another one makes scores incomparable."""
    digest = hashlib.sha256()
    loader = PackageLoader(__package__, "prompts")
    for name in sorted(loader.list_templates()):
        digest.update(f"{name}\n{loader.get_source(_environment(), name)[0]}\n".encode())
    for answer in (ScoredDialogue, ComparedDialogues):
        digest.update(json.dumps(answer_schema(answer)).encode())
    return digest.hexdigest()[:VERSION_DIGITS]


def check_scores(answer: ScoredDialogue) -> None:
    """Refuses scores that are not on the scale.

    Raises:
        ValueError: with a sentence for the judge.
    """
    for dimension, score in answer.scores().items():
        if not 0 <= score <= BEST_SCORE:  # also refuses NaN
            raise ValueError(f"{dimension} is {score}; expected a number from 0 to {BEST_SCORE:g}")


def _prompt(
    template: str,
    dialogue: JudgedDialogue,
    *,
    answer: type[_JudgeAnswer],
    picture: Path | None,
    draw: int,
    **turns: Sequence[TurnText],
) -> Prompt:
    values = {"focus": dialogue.focus, "has_picture": picture is not None, **turns}
    return Prompt(
        name=f"judge/{template}",
        key=dialogue.dialogue_id,
        system=_block(template, "system", values),
        text=_block(template, "text", values),
        answer=answer,
        picture=picture,
        check=check_scores if answer is ScoredDialogue else None,
        draw=draw,
    )


def _block(template: str, name: str, values: dict[str, Any]) -> str:
    """The same values give the same bytes, which the cache of answers relies on."""
    loaded = _environment().get_template(f"{template}.md.j2")
    return "".join(loaded.blocks[name](loaded.new_context(values))).strip()


@cache
def _environment() -> Environment:
    """Templates of this package; text for a language model needs no HTML escapes."""
    return Environment(
        loader=PackageLoader(__package__, "prompts"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
