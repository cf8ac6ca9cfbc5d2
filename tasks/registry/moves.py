"""How an alias of the registry moves: safely for many people at once, and so that every move is remembered.

MLflow can set an alias but not compare before, so two promotions at once could both believe they were right. What
MLflow does decide atomically is the number of a new model version. Therefore each alias has a ledger: a registered
model `<model>.<alias>-moves` whose versions are the moves, in one order for everybody, each written whole. A move names
the one it follows; of two that follow the same one the first counts and the other is void, and its writer is told. The
alias is set to what the last valid move says, and looked at again after it is set. Whoever comes next finishes a move
whose writer was killed in between. No lock, no clock, nothing to clean up.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking.client import MlflowClient

from miras.errors import DataError, MirasError
from tasks.registry.versions import LEDGER, aliases

Kind = Literal["promote", "rollback"]

_LOOKS = 4  # at an alias that stands elsewhere than the ledger says: somebody may just be setting it
_BETWEEN_LOOKS_S = 0.5
_PAGE = 1000


class MoveLostError(MirasError):
    """Somebody else's move came first; nothing of this one took effect."""


@dataclass(frozen=True)
class Move:
    """An entry of the ledger."""

    number: int
    """Its place; the registry numbers from 1."""
    after: int
    """Number of the valid move before it; 0: none."""
    kind: Kind
    from_version: int | None
    """Where the alias stood; None: nowhere."""
    to_version: int
    by: str
    reason: str
    is_forced: bool
    """Whether it went past the gates."""
    comparison: str
    """The gates as they stood, in words; empty for a rollback."""
    key: str
    """Unique to its writer."""
    is_done: bool
    """Whether the alias has been set and seen since."""
    time_ms: int
    """By the registry's clock, since 1970."""

    @property
    def when(self) -> str:
        """Local time of the reader, to the second."""
        return datetime.fromtimestamp(self.time_ms / 1000, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True)
class State:
    """Ledger and alias at one moment."""

    moves: tuple[Move, ...]
    """The valid ones, oldest first."""
    champion: int | None
    """Version that the alias points to."""

    @property
    def last(self) -> Move | None:
        """The move that counts."""
        return self.moves[-1] if self.moves else None

    @property
    def is_settled(self) -> bool:
        """Whether the alias stands where the ledger says."""
        return self.last is None or self.champion == self.last.to_version

    def champions(self) -> list[int]:
        """The champion and those before it that a rollback leads to, newest last."""
        stack: list[int] = []
        for move in self.moves:
            if move.from_version is not None and (not stack or stack[-1] != move.from_version):
                stack.append(move.from_version)  # set by other means
            if move.kind == "rollback":
                stack.pop()
            else:
                stack.append(move.to_version)
        return stack if stack or self.champion is None else [self.champion]


def valid(entries: Sequence[Move]) -> tuple[Move, ...]:
    """The moves that count: each follows the last one that does."""
    found: list[Move] = []
    for entry in sorted(entries, key=lambda entry: entry.number):
        if entry.after == (found[-1].number if found else 0):
            found.append(entry)
    return tuple(found)


class Ledger:
    """The moves of one alias."""

    def __init__(self, client: MlflowClient, *, model: str, alias: str) -> None:
        self._client = client
        self.model = model
        self.alias = alias

    @property
    def name(self) -> str:
        """Registered model whose versions are the moves."""
        return f"{self.model}.{self.alias}{LEDGER}"

    @property
    def address(self) -> str:
        """What the alias is called elsewhere."""
        return f"models:/{self.model}@{self.alias}"

    def read(self) -> State:
        """What stands there now.

        Raises:
            DataError: there is no such model.
        """
        entries = self._entries()
        return State(valid(entries), aliases(self.model, self._client).get(self.alias))

    def settle(self) -> State:
        """What stands there, once a move that was interrupted is finished.

        Raises:
            DataError: the alias stands neither where the last move put it nor where that found it.
        """
        state = self.read()
        for _ in range(_LOOKS):
            if state.last is None or state.is_settled:
                return state
            if not state.last.is_done and state.champion == state.last.from_version:
                self._point()
            else:
                time.sleep(_BETWEEN_LOOKS_S)
            state = self.read()
        last = state.last
        if last is None or state.is_settled:
            return state
        raise DataError(
            f"{self.address} is version {_word(state.champion)}, but the last recorded move, by "
            f"{last.by} at {last.when}, went to version {last.to_version}: the alias was set by other means. Say which "
            f"is right: `miras promote --version {last.to_version} --force REASON` puts it back, "
            f"`miras promote --version {state.champion or 'N'} --force REASON` records the other."
        )

    def move(
        self, state: State, *, kind: Kind, to: int, by: str, reason: str, is_forced: bool = False, comparison: str = ""
    ) -> Move:
        """Moves the alias, if `state` is still what stands there.

        Raises:
            MoveLostError: another move came first.
        """
        self._make()
        key = uuid.uuid4().hex
        tags = {
            "kind": kind,
            "after": str(state.last.number if state.last else 0),
            "from": "" if state.champion is None else str(state.champion),
            "to": str(to),
            "by": by,
            "reason": reason,
            "forced": str(is_forced).lower(),
            "comparison": comparison,
            "key": key,
        }
        note = f"{kind} {_word(state.champion)} -> {to} by {by}: {reason}"
        self._client.create_model_version(self.name, f"models:/{self.model}/{to}", tags=tags, description=note)
        now = self.read()
        mine = next((move for move in now.moves if move.key == key), None)
        if mine is None:
            raise MoveLostError(self._lost(now))
        self._point()
        return mine

    def _point(self) -> None:
        """Sets the alias to what the ledger says, and looks again, since another may have moved it meanwhile."""
        while True:
            state = self.read()
            assert state.last is not None
            if state.is_settled:
                break
            self._client.set_registered_model_alias(self.model, self.alias, str(state.last.to_version))
        if not state.last.is_done:
            self._client.set_model_version_tag(self.name, str(state.last.number), "done", "true")

    def _lost(self, state: State) -> str:
        last = state.last
        assert last is not None
        return (
            f"Nothing was moved: meanwhile {last.by} ({last.kind}, {last.when}: {last.reason}) moved "
            f"{self.address} to version {last.to_version}. Run the command again: it compares with "
            "the new champion."
        )

    def _entries(self) -> list[Move]:
        found: list[Move] = []
        token: str | None = None
        while True:
            page = self._client.search_model_versions(f"name = '{self.name}'", max_results=_PAGE, page_token=token)
            found += [_entry(version) for version in page if "after" in version.tags]
            token = page.token
            if not token:
                return found

    def _make(self) -> None:
        note = f"Every move of the alias {self.alias} of the model {self.model}, a version each. Made by miras."
        try:
            self._client.get_registered_model(self.name)
        except MlflowException as missing:
            if missing.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            try:
                self._client.create_registered_model(self.name, description=note)
            except MlflowException as error:
                if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                    raise  # else another was faster


def person() -> str:
    """Who runs this process: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError):  # a container's user without a name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _entry(version: Any) -> Move:
    tags = version.tags
    return Move(
        number=int(version.version),
        after=int(tags["after"]),
        kind=tags["kind"],
        from_version=int(tags["from"]) if tags["from"] else None,
        to_version=int(tags["to"]),
        by=tags["by"],
        reason=tags["reason"],
        is_forced=tags["forced"] == "true",
        comparison=tags["comparison"],
        key=tags["key"],
        is_done=tags.get("done") == "true",
        time_ms=int(version.creation_timestamp),
    )


def _word(version: int | None) -> str:
    return "none" if version is None else str(version)
