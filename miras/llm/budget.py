"""Money and tokens: a ledger beside the cache, and the limits that it keeps.

Before a call its upper estimate is reserved, after it the true amount is settled; both are lines added to one file,
so that what was spent counts over all runs and over processes that run together. A reservation whose process died
before it was settled counts in full, because the server may have charged for the call.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from miras.errors import DataError, MirasError
from miras.files import disk_errors
from miras.llm.config import ServiceConfig

log = logging.getLogger(__name__)
READ_BYTES = 1_000_000  # of the ledger at a time
SYNC_S = 1.0  # at most so much of the ledger is lost with the power; nothing is lost with a process


class BudgetSpentError(MirasError):
    """The next call would exceed the budget; all that was answered is kept."""


@dataclass(frozen=True)
class Amount:
    """Tokens, of prompt and answer together, and what they cost."""

    tokens: int
    usd: float

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.usd - other.usd)


NO_AMOUNT = Amount(0, 0.0)


def price(prompt_tokens: int, answer_tokens: int, service: ServiceConfig) -> float:
    """USD of a call."""
    return (
        prompt_tokens * service.usd_per_million_prompt_tokens + answer_tokens * service.usd_per_million_answer_tokens
    ) / 1e6


@dataclass(frozen=True)
class OpenReservation:
    """Not settled yet."""

    amount: Amount
    key: str
    """Of the request, or the name of the batch."""


class Ledger:
    """`ledger.jsonl` in the cache folder."""

    NAME = "ledger.jsonl"

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.NAME
        with disk_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
        self._read_to = 0
        self._synced_s = time.monotonic()
        self._settled = NO_AMOUNT
        self._reserved = NO_AMOUNT
        self._open: dict[str, OpenReservation] = {}
        with self._locked():
            pass

    def spent(self) -> Amount:
        """All that was ever settled, and all that is or was reserved and not settled; as last read."""
        return self._settled + self._reserved

    def open_reservations(self) -> dict[str, OpenReservation]:
        """By id: calls under way, here or in another process, and calls that a kill broke off."""
        return dict(self._open)

    def reserve(self, amount: Amount, service: ServiceConfig, *, key: str) -> str | None:
        """The reservation's id; None where it would exceed the budget of `service`, and nothing is reserved."""
        with self._locked():
            after = self.spent() + amount
            if service.budget_usd is not None and after.usd > service.budget_usd:
                return None
            if service.budget_tokens is not None and after.tokens > service.budget_tokens:
                return None
            name = uuid.uuid4().hex[:16]
            self._add({"reserve": name, "key": key, "tokens": amount.tokens, "usd": amount.usd})
        return name

    def settle(self, reservation: str, amount: Amount) -> None:
        """Puts what was spent in the place of what was reserved; a second time it changes nothing."""
        with self._locked():
            if reservation in self._open:
                self._add({"settle": reservation, "tokens": amount.tokens, "usd": amount.usd})

    def sync(self) -> None:
        """Writes all to the disk."""
        with disk_errors(self.path):
            os.fsync(self._file.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else writes, and all that others wrote is known."""
        with disk_errors(self.path):
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                self._read_on()
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _read_on(self) -> None:
        self._file.seek(self._read_to)
        rest = b""
        while found := self._file.read(READ_BYTES):
            self._read_to += len(found)
            *lines, rest = (rest + found).split(b"\n")
            for line in lines:
                self._apply(line)
        if rest:  # a kill in the middle of a line; the call was not made yet
            self._write(b"\n")
            self._read_to += 1
            self._apply(rest)

    def _add(self, entry: dict[str, str | int | float]) -> None:
        line = json.dumps(entry).encode("ascii") + b"\n"
        self._write(line)
        self._read_to += len(line)
        self._apply(line)
        if time.monotonic() - self._synced_s > SYNC_S:
            os.fsync(self._file.fileno())
            self._synced_s = time.monotonic()

    def _write(self, content: bytes) -> None:
        if self._file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _apply(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:  # cut off by a kill: a reservation without its call, or a call that stays reserved in full
            log.warning("broken_ledger_line path=%s line=%r; left out", self.path, line[:100])
            return
        try:
            amount = Amount(int(entry["tokens"]), float(entry["usd"]))
            if "reserve" in entry:
                self._open[entry["reserve"]] = OpenReservation(amount, entry["key"])
                self._reserved += amount
            elif entry["settle"] in self._open:
                self._reserved -= self._open.pop(entry["settle"]).amount
                self._settled += amount
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{self.path}: not a line of the ledger: {line[:100]!r}. Put the file back, or move it away "
                "to start counting from zero."
            ) from None


def budget_spent(ledger: Ledger, service: ServiceConfig, *, answered: int, needed: Amount) -> BudgetSpentError:
    """The error that says what was spent, what the next call may take and what to do."""
    spent = ledger.spent()
    limits = []
    if service.budget_usd is not None:
        limits.append(f"{spent.usd:.4f} of {service.budget_usd:.4f} USD (the next call may take {needed.usd:.4f})")
    if service.budget_tokens is not None:
        limits.append(f"{spent.tokens} of {service.budget_tokens} tokens (the next call may take {needed.tokens})")
    return BudgetSpentError(
        f"{ledger.path}: the budget is spent: {' and '.join(limits)}; {answered} answered in this run. "
        "All answers are kept. Raise budget_usd or budget_tokens and run the same command again."
    )
