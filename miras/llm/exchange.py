"""What is asked for one prompt, one call after the other: question, repairs, and when to give up.

No file and no network here: whoever drives the exchange answers its requests from the cache, a recording or a server.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

from miras.errors import DataError
from miras.llm.config import ModelConfig
from miras.llm.mending import Faulty, read_answer
from miras.llm.records import Answered, Outcome, Prompt, Unanswered, Usage, WhyUnanswered
from miras.llm.wire import Fault, Reply, Request, make_request

NOTHING = Usage(prompt_tokens=0, answer_tokens=0, cost_usd=0.0)


@dataclass(frozen=True)
class Got:
    """A reply and what was paid for it in this run."""

    reply: Reply
    usage: Usage
    is_cached: bool


@dataclass(frozen=True)
class Missed:
    """No reply to this request, and none to be expected."""

    detail: str
    reason: Literal["refused", "failed"] = "failed"
    """refused: the server would not let the model answer this."""


Exchange = Generator[Request, Got | Missed, Outcome]


def exchange(prompt: Prompt, model: ModelConfig) -> Exchange:
    """Yields the requests of a prompt, takes what came back, and returns the outcome.

    A faulty answer is asked again at most `max_repairs` times, one that was cut off once with twice the length.
    """
    limit = model.max_answer_tokens
    faults: tuple[Fault, ...] = ()
    raw: list[str] = []
    usage, cached = NOTHING, 0

    def without(reason: WhyUnanswered, detail: str) -> Unanswered:
        return Unanswered(prompt, reason, detail, tuple(raw), cached)

    while True:
        try:
            request = make_request(prompt, model, max_answer_tokens=limit, faults=faults)
        except DataError as error:
            return without("failed", str(error))
        got = yield request
        if isinstance(got, Missed):
            return without(got.reason, got.detail)
        usage, cached = added(usage, got.usage), cached + got.is_cached
        raw.append(got.reply.text)
        if got.reply.refusal:
            raw[-1] = raw[-1] or got.reply.refusal
            return without("refused", got.reply.refusal)
        if got.reply.is_cut:
            if limit > model.max_answer_tokens:
                return without("truncated", f"cut off at {limit} tokens; raise max_answer_tokens.")
            limit *= 2
            continue
        value = read_answer(prompt, got.reply.text)
        if not isinstance(value, Faulty):
            return Answered(prompt, value, got.reply.text, usage, len(raw) - cached, cached)
        if len(faults) == model.max_repairs:
            return without(value.reason, value.message)
        faults = (*faults, Fault(got.reply.text, value.message))


def added(first: Usage, second: Usage) -> Usage:
    """The sum of both."""
    return Usage(
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        answer_tokens=first.answer_tokens + second.answer_tokens,
        cost_usd=first.cost_usd + second.cost_usd,
    )
