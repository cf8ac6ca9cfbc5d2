"""Several people promote at once, some are killed: on a real MLflow server no move is lost and none wins twice."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking.client import MlflowClient

from tasks.registry.lineage import TAG
from tasks.registry.moves import Ledger
from tests.unit.tasks.registry.lineages import CIOU, lineage

pytestmark = pytest.mark.slow

ROUNDS = 40
VERSIONS = 5
PROMOTER = """\
import random, sys
from tasks.registry.gates import Gate, PromoteConfig
from tasks.registry.moves import MoveLostError
from tasks.registry.promotion import compare, promote, roll_back
name, rounds, ciou = sys.argv[1], int(sys.argv[2]), "dialogues_own_ciou"
config = PromoteConfig(alias="champion", gates={ciou: Gate(better="higher", tolerance=0.0)})
for number in range(rounds):
    try:
        if number % 7 == 6:
            move = roll_back(model="raced", alias="champion", reason=f"{name}-{number}")
        else:
            comparison = compare(config, model="raced", candidate=random.randint(1, 5))
            move = promote(comparison, by=name, reason=f"{name}-{number}")
        print("won", move.reason, flush=True)
    except MoveLostError:
        print("lost", f"{name}-{number}", flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "a")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "-p",
                str(port),
                "--workers",
                "4",
                *words,
            ],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def promoter(name: str, rounds: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", PROMOTER, name, str(rounds)], stdout=output, stderr=subprocess.STDOUT
        )


def wait_for_a_word(process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it has promoted once, or lost: its imports are over."""
    while process.poll() is None and not {"won", "lost"} & set(log.read_text().split()):
        time.sleep(0.1)


def test_promotions_and_rollbacks_at_once_leave_one_history(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    client = MlflowClient()
    client.create_registered_model("raced")
    for _ in range(VERSIONS):
        client.create_model_version("raced", "s3://nowhere/x", tags={TAG: lineage({CIOU: 40.0}).model_dump_json()})
    client.set_registered_model_alias("raced", "champion", "1")
    logs = [tmp_path / name for name in ("ann", "bob")]
    running = [promoter(log.name, ROUNDS, log) for log in logs]
    killed = 0
    while any(process.poll() is None for process in running):
        log = tmp_path / f"victim{killed}"
        victim = promoter(log.name, ROUNDS, log)
        wait_for_a_word(victim, log)
        time.sleep(random.uniform(0.0, 0.5))
        victim.kill()
        victim.wait()
        killed += 1
    assert [process.returncode for process in running] == [0, 0], [log.read_text()[-3000:] for log in logs]
    lines = [line.split() for log in tmp_path.iterdir() for line in log.read_text().splitlines()]
    won, lost = ([line[1] for line in lines if line[:1] == [word]] for word in ("won", "lost"))
    assert len([reason for reason in won + lost if reason.startswith(("ann", "bob"))]) == 2 * ROUNDS
    ledger = Ledger(client, model="raced", alias="champion")
    state = ledger.settle()
    recorded = [move.reason for move in state.moves]
    assert len(set(recorded)) == len(recorded)
    assert set(won) <= set(recorded)
    assert not set(lost) & set(recorded)
    extra = set(recorded) - set(won)
    assert all(reason.startswith("victim") for reason in extra)  # killed between the move and the word
    assert len(extra) <= killed
    for before, after in zip(state.moves, state.moves[1:], strict=False):
        assert after.from_version == before.to_version
    assert state.last is not None
    assert int(client.get_model_version_by_alias("raced", "champion").version) == state.last.to_version
    print(f"{len(won)} moves, {len(lost)} lost races, {killed} processes killed, {len(extra)} of them after their move")
    assert lost, "nothing was raced for"
