"""Models that answer prompts: `open_model`, and the one behind a server.

Prompts are read in the caller's thread and answers are given there, in order; calls run in a thread of their own, so
that they go on while the caller works on what it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Protocol, TypeVar

from miras.llm.batches import BatchDesk
from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.counting import Tally
from miras.llm.exchange import Exchange, exchange
from miras.llm.records import Answered, Counts, Outcome, Prompt, Unanswered
from miras.llm.replaying import ReplayModel, from_cache
from miras.llm.service import Service, Stopped
from miras.llm.wire import Request

T = TypeVar("T")
WINDOW_PER_CALL = 4  # prompts read ahead for each call under way, so that one slow answer holds up no other


class LanguageModel(Protocol):
    """Something that answers prompts."""

    def ask(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        """Answers in the order of the prompts; `prompts` is read lazily, a bounded window ahead."""


class CountingModel(LanguageModel, Protocol):
    """One that also says what it did."""

    def counts(self) -> Counts:
        """Since it was opened."""


def open_model(model: ModelConfig, service: ServiceConfig, *, cache: Path) -> CountingModel:
    """The model that the settings name.

    Args:
        model: what decides the answers.
        service: where and how it is asked; `replay` does not read it.
        cache: folder of all answers paid for, and of the ledger; `replay` does not use it.

    Raises:
        ConfigError: the folder of recorded answers is missing. A missing key is told at the first call.
    """
    if model.provider == "replay":
        return ReplayModel(model)
    return ServedModel(model, service, cache=cache)


class ServedModel:
    """A model behind a server, with cache, budget, retries and repairs."""

    def __init__(self, model: ModelConfig, service: ServiceConfig, *, cache: Path) -> None:
        self._model = model
        self._config = service
        self._tally = Tally()
        self._loop = _LoopThread()
        self._service = self._loop.run(_made(lambda: Service(model, service, cache=cache, tally=self._tally)))
        self._desk = BatchDesk(self._service)
        weakref.finalize(self, self._loop.end, self._service)

    def ask(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        """Answers in the order of the prompts.

        When the reader stops early, calls under way end first and are kept; a keyboard interrupt gives them up.

        Raises:
            BudgetSpentError: the next call would exceed the budget.
            ConfigError: key, model or address are wrong.
            ServiceUnavailableError: the server fails whatever is asked.
        """
        self._loop.run(_made(self._service.begin))
        self._loop.run(self._desk.resume())
        if self._config.use_batch_api:
            for part in self._desk.parts(prompts, self._loop.start):
                yield from self._ask_directly(part)
        else:
            yield from self._ask_directly(prompts)

    def counts(self) -> Counts:
        """What was done so far."""
        return self._tally.counts(damaged=len(self._service.answers.damaged), spent=self._service.ledger.spent())

    def _ask_directly(self, prompts: Iterable[Prompt]) -> Iterator[Outcome]:
        window: deque[Future[Outcome] | Outcome] = deque()
        longest = WINDOW_PER_CALL * self._config.concurrency
        try:
            for prompt in prompts:
                window.append(self._begin(prompt))
                while window and (len(window) >= longest or _is_done(window[0])):
                    yield self._take(window.popleft())
            while window:
                yield self._take(window.popleft())
        except KeyboardInterrupt:
            for waiting in window:
                if isinstance(waiting, Future):
                    waiting.cancel()
            raise
        finally:
            self._drain(window)

    def _begin(self, prompt: Prompt) -> Future[Outcome] | Outcome:
        """The outcome where the cache has it, else one to come."""
        steps = exchange(prompt, self._model)
        found = from_cache(steps, self._service.answers, paid=self._service.collected)
        if isinstance(found, Request):
            return self._loop.start(_go_on(steps, found, self._service))
        return found

    def _take(self, waiting: Future[Outcome] | Outcome) -> Outcome:
        outcome = waiting.result() if isinstance(waiting, Future) else waiting
        self._tally.outcome(outcome)
        return outcome

    def _drain(self, window: Iterable[Future[Outcome] | Outcome]) -> None:
        """Lets calls under way end, so that what is paid is kept, and begins no others."""
        left = [waiting for waiting in window if isinstance(waiting, Future)]
        if self._loop.is_over:  # the interpreter is ending
            return
        if left and self._loop.is_here():  # a forgotten generator, collected there: waiting would wait for itself
            self._service.stop(Stopped())
        elif left:
            self._loop.run(_made(lambda: self._service.stop(Stopped())))
            for waiting in left:
                with contextlib.suppress(Exception, CancelledError):  # the first one was raised already
                    waiting.result()
        self._service.ledger.sync()


async def _go_on(steps: Exchange, request: Request, service: Service) -> Outcome:
    """The outcome of an exchange whose next request is not in the cache."""
    try:
        while True:
            request = steps.send(await service.answer(request))
    except StopIteration as end:
        outcome: Answered | Unanswered = end.value
        return outcome


async def _made(make: Callable[[], T]) -> T:
    return make()


def _is_done(waiting: Future[Outcome] | Outcome) -> bool:
    return not isinstance(waiting, Future) or waiting.done()


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.is_over = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="miras-llm", daemon=True)
        self._thread.start()

    def is_here(self) -> bool:
        """Whether the caller is in this thread."""
        return threading.current_thread() is self._thread

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins the work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does the work."""
        return self.start(work).result()

    def end(self, service: Service) -> None:
        """Has the service and the loop closed; it waits for nothing, because it may be called anywhere."""
        self.is_over = True
        self.start(self._close(service))

    async def _close(self, service: Service) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await service.close()
        self._loop.stop()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()
