"""A job is brought to its end: followed, failed with its own message, cancelled, left alone, attached to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from miras.errors import ConfigError, JobFailedError, StarterGoneError
from miras.launch.job import ERROR, HISTORY, JOB, JobSpec, JobState, run_job
from miras.launch.local import LocalPlace
from miras.launch.process import STOPPED_EARLY
from miras.launch.profiles import read_launch

ROOT = Path(__file__).parents[3]
MODULE = """\
import os, sys, time
from pathlib import Path
from miras.errors import ConfigError, StoppedEarlyError
from miras.launch.process import rank_main, share_main, stop_is_wanted

def rank(request):
    share(request, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

def share(request, number, count):
    mode = request.read_text()
    if mode == "wrong":
        raise ConfigError(f"wrong key in {number % 2}")
    if mode == "crash" and number == 1:
        raise ValueError("ours")
    if mode == "sleep":
        print(f"{number} sleeps", flush=True)
        time.sleep(60)
    if mode == "save":
        print("ready", flush=True)
        while not stop_is_wanted():
            time.sleep(0.01)
        raise StoppedEarlyError("saved at 7")
    request.with_name(f"done{number}").write_text(f"{count} {os.environ['OMP_NUM_THREADS']}")

share_main(share) if len(sys.argv) > 2 else rank_main(rank)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "a_module.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    return "a_module"


def spec(tmp_path: Path, module: str, mode: str, *, kind: str = "shares", processes: int = 2) -> JobSpec:
    folder = tmp_path / "work of 'mine'"
    folder.mkdir(exist_ok=True)
    request = folder / "request.json"
    request.write_text(mode)
    return JobSpec("stage1", module, request, kind, processes, threads=1)  # type: ignore[arg-type]


def local() -> LocalPlace:
    return LocalPlace(read_launch(str(ROOT / "infra" / "launch" / "local.yaml")))


@pytest.mark.parametrize("kind", ["ranks", "shares"])
def test_every_process_does_its_part(tmp_path: Path, module: str, kind: str) -> None:
    job = spec(tmp_path, module, "fine", kind=kind, processes=3)
    run_job(job, local())
    assert [(job.folder / f"done{number}").read_text() for number in range(3)] == ["3 1"] * 3
    assert not (job.folder / JOB).exists()
    (line,) = (job.folder / HISTORY).read_text().splitlines()
    assert json.loads(line)["ended"] == "done"


def test_a_users_mistake_found_by_several_processes_is_one_error_of_its_class(tmp_path: Path, module: str) -> None:
    with pytest.raises(ConfigError) as found:
        run_job(spec(tmp_path, module, "wrong", processes=4), local())
    assert set(str(found.value).splitlines()) <= {"wrong key in 0", "wrong key in 1"}
    assert len(str(found.value).splitlines()) == len(set(str(found.value).splitlines()))


def test_an_old_mistake_is_not_told_again(tmp_path: Path, module: str) -> None:
    job = spec(tmp_path, module, "fine")
    (job.folder / f"{ERROR}.00000").write_text(json.dumps({"kind": "ConfigError", "message": "old"}))
    run_job(job, local())
    assert not list(job.folder.glob(f"{ERROR}*"))


def test_a_crash_says_which_process_and_where_its_output_is(tmp_path: Path, module: str) -> None:
    job = spec(tmp_path, module, "crash")
    with pytest.raises(
        JobFailedError, match=r"process 1 of 2 failed with exit code 1; its output is in .*process1\.log"
    ):
        run_job(job, local())
    assert "ValueError: ours" in (job.folder / "process1.log").read_text()


def test_told_to_stop_it_cancels_and_keeps_the_record(tmp_path: Path, module: str) -> None:
    job = spec(tmp_path, module, "sleep")

    def stop_when_both_run() -> None:
        if "1 sleeps" in (job.folder / "process1.log").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, local(), watch=stop_when_both_run)
    assert json.loads((job.folder / HISTORY).read_text())["ended"] == "cancelled"
    assert not [child for child in psutil.Process().children() if "a_module" in child.cmdline()]


STARTS_AND_DIES = """\
import os, sys
from pathlib import Path
from miras.launch.job import JobSpec
from miras.launch.local import LocalPlace
place = LocalPlace(None)
job = place.submit(JobSpec("stage1", "a_module", Path(sys.argv[1]), "shares", 2, 1))
while "1 sleeps" not in Path(sys.argv[1]).with_name("process1.log").read_text():
    pass
print(job, flush=True)
os._exit(1)
"""


def test_processes_here_end_with_the_stage(tmp_path: Path, module: str) -> None:
    job = spec(tmp_path, module, "sleep")
    started = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STARTS_AND_DIES), str(job.request)], stdout=subprocess.PIPE, check=False
    )
    assert started.stdout.split()
    ends = time.monotonic() + 20
    while [p for p in psutil.process_iter(["cmdline"]) if str(job.request) in (p.info["cmdline"] or [])]:
        assert time.monotonic() < ends, "they go on without their stage"
        time.sleep(0.05)


def test_asked_by_signal_a_process_saves_and_says_so_by_its_exit_code(tmp_path: Path, module: str) -> None:
    job = spec(tmp_path, module, "save")
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(job.request), "0", "1"],
        env={**os.environ, "MIRAS_SAVE_ON_SIGNAL": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (STOPPED_EARLY, b"saved at 7\n")
    assert not list(job.folder.glob(f"{ERROR}*"))


class Elsewhere:
    """A place whose job is scripted: what it runs here is only this record."""

    name = "elsewhere"
    poll_s = 0.0

    def __init__(self, *states: JobState, running: str | None = None) -> None:
        self.states, self.running = list(states), running
        self.calls: list[str] = []

    def attach(self, spec: JobSpec) -> str | None:
        return self.running

    def submit(self, spec: JobSpec) -> str:
        self.calls.append("submit")
        return "7"

    def state(self, job: str) -> JobState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def cancel(self, job: str) -> None:
        self.calls.append(f"cancel {job}")

    def new_output(self, job: str) -> str:
        return ""

    def collect(self, job: str, spec: JobSpec) -> None:
        self.calls.append("collect")

    def about(self, job: str) -> dict[str, str]:
        return {"log": "/there/7.out"}


def test_a_running_job_is_followed_and_not_submitted_again(tmp_path: Path, module: str) -> None:
    place = Elsewhere(JobState("running"), JobState("done"), running="5")
    run_job(spec(tmp_path, module, ""), place)
    assert place.calls == ["collect", "collect"]


def test_when_only_the_starter_is_gone_the_job_goes_on(tmp_path: Path, module: str) -> None:
    place = Elsewhere(JobState("running"))
    job = spec(tmp_path, module, "")

    def gone() -> None:
        raise StarterGoneError

    with pytest.raises(StarterGoneError):
        run_job(job, place, watch=gone)
    assert place.calls == ["submit", "collect"]
    assert json.loads((job.folder / JOB).read_text())["job"] == "7"


def test_a_lost_job_is_an_error_that_says_what_the_place_knows(tmp_path: Path, module: str) -> None:
    place = Elsewhere(JobState("failed", "OUT_OF_MEMORY"))
    with pytest.raises(JobFailedError, match=r"elsewhere job 7 failed: OUT_OF_MEMORY \(log /there/7\.out\)\. Its last"):
        run_job(spec(tmp_path, module, ""), place)
