"""Files of requests that the server answers within a day (OpenAI's Batch API), into the same cache.

A batch is known by files in `batches/` of the cache folder: its requests (`<name>.jsonl`) and its state
(`<name>.json`), written before it is submitted. Whoever finds them later asks for the batch again instead of
submitting it twice; the name stands in the batch's metadata, for the case that a kill came before its id was written.
One process at a time looks after the batches of a folder: questions in a file are not claimed one by one.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from openai import AsyncOpenAI, NotFoundError, OpenAIError
from openai.types import Batch

from miras.dialogue.records import Frozen
from miras.errors import ConfigError, DataError, ServiceUnavailableError, WorkspaceBusyError
from miras.files import finished_file, read_records
from miras.llm.attempt import Declined, Passing, address, explain
from miras.llm.batch_files import Part, line_of
from miras.llm.budget import NO_AMOUNT, Amount
from miras.llm.exchange import exchange
from miras.llm.pace import wait_s
from miras.llm.records import Prompt, Usage
from miras.llm.replaying import from_cache
from miras.llm.service import Service, Stopped
from miras.llm.wire import Request, read_reply

T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_REQUESTS = 50_000  # the server's limit for a file
FIRST_POLL_S = 2.0
MAX_POLL_S = 60.0
OPEN = {"validating", "in_progress", "finalizing", "cancelling"}
DESK = "0" * 64  # claimed by the process that looks after the batches of a folder
CLOCK_S = 3600  # how far the server's clock may be from ours
_KEY = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[0-9a-f]+\.jsonl?")  # others were being written when a kill came


class BatchState(Frozen):
    """A batch that was or is to be submitted."""

    name: str
    reservation: str
    """In the ledger."""
    requests: int
    tokens: int
    """Reserved."""
    written_s: float
    """Seconds since 1970."""
    batch_id: str
    """Empty: not known to be submitted."""


class BatchDesk:
    """Submits, waits for and collects batches."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._folder = service.answers.folder / "batches"
        self._ours: set[str] = set()
        self._submitted: set[str] = set()  # keys of questions in batches under way
        self._queued = NO_AMOUNT  # of parts that were cut and not yet reserved

    async def resume(self) -> None:
        """Collects what earlier runs submitted, and removes what they left half; waits until their batches end.

        Raises:
            WorkspaceBusyError: another process looks after the batches of this folder.
        """
        uses_batches = self._service.config.use_batch_api
        left = [path for path in sorted(self._folder.glob("*")) if _batch_name(path) not in self._ours]
        if not left and not uses_batches:
            return
        if not self._service.claims.take(DESK):
            raise WorkspaceBusyError(
                f"{self._folder}: another process looks after batches of this folder. Let it end first: both would "
                "pay for the same questions."
            )
        try:
            for path in left:
                if not _FILE.fullmatch(path.name) or not self._state(_batch_name(path)).exists():
                    path.unlink(missing_ok=True)
                elif path.suffix == ".json":
                    await self._finish(_read_state(path), is_new=False)
        finally:
            if not uses_batches:
                self._service.claims.drop(DESK)

    def parts(
        self,
        prompts: Iterable[Prompt],
        start: Callable[[Coroutine[Any, Any, None]], Future[None]],
    ) -> Iterator[list[Prompt]]:
        """The prompts in parts, each after a batch of its first questions was collected; several batches at a time.

        Args:
            prompts: read until the batches under way are as many as allowed.
            start: begins work in the service's loop.
        """
        under_way: deque[tuple[Part, Future[None]]] = deque()

        def first() -> list[Prompt]:
            part, batch = under_way.popleft()
            try:
                batch.result()
            finally:
                self._submitted -= part.keys
            return part.prompts

        try:
            for part in self._cut(prompts):
                self._queued += part.amount
                self._submitted |= part.keys
                under_way.append((part, start(self._submit(part))))
                if len(under_way) >= self._service.config.concurrency:
                    yield first()
            while under_way:
                yield first()
        finally:
            if under_way:  # the reader has gone, or a batch failed: the others are collected by the next run
                start(self._leave()).result()
                for part, batch in under_way:
                    batch.exception()
                    self._submitted -= part.keys

    async def _leave(self) -> None:
        self._service.stop(Stopped())

    def _cut(self, prompts: Iterable[Prompt]) -> Iterator[Part]:
        part = None
        for prompt in prompts:
            request = from_cache(exchange(prompt, self._service.model), self._service.answers)
            made = None
            if isinstance(request, Request) and request.key not in self._submitted:
                made = line_of(request, self._service.config)
            if part is not None and made is not None and not part.has_room(made):
                yield part.close()
                part = None
            part = part or self._new_part()
            part.prompts.append(prompt)
            if made is not None:
                part.add(made)
            if len(part.prompts) >= MAX_REQUESTS:
                yield part.close()
                part = None
        if part is not None:
            yield part.close()

    def _new_part(self) -> Part:
        part = Part(self._folder, self._left())
        self._ours.add(part.name)
        return part

    def _left(self) -> Amount:
        """Of the budget; a batch is not made larger."""
        config, spent = self._service.config, self._service.ledger.spent() + self._queued
        return Amount(
            sys.maxsize if config.budget_tokens is None else config.budget_tokens - spent.tokens,
            math.inf if config.budget_usd is None else config.budget_usd - spent.usd,
        )

    async def _submit(self, part: Part) -> None:
        if not part.count:
            return
        try:
            reservation = await self._service.reserve(part.amount, key=part.name)
        finally:
            self._queued -= part.amount
        try:
            state = BatchState(
                name=part.name,
                reservation=reservation,
                requests=part.count,
                tokens=part.amount.tokens,
                written_s=time.time(),
                batch_id="",
            )
            self._write(state)
            await self._finish(state, is_new=True)
        finally:
            self._service.no_longer_reserved()
            self._ours.discard(part.name)  # what is left of it is for the next round

    async def _finish(self, state: BatchState, *, is_new: bool) -> None:
        """Submits where that is still to be done, waits, and puts the answers into the cache."""
        if not state.batch_id:
            state = await self._sent(state, is_new=is_new)
        log.info("batch_under_way id=%s requests=%d; it may take a day", state.batch_id, state.requests)
        batch = await self._ended(state)
        log.info("batch_ended id=%s status=%s counts=%s", batch.id, batch.status, batch.request_counts)
        paid = NO_AMOUNT
        if batch.output_file_id:
            content = await self._call(lambda client: client.files.content(batch.output_file_id or ""), state)
            for line in content.text.split("\n"):  # other line ends may stand within an answer
                paid += await self._collect(line, state)
        self._service.ledger.settle(state.reservation, paid)
        self._state(state.name).unlink(missing_ok=True)
        self._requests(state.name).unlink(missing_ok=True)
        if batch.status == "failed":
            told = "; ".join(str(error.message) for error in (batch.errors.data or [])) if batch.errors else "no reason"
            raise ServiceUnavailableError(
                f"{address(self._service.config)}: the batch {batch.id} was not taken: {told[:300]}. Nothing of it was "
                "charged. Run the same command again later, or set use_batch_api to false."
            )
        if batch.status != "completed":
            log.warning("batch_unfinished id=%s status=%s; the rest is asked call by call", batch.id, batch.status)

    async def _sent(self, state: BatchState, *, is_new: bool) -> BatchState:
        """The state with the id of its batch; one that was created before is found, not created again."""
        batch = None if is_new else await self._find(state)
        failures = 0
        while batch is None:
            try:
                uploaded = await self._call(
                    lambda client: client.files.create(file=self._requests(state.name), purpose="batch"), state
                )
                batch = await self._once(partial(_created, file_id=uploaded.id, name=state.name), state)
            except Passing as failure:
                failures += 1
                if failures > self._service.config.max_retries:
                    raise self._unavailable(failure) from None
                await self._service.pause(wait_s(failures, failure.retry_after_s))
                batch = await self._find(state)
        state = state.model_copy(update={"batch_id": batch.id})
        self._write(state)
        return state

    async def _find(self, state: BatchState) -> Batch | None:
        pages = await self._call(lambda client: _listed(client, since_s=state.written_s - CLOCK_S), state)
        return next((batch for batch in pages if (batch.metadata or {}).get("miras_batch") == state.name), None)

    async def _ended(self, state: BatchState) -> Batch:
        seconds = FIRST_POLL_S
        while True:
            batch = await self._call(lambda client: client.batches.retrieve(state.batch_id), state)
            if batch.status not in OPEN:
                return batch
            await self._service.pause(seconds)
            seconds = min(MAX_POLL_S, 1.5 * seconds)

    async def _collect(self, line: str, state: BatchState) -> Amount:
        """Keeps one answer; a line without one is asked again as an ordinary call."""
        if not line.strip():
            return NO_AMOUNT
        try:
            entry = json.loads(line)
            key, response = entry["custom_id"], entry["response"]["body"]
            reply = read_reply(response)
            if entry["response"]["status_code"] != 200 or not _KEY.fullmatch(key):
                raise ValueError(f"status {entry['response']['status_code']}, custom_id {key!r}")
        except (ValueError, KeyError, TypeError) as error:
            log.warning("batch_line_failed id=%s found=%s", state.batch_id, str(error)[:200])
            return NO_AMOUNT
        about = {"name": "batch", "key": state.batch_id, "model": self._service.model.model}
        await self._service.keep(key, response, about=about)
        guess = Usage(prompt_tokens=state.tokens // state.requests, answer_tokens=0, cost_usd=0.0)
        usage = self._service.collected[key] = self._service.paid(reply, guess=guess)
        return Amount(usage.prompt_tokens + usage.answer_tokens, usage.cost_usd)

    async def _call(self, call: Callable[[AsyncOpenAI], Awaitable[T]], state: BatchState) -> T:
        """A call that may be made again without harm."""
        failures = 0
        while True:
            try:
                return await self._once(call, state)
            except Passing as failure:
                failures += 1
                if failures > self._service.config.max_retries:
                    raise self._unavailable(failure) from None
                self._service.tally.retries[failure.kind] += 1
                await self._service.pause(wait_s(failures, failure.retry_after_s))

    async def _once(self, call: Callable[[AsyncOpenAI], Awaitable[T]], state: BatchState) -> T:
        client = self._service.client()
        try:
            return await call(client)
        except NotFoundError:
            if not state.batch_id:
                raise ConfigError(
                    f"{address(self._service.config)}: has no batch service (404). Set use_batch_api to false."
                ) from None
            raise DataError(
                f"{self._state(state.name)}: the server knows no batch {state.batch_id}, or not its files. Use the key "
                "and the address it was submitted with, or move this file away to have its questions asked anew."
            ) from None
        except OpenAIError as error:
            explained = explain(error, self._service.model, self._service.config, secret=client.api_key)
            if isinstance(explained, Declined):
                raise ConfigError(f"{explained.detail}. Set use_batch_api to false to ask call by call.") from None
            raise explained from None

    def _unavailable(self, failure: Passing) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"{address(self._service.config)}: the batch service does not answer: {failure.detail}. Batches under way "
            "are collected when you run the same command again."
        )

    def _state(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _requests(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"

    def _write(self, state: BatchState) -> None:
        with finished_file(self._state(state.name)) as aside, aside.open("w", encoding="utf-8") as file:
            file.write(state.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())


def _batch_name(path: Path) -> str:
    return path.name.lstrip(".").partition(".")[0]


def _read_state(path: Path) -> BatchState:
    state = next(read_records(path, BatchState), None)
    if state is None:
        raise DataError(f"{path}: empty. Move it away; its questions are then asked anew.")
    return state


async def _created(client: AsyncOpenAI, *, file_id: str, name: str) -> Batch:
    return await client.batches.create(
        input_file_id=file_id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"miras_batch": name},
    )


async def _listed(client: AsyncOpenAI, *, since_s: float) -> list[Batch]:
    """Batches of the account, the latest first, back to a time in seconds since 1970."""
    found = []
    async for batch in client.batches.list(limit=100):
        if batch.created_at < since_s:
            break
        found.append(batch)
    return found
