"""What reaches the terminal and the log while a stage runs."""

from __future__ import annotations

from tasks.output import StageOutput


class Recorder:
    """Collects both sides, with a clock that the test moves."""

    def __init__(self) -> None:
        self.shown = b""
        self.lines: list[str] = []
        self.now_s = 100.0
        self.output = StageOutput(echo=self._echo, log=self.lines.append, clock=lambda: self.now_s)

    def _echo(self, chunk: bytes) -> None:
        self.shown += chunk


def test_a_line_cut_in_two_is_logged_once() -> None:
    recorder = Recorder()
    recorder.output.feed(b"ingested pic")
    recorder.output.feed(b"tures=3\nnext")
    recorder.output.close()
    assert recorder.lines == ["ingested pictures=3", "next"]
    assert recorder.shown == b"ingested pictures=3\nnext"


def test_every_redraw_of_a_bar_reaches_the_terminal_but_few_the_log() -> None:
    recorder = Recorder()
    for percent in range(40):
        recorder.now_s += 1.0
        recorder.output.feed(b"\rtrain: %d%%" % percent)
    assert recorder.shown.count(b"\r") == 40
    assert recorder.lines == ["train: 0%", "train: 15%", "train: 30%"]


def test_the_last_state_of_a_bar_is_logged() -> None:
    recorder = Recorder()
    recorder.output.feed(b"\rtrain: 1%")
    recorder.output.feed(b"\rtrain: 100%\n")
    assert recorder.lines[-1] == "train: 100%"


def test_remarks_of_dvc_are_kept_off_the_terminal() -> None:
    recorder = Recorder()
    recorder.output.feed(b"Running stage 'a':\n> python -m tasks.run a\nUpdating lock file 'dvc.lock'\n")
    recorder.output.feed(b"\n\tgit add x\nours\n")
    assert recorder.shown == b"ours\n"


def test_outcomes_are_read_from_what_dvc_says() -> None:
    for said, outcome in [
        (b"Stage 'a' didn't change, skipping\n", "unchanged"),
        (b"Stage 'a' is cached - skipping run, checking out outputs\n", "restored"),
        (b"Running stage 'a':\n", "done"),
    ]:
        recorder = Recorder()
        recorder.output.feed(said)
        assert recorder.output.outcome == outcome


def test_errors_of_dvc_are_kept_for_the_message() -> None:
    recorder = Recorder()
    recorder.output.feed(b"ERROR: failed to reproduce 'a': missing data 'source': d\n")
    assert recorder.output.errors == ["ERROR: failed to reproduce 'a': missing data 'source': d"]
