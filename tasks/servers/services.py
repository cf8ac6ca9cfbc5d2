"""The servers behind `make ui` and `make deploy`, on loopback, in the background; each starts only once.

    python -m tasks.servers.services ui | deploy | undeploy | stop

Where PREFECT_API_URL names a shared Prefect server, `deploy` starts only the worker. Numbers of the processes and
their logs lie in work/services.
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
from http import HTTPStatus
from pathlib import Path

from miras.errors import MirasError, ServiceUnavailableError
from miras.files import write_json
from miras.launch import profiles
from tasks import environment
from tasks.choices import default_launch, use_launch
from tasks.pipeline_run import Owner
from tasks.workspace_name import SUFFIX_VARIABLE, workspace_name

FOLDER = Path("work") / "services"
POOL_VARIABLE = "MIRAS_POOL"
"""Work pool of the deployments: local, or slurm-login for a worker on a cluster's login node."""
_AUTOMATION = "lost-runs"
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
    place = ("--default-artifact-root", (Path.cwd() / "mlartifacts").as_uri())
    command = (*_tool("mlflow"), "server", "--host", "127.0.0.1", "--port", port, "--workers", "1")
    return Service("mlflow", (*command, *place), url, f"{url}/health")


def worker(variables: Mapping[str, str]) -> Service:
    """Picks up runs of this workspace's deployments and executes them here."""
    pool, suffix = variables[POOL_VARIABLE], variables[SUFFIX_VARIABLE]
    queues = tuple(word for queue in _queues(suffix) for word in ("--work-queue", queue))
    name = f"{pool}{suffix}"
    return Service("worker", (*_tool("prefect"), "worker", "start", "--pool", pool, *queues, "--name", name))


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
    """Server (unless there is a shared one), work pool, queues, deployments and worker; what is there already stays.

    Raises:
        ConfigError: MIRAS_LAUNCH names no launch profile.
        ServiceUnavailableError: the server does not start or answer.
    """
    use_launch(default_launch())
    variables = deploy_variables()
    url = variables["PREFECT_API_URL"].removesuffix("/api")
    if variables[SUFFIX_VARIABLE]:
        _check_shared(url)
    else:
        start(prefect_server(), variables)
    _make_queues(variables)
    _prefect(variables, "--no-prompt", "deploy", "--all")
    _command(variables, "tasks.orchestration.automations", _AUTOMATION)
    # Short names are for people; and a worker loads the plugin inside its event loop, where Prefect cannot.
    start(worker(variables), {**variables, "PREFECT_PLUGINS_ENABLED": "false"})
    name = f"train-miras{variables[SUFFIX_VARIABLE]}"
    print(
        f"\nThe deployments train-miras, build-prist, evaluate, promote and reproduce are ready. Prefect: {url}\n"
        f"  prefect deployment run {name}            start a run (from this folder)\n"
        f"  prefect deployment run {name} --watch    start one and wait for its end\n"
        "  prefect deployment ls                         all of them\n"
        "  make undeploy                                 stop what this command started"
    )
    if not variables[SUFFIX_VARIABLE] and url != "http://127.0.0.1:4200":
        print(f"Not the usual port: first `export PREFECT_API_URL={url}/api`.")


def deploy_variables() -> dict[str, str]:
    """What prefect.yaml, the worker and each run are told."""
    own = _prefect_variables(prefect_server())
    shared = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    is_shared = shared not in ("", own["PREFECT_API_URL"])
    return {
        **own,
        "PWD": str(Path.cwd()),  # where runs work (prefect.yaml); not the caller's under `make -C`
        **({"PREFECT_API_URL": shared} if is_shared else {}),
        SUFFIX_VARIABLE: f"-{workspace_name()}" if is_shared else "",
        POOL_VARIABLE: os.environ.get(POOL_VARIABLE) or "local",
        profiles.VARIABLE: default_launch(),
    }


def _queues(suffix: str) -> tuple[str, str]:
    """One place, for what changes the workspace; and no limit, for what works beside it (prefect.yaml)."""
    return f"workspace{suffix}", f"beside{suffix}"


def _check_shared(url: str) -> None:
    if not answers(f"{url}/api/health"):
        raise ServiceUnavailableError(
            f"No Prefect server answers at {url} (PREFECT_API_URL). Start it there, or `unset PREFECT_API_URL` for "
            "one of this workspace's own."
        )


def _make_queues(variables: Mapping[str, str]) -> None:
    """The work pool and this workspace's two queues in it; those that are there keep what people set on their pages."""
    from prefect.client.orchestration import get_client  # half a second: not for `make ui`
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.workers.process import ProcessWorker

    pool, queues = variables[POOL_VARIABLE], _queues(variables[SUFFIX_VARIABLE])
    template = ProcessWorker.get_default_base_job_template()
    with temporary_settings({PREFECT_API_URL: variables["PREFECT_API_URL"]}), get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
        for queue, limit in zip(queues, (1, None), strict=True):
            try:
                client.request(
                    "POST",
                    "/work_pools/{work_pool_name}/queues",
                    path_params={"work_pool_name": pool},
                    json={"name": queue, "concurrency_limit": limit},
                )
            except PrefectHTTPStatusError as error:
                if error.response.status_code != HTTPStatus.CONFLICT:
                    raise


def show_pages() -> None:
    """MLflow's and Prefect's pages."""
    server = prefect_server()
    # The store's address may hold a password, and every user of the machine can read command lines.
    store = {"MLFLOW_BACKEND_STORE_URI": os.environ["MLFLOW_TRACKING_URI"]}
    start(mlflow_server(), {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **store})
    start(server, _prefect_variables(server))
    print(f"\nMLflow:  {mlflow_server().url}\nPrefect: {server.url}\n`make stop` stops both.")


def is_prefect_running() -> bool:
    """Whether this workspace's own Prefect server answers."""
    return prefect_server().is_ready()


def _prefect_variables(server: Service) -> dict[str, str]:
    return {"PREFECT_HOME": str(Path.cwd() / ".prefect"), "PREFECT_API_URL": f"{server.url}/api"}


def _prefect(variables: Mapping[str, str], *words: str) -> None:
    _command(variables, "prefect", *words)


def _command(variables: Mapping[str, str], module: str, *words: str) -> None:
    shown = " ".join((module if module == "prefect" else f"python -m {module}", *words))
    print(shown, file=sys.stderr, flush=True)
    done = subprocess.run(
        [*_tool(module), *words], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceUnavailableError(f"`{shown}` failed:\n{done.stdout}{done.stderr}")


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
    parser = argparse.ArgumentParser(prog="python -m tasks.servers.services", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("ui", "deploy", "undeploy", "stop"))
    action = parser.parse_args(arguments).action
    environment.prepare()
    try:
        if action == "ui":
            show_pages()
        elif action == "deploy":
            deploy()
        elif action == "undeploy":
            for service in (worker(deploy_variables()), prefect_server()):
                stop(service)
        else:
            for service in (worker(deploy_variables()), prefect_server(), mlflow_server()):
                stop(service)
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
