"""The shared servers for real, on loopback: PostgreSQL, `mlflow server`, `prefect server` and moto's S3.

About five minutes of an idle machine. Needs PostgreSQL's programs (Debian: postgresql) and Flask-WTF; says so where
they are missing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking.client import MlflowClient

from benchmarks.workspace import STATE, copy_repository
from miras.errors import ServiceUnavailableError
from tasks.servers import shared

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("flask_wtf") is None, reason="Flask-WTF is missing: pip install it"),
    pytest.mark.skipif(
        not (shutil.which("postgres") or any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))),
        reason="PostgreSQL is missing: apt-get install postgresql",
    ),
]

STAGE = """\
import json, time
from pathlib import Path
from tasks import environment, params
from tasks.tracking.record import record_stage

environment.prepare()
work = Path("work/ingest/outage")
work.mkdir(parents=True)
with record_stage("ingest", params=params.load(), sections=("ingest",), hashes={}, work=work):
    with (work / "metrics.jsonl").open("a", buffering=1) as lines:
        for step in range(300):
            lines.write(json.dumps({"step": step, "samples": 8 * step, "loss": 1 / (step + 1)}) + "\\n")
            time.sleep(0.1)
"""


@dataclass(frozen=True)
class Servers:
    """The running servers, and a workspace that uses them."""

    settings: shared.Settings
    settings_file: Path
    workspace: Path

    def environment(self, **changes: str) -> dict[str, str]:
        """What a user of the servers sets."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
        return {
            **plain,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), plain["PATH"]]),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
            "MLFLOW_TRACKING_URI": self.settings.address("MLFLOW_PORT"),
            "MLFLOW_TRACKING_USERNAME": self.settings["MLFLOW_AUTH_ADMIN_USERNAME"],
            "MLFLOW_TRACKING_PASSWORD": self.settings["MLFLOW_AUTH_ADMIN_PASSWORD"],
            "PREFECT_API_URL": f"{self.settings.address('PREFECT_PORT')}/api",
            "PREFECT_API_AUTH_STRING": self.settings["PREFECT_SERVER_API_AUTH_STRING"],
            "AWS_EC2_METADATA_DISABLED": "true",
            **{name: value for name, value in self.settings.values.items() if name.startswith("AWS_")},
            **changes,
        }

    def run(self, *words: str, folder: Path | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
        """A command in the workspace, or in another folder."""
        return subprocess.run(
            words,
            cwd=folder or self.workspace,
            env=self.environment(PYTHONPATH=python_path(folder or self.workspace), **changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def manage(self, action: str) -> subprocess.CompletedProcess[str]:
        """`python -m tasks.servers.shared ACTION`."""
        return self.run("python", "-m", "tasks.servers.shared", action, "--settings", str(self.settings_file))

    def kill(self, name: str) -> None:
        """kill -9 for a server and its workers."""
        process = json.loads((self.settings.folder / f"{name}.json").read_text())["pid"]
        os.killpg(process, signal.SIGKILL)


def python_path(folder: Path) -> str:
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def store() -> Iterator[int]:
    """The port of moto's S3, in a process of its own."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(300):
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield port
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def servers(store: int) -> Iterator[Servers]:
    """All servers, started by the command; stopped and removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix="miras-servers-"))  # short for the socket; pytest's folders are root's alone
    folder.chmod(0o755)
    workspace = folder / "workspace"
    copy_repository(workspace)
    settings_file = folder / "servers.env"
    text = (workspace / shared.EXAMPLE).read_text()
    changes = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{store}",
        "MLFLOW_PORT": str(free_port()),
        "PREFECT_PORT": str(free_port()),
        "SERVERS_FOLDER": str(folder / "servers"),
        **{name: f"planted-{index}-in-{name.lower()}" for index, name in enumerate(shared.MADE)},
    }
    changes["PREFECT_SERVER_API_AUTH_STRING"] = "miras:planted-in-prefect"
    changes["PREFECT_UI_API_URL"] = f"http://127.0.0.1:{changes['PREFECT_PORT']}/api"
    lines = []
    for line in text.splitlines():
        name = line.partition("=")[0]
        lines.append(f"{name}={changes[name]}" if name in changes else line)
    settings_file.write_text("\n".join(lines) + "\n")
    settings_file.chmod(0o600)
    made = Servers(shared.read_settings(settings_file), settings_file, workspace)
    started = made.manage("start")
    try:
        assert started.returncode == 0, started.stdout
        yield made
    finally:
        made.manage("stop")
        shutil.rmtree(folder)


def status_of(url: str, password: str | None) -> int:
    request = urllib.request.Request(url)
    if password:
        request.add_header("Authorization", "Basic " + b64encode(password.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_they_answer_ask_for_passwords_and_start_once(servers: Servers) -> None:
    settings = servers.settings
    assert servers.manage("status").returncode == 0
    assert servers.manage("start").stdout.count("runs already") == 3
    mlflow = f"{settings.address('MLFLOW_PORT')}/api/2.0/mlflow/experiments/get?experiment_id=0"
    prefect = f"{settings.address('PREFECT_PORT')}/api/admin/version"
    admin = f"{settings['MLFLOW_AUTH_ADMIN_USERNAME']}:{settings['MLFLOW_AUTH_ADMIN_PASSWORD']}"
    assert [status_of(mlflow, password) for password in (None, "admin:wrong", admin)] == [401, 401, 200]
    right = settings["PREFECT_SERVER_API_AUTH_STRING"]
    assert [status_of(prefect, password) for password in (None, "miras:wrong", right)] == [401, 401, 200]


@pytest.fixture
def client(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in servers.environment().items():
        if name.startswith(("MLFLOW_", "AWS_")):
            monkeypatch.setenv(name, value)
    return MlflowClient()


def test_a_pipeline_records_and_pushes_and_a_second_clone_has_the_same(
    servers: Servers, client: MlflowClient, tmp_path: Path
) -> None:
    remote = servers.run("dvc", "remote", "add", "--local", "--default", "shared", "s3://miras/dvc")
    assert remote.returncode == 0, remote.stdout
    done = servers.run("python", "-m", "flows.train_miras", "--until-stage", "split", "--push")
    assert done.returncode == 0, done.stdout[-5000:]
    experiment = client.get_experiment_by_name("miras")
    assert experiment is not None
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    names = {run.info.run_name for run in client.search_runs([experiment.experiment_id])}
    assert {"ingest", "generate", "check", "split"} <= names
    clone = tmp_path / "clone"
    shutil.copytree(servers.workspace, clone, ignore=shutil.ignore_patterns("data", "reports", "cache", "tmp", "work"))
    (clone / ".dvc" / "tmp").mkdir(exist_ok=True)
    fetch = "from tasks.storage.outputs import fetch; print(fetch())"
    fetched = servers.run("python", "-c", fetch, folder=clone, DVC_SITE_CACHE_DIR=str(tmp_path / "site"))
    assert (clone / "data" / "split").is_dir(), fetched.stdout
    assert content_of(clone / "data") == content_of(servers.workspace / "data")


def content_of(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".gitignore"]
    return {str(file.relative_to(folder)): hashlib.md5(file.read_bytes()).hexdigest() for file in files}


def test_without_the_password_the_stages_go_on_and_the_records_are_sent_later(
    servers: Servers, client: MlflowClient
) -> None:
    params = servers.workspace / "params.yaml"
    params.write_text(params.read_text().replace("count: 48,", "count: 40,"))
    done = servers.run(
        "python", "-m", "flows.train_miras", "--until-stage", "ingest", MLFLOW_TRACKING_PASSWORD="a-wrong-password"
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "MLFLOW_TRACKING_PASSWORD" in done.stdout
    assert "Traceback" not in done.stdout
    assert "a-wrong-password" not in done.stdout
    sent = servers.run("python", "-m", "tasks.tracking.sync")
    assert "1 pipeline run sent" in sent.stdout


def test_metrics_arrive_in_order_and_once_when_the_server_was_away(servers: Servers, client: MlflowClient) -> None:
    stage = subprocess.Popen(
        [sys.executable, "-c", STAGE],
        cwd=servers.workspace,
        env=servers.environment(PYTHONPATH=python_path(servers.workspace)),
    )
    metrics = servers.workspace / "work" / "ingest" / "outage" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 40:
        assert stage.poll() is None
        time.sleep(0.2)
    servers.kill("mlflow")
    time.sleep(10)
    assert stage.poll() is None, "the stage must not end because MLflow is away"
    assert servers.manage("start").returncode == 0
    assert stage.wait() == 0
    servers.run("python", "-m", "tasks.tracking.sync")
    experiment = client.get_experiment_by_name("miras")
    assert experiment is not None
    (run, *_) = client.search_runs([experiment.experiment_id], "tags.stage = 'ingest'", order_by=["start_time DESC"])
    history = client.get_metric_history(run.info.run_id, "loss")
    written = [json.loads(line) for line in metrics.read_text().splitlines()]
    by_time = sorted(history, key=lambda point: (point.timestamp, point.step))
    assert [(point.step, point.value) for point in by_time] == [(line["step"], line["loss"]) for line in written]


def test_no_password_is_in_anything_that_was_written(servers: Servers) -> None:
    files = [file for file in servers.workspace.parent.rglob("*") if file.is_file() and file != servers.settings_file]
    assert len(files) > 1000
    assert [str(file) for file in files if b"planted-" in file.read_bytes() and "tests" not in file.parts] == []


class CuttingProxy:
    """Passes bytes to a port, and cuts the connection after so many bytes of a request, so many times."""

    def __init__(self, port: int, *, after_bytes: int, times: int) -> None:
        self._port, self._after_bytes, self.left = port, after_bytes, times
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            caller, _ = self._listener.accept()
            target = socket.create_connection(("127.0.0.1", self._port))
            for source, sink, may_cut in ((caller, target, True), (target, caller, False)):
                threading.Thread(target=self._pass, args=(source, sink, may_cut), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, may_cut: bool) -> None:
        seen = 0
        try:
            while data := source.recv(65536):
                seen += len(data)
                if may_cut and self.left and seen > self._after_bytes:
                    self.left -= 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes the other direction's thread
            end.close()  # else a client that still sends would wait for us to read, without end


@pytest.mark.parametrize("times", [2, 15])
def test_an_upload_that_is_cut_off_becomes_a_whole_object(
    store: int, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few cuts: the client manages alone; many: our error says to try again, and the next try sends the whole."""
    import boto3
    from dvc.repo import Repo

    from tasks.storage.outputs import send

    proxy = CuttingProxy(store, after_bytes=2**20, times=times)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
    }.items():
        monkeypatch.setenv(name, value)
    direct: Any = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{store}")
    direct.create_bucket(Bucket=f"cut-{times}")
    content = os.urandom(12 * 2**20)
    monkeypatch.chdir(tmp_path)
    Path("large.bin").write_bytes(content)
    with Repo.init(no_scm=True) as repo, repo.config.edit() as config:
        config["remote"] = {"store": {"url": f"s3://cut-{times}/dvc"}}
        config["core"]["remote"] = "store"
    with Repo() as repo:
        repo.add("large.bin")
    failed = 0
    while True:
        try:
            sent = send()
            break
        except ServiceUnavailableError:
            failed += 1
    assert (sent, proxy.left) == (1, 0)
    assert (failed > 0) == (times > 10)
    name = hashlib.md5(content).hexdigest()
    key = f"dvc/files/md5/{name[:2]}/{name[2:]}"
    assert direct.get_object(Bucket=f"cut-{times}", Key=key)["Body"].read() == content
    assert send() == 0
