"""Which run a stage belongs to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.pipeline_run import Owner, PipelineRun

TELL = "import json; from tasks.pipeline_run import PipelineRun; print(json.dumps(PipelineRun.of_stage().key))"


def test_a_stage_finds_the_flow_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = PipelineRun.of_flow("a flow")
    for name, value in flow.environment().items():
        monkeypatch.setenv(name, value)
    assert PipelineRun.of_stage() == flow
    assert flow.is_flow


def test_stages_of_one_dvc_command_share_a_run(workspace: Path) -> None:
    dvc = workspace / "dvc"
    dvc.write_text(f"import subprocess, sys\nfor _ in 'ab': subprocess.run([sys.executable, '-c', {TELL!r}])\n")
    command = [sys.executable, str(dvc), "repro"]
    first, second = (subprocess.check_output(command, text=True).split() for _ in "12")
    assert first[0] == first[1] != second[0]
    assert json.loads(first[0]).startswith("dvc-")


def test_an_owner_is_not_mistaken_for_a_later_process_with_its_number() -> None:
    me = Owner.of(os.getpid())
    assert me.is_alive()
    assert not Owner(me.pid, me.started_ticks - 1).is_alive()


def test_an_ended_process_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner.of(child.pid)
    child.communicate()
    assert not owner.is_alive()
