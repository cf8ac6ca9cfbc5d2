"""Answers from a folder alone: what the cache has, and the model that has nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path

from miras.errors import ConfigError
from miras.llm.budget import NO_AMOUNT
from miras.llm.cache import AnswerCache
from miras.llm.config import ModelConfig
from miras.llm.counting import Tally
from miras.llm.exchange import NOTHING, Exchange, Got, Missed, exchange
from miras.llm.records import Answered, Counts, Outcome, Prompt, Unanswered, Usage
from miras.llm.wire import Request


def from_cache(
    steps: Exchange, cache: AnswerCache | None, *, paid: MutableMapping[str, Usage] | None = None
) -> Request | Outcome:
    """The outcome of an exchange as far as the cache goes; the first request that it does not answer.

    Args:
        steps: an exchange that has not begun; where a request comes back it waits for that one's reply.
        cache: None answers nothing.
        paid: keys of answers that were put there in this run, which count as calls when they are first used, and what
            they took; the used ones are removed.
    """
    try:
        request = next(steps)
        while True:
            reply = None if cache is None else cache.get(request.key)
            if reply is None:
                return request
            usage = paid.pop(request.key, None) if paid else None
            request = steps.send(Got(reply, usage or NOTHING, is_cached=usage is None))
    except StopIteration as end:
        outcome: Answered | Unanswered = end.value
        return outcome


class ReplayModel:
    """Answers recorded before; never the network."""

    def __init__(self, model: ModelConfig) -> None:
        folder = Path(model.recorded)
        if not (folder / "answers").is_dir():
            raise ConfigError(
                f"{folder}: no recorded answers (expected a folder `answers` in it). Set recorded to the cache folder "
                "of a run with provider openai."
            )
        self._model = model
        self._cache = AnswerCache(folder)
        self._tally = Tally()

    def ask(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        """Answers in the order of the prompts; one that was not recorded is `Unanswered("failed")`."""
        for prompt in prompts:
            steps = exchange(prompt, self._model)
            found = from_cache(steps, self._cache)
            if isinstance(found, Request):
                found = self._missing(found, steps)
            self._tally.outcome(found)
            yield found

    def counts(self) -> Counts:
        """What was found so far."""
        return self._tally.counts(damaged=len(self._cache.damaged), spent=NO_AMOUNT)

    def _missing(self, request: Request, steps: Exchange) -> Outcome:
        prompt = request.prompt
        detail = (
            f"{self._cache.path(request.key)}: no sound recorded answer to {prompt.name} about {prompt.key}. To record "
            "it, ask once with provider openai, the same model settings and this folder as the cache."
        )
        try:
            steps.send(Missed(detail))
        except StopIteration as end:
            outcome: Answered | Unanswered = end.value
            return outcome
        raise AssertionError("an exchange goes on after a miss")
