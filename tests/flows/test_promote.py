"""The flow `promote` and the way back, as commands in a workspace with a registry of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.tracking.client import MlflowClient

from benchmarks.workspace import ROOT, STATE
from tasks.registry.lineage import TAG
from tasks.registry.moves import Ledger
from tests.unit.tasks.registry.lineages import ABSENT, CIOU, PRECISION, lineage

SCORES = {CIOU: 40.0, PRECISION: 30.0, ABSENT: 80.0}


@dataclass(frozen=True)
class Registry:
    """A workspace whose registry holds the versions 1 (the champion), 2 (worse, the candidate) and 3 (better)."""

    folder: Path

    @property
    def uri(self) -> str:
        """Of its store."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def champion(self) -> int:
        """Version of the alias."""
        return int(MlflowClient(self.uri).get_registered_model("miras").aliases["champion"])

    def run(self, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        """`python -m` in the workspace."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
        own = {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(self.folder / ".prefect"), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.folder,
            env=plain | own | {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180"},
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One for all tests here; they go on from it in the order they stand in."""
    made = Registry(tmp_path_factory.mktemp("workspace with a blank"))
    shutil.copyfile(ROOT / "presets" / "tiny.yaml", made.folder / "params.yaml")
    client = MlflowClient(made.uri)
    client.create_registered_model("miras")
    for scores in (SCORES, {**SCORES, CIOU: 20.0}, {**SCORES, CIOU: 50.0}):
        client.create_model_version("miras", "s3://nowhere/x", tags={TAG: lineage(scores).model_dump_json()})
    client.set_registered_model_alias("miras", "candidate", "2")
    ledger = Ledger(client, model="miras", alias="champion")
    ledger.move(ledger.read(), kind="promote", to=1, by="me", reason="the first")
    return made


def test_where_nobody_can_be_asked_nothing_is_moved(registry: Registry) -> None:
    done = registry.run("flows.promote", "--version", "3")
    assert done.returncode == 1
    assert "miras promote --yes" in done.stdout
    assert "Traceback" not in done.stdout
    assert registry.champion() == 1


def test_the_champion_is_not_promoted_again(registry: Registry) -> None:
    done = registry.run("flows.promote", "--version", "1", "--yes")
    assert done.returncode == 0, done.stdout
    assert "models:/miras/1 is the champion already" in done.stdout


def test_a_worse_candidate_is_refused_before_anything_starts(registry: Registry) -> None:
    done = registry.run("flows.promote", "--yes")
    assert done.returncode == 1
    assert "worse by 20, allowed 0" in done.stdout
    assert "Traceback" not in done.stdout
    assert registry.champion() == 1


def test_forced_and_rolled_back(registry: Registry) -> None:
    forced = registry.run("flows.promote", "--yes", "--force", 'a trial\'s "reason"; $HOME')
    assert (forced.returncode, registry.champion()) == (0, 2), forced.stdout
    back = registry.run("tasks.registry.rollback", "--reason", "trial over")
    assert (back.returncode, registry.champion()) == (0, 1)
    assert "version 1 again (was 2)" in back.stdout
    told = registry.run("tasks.registry.lineage_command", "models:/miras/2").stdout
    assert '(forced): a trial\'s "reason"; $HOME' in told
    assert "rollback 2 -> 1" in told
    assert registry.run("tasks.registry.rollback").returncode == 1
