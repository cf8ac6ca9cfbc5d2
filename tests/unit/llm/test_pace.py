"""Waits between attempts."""

from __future__ import annotations

import email.utils
import heapq
import math
import random
import time

import pytest

from miras.llm import pace
from miras.llm.pace import Pace, retry_after_s, wait_s


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_retry_after_as_a_date_counts_from_now() -> None:
    found = retry_after_s({"retry-after": email.utils.formatdate(time.time() + 90, usegmt=True)})
    assert found == pytest.approx(90, abs=2)


def test_waits_double_within_bounds_and_never_fall_short_of_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.5)
    monkeypatch.setattr(pace, "MAX_WAIT_S", 60.0)
    for failures in range(200):
        longest = min(60.0, 0.5 * 2.0**failures)
        assert longest / 2 <= wait_s(failures, None) <= longest
        assert 3.0 <= wait_s(failures, 3.0) < 3.4


class Bucket:
    """A server that takes `rate` calls a second and `burst` at once, and asks whoever is refused to wait."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = self.level = burst
        self.taken = self.refused = 0
        self._at_s = 0.0

    def takes(self, now_s: float) -> bool:
        self.level = min(self.burst, self.level + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        is_taken = self.level >= 1
        self.level -= is_taken
        self.taken += is_taken
        self.refused += not is_taken
        return is_taken


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time; a test moves it on."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def drive(
    limit: Pace, bucket: Bucket, clock: list[float], *, until_s: float, retry_after: str, concurrency: int = 24
) -> None:
    """Callers that make one call after the other; one takes 0.25 s, a refusal 4 ms and the wait it asks for."""
    dice = random.Random(0)
    ready = [(clock[0], caller) for caller in range(concurrency)]
    while ready[0][0] < until_s:
        at_s, caller = heapq.heappop(ready)
        clock[0] = max(clock[0], at_s)
        while (left_s := limit.left_s()) > 0:
            clock[0] += min(left_s, 0.1)
        made_s = limit.begin()
        if bucket.takes(clock[0]):
            heapq.heappush(ready, (clock[0] + 0.25 * dice.uniform(0.5, 1.5), caller))
            continue
        clock[0] += 0.0001  # refusals come before the next call is made
        limit.refused(made_s)
        needed_s = (1 - bucket.level) / bucket.rate
        asked_s = {"whole": float(math.ceil(needed_s)), "exact": needed_s, "none": 0.25}[retry_after]
        heapq.heappush(ready, (clock[0] + 0.004 + asked_s * dice.uniform(1.0, 1.1), caller))


@pytest.mark.parametrize("retry_after", ["whole", "exact", "none"])
@pytest.mark.parametrize("rate", [0.5, 5, 10, 20, 50])
def test_the_limit_is_found_and_used_with_few_refusals(rate: float, retry_after: str, clock: list[float]) -> None:
    bucket, limit = Bucket(rate, burst=10), Pace()
    drive(limit, bucket, clock, until_s=60, retry_after=retry_after)
    assert bucket.taken >= 0.95 * (10 + 60 * rate)
    assert bucket.refused <= 30 + 0.1 * bucket.taken  # the first callers do not know the limit
    assert limit.rate == pytest.approx(rate, rel=0.35)


@pytest.mark.parametrize(("before", "after"), [(20, 5), (5, 20)])
def test_a_limit_that_changes_is_followed(before: float, after: float, clock: list[float]) -> None:
    bucket, limit = Bucket(before, burst=10), Pace()
    drive(limit, bucket, clock, until_s=60, retry_after="whole")
    bucket.rate = after
    drive(limit, bucket, clock, until_s=80, retry_after="whole")
    taken, refused = bucket.taken, bucket.refused
    drive(limit, bucket, clock, until_s=120, retry_after="whole")
    assert bucket.taken - taken >= 0.95 * 40 * after
    assert bucket.refused - refused <= 0.15 * (bucket.taken - taken)


def test_there_is_no_bound_before_a_refusal(clock: list[float]) -> None:
    limit = Pace()
    for _ in range(1000):
        assert limit.left_s() == 0.0
        limit.begin()


def test_a_server_that_refused_everything_for_a_while_is_tried_faster_again(clock: list[float]) -> None:
    limit, refusals = Pace(), 0
    while clock[0] < 120:
        clock[0] += min(0.1, limit.left_s())
        if limit.left_s() == 0:
            limit.refused(limit.begin())
            refusals += 1
    assert refusals < 60
    while clock[0] < 150:
        clock[0] += min(0.1, limit.left_s())
        if limit.left_s() == 0:
            limit.begin()
    assert limit.rate > 20
