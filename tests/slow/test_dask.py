"""Shares on real Dask workers: of this machine, of Slurm jobs, of a scheduler that is there; and what befalls them."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from miras.dialogue.records import Picture
from miras.errors import ConfigError, JobFailedError, ServiceUnavailableError
from miras.evaluate import stage as evaluate_stage
from miras.evaluate.records import Prediction
from miras.files import read_records, write_records
from miras.generate import sharing
from miras.generate import stage as generate_stage
from miras.launch.job import HISTORY, JobSpec, run_job
from miras.launch.profiles import open_place, read_launch
from miras.model import features
from miras.model.config import FeaturesConfig
from miras.model.responder import save_weights
from miras.model.weights import Backbones
from miras.paths import Paths
from miras.sources.scenes import read
from tasks.servers import services
from tests.unit.evaluate.conftest import ONE_PROCESS, make_config
from tests.unit.generate.conftest import CONFIG, with_phrases
from tests.unit.model.tiny_network import network_config
from tests.unit.train.workspace import build_workspace

from .conftest import Cluster
from .slurm_trial import meanwhile, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
SEEN_S = 30.0
SLURM = {
    "partition": "main",
    "account": None,
    "time": "00:10:00",
    "cpus_per_worker": 1,
    "memory_gb": 1,
    "interface": None,
    "setup": [],
    "extra": [],
}
MODULE = """\
import os, sys, time
from miras.launch.process import share_main

def work(request, number, count):
    with request.with_name(f"starts{number}").open("a") as lines:
        lines.write(f"{os.getpid()} {os.getppid()}\\n")
    mode = request.read_text()
    starts = len(request.with_name(f"starts{number}").read_text().splitlines())
    if mode == "wait" or (mode == "once" and starts == 1) or (mode == "lost" and number == 1):
        time.sleep(120)
    if mode == "crash" and number == 1:
        raise ValueError("ours")
    request.with_name(f"done{number}").write_text(os.environ["OMP_NUM_THREADS"])

share_main(work)
"""


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the module and a profile named `dask`."""
    (tmp_path / "a_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setenv("MIRAS_LAUNCH", "dask")
    write_profile()
    return tmp_path


def write_profile(**changes: Any) -> None:
    file = Path("infra") / "launch" / "dask.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    values = yaml.safe_load((ROOT / "infra" / "launch" / "dask.yaml").read_text())
    file.write_text(yaml.safe_dump(values | {"shares": 3, "poll_s": 0.2} | changes))


def job(mode: str, *, shares: int = 3) -> JobSpec:
    folder = Path("work")
    folder.mkdir(exist_ok=True)
    (folder / "request.json").write_text(mode)
    return JobSpec("features", "a_module", folder / "request.json", "shares", shares, 1)


def starts(number: int) -> list[tuple[int, int]]:
    """(pid of the process, pid of its worker) for every start of a share."""
    file = Path("work") / f"starts{number}"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def done() -> list[str]:
    return sorted(file.name for file in Path("work").glob("done*"))


def run(spec: JobSpec) -> None:
    run_job(spec, open_place(read_launch()))


@contextmanager
def scheduler(*, workers: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """One that is there, with its workers, as processes of their own."""
    file = Path("scheduler.json").resolve()
    dask = [sys.executable, "-m", "distributed.cli"]
    head = [f"{dask[2]}.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    started = [subprocess.Popen([*dask[:2], *head, "--scheduler-file", str(file)], stderr=subprocess.DEVNULL)]
    try:
        until(file.exists)
        worker = [f"{dask[2]}.dask_worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"]
        started += [subprocess.Popen([*dask[:2], *worker], stderr=subprocess.DEVNULL) for _ in range(workers)]
        yield json.loads(file.read_text())["address"], started[0]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def test_shares_run_on_workers_of_this_machine(space: Path) -> None:
    run(job("fine"))
    assert done() == ["done0", "done1", "done2"]
    (line,) = (Path("work") / HISTORY).read_text().splitlines()
    assert json.loads(line)["ended"] == "done"


def test_a_crash_says_which_share_and_where_its_output_is(space: Path) -> None:
    with pytest.raises(JobFailedError, match=r"share 1 of 3 failed with exit code 1; its output is in .*share1\.log"):
        run(job("crash"))
    assert "ValueError: ours" in Path("work/dask/share1.log").read_text()


def test_a_share_whose_worker_is_killed_starts_again(space: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        until(lambda: starts(0) and starts(1))
        for worker in {starts(0)[0][1], starts(1)[0][1]}:
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)

    with meanwhile(kill):
        run(job("once", shares=2))
    assert len(killed) == 2
    assert [len(starts(number)) for number in range(2)] == [2, 2]
    assert done() == ["done0", "done1"]
    assert not psutil.pid_exists(starts(0)[0][0]), "the first process went on without its worker"


def test_a_share_that_loses_every_worker_fails_with_the_number(space: Path) -> None:
    write_profile(restarts=1, workers=1)
    is_over = threading.Event()

    def kill_every_worker() -> None:
        seen = 0
        while not is_over.is_set() and seen < 2:
            if len(starts(1)) > seen:
                seen += 1
                os.kill(starts(1)[-1][1], signal.SIGKILL)
            time.sleep(0.05)

    with (
        meanwhile(kill_every_worker),
        pytest.raises(JobFailedError, match=r"share 1 of 2 lost its worker 2 times .*share1\.log"),
    ):
        run(job("lost", shares=2))
    is_over.set()


def test_a_scheduler_that_is_there_is_used_and_when_it_goes_there_is_one_message(space: Path) -> None:
    at: list[float] = []
    with scheduler(workers=2) as (address, process):
        write_profile(cluster=None, workers=None, address=address)
        run(job("fine"))
        assert done() == ["done0", "done1", "done2"]
        for file in Path("work").glob("starts*"):
            file.unlink()

        def kill() -> None:
            until(lambda: starts(0) and starts(1))
            at.append(time.monotonic())
            process.kill()

        with meanwhile(kill), pytest.raises(ServiceUnavailableError, match=f"at {address} does not answer any more"):
            run(job("wait", shares=2))
        assert time.monotonic() - at[0] < SEEN_S
        until(lambda: not psutil.pid_exists(starts(0)[0][0]), limit_s=SEEN_S)
    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match=f"No Dask scheduler answers at {address}"):
        run(job("fine"))
    assert time.monotonic() - began < SEEN_S


def test_told_to_stop_the_shares_end_on_workers_that_stay(space: Path) -> None:
    with scheduler(workers=2) as (address, _):
        write_profile(cluster=None, workers=None, address=address)

        def stop() -> None:
            if starts(0) and starts(1):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_job(job("wait", shares=2), open_place(read_launch()), watch=stop)
        until(lambda: not any(psutil.pid_exists(starts(number)[0][0]) for number in range(2)), limit_s=10)
        run(job("fine"))
        assert done() == ["done0", "done1", "done2"]


def test_what_slurm_refuses_is_a_mistake_of_the_profile(slurm: Cluster, space: Path) -> None:
    write_profile(cluster="slurm", slurm=SLURM | {"partition": "moon"})
    with pytest.raises(ConfigError, match=r"sbatch refuses a Dask worker: .*partition"):
        run(job("fine"))
    assert slurm.ask("squeue", "-h") == ""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return build_workspace(tmp_path_factory.mktemp("workspace"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_the_stages_make_what_one_process_makes(
    space: Path, paths: Paths, cluster: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cluster == "slurm":
        request.getfixturevalue("slurm")
    write_profile(cluster=cluster, slurm=SLURM if cluster == "slurm" else None, shares=2)
    features_by_dask(space, paths)
    generate_by_dask(space, paths, monkeypatch)
    evaluate_by_dask(space, paths, monkeypatch)


def features_by_dask(space: Path, paths: Paths) -> None:
    made = paths.model_copy(update={"features": str(space / "features")})
    work = space / "features-work" / "one"
    work.mkdir(parents=True)
    features.run(paths=made, work=work, features=FeaturesConfig(batch_size=4, shard_size=4))
    assert json.loads((work / HISTORY).read_text())["place"] == "dask"
    assert contents(space / "features") == contents(Path(paths.features))


def generate_by_dask(space: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG.model_copy(update={"mrseg_per_picture": 1})
    monkeypatch.setattr(sharing, "PIECE_PICTURES", 3)
    paths = paths.model_copy(update={"ingest": str(space / "ingest")})
    scenes = list(read(count=10, size_px=64, seed=4))
    names = [Picture(image_id=s.image_id, file_name="p.png", height=64, width=64, sha256="0") for s in scenes]
    write_records(paths.picture_table, names)
    write_records(paths.region_table, (region for scene in scenes for region in with_phrases(list(scene.regions))))
    write_records(paths.source_dialogues, [])
    said = {}
    for name, shared_from in (("one", 10**6), ("dask", 1)):
        monkeypatch.setattr(generate_stage, "SHARED_FROM_PICTURES", shared_from)
        made = paths.model_copy(update={"generate": str(space / f"generate-{name}")})
        (space / f"generate-work-{name}").mkdir()
        generate_stage.run(paths=made, work=space / f"generate-work-{name}", generate=config)
        said[name] = contents(Path(made.generate))
    assert json.loads((space / "generate-work-dask" / HISTORY).read_text())["place"] == "dask"
    assert said["dask"] == said["one"]


def evaluate_by_dask(space: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    backbones = Backbones(Path(paths.backbones))
    network = backbones.network(network_config(), backbones.tokenizer())
    trained = paths.model_copy(update={"stage1": str(space / "s1"), "stage2": str(space / "s2")})
    for folder in (trained.stage1, trained.stage2):
        Path(folder).mkdir()
        save_weights(network, Path(folder), fingerprint=backbones.manifest.fingerprint)
    said = {}
    read = evaluate_stage.read_launch
    for name, launch in (("one", lambda: ONE_PROCESS), ("dask", read)):
        monkeypatch.setattr(evaluate_stage, "read_launch", functools.partial(launch))
        asked = trained.model_copy(update={"evaluate": str(space / f"evaluate-{name}")})
        (space / f"evaluate-work-{name}").mkdir()
        evaluate_stage.run(
            paths=asked, work=space / f"evaluate-work-{name}", evaluate=make_config(batch_size=2, templates=["lisa"])
        )
        said[name] = [p.model_copy(update={"seconds": 0.0}) for p in read_records(asked.predictions, Prediction)]
    assert said["dask"] == said["one"]


@pytest.fixture
def prefect_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real server's API."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    for name, value in {"PREFECT_HOME": str(tmp_path / "prefect"), "DO_NOT_TRACK": "true"}.items():
        monkeypatch.setenv(name, value)
    words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api"
    try:
        until(lambda: services.answers(f"{url}/health"), limit_s=180)
        monkeypatch.setenv("PREFECT_API_URL", url)
        yield url
    finally:
        server.terminate()
        server.wait()


def test_shares_are_task_runs_in_prefect_also_after_a_killed_worker(space: Path, prefect_server: str) -> None:
    write_profile(place="prefect-dask")
    spec = job("once", shares=2)
    script = "from tests.slow.test_dask import job, run; run(job('once', shares=2))"
    stage = subprocess.Popen([sys.executable, "-c", script])  # as the stage is: Prefect reads its settings once
    until(lambda: starts(0) and starts(1))
    for worker in {starts(0)[0][1], starts(1)[0][1]}:
        os.kill(worker, signal.SIGKILL)
    assert stage.wait(timeout=LIMIT_S) == 0
    assert done() == ["done0", "done1"]
    answer = httpx.post(f"{prefect_server}/task_runs/filter", json={}, timeout=30).json()
    assert sorted((run["name"], run["state"]["type"]) for run in answer) == [
        (f"{spec.name} share {number} of 2", "COMPLETED") for number in range(2)
    ]
