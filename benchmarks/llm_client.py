"""The language model client: `rows` for `benchmarks.generate`; nothing is paid, the server is our own.

Measured, at several limits: the share of a rate-limited server's capacity that the client reaches, beside a plain
client that makes calls at the same concurrency and waits as each refusal asks; and answers a second out of the cache.
The server is `tests/llm_server.py` in a thread of this process: a token bucket that asks for whole seconds in
Retry-After, as HTTP has it. It says nothing about the speed of any model.
"""

from __future__ import annotations

import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path

from pydantic import BaseModel

from benchmarks.report import Row, compare
from miras.llm.asking import open_model
from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.records import Answered, Prompt
from tests.llm_server import LlmServer, Said, TokenBucket

RATES = (5.0, 10.0, 20.0, 50.0)  # calls a second
QUICK_RATES = (20.0,)
BURST = 10.0
LATENCY_S = 0.25
CONCURRENCY = 24
LEAST_SHARE = 0.95
MODEL = ModelConfig(
    provider="openai",
    model="benchmark",
    temperature=0.0,
    seed=0,
    max_answer_tokens=100,
    max_repairs=0,
    schema_support="json_schema",
)


class Answer(BaseModel):
    """Of the benchmark's questions."""

    text: str


@dataclass(frozen=True)
class Measured:
    """Calls against a limited server."""

    share: float
    """Of its capacity."""
    refused: float
    """Refused calls for each one answered."""


def rows(*, is_quick: bool) -> list[Row]:
    """All rows; four minutes, or half a one."""
    found = [
        row
        for rate in (QUICK_RATES if is_quick else RATES)
        for row in _rows_at(rate, seconds=10.0 if is_quick else 30.0)
    ]
    from_cache = compare(
        "answers out of the cache", ours=_cached_per_second(1_000 if is_quick else 10_000), other=None, unit="answers/s"
    )
    return [*found, from_cache]


def _rows_at(rate: float, *, seconds: float) -> list[Row]:
    """Both clients against a server that takes so many calls a second."""
    ours, plain = _ours(rate, seconds), _plain(rate, seconds)
    share = compare(
        f"share of a server's capacity of {rate:g} calls/s, beside a plain client that waits as asked",
        ours=100 * ours.share,
        other=100 * plain.share,
        unit="%",
        more_is_better=True,
    )
    refused = compare(
        f"calls refused for their rate at {rate:g} calls/s, for each one answered",
        ours=ours.refused,
        other=plain.refused,
        unit="calls",
    )
    return [replace(share, target=f"ours >= {100 * LEAST_SHARE:g}", met=ours.share >= LEAST_SHARE), refused]


def _ours(rate: float, seconds: float) -> Measured:
    with _limited(rate) as server, tempfile.TemporaryDirectory() as folder:
        service = ServiceConfig(base_url=server.url, api_key_variable="", concurrency=CONCURRENCY)
        model = open_model(MODEL, service, cache=Path(folder))
        list(model.ask([_prompt(-1)]))  # the first call opens the official client, once in a run
        time.sleep(BURST / rate)
        server.answered.clear()
        began = time.perf_counter()
        until = began + seconds
        endless = takewhile(lambda _: time.perf_counter() < until, count())
        for outcome in model.ask(_prompt(number) for number in endless):
            assert isinstance(outcome, Answered)
            if time.perf_counter() >= until:
                break
        return _measured(server, rate, time.perf_counter() - began)


def _plain(rate: float, seconds: float) -> Measured:
    """As many threads as our client has calls, each of which repeats a refused call after the time asked for."""
    with _limited(rate) as server:
        body = b'{"model": "m", "messages": [{"role": "user", "content": "q"}]}'
        until = time.perf_counter() + seconds

        def call() -> None:
            while time.perf_counter() < until:
                request = urllib.request.Request(f"{server.url}/chat/completions", data=body)
                try:
                    with urllib.request.urlopen(request) as response:
                        response.read()
                except urllib.error.HTTPError as error:
                    time.sleep(float(error.headers["Retry-After"]))

        began = time.perf_counter()
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            for _ in range(CONCURRENCY):
                pool.submit(call)
            time.sleep(seconds)
            return _measured(server, rate, time.perf_counter() - began)


def _cached_per_second(prompts: int) -> float:
    with LlmServer(lambda request: '{"text": "yes"}') as server, tempfile.TemporaryDirectory() as folder:
        service = ServiceConfig(base_url=server.url, api_key_variable="", concurrency=CONCURRENCY)
        asked = min(prompts, 1_000)
        list(open_model(MODEL, service, cache=Path(folder)).ask(_prompt(n) for n in range(asked)))
        model = open_model(MODEL, service, cache=Path(folder))
        began = time.perf_counter()
        found = sum(isinstance(outcome, Answered) for outcome in model.ask(_prompt(n % asked) for n in range(prompts)))
        assert found == prompts
        return prompts / (time.perf_counter() - began)


def _limited(rate: float) -> LlmServer:
    said = Said('{"text": "yes"}', delay_s=LATENCY_S)
    return LlmServer(lambda request: said, bucket=TokenBucket(rate, BURST))


def _measured(server: LlmServer, rate: float, seconds: float) -> Measured:
    answered = sum(server.answered.values())
    return Measured(share=answered / (BURST + rate * (seconds - LATENCY_S)), refused=server.refused / answered)


def _prompt(number: int) -> Prompt:
    return Prompt("benchmark/question", str(number), "Answer.", f"Question {number}: {'word ' * 200}", Answer)
