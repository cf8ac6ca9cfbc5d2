"""One run per workspace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from miras.errors import WorkspaceBusyError
from tasks.lock import LOCK, workspace_lock

HOLDER = "from tasks.lock import workspace_lock\nwith workspace_lock('the first'): print('held', flush=True); input()"


def test_a_second_run_is_told_who_holds_the_workspace(workspace: Path) -> None:
    with (
        workspace_lock("the flow"),
        pytest.raises(WorkspaceBusyError, match=rf"the flow \(process {os.getpid()}, since \d+"),
        workspace_lock("another"),
    ):
        pass


def test_the_workspace_is_free_after_a_run(workspace: Path) -> None:
    for _ in range(2):
        with workspace_lock("a run"):
            assert LOCK.exists()


def test_the_lock_of_a_killed_process_is_gone(workspace: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(WorkspaceBusyError, match="the first"), workspace_lock("the second"):
        pass
    holder.kill()
    holder.wait()
    with workspace_lock("the second"):
        pass


def test_a_run_that_waits_says_for_whom_and_goes_on(workspace: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    told: list[str] = []

    def end_the_other(message: str) -> None:
        told.append(message)
        holder.kill()
        holder.wait()

    with workspace_lock("the second", on_wait=end_the_other):
        assert "the second" in LOCK.read_text()
    assert len(told) == 1
    assert f"the first (process {holder.pid}" in told[0]
