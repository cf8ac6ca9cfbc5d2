"""Jobs on a loopback SageMaker that really runs them, with moto's S3 and CloudWatch: whole lives and faults."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from miras.errors import ConfigError, JobFailedError, StarterGoneError
from miras.files import write_json
from miras.launch.aws import client
from miras.launch.job import HISTORY, JOB, JobSpec, run_job
from miras.launch.local import LocalPlace
from miras.launch.profiles import Launch, read_launch
from miras.launch.sagemaker import SageMakerLaunch, SageMakerPlace
from miras.metrics_log import METRICS
from miras.model.responder import WEIGHTS
from tests.slow.sagemaker_server import ROLE_KEYS, SageMakerServer
from tests.unit.launch.aws_services import BUCKET, SECRET, moto, use
from tests.unit.model.tiny_network import network_config
from tests.unit.train.workspace import build_workspace, train_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODULE = """\
import os, sys, time
from pathlib import Path
import miras
from miras.errors import ConfigError, StoppedEarlyError
from miras.launch.process import rank_main, share_main, stop_is_wanted

def rank(request):
    share(request, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

def share(request, number, count):
    mode, folder = request.read_text(), request.parent
    print(f"{number} of {count} runs {mode}", flush=True)
    if mode == "wrong":
        raise ConfigError("wrong key")
    steps = folder / f"steps{number}"
    for step in range(int(steps.read_text()) if steps.exists() else 0, 20 if mode == "count" else 10_000):
        if mode in ("count", "long"):
            steps.write_text(str(step + 1))
            with (folder / f"log{number}.jsonl").open("a") as log:
                log.write(f"{step}\\n")
            time.sleep(0.1)
        if mode == "fine":
            break
        if stop_is_wanted():
            raise StoppedEarlyError(f"saved at {step + 1}")
    (Path("made") / str(number)).write_text(f"{miras.__file__} {Path('given/x').read_text()}")

share_main(share) if len(sys.argv) > 2 else rank_main(rank)
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto() as address:
        yield address


@pytest.fixture
def server(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerServer]:
    use(endpoint, monkeypatch, tmp_path)
    made = SageMakerServer(tmp_path / "sagemaker", endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", made.url)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    client.cache_clear()
    workspace = tmp_path / "work space"
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    yield made
    made.close()
    client.cache_clear()


def launch(**changes: object) -> SageMakerLaunch:
    found = read_launch(str(ROOT / "infra" / "launch" / "sagemaker.yaml"))
    assert isinstance(found, SageMakerLaunch)
    settings = {
        "bucket": BUCKET,
        "image": "an-image",
        "instance_type": "ml.c5.xlarge",
        "processes": 1,
        "zero_stage": 0,
        "gradient_checkpointing": False,
        "threads": 1,
        "usd_per_hour": 1.0,
        "max_run_hours": 1.0,
        "cost_limit_usd": 10.0,
        "poll_s": 0.3,
    }
    return found.model_copy(update=settings | changes)


def spec(mode: str, *, kind: str = "shares", processes: int = 2) -> JobSpec:
    folder = Path("work") / "of 'mine'"
    for made in (folder, Path("given"), Path("made")):
        made.mkdir(parents=True, exist_ok=True)
    (Path("given") / "x").write_text("given")
    Path("a_module.py").write_text(MODULE)
    request = folder / "request.json"
    request.write_text(mode)
    reads = (Path("given"), Path("made"), Path("a_module.py"))
    return JobSpec("stage1", "a_module", request, kind, processes, threads=1, reads=reads)  # type: ignore[arg-type]


def when(is_true: Callable[[], bool], do: Callable[[], None]) -> Callable[[], None]:
    """A `watch` that does something once."""
    done: list[bool] = []

    def watch() -> None:
        if not done and is_true():
            done.append(True)
            do()

    return watch


def steps(job: JobSpec) -> int:
    path = job.folder / "steps0"
    return int(path.read_text() or 0) if path.exists() else 0


def history(job: JobSpec) -> list[str]:
    return [json.loads(line)["ended"] for line in (job.folder / HISTORY).read_text().splitlines()]


@pytest.mark.parametrize("kind", ["shares", "ranks"])
def test_a_job_gets_its_files_and_code_and_gives_back_what_it_made(
    server: SageMakerServer, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    job = spec("fine", kind=kind, processes=4)
    run_job(job, SageMakerPlace(launch(instance_count=2, processes=4)))
    made = [(Path("made") / str(number)).read_text() for number in range(4)]
    assert all(text.endswith(" given") and "miras-code/miras/__init__.py" in text for text in made)
    assert history(job) == ["done"]
    said = capfd.readouterr().err
    assert "algo-1: 0 of 4 runs fine" in said
    assert "algo-2: 2 of 4 runs fine" in said
    assert "3 of 4 runs fine" in (job.folder / "process3.log").read_text()


def test_a_users_mistake_there_is_the_same_error_here(server: SageMakerServer) -> None:
    with pytest.raises(ConfigError, match=r"^wrong key$"):
        run_job(spec("wrong"), SageMakerPlace(launch()))


def test_a_crash_says_where_to_look(server: SageMakerServer) -> None:
    job = spec("fine")
    (Path("given") / "x").unlink()
    with pytest.raises(
        JobFailedError, match=r"AlgorithmError: process \d ended with exit code 1.*console\.aws.*CloudWatch"
    ):
        run_job(job, SageMakerPlace(launch()))


def test_interrupted_it_saves_and_goes_on_on_another_instance(server: SageMakerServer) -> None:
    job = spec("count")
    place = SageMakerPlace(launch())
    watch = when(lambda: steps(job) >= 3, lambda: server.interrupt(next(iter(server.jobs))))
    run_job(job, place, watch=watch)
    (name,) = server.jobs
    statuses = [change["Status"] for change in server.jobs[name]["SecondaryStatusTransitions"]]
    assert statuses.count("Training") == 2
    assert "Interrupted" in statuses
    assert (job.folder / "log0.jsonl").read_text().split() == [str(step) for step in range(20)]


def test_told_to_stop_it_stops_there_and_the_next_run_goes_on(server: SageMakerServer) -> None:
    job = spec("long")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, SageMakerPlace(launch()), watch=when(lambda: steps(job) >= 3, stop))
    (name,) = server.jobs
    assert server.jobs[name]["TrainingJobStatus"] in ("Stopping", "Stopped")
    seen = steps(job)
    job.request.write_text("count")
    run_job(job, SageMakerPlace(launch()))
    assert [name.rpartition("-")[2] for name in server.jobs] == ["1", "2"]
    assert history(job) == ["cancelled", "done"]
    logged = (job.folder / "log0.jsonl").read_text().split()
    assert logged == [str(step) for step in range(max(20, len(logged)))]
    assert seen >= 3


def test_a_run_that_lost_its_starter_is_found_again(server: SageMakerServer) -> None:
    job = spec("count")

    def gone() -> None:
        raise StarterGoneError

    with pytest.raises(StarterGoneError):
        run_job(job, SageMakerPlace(launch()), watch=gone)
    assert (job.folder / JOB).exists()
    run_job(job, SageMakerPlace(launch()))
    assert len(server.jobs) == 1
    assert (Path("made") / "0").exists()


def test_an_end_that_nobody_saw_is_seen_by_the_next_run(server: SageMakerServer) -> None:
    job = spec("fine")
    place = SageMakerPlace(launch())
    name = place.submit(job)
    while server.jobs[name]["TrainingJobStatus"] != "Completed":
        time.sleep(0.1)
    run_job(job, SageMakerPlace(launch()))
    assert list(server.jobs) == [name]
    assert (Path("made") / "1").exists()


def test_over_the_cost_limit_it_is_stopped_and_the_next_needs_a_higher_one(server: SageMakerServer) -> None:
    server.speed = 2000.0
    server.enforces_run_time = False  # what AWS should have ended by then
    job = spec("long")
    with pytest.raises(JobFailedError, match=r"about \d+\.\d\d USD of at most 1\.00 spent \(`cost_limit_usd`\)"):
        run_job(job, SageMakerPlace(launch(usd_per_hour=0.5, cost_limit_usd=1.0, max_run_hours=2.0, spot=False)))
    with pytest.raises(JobFailedError, match=r"have cost about .* Raise it to go on"):
        run_job(job, SageMakerPlace(launch(usd_per_hour=0.5, cost_limit_usd=1.0, max_run_hours=2.0)))
    assert len(server.jobs) == 1


def test_at_its_time_limit_it_saves_and_says_what_to_raise(server: SageMakerServer) -> None:
    server.speed = 60.0
    job = spec("long")
    with pytest.raises(JobFailedError, match=r"MaxRuntimeExceeded: .*max_run_hours"):
        run_job(job, SageMakerPlace(launch(max_run_hours=0.4, cost_limit_usd=1000.0)))
    assert steps(job), "what it had done is not here"


def test_no_secret_leaves_this_machine(server: SageMakerServer, capfd: pytest.CaptureFixture[str]) -> None:
    job = spec("fine")
    run_job(job, SageMakerPlace(launch(environment={"NCCL_DEBUG": "INFO"})))
    s3 = client("s3", "us-east-1")
    listed = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    objects = [s3.get_object(Bucket=BUCKET, Key=found["Key"]) for found in listed]
    logs = client("logs", "us-east-1").filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs")
    captured = capfd.readouterr()
    texts = [json.dumps(server.requests), json.dumps(logs, default=str), captured.err, captured.out]
    texts += [found["Body"].read().decode(errors="replace") + json.dumps(found["Metadata"]) for found in objects]
    texts += [path.read_text(errors="replace") for path in Path().rglob("*") if path.is_file()]
    for planted in (SECRET, *ROLE_KEYS.values()):
        assert not any(planted in text for text in texts)


NETWORK = network_config(mask_memory="both", reference_loss=True)
SETTINGS = {"mixture": {"mrseg": 1, "vqa": 1}, "global_batch_size": 2, "micro_batch_size": 1, "dialogues_per_row": 1}


def training(paths: object, work: str, *, launch: Launch, count: int) -> JobSpec:
    """A job as `miras.train.stage` makes it, with the work folder relative to the workspace."""
    config = train_config(**SETTINGS, steps=count, checkpoint_every=5, validate_every=50)
    folder = Path(work)
    folder.mkdir(parents=True)
    request = {"stage": "stage1", "paths": paths.model_dump(), "work": str(folder)}  # type: ignore[attr-defined]
    sections = {"network": NETWORK, "config": config, "launch": launch.for_process()}
    write_json(folder / "request.json", request | {name: part.model_dump() for name, part in sections.items()})
    reads = tuple(Path(getattr(paths, name)) for name in ("check", "split", "backbones", "features"))
    module, request_path = "miras.train.worker", folder / "request.json"
    return JobSpec("stage1", module, request_path, "ranks", launch.processes, threads=1, reads=reads)


def test_training_there_gives_the_weights_of_training_here_interrupted_or_not(
    server: SageMakerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 100
    monkeypatch.setenv("MIRAS_LAUNCH", str(ROOT / "infra/launch/local.yaml"))
    paths = build_workspace(Path("."), pictures=4)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    profile = launch(processes=2, instance_count=2)
    local = read_launch(str(ROOT / "infra/launch/local.yaml")).model_copy(update={"processes": 2, "threads": 1})
    here = training(paths, "work/stage1/here", launch=local, count=count)
    run_job(here, LocalPlace(local))

    there = training(paths, "work/stage1/there", launch=profile, count=count)
    live: list[int] = []
    interrupted_at: list[int] = []

    def watch() -> None:
        lines = (there.folder / METRICS).read_text().splitlines() if (there.folder / METRICS).exists() else []
        live.append(len(lines))
        if lines and not interrupted_at:
            interrupted_at.append(len(lines))
            server.interrupt(next(iter(server.jobs)), instance=2)

    run_job(there, SageMakerPlace(profile), watch=watch)
    statuses = [c["Status"] for job in server.jobs.values() for c in job["SecondaryStatusTransitions"]]
    assert statuses.count("Training") == 2
    assert interrupted_at[0] < count, "it was over before it was interrupted"
    assert len({lines for lines in live if lines > 0}) > 1, "figures came only at the end"
    mine, theirs = (load_file(job.folder / "finished" / WEIGHTS) for job in (here, there))
    assert mine.keys() == theirs.keys()
    assert all((mine[name] == theirs[name]).all() for name in mine)
    lines = [json.loads(line) for line in (there.folder / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})


def test_what_lies_outside_of_the_workspace_is_found_there_too(server: SageMakerServer, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere" / "weights"
    outside.mkdir(parents=True)
    (outside / "w").write_text("heavy")
    job = spec("fine")
    Path("given/x").unlink()
    Path("a_module.py").write_text(MODULE.replace("Path('given/x')", f"Path({str(outside / 'w')!r})"))
    place = SageMakerPlace(launch())
    moved = threading.Event()

    class Moves(SageMakerPlace):
        """Takes the folder away once it was sent: what the job finds was brought to it."""

        def submit(self, spec: JobSpec) -> str:
            found = super().submit(spec)
            shutil.rmtree(outside.parent)
            moved.set()
            return found

    place.__class__ = Moves
    run_job(JobSpec(**{**vars(job), "reads": (*job.reads, outside)}), place)
    assert moved.is_set()
    assert (Path("made") / "0").read_text().endswith("heavy")
