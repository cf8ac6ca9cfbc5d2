"""A stage of DVC as a Prefect task: order, outcome, failure, retry rule. On a toy project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prefect.exceptions import TerminationSignal
from prefect.states import Crashed, Failed

from miras import errors
from miras.annotate.errors import WaitingForPeopleError
from miras.errors import ConfigError, DataError
from tasks import failure
from tasks.dvc_process import DvcProcesses
from tasks.graph import Node, dependency_hashes, stages_until
from tasks.output import StageOutput
from tasks.stage import StageFailedError, _explain, can_retry, reproduce


def run(stage: str, lines: list[str] | None = None) -> str:
    with DvcProcesses({}) as dvc:
        return reproduce(stage, dvc=dvc, log=(lines if lines is not None else []).append)


def is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, errors.MirasError)


def fails(stage: str) -> StageFailedError:
    with pytest.raises(StageFailedError) as caught:
        run(stage)
    return caught.value


def test_stages_come_after_their_parents_else_as_written(toy: Path) -> None:
    assert stages_until() == [Node("first", ()), Node("last", ("first",)), Node("apart", ())]


def test_a_target_needs_only_its_ancestors(toy: Path) -> None:
    assert [node.name for node in stages_until("last")] == ["first", "last"]


def test_an_unknown_stage_names_the_nearest(toy: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean last"):
        stages_until("lst")


def test_changed_code_changes_the_identity_of_what_a_stage_reads(toy: Path) -> None:
    before = dependency_hashes("first")
    (toy / "stage.py").write_text((toy / "stage.py").read_text() + "# more\n")
    after = dependency_hashes("first")
    assert before["mode.txt"] == after["mode.txt"]
    assert before["stage.py"] != after["stage.py"]


def test_a_missing_input_is_named(toy: Path) -> None:
    with pytest.raises(DataError, match=r"first\.txt.*dvc repro last"):
        dependency_hashes("last")


def test_an_input_that_the_user_must_bring_is_named_when_it_is_not_there(toy: Path) -> None:
    (toy / "mode.txt").unlink()
    error = fails("first")
    assert "mode.txt is not there, and dvc.yaml says that first reads it" in str(error)
    assert not error.can_retry


def test_a_stage_runs_once_and_its_output_is_shown(toy: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lines: list[str] = []
    assert [run("first", lines), run("first")] == ["done", "unchanged"]
    assert lines == ["first works"]
    assert capfdbinary.readouterr().err == b"first works\n"


def test_a_deleted_result_comes_back_from_the_cache(toy: Path) -> None:
    run("first")
    (toy / "first.txt").unlink()
    (toy / "dvc.lock").unlink()
    assert run("first") == "restored"
    assert (toy / "first.txt").exists()


def test_the_message_of_a_failed_stage_is_its_own(toy: Path) -> None:
    (toy / "mode.txt").write_text("wrong")
    error = fails("first")
    assert str(error) == "first: wrong key"
    assert error.is_shown


def test_only_what_may_pass_is_tried_again(toy: Path) -> None:
    for mode, expected in [("wrong", False), ("away", True)]:
        (toy / "mode.txt").write_text(mode)
        assert can_retry(None, None, Failed(data=fails("first"))) is expected  # type: ignore[arg-type]
    assert not can_retry(None, None, Failed(data=KeyError("a fault of ours")))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if is_error(kind)])
def test_each_error_says_itself_whether_it_is_tried_again(toy: Path, kind: type[errors.MirasError]) -> None:
    failure.record("first", kind("the message"))
    error = _explain("first", StageOutput(echo=lambda _: None, log=lambda _: None), 1)
    assert str(error) == "first: the message"
    assert can_retry(None, None, Failed(data=error)) is (kind is errors.ServiceUnavailableError)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TerminationSignal(15)])
def test_a_cancelled_stage_is_not_tried_again(toy: Path, error: BaseException) -> None:
    assert not can_retry(None, None, Crashed(data=error))  # type: ignore[arg-type]
    failure.record("first", error)
    assert not _explain("first", StageOutput(echo=lambda _: None, log=lambda _: None), 130).can_retry


def test_people_who_are_not_done_are_no_failure(toy: Path) -> None:
    failure.record("first", WaitingForPeopleError("2 answers are open"))
    error = _explain("first", StageOutput(echo=lambda _: None, log=lambda _: None), 1)
    assert error.is_waiting
    assert not error.can_retry
    assert not fails("last").is_waiting


def test_a_stage_runs_again_when_it_is_told_to(toy: Path) -> None:
    run("first")
    with DvcProcesses({}) as dvc:
        assert reproduce("first", dvc=dvc, log=lambda _: None, again=True) == "done"


def test_a_terminal_that_is_gone_does_not_stop_a_stage(toy: Path) -> None:
    command = (
        "from tasks.dvc_process import DvcProcesses; from tasks.stage import reproduce, say; say('begins')\n"
        "with DvcProcesses({}) as dvc: print(reproduce('first', dvc=dvc, log=str))"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", command], stderr=writer, stdout=subprocess.PIPE, text=True)
    os.close(writer)
    os.close(reader)
    assert process.communicate()[0] == "done\n"
    assert (toy / "first.txt").exists()


def test_what_dvc_itself_complains_about_is_the_message(toy: Path) -> None:
    error = fails("last")
    assert "first.txt is not there, and dvc.yaml says that last reads it. If a stage makes it, run `dvc repro" in str(
        error
    )
    assert not error.is_shown


def test_an_earlier_failure_is_forgotten(toy: Path) -> None:
    (toy / "mode.txt").write_text("wrong")
    fails("first")
    (toy / "mode.txt").write_text("fine")
    run("first")
    assert not (toy / "work" / "first" / "failure.json").exists()


def test_stopping_a_stage_stops_its_command_too(toy: Path) -> None:
    (toy / "stage.py").write_text("import os, time; print('pid', os.getpid(), flush=True); time.sleep(60)\n")
    lines: list[str] = []

    def interrupt() -> None:
        while not lines:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run("first", lines)
    finally:
        signal.signal(signal.SIGINT, before)
    pid = lines[0].split()[1]
    assert subprocess.run(["ps", "-p", pid], capture_output=True, check=False).returncode == 1
