"""Calls to the server: each question once, within the budget, made again when that can help, kept before it is used."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, NoReturn

from openai import AsyncOpenAI

from miras.errors import ConfigError, MirasError, ServiceUnavailableError
from miras.llm.attempt import Declined, Passing, address, attempt, open_client
from miras.llm.budget import NO_AMOUNT, Amount, Ledger, budget_spent, price
from miras.llm.cache import AnswerCache, Claims
from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.counting import Tally
from miras.llm.estimating import most_of, most_prompt_tokens, prompt_tokens
from miras.llm.exchange import NOTHING, Got, Missed
from miras.llm.pace import Pace, wait_s
from miras.llm.records import Usage
from miras.llm.wire import Reply, Request, read_reply

MAX_GIVEN_UP = 5  # calls in a row that failed for good: the service is down
MAX_DECLINED = 20  # requests in a row that the server will not take: it takes none
MAX_ASKED_WAIT_S = 600.0
TURN_STEP_S = 0.1
CLAIM_POLL_S = 0.2  # of a question that another process is asking


class Stopped(Exception):  # noqa: N818  # reaches nobody: the reader of the answers has gone
    """The call was not begun, because nobody waits for it any more."""


class Service:
    """One server and one cache folder. All methods are called in one event loop."""

    def __init__(self, model: ModelConfig, service: ServiceConfig, *, cache: Path, tally: Tally) -> None:
        self.answers = AnswerCache(cache)
        self.claims = Claims(cache)
        self.ledger = Ledger(cache)
        self.tally = tally
        self.model = model
        self.config = service
        self._client: AsyncOpenAI | None = None
        self._pace = Pace()
        self._turn = asyncio.Lock()
        self._slots = asyncio.Semaphore(service.concurrency)
        self._stop = asyncio.Event()
        self._ended_by: Exception | None = None
        self.collected: dict[str, Usage] = {}
        """Answers of batches that nobody has used yet, and what they took."""
        self._asking: dict[str, asyncio.Event] = {}
        self._reserved = 0
        self._settled = asyncio.Event()
        self._num_answers = 0
        self._given_up = 0
        self._declined = 0
        self._factor = 1.0
        self._settle_what_a_kill_left()

    def client(self) -> AsyncOpenAI:
        """The official client, opened at the first call: a run that the cache answers needs no key.

        Raises:
            ConfigError: there is no key.
        """
        if self._client is None:
            self._client = open_client(self.config)
        return self._client

    def begin(self) -> None:
        """Another round of questions; a former one may have been stopped."""
        self._stop.clear()
        self._ended_by = None
        self._given_up = self._declined = 0

    def stop(self, error: Exception) -> None:
        """Lets no other call begin: each ends with the first error given. Calls under way go on to their end."""
        if self._ended_by is None:
            self._ended_by = error
            self._stop.set()

    def fail(self, error: MirasError) -> NoReturn:
        """Stops, and raises the first error given: calls that end together tell one story."""
        self.stop(error)
        assert self._ended_by is not None
        raise self._ended_by

    async def close(self) -> None:
        """Ends the connections."""
        if self._client is not None:
            await self._client.close()
        self.claims.close()

    async def answer(self, request: Request) -> Got | Missed:
        """The reply to a request, from the cache or paid for.

        Raises:
            MirasError: no call will succeed, or none may be made: key, budget, service.
            Stopped: the reader has gone.
        """
        key = request.key
        while key in self._asking:
            await self._asking[key].wait()
        done = self._asking[key] = asyncio.Event()
        try:
            async with self._slots:
                while not self.claims.take(key):
                    await self.pause(CLAIM_POLL_S)
                try:
                    return await self._answer_claimed(request)
                finally:
                    self.claims.drop(key)
        finally:
            del self._asking[key]
            done.set()

    async def _answer_claimed(self, request: Request) -> Got | Missed:
        known = self.answers.get(request.key)
        if known is not None:
            return Got(known, NOTHING, is_cached=True)
        failures, seen = 0, self._num_answers
        while True:
            made_s = await self._turn_taken()
            amount = most_of(request, self.config, factor=self._factor)
            reservation = await self.reserve(amount, key=request.key)
            try:
                response = await attempt(self.client(), request, self.config)
                return await self._keep(request, response, reservation)
            except Passing as failure:
                self._settle_failed(reservation, amount, failure, made_s)
                # A server at its limit that answered others meanwhile is well: this call has its turn later.
                failures += failure.kind != "429" or self._num_answers == seen
                seen = self._num_answers
                if failures > self.config.max_retries:
                    return self._give_up(failures, failure)
                await self._wait(failures, failure)
            except Declined as refusal:
                self.settle(reservation, NO_AMOUNT)
                return self._decline(refusal)
            except ConfigError as error:
                self.settle(reservation, NO_AMOUNT)
                self.fail(error)
            except BaseException:  # cancelled, or the disk is full: the call may have been charged
                self.settle(reservation, amount)
                raise

    async def reserve(self, amount: Amount, *, key: str) -> str:
        """A reservation; waits for calls under way where they may leave enough.

        Raises:
            BudgetSpentError: not even they do.
        """
        while True:
            self.check_stop()
            reservation = self.ledger.reserve(amount, self.config, key=key)
            if reservation is not None:
                self._reserved += 1
                return reservation
            if self._reserved == 0:
                self.fail(budget_spent(self.ledger, self.config, answered=self.tally.calls, needed=amount))
            await self._settled.wait()

    def settle(self, reservation: str, amount: Amount) -> None:
        """Ends a reservation made here."""
        self.ledger.settle(reservation, amount)
        self.no_longer_reserved()

    def no_longer_reserved(self) -> None:
        """A reservation made here was settled, or is left to a later run: who waits for room looks again."""
        self._reserved -= 1
        self._settled.set()
        self._settled = asyncio.Event()

    async def keep(self, key: str, response: dict[str, Any], *, about: dict[str, str]) -> None:
        """Puts a response into the cache, without holding up the other calls."""
        await asyncio.to_thread(self.answers.put, key, response, about=about)

    def paid(self, reply: Reply, *, guess: Usage) -> Usage:
        """Counts an answered call: what the server says of its size, or else the guess."""
        tokens_in = guess.prompt_tokens if reply.prompt_tokens is None else reply.prompt_tokens
        tokens_out = guess.answer_tokens if reply.answer_tokens is None else reply.answer_tokens
        usage = Usage(
            prompt_tokens=tokens_in, answer_tokens=tokens_out, cost_usd=price(tokens_in, tokens_out, self.config)
        )
        self.tally.paid(usage)
        return usage

    def check_stop(self) -> None:
        """Raises the error that ended this round, if one did."""
        if self._ended_by is not None:
            raise self._ended_by

    async def pause(self, seconds: float) -> None:
        """Waits; a stop ends it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        self.check_stop()

    async def _turn_taken(self) -> float:
        """The time of a call that may be made now; waits for it in small steps, because the rate may grow meanwhile."""
        async with self._turn:
            while (seconds := self._pace.left_s()) > 0:
                await self.pause(min(seconds, TURN_STEP_S))
            return self._pace.begin()

    async def _wait(self, failures: int, failure: Passing) -> None:
        asked = failure.retry_after_s
        if asked is not None and asked > MAX_ASKED_WAIT_S:
            self.fail(
                ServiceUnavailableError(
                    f"{address(self.config)}: asks to wait {asked:.0f} s ({failure.detail}). All answers so far are "
                    "kept; run the same command again then."
                )
            )
        seconds = wait_s(failures, asked)
        self.tally.retries[failure.kind] += 1
        self.tally.waited_s += seconds
        await self.pause(seconds)

    async def _keep(self, request: Request, response: dict[str, Any], reservation: str) -> Got:
        prompt = request.prompt
        about = {"name": prompt.name, "key": prompt.key, "model": self.model.model}
        try:
            await self.keep(request.key, response, about=about)
        except MirasError as error:
            self.stop(error)
            raise  # the disk's error, whatever else went wrong
        reply = read_reply(response)
        guess = Usage(prompt_tokens=prompt_tokens(request), answer_tokens=_guess_tokens(reply), cost_usd=0.0)
        usage = self.paid(reply, guess=guess)
        self._factor = max(self._factor, usage.prompt_tokens / most_prompt_tokens(request))
        self.settle(reservation, Amount(usage.prompt_tokens + usage.answer_tokens, usage.cost_usd))
        self._num_answers += 1
        self._given_up = self._declined = 0
        return Got(reply, usage, is_cached=False)

    def _settle_failed(self, reservation: str, amount: Amount, failure: Passing, made_s: float) -> None:
        if failure.may_be_charged:
            self.tally.unconfirmed_usd += amount.usd
        if failure.kind == "429":
            self._pace.refused(made_s)
        self.settle(reservation, amount if failure.may_be_charged else NO_AMOUNT)

    def _give_up(self, attempts: int, failure: Passing) -> Missed:
        self._given_up += 1
        if self._given_up >= MAX_GIVEN_UP:
            self.fail(
                ServiceUnavailableError(
                    f"{address(self.config)}: {self._given_up} calls in a row failed, each {attempts} times; the last "
                    f"one: {failure.detail}. All answers so far are kept; run the same command again when the service "
                    "is back."
                )
            )
        return Missed(f"failed {attempts} times; the last time: {failure.detail}")

    def _decline(self, refusal: Declined) -> Missed:
        if refusal.is_filtered:
            return Missed(refusal.detail, "refused")
        self._declined += 1
        if self._declined >= MAX_DECLINED:
            self.fail(
                ConfigError(
                    f"{self._declined} requests in a row were not taken; the last one: {refusal.detail}. Check model, "
                    "temperature, seed and schema_support. All answers so far are kept."
                )
            )
        return Missed(refusal.detail)

    def _settle_what_a_kill_left(self) -> None:
        """Answers that were kept and not settled; other open reservations stay: their calls may have been charged."""
        for name, reservation in self.ledger.open_reservations().items():
            reply = self.answers.get(reservation.key) if len(reservation.key) == 64 else None
            if reply is not None and reply.prompt_tokens is not None and reply.answer_tokens is not None:
                tokens = reply.prompt_tokens + reply.answer_tokens
                self.ledger.settle(name, Amount(tokens, price(reply.prompt_tokens, reply.answer_tokens, self.config)))


def _guess_tokens(reply: Reply) -> int:
    return -(-len(reply.text.encode()) // 4)
