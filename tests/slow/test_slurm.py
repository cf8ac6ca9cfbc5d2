"""Jobs on a real Slurm cluster: they survive what befalls them there, and what befalls them shows.

The processes are a small module that does as its request says; `test_slurm_stages.py` has the stages' own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from miras.errors import ConfigError, JobFailedError
from miras.launch import slurm as place_module
from miras.launch.job import HISTORY, JOB, JobSpec, run_job
from miras.launch.profiles import read_launch
from miras.launch.slurm import SlurmPlace

from .conftest import CLUSTER, Cluster
from .slurm_trial import ROOT, give_way, meanwhile, until, write_profile

pytestmark = pytest.mark.slow

SEEN_S = 30.0
"""Within which whatever befalls a job has to show."""
MODULE = """\
import os, sys, time
from pathlib import Path
from miras.errors import ConfigError, StoppedEarlyError
from miras.launch.process import rank_main, share_main, something_is_kept, stop_is_wanted

def rank(request):
    work(request, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))

def work(request, number, count):
    mode = request.read_text()
    starts = request.with_name(f"starts{number}")
    with starts.open("a") as lines:
        lines.write(f"{os.getpid()}\\n")
    print(f"process {number} of {count} works", flush=True)
    if mode == "wrong":
        raise ConfigError("wrong key")
    if mode == "crash" and number == 1:
        raise ValueError("ours")
    if "keeps" in mode:
        something_is_kept()
    if mode == "wait" or (mode.startswith("once") and len(starts.read_text().split()) == 1):
        for _ in range(1200):
            time.sleep(0.1)
            if stop_is_wanted():
                raise StoppedEarlyError("saved")
    if mode.startswith("short"):
        time.sleep(6)
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "GIVEN", "A_TOKEN", "LOCAL_RANK", "MASTER_ADDR")
    told = " ".join(str(os.environ.get(name)) for name in names)
    request.with_name(f"done{number}").write_text(f"{count} {told}")

share_main(work) if len(sys.argv) > 2 else rank_main(rank)
"""
STAGE = """\
import os, sys
from pathlib import Path
from miras.launch.job import JobSpec, run_job
from miras.launch.profiles import open_place, read_launch
request, kind = Path(sys.argv[1]), sys.argv[2]
try:
    run_job(JobSpec("stage1", "a_module", request, kind, 2, 1), open_place(read_launch()))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def space(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace with the module and a profile named `cluster`, as the current folder."""
    (tmp_path / "a_module.py").write_text(MODULE)
    write_profile(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setenv("MIRAS_LAUNCH", "cluster")
    yield tmp_path
    slurm.ask("scancel", f"--user={psutil.Process().username()}")


def place(**changes: Any) -> SlurmPlace:
    """A fresh one, as in a process that has just begun."""
    write_profile(Path.cwd(), **changes)
    return SlurmPlace(read_launch())


def spec(mode: str, *, kind: str = "ranks", processes: int = 2, work: str = "work") -> JobSpec:
    folder = Path(work)
    folder.mkdir(exist_ok=True)
    (folder / "request.json").write_text(mode)
    return JobSpec("stage1", "a_module", folder / "request.json", kind, processes, threads=1)  # type: ignore[arg-type]


def starts(number: int = 0, work: str = "work") -> list[int]:
    """The pids of a process's starts."""
    file = Path(work) / f"starts{number}"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def ended(work: str = "work") -> list[str]:
    return [json.loads(line)["ended"] for line in (Path(work) / HISTORY).read_text().splitlines()]


@pytest.mark.parametrize("kind", ["ranks", "shares"])
def test_every_process_does_its_part_whatever_the_workspace_is_called(
    slurm: Cluster, space: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = space / "a 'b' \"c\" $(touch no) `touch no` %j \\x; é & # *"
    hostile.mkdir()
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("A_TOKEN", "secret")
    job = spec("fine", kind=kind, processes=2, work="work of 'mine' %A")
    given = 'it\'s "$HOME" % \\'
    run_job(job, place(gpus_per_node=2, environment={"GIVEN": given}, setup=["export OMP_NUM_THREADS=5"]))
    said = [(job.folder / f"done{number}").read_text() for number in range(2)]
    if kind == "ranks":
        assert said == [f"2 0,1 5 {given} None {number} vm".replace("vm", os.uname().nodename) for number in range(2)]
    else:
        assert sorted(said) == [f"2 {number} 5 {given} None None None" for number in range(2)]
    assert ended("work of 'mine' %A") == ["done"]
    assert not list(Path.cwd().glob("no"))
    (script,) = job.folder.glob("slurm/*/job.sh")
    assert "secret" not in script.read_text()


def test_a_users_mistake_comes_back_as_what_it_was(space: Path) -> None:
    for kind in ("ranks", "shares"):
        with pytest.raises(ConfigError, match=r"^wrong key$"):
            run_job(spec("wrong", kind=kind, work=kind), place())
        assert len(starts(work=kind)) == 1, "an error of its own is no reason to start again"


def test_a_crash_names_the_state_the_share_and_the_log(space: Path) -> None:
    with pytest.raises(JobFailedError, match=r"slurm job \d+ failed: share 1 of 3: FAILED .*log\.1"):
        run_job(spec("crash", kind="shares", processes=3, work="shares"), place())
    with pytest.raises(JobFailedError, match=r"FAILED \(NonZeroExitCode\) \(log .*log\.0"):
        run_job(spec("crash", work="ranks"), place())
    (log,) = Path("ranks").glob("slurm/*/log.1")
    assert "ValueError: ours" in log.read_text()


def test_what_sbatch_refuses_is_a_mistake_of_the_profile(space: Path) -> None:
    with pytest.raises(ConfigError, match=r"sbatch refuses the job: .*invalid partition.*Correct the launch profile"):
        run_job(spec("fine"), place(partition="moon"))
    with pytest.raises(ConfigError, match=r"sbatch refuses the job: .*node configuration"):
        run_job(spec("fine"), place(gpus_per_node=64))


@pytest.mark.parametrize("kind", ["ranks", "shares"])
def test_a_job_that_has_to_give_way_starts_again_and_ends_well(slurm: Cluster, space: Path, kind: str) -> None:
    job = spec("once", kind=kind)

    def push_aside() -> None:
        until(lambda: starts(0) and starts(1))
        time.sleep(0.5)
        give_way(slurm)

    with meanwhile(push_aside):
        run_job(job, place(partition="spot"))
    assert len(starts(0)) == len(starts(1)) == 2
    assert len(slurm.jobs()) >= 2
    assert ended() == ["done"]


def test_at_its_time_limit_a_job_saves_and_starts_again(space: Path) -> None:
    run_job(spec("once"), place(time=1, save_before_end_s=45))
    assert len(starts(0)) == 2
    (log,) = Path("work").glob("slurm/*/log.0")
    assert "saved" in log.read_text()
    assert "start 2" in log.read_text()


def test_a_share_that_its_time_limit_ends_before_it_has_anything_is_not_started_for_ever(space: Path) -> None:
    with pytest.raises(JobFailedError, match=r"before it had anything to keep.*raise `time`"):
        run_job(spec("wait", kind="shares"), place(time=1, save_before_end_s=45))
    assert len(starts(0)) == 1


def test_a_share_that_has_kept_something_starts_again(space: Path) -> None:
    run_job(spec("once, keeps", kind="shares"), place(time=1, save_before_end_s=45))
    assert len(starts(0)) == 2


def test_without_requeue_the_time_limit_is_a_failure_that_says_so(space: Path) -> None:
    with pytest.raises(JobFailedError, match=r"failed: FAILED .*it had saved.*run again to go on"):
        run_job(spec("wait"), place(time=1, save_before_end_s=45, requeue=False))
    assert len(starts(0)) == 1
    run_job(spec("fine"), place())
    assert [how.partition(" ")[0] for how in ended()] == ["failed", "done"]


@pytest.mark.parametrize("kind", ["ranks", "shares"])
def test_a_job_cancelled_on_the_cluster_has_failed_soon_and_stays_cancelled(
    slurm: Cluster, space: Path, kind: str
) -> None:
    at: list[float] = []

    def cancel() -> None:
        until(lambda: starts(0) and starts(1))
        at.append(time.monotonic())
        slurm.ask("scancel", json.loads((Path("work") / JOB).read_text())["job"])

    with meanwhile(cancel), pytest.raises(JobFailedError, match=r"slurm job \d+ cancelled: .*CANCELLED"):
        run_job(spec("wait", kind=kind), place())
    assert time.monotonic() - at[0] < SEEN_S
    job = json.loads((Path("work") / HISTORY).read_text())["job"]
    until(lambda: set(slurm.states(job)) == {"CANCELLED"})
    time.sleep(3)
    assert set(slurm.states(job)) == {"CANCELLED"}, "it came back"


@pytest.mark.parametrize("kind", ["ranks", "shares"])
def test_a_killed_process_has_failed_the_job_soon_and_its_siblings_end(space: Path, kind: str) -> None:
    at: list[float] = []

    def kill() -> None:
        until(lambda: starts(0) and starts(1))
        at.append(time.monotonic())
        os.kill(starts(1)[0], signal.SIGKILL)

    with meanwhile(kill), pytest.raises(JobFailedError, match=r"slurm job \d+ failed: .*FAILED"):
        run_job(spec("wait", kind=kind), place())
    assert time.monotonic() - at[0] < SEEN_S
    until(lambda: not psutil.pid_exists(starts(0)[0]), limit_s=20)


def test_a_step_whose_daemon_is_killed_shows_soon_and_leaves_no_process(space: Path) -> None:
    at: list[float] = []

    def kill() -> None:
        until(lambda: starts(0) and starts(1))
        daemon = psutil.Process(starts(0)[0]).parent()
        assert daemon is not None
        assert "slurmstepd" in daemon.name()
        at.append(time.monotonic())
        daemon.kill()

    with meanwhile(kill), pytest.raises(JobFailedError, match=r"slurm job \d+ failed"):
        run_job(spec("wait"), place())
    assert time.monotonic() - at[0] < SEEN_S
    until(lambda: not any(psutil.pid_exists(starts(number)[0]) for number in range(2)), limit_s=20)


def stage(space: Path, kind: str = "ranks") -> subprocess.Popen[bytes]:
    """A stage as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, str(space / "work" / "request.json"), kind], start_new_session=True
    )


@pytest.mark.parametrize("kind", ["ranks", "shares"])
def test_a_stage_killed_and_run_again_follows_the_job_it_submitted(slurm: Cluster, space: Path, kind: str) -> None:
    job = spec("short", kind=kind)
    before = slurm.jobs()
    first = stage(space, kind)
    until(lambda: starts(0) and starts(1) and (Path("work") / JOB).exists())
    first.kill()
    first.wait()
    job.request.write_text("wrong")  # what a new stage would ask for is not what the elements of a running job read
    run_job(job, place())
    assert len(starts(0)) == 1
    assert len(set(slurm.jobs()) - set(before)) == 1
    assert ended() == ["done"]


def test_a_stage_killed_before_it_noted_the_jobs_number_finds_it(slurm: Cluster, space: Path) -> None:
    before = slurm.jobs()
    job = spec("short")
    place().submit(job)
    (noted,) = Path("work").glob("slurm/*/job")
    noted.unlink()
    run_job(job, place())
    assert len(starts(0)) == 1
    assert len(set(slurm.jobs()) - set(before)) == 1


def test_a_job_that_ended_while_nobody_watched_counts_once(slurm: Cluster, space: Path) -> None:
    job = spec("fine", kind="shares")
    number = place().submit(job)
    until(lambda: len(list(Path("work").glob("slurm/*/end.*"))) == 2)
    before = slurm.jobs()
    run_job(job, place())
    assert slurm.jobs() == before
    assert json.loads((Path("work") / HISTORY).read_text())["job"] == number
    run_job(job, place())
    assert len(starts(0)) == 2, "a later run is a run of its own"


def test_a_job_that_failed_while_nobody_watched_is_submitted_again(space: Path) -> None:
    job = spec("crash", kind="shares")
    place().submit(job)
    until(lambda: len(list(Path("work").glob("slurm/*/end.*"))) == 2)
    job.request.write_text("fine")
    run_job(job, place())
    assert ended() == ["done"]


def test_a_job_of_which_slurm_knows_nothing_is_told_by_what_it_left(
    space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_module, "_LOST_S", 1.0)
    first = place()
    number = first.submit(spec("fine"))
    (folder,) = Path("work").glob("slurm/*")
    until(lambda: (folder / "end.0").exists())
    monkeypatch.setattr(place_module, "queued", lambda job: {})
    assert first.state(number).state == "done"
    (folder / "end.0").write_text("9\n")
    assert first.state(number).reason == "exit code 9"
    (folder / "end.0").unlink()
    assert first.state(number).state == "running", "a file may show late"
    until(lambda: first.state(number).state == "failed", limit_s=5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_is_stopped_cancels_its_job(slurm: Cluster, space: Path, number: signal.Signals) -> None:
    spec("wait")
    process = stage(space)
    until(lambda: starts(0) and starts(1))
    job = json.loads((Path("work") / JOB).read_text())["job"]
    if number == signal.SIGTERM:  # as `tasks.guard` turns it into
        process.send_signal(signal.SIGINT)
    else:
        os.killpg(process.pid, number)
    assert process.wait(timeout=30) == 130
    until(lambda: slurm.states(job) == ["CANCELLED"], limit_s=20)
    assert ended() == ["cancelled"]


def test_a_controller_that_is_away_for_a_moment_does_not_matter(
    slurm: Cluster, space: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def restart() -> None:
        until(lambda: starts(0) and starts(1))
        controller = psutil.Process(slurm.pid("slurmctld"))
        controller.terminate()
        controller.wait(timeout=20)
        time.sleep(12)  # longer than a command tries by itself
        subprocess.run([CLUSTER, "start"], check=True)

    job = spec("short")
    with meanwhile(restart):
        run_job(job, place())
    assert ended() == ["done"]
    assert "Slurm does not answer" in capfd.readouterr().err
    assert len(starts(0)) == 1
