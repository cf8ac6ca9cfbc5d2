"""`dvc` commands in processes that are ready before they are needed.

Starting Python and loading DVC takes longer than what DVC has to do for most stages. So the process for the next
stage is started while a stage runs; it waits for its arguments on standard input.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping

_LOADED = ("dvc.cli.parser", "dvc.repo.reproduce", "dvc.stage.run")
"""What `dvc repro` would load after it has read its arguments: nearly all of DVC."""


class DvcProcesses:
    """A context in which `dvc` commands run one after the other, each in a process group of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment`: variables of the commands, besides those of this process."""
        self._environment = dict(environment)
        self._waiting: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DvcProcesses:
        self._waiting = self._prepared()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._waiting:
            with self._waiting:  # closes its pipes
                self._waiting.kill()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Runs `dvc ARGUMENTS`; what it prints is read from `stdout`."""
        process = self._waiting
        if process is None or process.poll() is not None:
            process = self._prepared()
        self._waiting = self._prepared()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended just now: its output and exit code say why
            process.stdin.write(json.dumps(arguments).encode() + b"\n")
            process.stdin.close()
        return process

    def _prepared(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            (sys.executable, "-m", __name__),
            env={**os.environ, **self._environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def main() -> int:
    """Loads DVC, waits for one line with the arguments (JSON, a list), and runs the command; the exit code."""
    for name in _LOADED:
        importlib.import_module(name)
    line = sys.stdin.readline()
    if not line:  # not needed any more, or who started us is gone
        return 0
    with open(os.devnull, encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    from dvc.cli import main as run

    return run(json.loads(line))


if __name__ == "__main__":
    sys.exit(main())
