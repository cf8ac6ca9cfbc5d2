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
HEADROOM = 1.2  # of the rate after a refusal over what was answered: a few refusals, and no token unused
MOST_FALL = 0.9  # what a refusal leaves of the rate at least
REACTION_S = 1.0  # the rate falls at most once in this time: one moment's refusals are one piece of news
MEASURED_S = 5.0
FIRST_GROWTH = 0.05  # of the rate, in a second without refusal; doubles with every such second
MAX_GROWTH = 0.5
CATCH_UP_S = 0.25  # turns that were missed because the machine was busy, made up for


class Pace:
    """Calls a second: no bound until a server refuses calls for their rate (429), then a little above what it answers.

    The rate follows the answers when calls are refused, and grows while none are, ever faster, so that it follows a
    limit that changes. Without it every free call would try its luck, and servers count refused calls towards the
    limit too.
    """

    def __init__(self) -> None:
        self.rate = math.inf
        self._last_s = -math.inf
        self._began_s: float | None = None  # the first word of the server
        self._answered_s: deque[float] = deque()
        self._fell_s = -math.inf
        self._grew_s = 0.0

    def turn_s(self) -> float:
        """0: a call may go now, and its turn is taken; else the seconds until then if the rate stays."""
        now = time.monotonic()
        self._grow(now)
        at = self._last_s + 1 / self.rate
        if at > now:
            return at - now
        self._last_s = max(at, now - CATCH_UP_S)
        return 0.0

    def answered(self) -> None:
        """A call was answered."""
        self._answered_s.append(time.monotonic())
        self._began_s = self._began_s or self._answered_s[0]
        while self._answered_s[-1] - self._answered_s[0] > MEASURED_S:
            self._answered_s.popleft()

    def refused(self) -> None:
        """A call was refused for its rate."""
        now = time.monotonic()
        self._began_s = self._began_s or now
        seen_s = now - self._began_s
        if now - self._fell_s < REACTION_S or seen_s < 2 * REACTION_S:  # too early to know what the server answers
            return
        recent = sum(now - at_s <= MEASURED_S for at_s in self._answered_s)
        least = MOST_FALL * self.rate if math.isfinite(self.rate) else 1.0
        self.rate = min(self.rate, max(HEADROOM * recent / min(MEASURED_S, seen_s), least))
        self._fell_s = self._grew_s = now

    def _grow(self, now: float) -> None:
        if not math.isfinite(self.rate) or now - self._grew_s < 1.0:
            return
        growth = min(MAX_GROWTH, FIRST_GROWTH * 2 ** min(now - self._fell_s - 1, 30))
        self.rate *= 1 + growth * min(now - self._grew_s, 2.0)
        self._grew_s = now


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
