"""The thread that owns the network: questions wait in line, and are answered in batches.

What one question causes never hits the others of its batch: where a batch fails, each is asked alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from miras.dialogue.rendering import plain_text
from miras.errors import DataError
from miras.model.records import Response
from miras.model.talk import Talk
from miras.model.talker import Talker, turn_texts
from miras.serve.config import ServeConfig
from miras.serve.dialogues import Asked, Resolved, Target, answer_key, resolve, state_key, targets_of
from miras.serve.metrics import Metrics
from miras.serve.refusals import RefusedError, place_of
from miras.serve.shelf import Remembered, Shelf, holding

LOG = logging.getLogger("miras.serve")


@dataclass(frozen=True)
class Progress:
    """The answer so far."""

    text: str


@dataclass(frozen=True)
class Answered:
    """A whole answer."""

    text: str
    targets: tuple[Target, ...]
    is_cut: bool
    prompt_tokens: int
    answer_tokens: int
    """The token that ends it counted."""
    without_marks: tuple[int, ...]
    """Earlier turns whose marks nobody knew."""


Event = Progress | Answered | RefusedError


@dataclass(eq=False)
class Job:
    """A question on its way through the engine."""

    asked: Asked
    tell: Callable[[Event], None]
    """Called in the engine's thread, last with an answer or a refusal."""
    arrived: float = field(default_factory=time.perf_counter)
    is_gone: bool = False
    """Whether nobody waits for the answer any more (`Engine.leave`)."""


@dataclass(frozen=True)
class _Ready:
    """A job with its dialogue as the model reads it."""

    job: Job
    talk: Talk
    resolved: Resolved
    prompt_tokens: int


class Engine:
    """A network with a line of questions before it."""

    def __init__(self, talker: Talker, config: ServeConfig, metrics: Metrics) -> None:
        self._talker, self._config, self._metrics = talker, config, metrics
        self._shelf, self._remembered = Shelf(int(config.memory_gb * 1e9)), Remembered()
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stops = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        metrics.queue.set_function(lambda: len(self._waiting))

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the batch in hand; what still waits is refused."""
        with self._changed:
            self._stops = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        while self._waiting:
            self._waiting.popleft().tell(_stopping())

    @property
    def is_ready(self) -> bool:
        """Whether questions are answered."""
        return self._thread.is_alive() and not self._stops

    def put(self, job: Job) -> None:
        """Lines up a question.

        Raises:
            RefusedError: the server is going down.
        """
        with self._changed:
            if not self.is_ready:
                raise _stopping()
            self._waiting.append(job)
            self._changed.notify_all()

    def leave(self, job: Job) -> None:
        """Nobody waits for this answer any more; its place in the line is free at once."""
        with self._changed:
            job.is_gone = True
            if job in self._waiting:
                self._waiting.remove(job)

    def _run(self) -> None:
        while jobs := self._next_batch():
            self._answer(jobs)

    def _next_batch(self) -> list[Job]:
        """The next questions; empty: it is time to stop."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._stops)
                if self._stops:
                    return []
                end = time.perf_counter() + self._config.batch_wait_ms / 1000
                while len(self._waiting) < self._config.max_batch and not self._stops:
                    if not self._changed.wait(max(0.0, end - time.perf_counter())):
                        break
                count = min(len(self._waiting), self._config.max_batch)
                jobs = [self._waiting.popleft() for _ in range(count)]
                if jobs:
                    return jobs

    def _answer(self, jobs: Sequence[Job]) -> None:
        try:
            ready = [each for job in jobs if (each := self._prepared(job)) is not None]
            if ready:
                self._speak(ready)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError | MemoryError):
                self._shelf.clear()
            if len(jobs) > 1:
                LOG.warning("event=batch_failed size=%d error=%s", len(jobs), type(error).__name__)
                for job in jobs:
                    self._answer([job])
            else:
                jobs[0].tell(_failed(error))

    def _prepared(self, job: Job) -> _Ready | None:
        """The dialogue on top of what is kept of it; None where it cannot be asked, which its client is told."""
        try:
            resolved = resolve(job.asked, self._remembered.get)
            builder = self._talker.responder.builder
            spoken_of = [*resolved.masks, *(mask for said in resolved.said for mask in said.masks)]
            if spoken_of and not builder.has_memory:
                raise RefusedError("cannot_be_taken", "This model was trained without memory of masks; ask in words.")
            found = self._shelf.find(resolved.keys)
            talk = holding(found, job.asked.picture)
            talk.said = resolved.said
            tokens = _prompt_tokens(self._talker, talk, resolved)
        except RefusedError as refusal:
            job.tell(refusal)
            return None
        except Exception as error:
            job.tell(_failed(error))
            return None
        is_whole = found.turns == len(talk.said)
        self._metrics.found.labels("nothing" if found.holder is None else "all" if is_whole else "part").inc()
        return _Ready(job, talk, resolved, tokens)

    def _speak(self, ready: Sequence[_Ready]) -> None:
        self._metrics.batch.observe(len(ready))
        kept = []
        for each, response in zip(ready, self._responses(ready), strict=True):
            if response is None:
                continue
            if each.job.is_gone:
                continue
            text, targets = plain_text(response.answer), targets_of(response)
            asked_key = each.resolved.asked_key
            self._remembered.put(answer_key(asked_key, text), targets)
            kept.append((each.talk, (*each.resolved.keys, state_key(asked_key, text, targets))))
            self._metrics.answer.observe(time.perf_counter() - each.job.arrived)
            each.job.tell(
                Answered(
                    text=text,
                    targets=targets,
                    is_cut=response.is_cut,
                    prompt_tokens=each.prompt_tokens,
                    answer_tokens=_num_answer_tokens(each),
                    without_marks=each.resolved.without_marks,
                )
            )
        self._shelf.keep(kept)
        self._metrics.dropped.set(self._shelf.memory.dropped)
        self._metrics.dialogues.set(len(self._shelf))
        self._metrics.kept.set(self._shelf.memory.num_bytes)

    def _responses(self, ready: Sequence[_Ready]) -> Sequence[Response | None]:
        """Of each, its client told what is said so far; None where the client has gone, which frees its place."""
        steps = self._talker.stream(
            [each.talk for each in ready], [(each.resolved.question, each.resolved.masks) for each in ready]
        )
        before: list[str | None] = [None] * len(ready)
        gone: set[int] | None = None  # nothing can be sent before the first step
        while gone is None or len(gone) < len(ready):
            try:
                texts = next(steps) if gone is None else steps.send(gone)
            except StopIteration as end:
                responses: list[Response | None] = end.value
                return responses
            for number, (each, text) in enumerate(zip(ready, texts, strict=True)):
                if before[number] is None:
                    self._metrics.first_token.observe(time.perf_counter() - each.job.arrived)
                if text != before[number]:
                    each.job.tell(Progress(text))
                before[number] = text
            gone = {number for number, each in enumerate(ready) if each.job.is_gone}
        steps.close()
        return [None] * len(ready)


def _num_answer_tokens(answered: _Ready) -> int:
    """How many tokens were chosen: all that are kept after the question, and the last one."""
    prefix = answered.talk.prefix
    return 0 if prefix is None else len(prefix.tokens) - answered.prompt_tokens + 1


def _prompt_tokens(talker: Talker, talk: Talk, resolved: Resolved) -> int:
    """How many tokens are read before the answer begins."""
    builder = talker.responder.builder
    try:
        row = builder.prompt_row(turn_texts(talk, resolved.question, len(resolved.masks)), where="dialogue")
    except DataError:
        message = (
            f"The dialogue is longer than the {builder.max_tokens} tokens that this model reads, "
            f"{builder.num_image_tokens} of them for the picture. Leave out early turns or begin a new dialogue."
        )
        raise RefusedError("context_length_exceeded", message, where="messages") from None
    return len(row.ids)


def _failed(error: Exception) -> RefusedError:
    """What a client is told when answering went wrong; the log gets the place, without anything of the request."""
    LOG.error("event=failed error=%s at=%s", type(error).__name__, place_of(error))
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        message = "The server's memory does not suffice for this dialogue now. Try later, or with a smaller picture."
        return RefusedError("overloaded", message, retry_after_s=5)
    return RefusedError("internal_error", "The server failed to answer this request; its log says where.")


def _stopping() -> RefusedError:
    return RefusedError("overloaded", "The server is going down. Try again in a moment.", retry_after_s=5)
