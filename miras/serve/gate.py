"""Who may ask, how often, how many at a time, and how much may be sent."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

from miras.serve.config import ServeConfig
from miras.serve.refusals import RefusedError

MAX_CLIENTS = 10_000  # whose pace is known at a time; the one not seen for longest is forgotten
MEGABYTE = 1_000_000


class Pace:
    """At most so many requests per minute of each client, spent at once or spread."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute`: 0 for no limit."""
        self._per_minute, self._clock = per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Counts a request; raises RefusedError where the client has to wait."""
        if not self._per_minute:
            return
        now = self._clock()
        left, since = self._left.pop(client, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - since) * self._per_minute / 60)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MAX_CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            seconds = math.ceil((1 - left) * 60 / self._per_minute)
            raise RefusedError(
                "rate_limit_exceeded",
                f"More than {self._per_minute} requests in a minute. Go on in {seconds} s.",
                retry_after_s=seconds,
            )


class Gate:
    """What a request has to pass before it is read."""

    def __init__(self, config: ServeConfig) -> None:
        """Raises ConfigError where the key that the configuration names is not set."""
        self._config, self._key = config, config.api_key().encode()
        self._pace = Pace(config.requests_per_minute)
        self._places = config.max_queue + config.max_batch

    def check_key(self, request: Request) -> None:
        """Raises RefusedError without the right key."""
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        is_right = kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._key)
        if self._key and not is_right:
            raise RefusedError("unauthorized", "Send the server's key as `Authorization: Bearer KEY`.")

    def enter(self, request: Request) -> None:
        """Takes a place, to be given back by `leave`.

        Raises:
            RefusedError: no key, too many requests of this client, or no place left.
        """
        self.check_key(request)
        self._pace.take(request.client.host if request.client else "")
        if not self._places:
            raise RefusedError("overloaded", "Too many requests at a time. Try again in a moment.", retry_after_s=2)
        self._places -= 1

    def leave(self) -> None:
        """Gives a place back."""
        self._places += 1

    async def body(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            RefusedError: too large, or it does not come in time.
        """
        most = self._config.max_body_mb * MEGABYTE
        parts: list[bytes] = []
        size = 0
        too_large = RefusedError("too_large", f"The request is larger than {self._config.max_body_mb} MB.")
        try:
            async with asyncio.timeout(self._config.timeout_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise too_large  # uvicorn reads on and forgets, so the client sees the answer
                    parts.append(chunk)
        except TimeoutError:
            message = f"The request did not arrive within {self._config.timeout_s:g} s."
            raise RefusedError("too_slow", message) from None
        return b"".join(parts)
