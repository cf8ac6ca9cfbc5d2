"""Deployments on a real Prefect server with a real worker: what people see of runs that wait, fail, end early.

On a toy project of stages that sleep, fail or wait as modes.txt says; the flows are the real ones.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.workspace import ROOT, STATE

pytestmark = pytest.mark.slow

NAMES = ("train-miras", "build-prist", "evaluate", "promote", "reproduce")
STAGES = ("ingest", "generate", "annotate", "check", "evaluate", "report")
STAGE = """\
import sys, time
from pathlib import Path
from miras.annotate.errors import WaitingForPeopleError
from miras.errors import ConfigError
from tasks import failure
from tasks.guard import stopped_with_its_starters

name = sys.argv[1]
mode = dict(line.split("=") for line in Path("modes.txt").read_text().split()).get(name, "fine")
print(f"{name}: {mode}", flush=True)
try:
    with stopped_with_its_starters():
        Path(f"{name}.began").touch()
        if mode.startswith("sleep"):
            time.sleep(float(mode[5:]))
        if mode == "wrong":
            raise ConfigError("params.yaml: ingest.sauce: unknown key")
        if mode == "wait" and not Path("answers.txt").exists():
            raise WaitingForPeopleError("of 2 answers 2 are open")
except (ConfigError, WaitingForPeopleError) as error:
    failure.record(name, error)
    print(error)
    sys.exit(1)
except KeyboardInterrupt:
    Path(f"{name}.stopped").touch()
    sys.exit(130)
Path(f"{name}.txt").write_text(name)
"""


@dataclass
class Site:
    """A toy workspace with its server and worker."""

    folder: Path
    port: int
    environment: dict[str, str]
    messages: list[str] = field(default_factory=list)
    """What the address of failure notifications has got."""

    def command(self, *words: str, **variables: str) -> str:
        """Output of a command typed in the workspace; it has to end well."""
        python = Path(sys.executable)
        done = subprocess.run(
            [python.with_name("prefect"), *words[1:]] if words[0] == "prefect" else [python, "-m", *words],
            cwd=self.folder,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ask(self, path: str, content: Any = None) -> Any:
        """A POST to the API; again where SQLite is busy (503), as Prefect's own clients do."""
        for _ in range(30):
            answer = httpx.post(f"http://127.0.0.1:{self.port}/api/{path}", json=content or {}, timeout=60)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(1)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def begin(self, name: str, *parameters: str, **modes: str) -> str:
        """Starts a deployment by its name alone, with stages that all have something to do; the run's id."""
        if modes:
            self.set_modes(**modes)
        words = [word for parameter in parameters for word in ("-p", parameter)]
        said = self.command("prefect", "deployment", "run", name, *words)
        return said.partition("UUID: ")[2].split()[0]

    def set_modes(self, **modes: str) -> None:
        (self.folder / "modes.txt").write_text("\n".join(f"{name}={mode}" for name, mode in modes.items()))
        (self.folder / "go.txt").write_text(str(time.time_ns()))
        for file in (*self.folder.glob("*.began"), *self.folder.glob("*.stopped")):
            file.unlink()

    def run(self, run: str) -> dict[str, Any]:
        """The run as the server has it now."""
        return dict(self.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[0])

    def state(self, run: str) -> dict[str, Any]:
        """The run's state now."""
        return dict(self.run(run)["state"])

    def wait_for(self, run: str, *names: str, seconds: float = 240) -> dict[str, Any]:
        """The run's state, once it has one of these names."""
        deadline = time.monotonic() + seconds
        while (state := self.state(run))["name"] not in names:
            is_over = state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
            assert not is_over, f"{state}\n{self.log(run)}"
            assert time.monotonic() < deadline, f"{state} after {seconds} s\n{self.log(run)}"
            time.sleep(1)
        return state

    def wait_for_file(self, name: str) -> None:
        deadline = time.monotonic() + 120
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} did not come"
            time.sleep(0.2)

    def log(self, run: str) -> str:
        """What the run's page shows."""
        found = self.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(line["message"] for line in found)

    def wait_for_log(self, run: str, words: str) -> None:
        deadline = time.monotonic() + 120
        while words not in self.log(run):
            assert time.monotonic() < deadline, self.log(run)
            time.sleep(1)

    def task_states(self, run: str) -> dict[str, str]:
        """Name of the state of each stage's last task."""
        found = self.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}, "sort": "EXPECTED_START_TIME_ASC"})
        return {task["name"]: task["state_name"] for task in found}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`make deploy` in a toy workspace, on a free port."""
    folder = tmp_path_factory.mktemp("toy with a blank")
    for name in ("flows", "presets", "infra"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("prefect.yaml", "prefect.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copyfile(ROOT / "presets" / "smoke.yaml", folder / "params.yaml")
    (folder / "stage.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(_graph())
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
    port = _free_port()
    path = os.pathsep.join([str(Path(sys.executable).parent), plain["PATH"]])
    environment = {**plain, "PATH": path, "PYTHONPATH": str(ROOT), "PREFECT_PORT": str(port), "OMP_NUM_THREADS": "1"}
    found = Site(folder, port, environment)
    found.set_modes()
    try:
        found.command("tasks.servers.services", "deploy")
        environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        yield found
    finally:
        found.command("tasks.servers.services", "stop")


def _graph() -> str:
    lines, before = ["stages:"], "stage.py"
    for name in STAGES:
        deps = f"[stage.py, go.txt, {before}]" if before != "stage.py" else "[stage.py, go.txt]"
        lines.append(f"  {name}: {{cmd: python stage.py {name}, deps: {deps}, outs: [{name}.txt]}}")
        before = f"{name}.txt"
    return "\n".join(lines)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_every_deployment_is_there_with_its_form_and_no_schedule_is_on(site: Site) -> None:
    found = {deployment["name"]: deployment for deployment in site.ask("deployments/filter")}
    assert set(found) == set(NAMES)
    for deployment in found.values():
        fields = deployment["parameter_openapi_schema"]["properties"]
        assert all(field.get("description") for field in fields.values()), deployment["name"]
        assert not any(schedule["active"] for schedule in deployment["schedules"])
    assert found["train-miras"]["schedules"]
    assert "tiny" in found["train-miras"]["parameter_openapi_schema"]["properties"]["preset"]["enum"]


def test_deploying_again_changes_nothing(site: Site) -> None:
    site.command("tasks.servers.services", "deploy")
    assert len(site.ask("deployments/filter")) == len(NAMES)
    assert len(site.ask("automations/filter")) == 1


def test_a_mistake_in_the_form_is_refused_before_anything_starts(site: Site) -> None:
    with pytest.raises(AssertionError, match=r"local"):
        site.begin("train-miras", "launch=mars")


def test_a_second_run_of_another_deployment_waits_for_the_first(site: Site) -> None:
    first = site.begin("train-miras", "until_stage=generate", generate="sleep40")
    site.wait_for_file("generate.began")
    second = site.begin("build-prist", "until_stage=generate")
    assert site.state(first)["type"] == "RUNNING"
    site.wait_for(first, "Completed")
    site.wait_for(second, "Completed")
    assert site.run(second)["start_time"] > site.run(first)["end_time"]
    site.wait_for_log(second, "generate: unchanged")  # lines are sent in the background


def test_a_run_waits_for_what_a_person_has_started_here(site: Site) -> None:
    site.wait_for(site.begin("train-miras", generate="fine"), "Completed")
    holder = (
        "from tasks.lock import workspace_lock\n"
        "with workspace_lock('the flow of a person'): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        cwd=site.folder,
        env=site.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        run = site.begin("evaluate", "again=true")
        site.wait_for_log(run, "the flow of a person")
        assert site.state(run)["name"] == "Running"
        process.communicate("\n")
    site.wait_for(run, "Completed")
    assert site.task_states(run) == {"evaluate": "Completed", "report": "Completed"}


def test_cancelling_a_run_ends_its_stage_and_tries_nothing_again(site: Site) -> None:
    run = site.begin("train-miras", generate="sleep300")
    site.wait_for_file("generate.began")
    site.command("prefect", "flow-run", "cancel", run)
    site.wait_for_file("generate.stopped")
    site.wait_for(run, "Cancelled")
    assert list(site.task_states(run)) == ["ingest", "generate"]


def test_a_run_is_suspended_while_people_work_and_goes_on(site: Site) -> None:
    run = site.begin("build-prist", annotate="wait")
    site.wait_for(run, "Suspended")
    assert site.task_states(run)["annotate"] == "Waiting"
    other = site.begin("train-miras", "until_stage=generate")  # a suspended run holds nothing
    site.wait_for(other, "Completed")
    (site.folder / "answers.txt").touch()
    site.ask(f"flow_runs/{run}/resume")
    site.wait_for(run, "Completed")
    rows = [row for artifact in _artifacts(site, run, "table") for row in json.loads(artifact["data"])]
    outcomes = {(row["stage"], row["outcome"]) for row in rows}
    assert {("annotate", "Waiting"), ("annotate", "done"), ("check", "done")} <= outcomes


def test_a_failed_run_is_told_once_and_shows_its_message_alone(site: Site) -> None:
    with _receiver(site) as url:
        site.command("tasks.orchestration.automations", "failure-notification", MIRAS_NOTIFY_URL=url)
        fine = site.begin("train-miras", "until_stage=ingest")
        site.wait_for(fine, "Completed")
        failed = site.begin("train-miras", generate="wrong")
        site.wait_for(failed, "Failed")
        deadline = time.monotonic() + 60
        while not any(failed in message for message in site.messages):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        _deliver_again(site, failed)
        time.sleep(5)  # a second message, or one of the run that went well, would be here by now
    own = [message for message in site.messages if failed in message]  # others may tell of earlier tests' runs
    assert len(own) == 1, own
    assert not any(fine in message for message in site.messages)
    assert "ingest.sauce: unknown key" in json.loads(own[0])["text"]
    assert "Traceback" not in site.log(failed)
    assert "Traceback" not in (site.folder / "work" / "services" / "worker.log").read_text()


def _deliver_again(site: Site, run: str) -> None:
    """The event that a run has failed, once more: so does Prefect when SQLite was busy while it handled it."""
    wanted = {"event": {"name": ["prefect.flow-run.Failed"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    deadline = time.monotonic() + 60
    while not (found := site.ask("events/filter", {"filter": wanted})["events"]):  # the server writes them in batches
        assert time.monotonic() < deadline
        time.sleep(1)
    (event,) = found
    again = {**event, "id": str(uuid.uuid4()), "follows": None}
    site.ask(
        "events", [{name: value for name, value in again.items() if name not in ("received", "account", "workspace")}]
    )


def _artifacts(site: Site, run: str, kind: str) -> list[dict[str, Any]]:
    found = site.ask("artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}, "sort": "CREATED_DESC"})
    return [artifact for artifact in found if artifact["type"] == kind]


@contextmanager
def _receiver(site: Site) -> Iterator[str]:
    """A small HTTP server that keeps what it is told; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            site.messages.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/told"
    server.shutdown()


def test_a_killed_worker_does_not_end_its_run_and_a_killed_run_is_seen_at_once(site: Site) -> None:
    run = site.begin("train-miras", "until_stage=annotate", generate="sleep15")
    site.wait_for_file("generate.began")
    os.kill(_worker(site), 9)
    site.wait_for(run, "Completed")
    site.command("tasks.servers.services", "deploy")
    run = site.begin("train-miras", generate="sleep300")
    site.wait_for_file("generate.began")
    (engine,) = subprocess.check_output(["pgrep", "-P", str(_worker(site)), "-f", "prefect.engine"], text=True).split()
    os.kill(int(engine), 9)
    site.wait_for(run, "Crashed", seconds=30)
    site.wait_for_file("generate.stopped")
    after = site.begin("build-prist", "until_stage=generate", generate="fine")
    site.wait_for(after, "Completed")


def _worker(site: Site) -> int:
    return int(json.loads((site.folder / "work" / "services" / "worker.json").read_text())["pid"])
