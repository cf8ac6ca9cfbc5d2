"""DVC's commands in processes that are ready: each runs once, and none stays behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks import dvc_process
from tasks.dvc_process import DvcProcesses

LONGEST_S = 20.0
KILLED = """\
import os
from tasks.dvc_process import DvcProcesses

with DvcProcesses({}):
    print("begun", flush=True)
    os.kill(os.getpid(), 9)
"""


def said(dvc: DvcProcesses, *arguments: str) -> tuple[str, int]:
    process = dvc.start(*arguments)
    assert process.stdout is not None
    return process.stdout.read().decode(), process.wait()


def waiting() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if dvc_process.__name__ in child.cmdline()]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")


def test_commands_run_in_turn_and_no_process_stays() -> None:
    with DvcProcesses({}) as dvc:
        first, second = said(dvc, "version"), said(dvc, "repro")
        assert len(waiting()) == 1
    assert (first[0].startswith("DVC version"), first[1]) == (True, 0)
    assert ("you are not inside of a DVC repository" in second[0], second[1]) == (True, 253)
    assert not waiting()


def test_a_command_gets_the_variables_it_was_promised(tmp_path: Path) -> None:
    subprocess.run(["dvc", "init", "--no-scm", "-q"], check=True)
    (tmp_path / "dvc.yaml").write_text("stages: {told: {cmd: 'echo \"it says $TOLD\"'}}\n")
    with DvcProcesses({"TOLD": "hello"}) as dvc:
        assert "it says hello\n" in said(dvc, "repro")[0]


def test_a_waiting_process_that_was_killed_is_replaced() -> None:
    with DvcProcesses({}) as dvc:
        (process,) = waiting()
        process.kill()
        process.wait()
        assert said(dvc, "version")[1] == 0


def test_a_waiting_process_ends_when_its_starter_is_killed() -> None:
    before = {process.pid for process in psutil.process_iter()}
    flow = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, check=False)
    assert flow.stdout == "begun\n"
    left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and is_waiting(p)]
    assert psutil.wait_procs(left, timeout=LONGEST_S)[1] == []


def is_waiting(process: psutil.Process) -> bool:
    return dvc_process.__name__ in (process.info["cmdline"] or [])
