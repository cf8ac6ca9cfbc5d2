"""When to send: as fast as a rate-limited server takes calls, and how long to wait after a failed one."""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections import deque
from collections.abc import Mapping

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 60.0
MEASURED_S = 5.0  # calls that a measurement looks back on: those of so many seconds,
MEASURED_CALLS = 20  # and at least so many
LEAST_SPAN_S = 1.0  # between two refusals that measure the rate
UNMEASURED_FALL = 0.7  # what a refusal leaves of a rate that is a guess
UNMEASURED_GROWTH = 0.7  # of it in a second
MEASURED_FALL = 0.5  # what a refusal leaves of a measured rate at least: the server may only have had a hiccup
GROWTH = 0.03  # of a measured rate in a second; doubles with every DOUBLED_S without refusal
DOUBLED_S = 2.0
MAX_GROWTH = 0.5
GROWN_EVERY_S = 0.05
CATCH_UP_S = 0.25  # turns that were missed because the machine was busy, made up for


class Pace:
    """Calls a second: no bound until a server refuses calls for their rate (429), then what it takes.

    A server that limits the rate has no allowance left when it refuses a call. So what it took between two refusals is
    what it allows: this sets the rate whenever a call is refused. In between the rate grows, ever faster, until the
    next refusal; it follows a limit that changes, and a few calls in a hundred are refused. Servers differ in how many
    calls they take at once; where that is less than they allow in a tenth of a second some of the limit stays unused.

    All times are of `time.monotonic`.
    """

    def __init__(self) -> None:
        self.rate = math.inf
        self._turn_s = -math.inf  # when the last call's turn was
        self._taken_s: deque[float] = deque()  # when calls were made that were not refused
        self._refused_s: deque[float] = deque()  # when calls were made that were
        self._set_s = -math.inf  # when a refusal last set the rate
        self._grown_s = -math.inf
        self._is_measured = False

    def left_s(self) -> float:
        """Seconds until the next call may be made if the rate stays; 0: now."""
        now = time.monotonic()
        self._grow(now)
        return max(0.0, self._turn_s + 1 / self.rate - now)

    def begin(self) -> float:
        """Takes the turn of a call that is made now; returns the time, which names the call to `refused`."""
        now = time.monotonic()
        self._turn_s = max(self._turn_s + 1 / self.rate, now - CATCH_UP_S)
        self._taken_s.append(now)
        while len(self._taken_s) > MEASURED_CALLS and now - self._taken_s[0] > MEASURED_S:
            self._taken_s.popleft()
        while self._refused_s and self._refused_s[0] < min(self._taken_s[0], now - MEASURED_S):
            self._refused_s.popleft()
        return now

    def refused(self, made_s: float) -> None:
        """The call that was made then was refused for its rate."""
        if made_s in self._taken_s:  # not if it took longer than a measurement looks back
            self._taken_s.remove(made_s)
        self._refused_s.append(made_s)
        if made_s < self._set_s:  # the rate was set since it was made: old news
            return
        now = time.monotonic()
        self.rate = self._after_refusal(made_s, now)
        self._set_s = self._grown_s = now

    def _after_refusal(self, made_s: float, now: float) -> float:
        if math.isinf(self.rate):
            return max(1.0, sum(now - taken_s <= 1.0 for taken_s in self._taken_s))
        first_s = min(self._refused_s)
        span_s = made_s - first_s
        if span_s < LEAST_SPAN_S:
            return UNMEASURED_FALL * self.rate
        self._is_measured = True
        taken = sum(first_s < taken_s < made_s for taken_s in self._taken_s)
        return min(self.rate, max(taken / span_s, MEASURED_FALL * self.rate))

    def _grow(self, now: float) -> None:
        since_s = now - self._grown_s
        if math.isinf(self.rate) or since_s < GROWN_EVERY_S:
            return
        growth = UNMEASURED_GROWTH
        if self._is_measured:
            growth = min(MAX_GROWTH, GROWTH * 2 ** min(30.0, (now - self._set_s) / DOUBLED_S))
        self.rate *= 1 + growth * min(since_s, 1.0)
        self._grown_s = now


def wait_s(failures: int, retry_after_s: float | None) -> float:
    """Seconds before a call is made again.

    As the server asks, and a little more, so that not all come back at once; else twice as long each time, half of it
    by chance.
    """
    if retry_after_s is not None:
        return retry_after_s + random.uniform(0, 0.1 * min(retry_after_s, 10.0) + 0.02)
    longest = min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 30))
    return longest * random.uniform(0.5, 1.0)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait, from its headers (names in lower case or a mapping that ignores case).

    `retry-after-ms`, else `retry-after` in seconds or as an HTTP date (RFC 9110, section 10.2.3). None: it says nothing
    that can be read.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        when = email.utils.parsedate_to_datetime(headers["retry-after"])
        return max(0.0, when.timestamp() - time.time())
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
