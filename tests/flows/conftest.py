"""A toy DVC project for flow tests, and an environment without the state of another run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.workspace import STATE
from tasks import environment

ROOT = Path(__file__).parents[2]

TOY_STAGE = """\
import sys
from pathlib import Path
from miras.errors import ConfigError, ServiceUnavailableError
from tasks import failure

name, mode = sys.argv[1], Path("mode.txt").read_text().strip()
print(f"{name} works", flush=True)
if mode != "fine":
    error = ServiceUnavailableError("no answer") if mode == "away" else ConfigError("wrong key")
    failure.record(name, error)
    sys.exit(3)
Path(f"{name}.txt").write_text(name)
"""

TOY_DVC = """\
stages:
  last:
    cmd: python stage.py last
    deps: [first.txt, mode.txt]
    outs: [last.txt]
  first:
    cmd: python stage.py first
    deps: [stage.py, mode.txt]
    outs: [first.txt]
  apart:
    cmd: python stage.py apart
    deps: [stage.py]
    outs: [apart.txt]
"""


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(STATE):
            monkeypatch.delenv(name)
    for name, value in environment.NO_TELEMETRY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project of three stages in the current folder; mode.txt says how they end: fine, away, wrong."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    (tmp_path / "stage.py").write_text(TOY_STAGE)
    (tmp_path / "dvc.yaml").write_text(TOY_DVC)
    (tmp_path / "mode.txt").write_text("fine")
    return tmp_path
