"""A flow without a server has a temporary one of its own, which must end with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks.orchestration import temporary_server

FLOW = """\
import time
from prefect import flow
from tasks.flow import run_as_command

@flow
def waits():
    print("begun", flush=True)
    time.sleep(120)

raise SystemExit(run_as_command(waits))
"""
LONGEST_S = 20.0


def test_the_temporary_server_ends_with_a_killed_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with subprocess.Popen([sys.executable, "-c", FLOW], stdout=subprocess.PIPE, text=True) as flow:
        assert flow.stdout is not None
        try:
            assert flow.stdout.readline() == "begun\n"
            servers = [p for p in psutil.Process(flow.pid).children() if temporary_server.__name__ in p.cmdline()]
        finally:
            flow.kill()
    assert len(servers) == 1
    gone, alive = psutil.wait_procs(servers, timeout=LONGEST_S)
    for process in alive:
        process.kill()
    assert gone == servers


def test_damaged_records_are_told_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").write_text("not a database " * 100)
    done = subprocess.run([sys.executable, "-c", FLOW], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "ended at once" in done.stderr
    assert "file is not a database" in done.stderr
    assert str(temporary_server.LOG_FILE) in done.stderr
