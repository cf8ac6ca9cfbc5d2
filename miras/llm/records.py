"""What is asked and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from miras.dialogue.records import Frozen

WhyUnanswered = Literal["refused", "malformed", "off_schema", "wrong", "truncated", "failed"]
"""The model declined; no JSON; JSON of another form; of the right form but refused by `Prompt.check`; cut off at the
longest length allowed; or no answer came at all."""


class PlainText(BaseModel):
    """An answer without form, for `Prompt.answer`: the text as it came. No schema goes to the server, and only an empty
    text is faulty."""

    model_config = ConfigDict(frozen=True)

    text: str


class EarlierTurn(NamedTuple):
    """A question that was asked before, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """One question to the model."""

    name: str
    """Kind of request, such as "prist/elements"; part of logs, budget tables and quarantine."""
    key: str
    """The record it is about: an image id, or image id and number."""
    system: str
    """What the model is told about its task."""
    text: str
    """The question."""
    answer: type[BaseModel]
    """Form of the answer; its JSON schema goes to the server."""
    picture: Path | None = None
    """PNG, JPEG, WebP or GIF, sent as it is."""
    check: Callable[[Any], None] | None = None
    """Raises ValueError, with a sentence for the model, when an answer of the right form is wrong."""
    history: tuple[EarlierTurn, ...] = ()
    """Earlier turns, as messages of their own; the picture goes with the first question."""
    draw: int = 0
    """Which of several independent answers to the same question: part of the key, and added to the model's seed."""


class Usage(Frozen):
    """What calls took."""

    prompt_tokens: int
    answer_tokens: int
    cost_usd: float


@dataclass(frozen=True)
class Answered:
    """A sound answer."""

    prompt: Prompt
    value: BaseModel
    """An instance of `prompt.answer`."""
    raw: str
    """The text that it was read from."""
    usage: Usage
    """Of the calls made for it in this run, repairs included; zero when all came from the cache."""
    calls: int
    """Answers paid for in this run, faulty ones included."""
    cached: int
    """Answers that were paid for before."""

    @property
    def is_cached(self) -> bool:
        """No call was made for it in this run."""
        return self.calls == 0

    @property
    def repairs(self) -> int:
        """How often it was asked again because of what the former answer looked like."""
        return self.calls + self.cached - 1


@dataclass(frozen=True)
class Unanswered:
    """A question without a sound answer; counted and kept, never dropped."""

    prompt: Prompt
    reason: WhyUnanswered
    detail: str
    """What was found and what was expected."""
    raw: tuple[str, ...]
    """Every text that came back, in order."""
    cached: int
    """How many of them were paid for before this run."""


Outcome = Answered | Unanswered


class Counts(Frozen):
    """What a model did since it was opened."""

    answered: int
    """Prompts with a sound answer."""
    unanswered: dict[str, int]
    """Prompts without, by reason."""
    calls: int
    """Answers that were paid for, bad ones and those of a batch included."""
    cached: int
    """Answers that were paid for before."""
    repairs: int
    """Among both: answers to a question asked again."""
    damaged: int
    """Cache entries that were found damaged; they are asked anew."""
    retries: dict[str, int]
    """Calls made again, by status ("429", "503") or by "connection", "timeout", "bad_body"."""
    usage: Usage
    """Of `calls`."""
    unconfirmed_usd: float
    """Upper estimate of calls that broke off: the server may have charged for them. The budget counts it as spent."""
    waited_s: float
    """Seconds spent between attempts, over all calls."""
    spent_tokens: int
    """Of the cache folder, over all runs; what broke off counts with its upper estimate. Budgets are held to this."""
    spent_usd: float
    """The same in money."""
