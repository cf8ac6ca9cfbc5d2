"""Slurm's side of a launch profile: its mistakes, the script, the states; without a cluster.

The script is run by bash with Slurm's own commands replaced by few lines; tests/slow has a real cluster.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from miras.errors import ConfigError, JobFailedError, ServiceUnavailableError
from miras.launch import slurm_cluster
from miras.launch.job import JOB, JobSpec, JobState, run_job
from miras.launch.profiles import Launch, read_launch
from miras.launch.slurm import SlurmLaunch, SlurmPlace, last_drawn
from miras.launch.slurm_cluster import element_state, handed_on, read_accounts, read_queue
from miras.launch.slurm_script import NOTHING_KEPT, sbatch_command, script_text
from miras.plan.device import find_device

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "infra" / "launch" / "slurm.yaml"
HOSTILE = "a 'b' \"c\" $(touch no) `touch no` %j \\x; é & # *"


def profile(tmp_path: Path, **changes: Any) -> SlurmLaunch:
    """The shipped one with changes."""
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(SHIPPED.read_text()) | changes))
    launch = read_launch(str(file))
    assert isinstance(launch, SlurmLaunch)
    return launch


def spec(folder: Path, *, kind: str = "ranks", processes: int = 4, module: str = "a_module") -> JobSpec:
    folder.mkdir(exist_ok=True)
    (folder / "request.json").write_text("{}")
    return JobSpec("stage1", module, folder / "request.json", kind, processes, threads=2)  # type: ignore[arg-type]


def test_every_mistake_of_a_profile_is_told_at_once(tmp_path: Path) -> None:
    wrong = {
        "shares": 0,
        "time": "1 day",
        "partition": "a b",
        "account": "x\nrm",
        "setup": ["module load\ncuda"],
        "environment": {"HF_TOKEN": "x", "A-B": "y"},
        "extra": ["reservation=x", "--output=/x", "--array=1", "-o", "--comment"],
        "poll_s": 60,
    }
    with pytest.raises(ConfigError) as found:
        profile(tmp_path, **wrong)
    said = str(found.value)
    for key in wrong:
        assert f"launch.{key}" in said
    assert said.count("miras sets this option itself") == 4
    assert "looks like a secret" in said


@pytest.mark.parametrize(
    ("time", "seconds"), [(90, 5400), ("24:00:00", 86400), ("2-01:00:30", 176430), ("100:00:00", 360000)]
)
def test_a_time_limit_is_minutes_or_a_clock(tmp_path: Path, time: int | str, seconds: int) -> None:
    assert profile(tmp_path, time=time).time_s == seconds


def test_there_has_to_be_time_before_a_job_is_asked_to_save(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"save_before_end_s 300 is not below the time limit, 300 s"):
        profile(tmp_path, time=5)


def test_processes_spread_evenly_over_nodes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"processes 4 do not spread evenly over 3 nodes"):
        profile(tmp_path, nodes=3)


def test_a_process_is_told_nothing_of_the_cluster(tmp_path: Path) -> None:
    assert type(profile(tmp_path).for_process()) is Launch


def test_ranks_ask_for_whole_nodes_and_shares_for_one_processs_part(tmp_path: Path) -> None:
    launch = profile(tmp_path, nodes=2, processes=8, partition="gpu", extra=["--exclusive"], array_limit=3, time=30)
    ranks = sbatch_command(launch, spec(tmp_path / "w", processes=8), script=Path("/s/job.sh"), comment="c")
    assert {"--nodes=2", "--ntasks-per-node=4", "--mem=245760M", "--gres=gpu:4", "--time=30"} <= set(ranks)
    assert {"--partition=gpu", "--signal=B:USR1@300", "--requeue", "--comment=c"} <= set(ranks)
    assert ranks[-2:] == ["--exclusive", "/s/job.sh"]
    assert not [word for word in ranks if word.startswith(("--account", "--array"))]
    shares = sbatch_command(launch, spec(tmp_path / "w", kind="shares"), script=Path("/s/job.sh"), comment="c")
    assert {"--array=0-3%3", "--nodes=1", "--ntasks=1", "--mem=61440M", "--gres=gpu:1"} <= set(shares)


def test_without_gpus_and_memory_nothing_is_asked_of_them(tmp_path: Path) -> None:
    launch = profile(tmp_path, gpus_per_node=0, memory_gb=None, requeue=False)
    words = sbatch_command(launch, spec(tmp_path / "w"), script=Path("s"), comment="c")
    assert not [word for word in words if word.startswith(("--gres", "--mem"))]
    assert "--no-requeue" in words


def test_names_and_secrets_are_handed_on_by_a_list() -> None:
    environment = {
        "PATH": "/bin",
        "MIRAS_LOG_EVERY_S": "1",
        "SLURM_CONF": "/x",
        "NCCL_DEBUG": "INFO",
        "HF_TOKEN": "no",
        "MIRAS_TEACHER_API_KEY": "no",
        "AWS_SECRET_ACCESS_KEY": "no",
        "MLFLOW_TRACKING_PASSWORD": "no",
        "CUDA_VISIBLE_DEVICES": "0",
        "RANK": "1",
        "SQUEUE_PARTITION": "x",
        "SLURM_JOB_ID": "7",
    }
    assert handed_on(environment).keys() == {"PATH", "MIRAS_LOG_EVERY_S", "SLURM_CONF", "NCCL_DEBUG"}


PROCESS = """\
import os, signal, sys, time
from pathlib import Path
mode, *share = Path(sys.argv[1]).read_text().strip(), *sys.argv[2:]
here = Path(sys.argv[1]).parent
told = [os.environ.get(name) for name in ("GIVEN", "OMP_NUM_THREADS", "MIRAS_SAVE_ON_SIGNAL", "MASTER_PORT")]
(here / "told").write_text(repr((*told, *share)))
if mode == "save":
    def save(*_):
        sys.exit(75)
    signal.signal(signal.SIGUSR1, save)
if mode == "keep":
    from miras.launch.process import something_is_kept
    something_is_kept()
if mode in ("save", "wait", "keep"):
    (here / "ready").touch()
    time.sleep(20)
    sys.exit(3)
sys.exit(int(mode))
"""
SRUN = """\
#!/bin/bash
while [ "$1" != bash ]; do shift; done
exec env SLURM_PROCID=0 "$@"
"""
SCONTROL = """\
#!/bin/bash
echo "$*" >>"$ASKED"
case "$*" in
  "show hostnames"*) echo node7 ;;
  *"show job"*) echo "JobId=7 JobName=x JobState=$STATE Reason=None" ;;
  requeue*) kill -s KILL "$PPID" ;;
esac
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a dreadful name, as the current folder, and two commands of Slurm."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "a_module.py").write_text(PROCESS)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    for name, value in {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "ASKED": str(tmp_path / "asked"),
        "STATE": "RUNNING",
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def start(launch: SlurmLaunch, mode: str, kind: str) -> subprocess.Popen[bytes]:
    """The script, as slurmd starts it."""
    job = spec(Path("work of 'mine'"), kind=kind)
    job.request.write_text(mode)
    folder = (job.folder / "slurm" / "x").resolve()
    folder.mkdir(parents=True)
    script = folder / "job.sh"
    command = sbatch_command(launch, job, script=script, comment="c")
    script.write_text(script_text(launch, job, request=job.request.resolve(), folder=folder, command=command))
    element = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"} if kind == "shares" else {}
    return subprocess.Popen(["bash", str(script)], env={**os.environ, **element})


def finish(process: subprocess.Popen[bytes], number: int = 0) -> tuple[int, str, str]:
    """Exit code, the code that it left, the log."""
    code = process.wait(timeout=20)
    folder = Path("work of 'mine'") / "slurm" / "x"
    left = folder / f"end.{number}"
    return code, left.read_text().strip() if left.exists() else "", (folder / f"log.{number}").read_text()


def wait_until_ready() -> None:
    ends = time.monotonic() + 20
    while not Path("work of 'mine'/ready").exists():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize(("kind", "number"), [("ranks", 0), ("shares", 2)])
@pytest.mark.parametrize("code", ["0", "4"])
def test_the_script_runs_its_process_whatever_names_it_meets(
    hostile: Path, tmp_path: Path, kind: str, number: int, code: str
) -> None:
    given = 'it\'s "$HOME" % \\'
    launch = profile(tmp_path, environment={"GIVEN": given}, setup=["export OMP_NUM_THREADS=9 # it's theirs"])
    assert finish(start(launch, code, kind), number)[:2] == (int(code), code)
    told = (given, "9", *(("1", "20007") if kind == "ranks" else (None, None, "2", "4")))
    assert Path("work of 'mine'/told").read_text() == repr(told)
    assert not list(tmp_path.rglob("no"))


@pytest.mark.parametrize("asked", [signal.SIGUSR1, signal.SIGTERM])
def test_ranks_asked_to_stop_save_and_are_requeued(hostile: Path, tmp_path: Path, asked: signal.Signals) -> None:
    process = start(profile(tmp_path), "save", "ranks")
    wait_until_ready()
    process.send_signal(asked)
    code, left, _ = finish(process)
    assert (code, left) == (-signal.SIGKILL, ""), "only Slurm ends a job that is to start again"
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "requeue 7"


def test_a_share_asked_to_stop_is_ended_and_only_its_element_requeued(hostile: Path, tmp_path: Path) -> None:
    process = start(profile(tmp_path), "wait", "shares")
    wait_until_ready()
    process.send_signal(signal.SIGUSR1)
    assert finish(process, 2)[1] == ""
    assert (tmp_path / "asked").read_text().splitlines() == ["-o show job 7_2", "requeue 7_2"]


def test_a_cancelled_job_is_not_requeued(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE", "COMPLETING")
    process = start(profile(tmp_path), "save", "ranks")
    wait_until_ready()
    process.send_signal(signal.SIGTERM)
    assert finish(process)[:2] == (75, "75")
    assert "requeue" not in (tmp_path / "asked").read_text()


def test_without_requeue_it_ends_and_says_why(hostile: Path, tmp_path: Path) -> None:
    process = start(profile(tmp_path, requeue=False), "save", "ranks")
    wait_until_ready()
    process.send_signal(signal.SIGUSR1)
    code, left, log = finish(process)
    assert (code, left) == (75, "75")
    assert "requeue is false" in log


def test_an_error_of_its_own_is_not_tried_again(hostile: Path, tmp_path: Path) -> None:
    process = start(profile(tmp_path), "wait", "shares")
    wait_until_ready()
    Path("work of 'mine'/error.json.00002").touch()
    process.send_signal(signal.SIGUSR1)
    assert finish(process, 2)[0] == 143
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(("kind", "number"), [("ranks", 0), ("shares", 2)])
def test_a_time_limit_too_short_to_keep_anything_is_no_endless_loop(
    hostile: Path, tmp_path: Path, kind: str, number: int
) -> None:
    process = start(profile(tmp_path, time=1, save_before_end_s=59), "wait", kind)
    wait_until_ready()
    time.sleep(1.1)
    process.send_signal(signal.SIGUSR1)
    code, left, log = finish(process, number)
    assert code == int(left) == NOTHING_KEPT
    assert "before it had anything to keep" in log


def test_a_share_that_has_kept_something_is_started_again_at_its_time_limit(hostile: Path, tmp_path: Path) -> None:
    process = start(profile(tmp_path, time=1, save_before_end_s=59), "keep", "shares")
    wait_until_ready()
    time.sleep(1.1)
    process.send_signal(signal.SIGUSR1)
    assert finish(process, 2)[1] == ""
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "requeue 7_2"


def test_the_queue_is_read_by_element() -> None:
    text = "0|COMPLETED|None\n2|FAILED|NonZeroExitCode\n3|PENDING|Resources\n4|COMPLETING|None\n"
    assert read_queue(text) == {
        0: JobState("done"),
        2: JobState("failed", "FAILED (NonZeroExitCode)"),
        3: JobState("waiting", "PENDING (Resources)"),
        4: JobState("running", "COMPLETING"),
    }
    assert read_queue("N/A|RUNNING|None\n") == {0: JobState("running", "RUNNING")}
    assert read_queue("") == {}


@pytest.mark.parametrize(
    ("name", "state"),
    [
        *((name, "failed") for name in ("TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "DEADLINE")),
        ("CANCELLED", "cancelled"),
        ("SUSPENDED", "running"),
        ("REQUEUE_HOLD", "waiting"),
        ("NEW_IN_SLURM_99", "failed"),
    ],
)
def test_every_state_of_slurm_is_one_of_ours(name: str, state: str) -> None:
    assert element_state(name, "None") == JobState(state, name)  # type: ignore[arg-type]


def test_accounts_are_read_by_element() -> None:
    assert read_accounts("7|CANCELLED by 1000\n") == {0: JobState("cancelled", "CANCELLED")}
    found = read_accounts("7_0|COMPLETED\n7_1|OUT_OF_MEMORY\n7_[2-5]|PENDING\n")
    assert found == {0: JobState("done"), 1: JobState("failed", "OUT_OF_MEMORY")}


def answers(*said: tuple[int, str, str]) -> Any:
    """Instead of asking Slurm: the given answers, the last one for ever."""
    left = list(said)

    def ask_once(*command: str) -> subprocess.CompletedProcess[str]:
        code, output, error = left.pop(0) if len(left) > 1 else left[0]
        return subprocess.CompletedProcess(command, code, output, error)

    return ask_once


AWAY = (1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")


def test_slurm_is_asked_again_while_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_cluster, "_RETRY_S", 0.0)
    monkeypatch.setattr(slurm_cluster, "ask_once", answers(AWAY, AWAY, (0, "N/A|RUNNING|None\n", "")))
    assert slurm_cluster.queued("7") == {0: JobState("running", "RUNNING")}
    monkeypatch.setattr(slurm_cluster, "ask_once", answers(AWAY))
    with pytest.raises(ServiceUnavailableError, match=r"did not answer for 0 s .*A job that runs is not touched"):
        slurm_cluster.ask("squeue", patience_s=0.0)


def test_a_submission_whose_answer_was_lost_is_found_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_cluster, "_RETRY_S", 0.0)
    lost = (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    monkeypatch.setattr(slurm_cluster, "ask_once", answers(lost, (0, "6|other\n7|miras:x\n", "")))
    assert slurm_cluster.submit(["sbatch"], "miras:x") == "7"
    monkeypatch.setattr(slurm_cluster, "ask_once", answers(lost, (0, "", ""), (0, "8;cluster\n", "")))
    assert slurm_cluster.submit(["sbatch"], "miras:x") == "8"


def test_without_slurm_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = profile(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"sbatch is not on PATH.*choose another profile"):
        run_job(spec(tmp_path / "w"), SlurmPlace(launch))
    assert "is not on PATH" in slurm_cluster.faults(None)[0][0]


def test_a_job_of_another_place_is_not_written_over(tmp_path: Path) -> None:
    job = spec(tmp_path / "w")
    (job.folder / JOB).write_text('{"job": "7", "place": "moon", "stage": "stage1", "since": "then"}')
    with pytest.raises(JobFailedError, match=r"moon job 7 of then was left and may still run\. Go on with a launch"):
        run_job(job, SlurmPlace(profile(tmp_path)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("\r 1%\r 2%\r 3%\ndone\n", " 3%\ndone\n"),
        ("said\n\r 1%\r 2%", "said\n\r 2%"),
        ("dos\r\n", "dos\n"),
        ("", ""),
    ],
)
def test_of_a_bar_only_the_last_state_is_shown(text: str, shown: str) -> None:
    assert last_drawn(text) == shown


def test_a_plan_for_a_cluster_does_not_ask_this_machine(tmp_path: Path) -> None:
    gpu = find_device(profile(tmp_path, gpu_memory_gb=80, tflops=100))
    assert (gpu.is_gpu, gpu.memory_bytes, gpu.flops) == (True, 80e9, 100e12)
    cpu = find_device(profile(tmp_path, gpu_memory_gb=None, gpus_per_node=0, memory_gb=8))
    assert (cpu.is_gpu, cpu.memory_bytes, cpu.flops) == (False, 2 * 2**30, None)
    with pytest.raises(ConfigError, match=r"gpu_memory_gb is null, and this machine cannot be asked"):
        find_device(profile(tmp_path, gpu_memory_gb=None, memory_gb=None))


def test_the_script_says_by_what_it_was_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job, launch = spec(tmp_path / "w"), profile(tmp_path)
    command = sbatch_command(launch, job, script=tmp_path / "job.sh", comment="c")
    text = script_text(launch, job, request=job.request, folder=tmp_path, command=command)
    line = next(line for line in text.splitlines() if line.startswith("#   "))
    assert shlex.split(line[1:]) == command
    assert f"{sys.executable} -m a_module" in text
