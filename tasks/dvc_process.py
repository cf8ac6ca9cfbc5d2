"""`dvc repro` of one stage after the other, in processes that are ready before they are needed.

Starting Python and loading DVC takes longer than what DVC has to do for most stages. So the process for the next
stage starts while a stage runs; it waits for the stage's name on standard input. It also looks up what the stage
reads, for the stage's own process, which then need not load DVC.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

from miras.errors import MirasError
from tasks import graph


class DvcProcesses:
    """A context in which stages run by DVC, one after the other, each in a process group of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment`: variables of the stages, besides those of this process."""
        self._environment = dict(environment)
        self._waiting: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DvcProcesses:
        self._waiting = self._prepared()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._waiting:
            with self._waiting:  # closes its pipes
                self._waiting.kill()

    def start(self, stage: str, *, again: bool = False) -> subprocess.Popen[bytes]:
        """Runs `dvc repro --single-item STAGE`; what it prints is read from `stdout`.

        `again`: even if nothing that the stage reads has changed.
        """
        process = self._waiting
        if process is None or process.poll() is not None:
            process = self._prepared()
        self._waiting = self._prepared()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended just now: its output and exit code say why
            process.stdin.write(json.dumps({"stage": stage, "again": again}).encode() + b"\n")
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
    """Loads DVC, waits for one line with the stage (JSON), and runs it; the exit code of `dvc repro`."""
    from dvc.cli import main as dvc

    with open(os.devnull, "r+b") as nothing:
        with _instead_of_output(nothing.fileno()):
            dvc(["stage", "list"])  # loads what DVC loads only once a command needs it
        line = sys.stdin.readline()
        if not line:  # not needed any more, or who started us is gone
            return 0
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    wanted = json.loads(line)
    with contextlib.suppress(MirasError):  # DVC finds the same, and says it
        graph.tell_dependency_hashes(wanted["stage"])
    return dvc(["repro", "--single-item", *(["--force"] if wanted["again"] else []), wanted["stage"]])


@contextlib.contextmanager
def _instead_of_output(descriptor: int) -> Iterator[None]:
    """What is printed goes to `descriptor`, in the process as a whole: DVC keeps the streams that it has seen first."""
    kept = os.dup(sys.stdout.fileno())
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(kept, stream.fileno())  # both are the same pipe
        os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
