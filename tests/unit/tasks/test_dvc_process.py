"""Stages by DVC in processes that are ready: each runs once, and none stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks import dvc_process, graph
from tasks.dvc_process import DvcProcesses

LONGEST_S = 20.0
STAGE = """\
stages:
  told:
    cmd: 'printenv TOLD; printenv MIRAS_STAGE_READS'
    deps: [read.txt]
"""
KILLED = """\
import os
from tasks.dvc_process import DvcProcesses

with DvcProcesses({}):
    print("begun", flush=True)
    os.kill(os.getpid(), 9)
"""


def said(dvc: DvcProcesses, stage: str, *, again: bool = False) -> tuple[list[str], int]:
    process = dvc.start(stage, again=again)
    assert process.stdout is not None
    return process.stdout.read().decode().splitlines(), process.wait()


def waiting() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if is_waiting(child.cmdline())]


def is_waiting(words: list[str] | None) -> bool:
    return dvc_process.__name__ in (words or [])


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    subprocess.run(["dvc", "init", "--no-scm", "-q"], check=True)
    (tmp_path / "dvc.yaml").write_text(STAGE)
    (tmp_path / "read.txt").write_text("something")


def test_stages_run_in_turn_with_what_they_were_promised_and_no_process_stays() -> None:
    with DvcProcesses({"TOLD": "it says hello"}) as dvc:
        first, second, third = said(dvc, "told"), said(dvc, "told"), said(dvc, "told", again=True)
        assert len(waiting()) == 1
    assert not waiting()
    for lines, code in (first, third):
        assert "it says hello" in lines
        assert json.dumps({"told": graph.dependency_hashes("told")}) in lines
        assert code == 0
    assert "Stage 'told' didn't change, skipping" in second[0]


def test_what_is_not_there_is_told_by_dvc(tmp_path: Path) -> None:
    (tmp_path / "read.txt").unlink()
    with DvcProcesses({}) as dvc:
        lines, code = said(dvc, "told")
    assert code != 0
    assert any("read.txt" in line for line in lines if line.startswith("ERROR"))


def test_a_broken_pipeline_file_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with DvcProcesses({}) as dvc:
        lines, code = said(dvc, "told")
    assert code != 0
    assert len([line for line in lines if "dvc.yaml' is invalid" in line]) == 1


def test_a_waiting_process_that_was_killed_is_replaced() -> None:
    with DvcProcesses({}) as dvc:
        (process,) = waiting()
        process.kill()
        process.wait()
        assert said(dvc, "told")[1] == 0


def test_a_waiting_process_ends_when_its_starter_is_killed() -> None:
    before = {process.pid for process in psutil.process_iter()}
    flow = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, check=False)
    assert flow.stdout == "begun\n"
    left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and is_waiting(p.info["cmdline"])]
    assert psutil.wait_procs(left, timeout=LONGEST_S)[1] == []
