"""Running counts of a model, for its report."""

from __future__ import annotations

from collections import Counter

from miras.llm.budget import Amount
from miras.llm.exchange import NOTHING, added
from miras.llm.records import Answered, Counts, Outcome, Usage


class Tally:
    """Changes while the model is asked; `counts` gives a copy.

    Outcomes are counted by whoever reads them, calls in the thread that makes them: no number is changed by both.
    """

    def __init__(self) -> None:
        self.answered = 0
        self.unanswered: Counter[str] = Counter()
        self.calls = 0
        self.cached = 0
        self.repairs = 0
        self.retries: Counter[str] = Counter()
        self.usage = NOTHING
        self.unconfirmed_usd = 0.0
        self.waited_s = 0.0

    def outcome(self, outcome: Outcome) -> None:
        """Counts a prompt."""
        self.cached += outcome.cached
        if isinstance(outcome, Answered):
            self.answered += 1
            self.repairs += outcome.repairs
        else:
            self.unanswered[outcome.reason] += 1
            self.repairs += max(0, len(outcome.raw) - 1)

    def paid(self, usage: Usage) -> None:
        """Counts an answered call."""
        self.calls += 1
        self.usage = added(self.usage, usage)

    def counts(self, *, damaged: int, spent: Amount) -> Counts:
        """As of now."""
        return Counts(
            answered=self.answered,
            unanswered=dict(sorted(self.unanswered.items())),
            calls=self.calls,
            cached=self.cached,
            repairs=self.repairs,
            damaged=damaged,
            retries=dict(sorted(self.retries.items())),
            usage=self.usage,
            unconfirmed_usd=self.unconfirmed_usd,
            waited_s=round(self.waited_s, 3),
            spent_tokens=spent.tokens,
            spent_usd=spent.usd,
        )
