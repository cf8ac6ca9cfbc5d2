"""The servers behind `make ui` and `make deploy`, on loopback, in the background; each starts only once.

    python -m tasks.services ui | deploy | undeploy | stop

Numbers of their processes and their logs lie in work/services.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from miras.errors import MirasError, ServiceUnavailableError
from miras.files import write_json
from tasks import environment
from tasks.pipeline_run import Owner

FOLDER = Path("work") / "services"
POOL = "local"
_START_S = 120.0
_STOP_S = 20.0


@dataclass(frozen=True)
class Service:
    """One background process."""

    name: str
    command: tuple[str, ...]
    url: str = ""
    """Address for people; empty for the worker."""
    health: str = ""
    """Answers 200 once the service is ready; empty: ready when it runs."""

    @property
    def process_file(self) -> Path:
        """JSON: which process it is."""
        return FOLDER / f"{self.name}.json"

    @property
    def log_file(self) -> Path:
        """What it prints."""
        return FOLDER / f"{self.name}.log"

    def owner(self) -> Owner | None:
        """Its process, if it runs."""
        try:
            owner = Owner(**json.loads(self.process_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        return owner if owner.is_alive() else None

    def is_ready(self) -> bool:
        """Whether our process runs and answers."""
        return self.owner() is not None and (not self.health or answers(self.health))


def prefect_server() -> Service:
    """Prefect's API and pages, over the same records as `make run`."""
    port = os.environ.get("PREFECT_PORT", "4200")
    url = f"http://127.0.0.1:{port}"
    command = (*_tool("prefect"), "server", "start", "--host", "127.0.0.1", "--port", port, "--analytics-off")
    return Service("prefect", command, url, f"{url}/api/health")


def mlflow_server() -> Service:
    """MLflow's pages over mlflow.db."""
    port = os.environ.get("MLFLOW_PORT", "5000")
    url = f"http://127.0.0.1:{port}"
    store = ("--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"])
    place = ("--default-artifact-root", (Path.cwd() / "mlartifacts").as_uri())
    command = (*_tool("mlflow"), "server", "--host", "127.0.0.1", "--port", port, "--workers", "1")
    return Service("mlflow", (*command, *store, *place), url, f"{url}/health")


def worker() -> Service:
    """Picks up runs of the deployment and executes them here."""
    return Service("worker", (*_tool("prefect"), "worker", "start", "--pool", POOL, "--name", "local"))


def start(service: Service, variables: Mapping[str, str]) -> None:
    """Starts a service and waits until it answers; one that runs already is left alone.

    Raises:
        ServiceUnavailableError: it ended, or did not answer in time; or another program has its port.
    """
    if service.is_ready():
        return
    if service.health and service.owner() is None and answers(service.health):
        raise ServiceUnavailableError(
            f"{service.url} is taken by another program. Choose another port, for example "
            f"`make ui {service.name.upper()}_PORT={int(service.url.rpartition(':')[2]) + 100}`."
        )
    print(f"starting {service.name}: {' '.join(service.command)}", file=sys.stderr, flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with service.log_file.open("wb") as log:
        process = subprocess.Popen(
            service.command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    write_json(service.process_file, asdict(Owner.of(process.pid)))
    if not _wait(service.is_ready, _START_S, stop_if=lambda: process.poll() is not None):
        tail = service.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        raise ServiceUnavailableError(
            f"{service.name} did not start; the end of {service.log_file}:\n" + "\n".join(tail)
        )


def stop(service: Service) -> None:
    """Ends the service's processes, if it was started by us and still runs."""
    owner = service.owner()
    if owner:
        print(f"stopping {service.name} (process {owner.pid})", file=sys.stderr)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(owner.pid, number)
            if _wait(lambda: not owner.is_alive(), _STOP_S):
                break
    service.process_file.unlink(missing_ok=True)


def deploy() -> None:
    """Server, work pool, deployment and worker; whatever is there already stays."""
    server = prefect_server()
    variables = _prefect_variables(server)
    start(server, variables)
    _prefect(variables, "work-pool", "create", POOL, "--type", "process", "--overwrite")
    _prefect(variables, "--no-prompt", "deploy", "--all")
    start(worker(), variables)
    print(
        f"\nThe deployments train-miras, build-prist and reproduce are ready. Prefect: {server.url}\n"
        "  prefect deployment run train-miras            start a run (from this folder)\n"
        "  prefect deployment run train-miras --watch    start one and wait for its end\n"
        "  prefect deployment run build-prist            the data set alone, with people in between\n"
        "  make undeploy                                 stop the worker and the server"
    )
    if server.url != "http://127.0.0.1:4200":
        print(f"Not the usual port: first `export PREFECT_API_URL={server.url}/api`.")


def show_pages() -> None:
    """MLflow's and Prefect's pages."""
    server = prefect_server()
    start(mlflow_server(), {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    start(server, _prefect_variables(server))
    print(f"\nMLflow:  {mlflow_server().url}\nPrefect: {server.url}\n`make stop` stops both.")


def is_prefect_running() -> bool:
    """Whether this workspace's own Prefect server answers."""
    return prefect_server().is_ready()


def _prefect_variables(server: Service) -> dict[str, str]:
    return {"PREFECT_HOME": str(Path.cwd() / ".prefect"), "PREFECT_API_URL": f"{server.url}/api"}


def _prefect(variables: Mapping[str, str], *words: str) -> None:
    print(f"prefect {' '.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [*_tool("prefect"), *words], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceUnavailableError(f"`prefect {' '.join(words)}` failed:\n{done.stdout}{done.stderr}")


def _tool(name: str) -> tuple[str, ...]:
    return sys.executable, "-m", name


def answers(url: str) -> bool:
    """Whether a GET of this address gives 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait(condition: Callable[[], bool], seconds: float, *, stop_if: Callable[[], bool] = lambda: False) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop_if():
        if condition():
            return True
        time.sleep(0.2)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts or stops services; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.services", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("ui", "deploy", "undeploy", "stop"))
    action = parser.parse_args(arguments).action
    environment.prepare()
    try:
        if action == "ui":
            show_pages()
        elif action == "deploy":
            deploy()
        elif action == "undeploy":
            for service in (worker(), prefect_server()):
                stop(service)
        else:
            for service in (worker(), prefect_server(), mlflow_server()):
                stop(service)
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
