"""`metrics.jsonl`: what a training measures, line by line; whoever tracks it reads the file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

METRICS = "metrics.jsonl"
LOG_EVERY_S = float(os.environ.get("MIRAS_LOG_EVERY_S", "3"))  # live enough to watch, few enough to store


class MetricsLog:
    """`metrics.jsonl`: one line per few seconds with step, samples, seconds and the means since the last line."""

    def __init__(self, path: Path, *, keep_until: int, is_writing: bool = True) -> None:
        """Keeps earlier lines up to step `keep_until`; later ones will be written again."""
        self._is_writing = is_writing
        self._values: dict[str, list[float]] = {}
        self._step = self._samples = 0
        self._last = time.monotonic()
        self._path = path
        if is_writing:
            kept = [line for line in _lines(path) if json.loads(line)["step"] < keep_until]
            path.write_text("".join(kept), "utf-8")

    def add(self, figures: dict[str, float], *, step: int, samples: int) -> None:
        """Takes figures of a step."""
        self._step, self._samples = step, samples
        for name, value in figures.items():
            self._values.setdefault(name, []).append(value)

    def write(self, *, force: bool) -> None:
        """Writes a line if the last one is old enough."""
        if not self._is_writing or not self._values:
            return
        if not force and time.monotonic() - self._last < LOG_EVERY_S:
            return
        means = {name: round(sum(values) / len(values), 6) for name, values in self._values.items()}
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"step": self._step, "samples": self._samples, **means}) + "\n")
        self._values.clear()
        self._last = time.monotonic()


def _lines(path: Path) -> list[str]:
    """Complete lines of a file that may have been cut off."""
    if not path.exists():
        return []
    return [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
