"""The output of a running stage: raw to the terminal, so that bars move; whole lines to the log.

DVC's own remarks, which repeat what the flow says or give hints for git, go to neither.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

_CHATTER = re.compile(
    r"""\s*$
    | Running\ stage\ '
    | >\ python\b
    | (Updating|Generating)\ lock\ file\b
    | Stage\ '.*'\ (didn't\ change|is\ cached)
    | Data\ and\ pipelines\ are\ up\ to\ date
    | To\ track\ the\ changes\ with\ git | \s*git\ add\ | To\ enable\ auto\ staging
    | \s*dvc\ config\ core\.autostage | Use\ `dvc\ push`
    | ERROR:\ failed\ to\ reproduce\b
    """,
    re.VERBOSE,
)
_UNCHANGED = re.compile(r"Stage '.*' didn't change, skipping")
_RESTORED = re.compile(r"Stage '.*' is cached - skipping run")

_BAR_INTERVAL_S = 15.0


class StageOutput:
    """Splits what a stage prints into an echo and log lines."""

    def __init__(
        self,
        *,
        echo: Callable[[bytes], None],
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`echo` gets bytes as they come, `log` one line at a time, and of a moving bar one state in 15 s."""
        self._echo = echo
        self._log = log
        self._clock = clock
        self._line = b""
        self._echoed = 0
        self._next_bar_s = 0.0
        self.outcome = "done"
        """done, unchanged (nothing was to do) or restored (an earlier result came from DVC's cache)."""
        self.errors: list[str] = []
        """What DVC says when it fails."""

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes, however they are cut."""
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._line += piece + b"\n"
            self._end_line()
        self._line += rest
        if b"\r" in self._line:
            self._draw_bar()

    def close(self) -> None:
        """Ends a last line without line end."""
        if self._line:
            self._end_line()

    def _draw_bar(self) -> None:
        self._echo(self._line[self._echoed :])
        self._echoed = len(self._line)
        if self._clock() >= self._next_bar_s:
            shown = self._line.split(b"\r")[-1].decode(errors="replace").strip()
            if shown:
                self._next_bar_s = self._clock() + _BAR_INTERVAL_S
                self._log(shown)

    def _end_line(self) -> None:
        text = self._line.split(b"\r")[-1].decode(errors="replace").rstrip()
        if self._echoed or not _CHATTER.match(text):
            self._echo(self._line[self._echoed :])
            if text:
                self._log(text)
        self._interpret(text)
        self._line, self._echoed = b"", 0

    def _interpret(self, text: str) -> None:
        if text.startswith("ERROR:"):
            self.errors.append(text)
        elif _UNCHANGED.match(text):
            self.outcome = "unchanged"
        elif _RESTORED.match(text):
            self.outcome = "restored"
