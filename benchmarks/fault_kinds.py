"""The faults of `benchmarks.faults`: each breaks a forked workspace, runs the same command again and compares."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.fault_bench import (
    CHECKPOINT_EVERY,
    EVERY_STEP,
    FLOW,
    STAGE1,
    Bench,
    NotRunError,
    Outcome,
    child,
    end,
    flip,
    last_line,
    redone,
    same,
    stage_work,
    steps_lost,
    train_until,
)
from benchmarks.workspace import Workspace, free_port, kill_tree, service, slurm_cluster, wait_until
from miras.train.checkpoint import FILE

AWAY_S = 30.0
RESUMED = "training resumed"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def kill_stage(bench: Bench) -> Outcome:
    workspace = bench.fork("kill_stage")
    running = train_until(workspace)
    child(running, "tasks.run", "stage1").kill()
    end(running)
    steps = redone(workspace)
    again = workspace.must(*STAGE1, **EVERY_STEP)
    lost, is_fine = steps_lost(bench, workspace, steps)
    return Outcome(
        "kill -9 of a training process",
        "SIGKILL to stage 1 after step 12 of 40",
        f"`dvc repro` fails; the same command goes on: “{_shortened(again, RESUMED)}”",
        lost,
        is_fine and running.returncode != 0 and RESUMED in again,
    )


def kill_rank(bench: Bench) -> Outcome:
    def in_two(workspace: Workspace) -> Workspace:
        profile = workspace.folder / "infra" / "launch" / "local.yaml"
        profile.write_text(profile.read_text("utf-8").replace("processes: 1 ", "processes: 2 ", 1), "utf-8")
        return workspace

    whole = in_two(bench.fork("two_ranks"))
    whole.must(*STAGE1, **EVERY_STEP)
    workspace = in_two(bench.fork("kill_rank"))
    running = train_until(workspace)
    child(running, "miras.train.worker").kill()
    said = end(running)
    steps = redone(workspace)
    workspace.must(*STAGE1, **EVERY_STEP)
    is_equal = same(bench, workspace, of=whole)
    verdict = "the weights are equal byte by byte" if is_equal else "THE WEIGHTS DIFFER"
    return Outcome(
        "kill -9 of one of two training processes",
        "SIGKILL to the second process after step 12 of 40",
        f"the other one is ended, the stage fails: “{_shortened(said, 'SIGKILL')}”; the same command goes on",
        f"{steps} steps of computing (at most the {CHECKPOINT_EVERY} since a checkpoint); {verdict}",
        is_equal and steps <= CHECKPOINT_EVERY,
    )


def kill_flow(bench: Bench) -> Outcome:
    workspace = bench.fork("kill_flow")
    running = train_until(workspace, FLOW)
    stage = child(running, "tasks.run", "stage1")
    started = time.monotonic()
    psutil.Process(running.pid).kill()
    wait_until(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE, "the stage's end")
    seconds = time.monotonic() - started
    steps = redone(workspace)
    again = workspace.must(*FLOW, **EVERY_STEP)
    lost, is_fine = steps_lost(bench, workspace, steps)
    return Outcome(
        "kill -9 of the flow",
        "SIGKILL to `make run` in the middle of stage 1",
        f"its stage ends by itself ({seconds:.1f} s later); `make run` goes on: “{_shortened(again, RESUMED)}”",
        lost,
        is_fine and RESUMED in again,
    )


def kill_prefect_server(bench: Bench) -> Outcome:
    workspace = bench.fork("kill_prefect_server")
    port = free_port()
    health = f"http://127.0.0.1:{port}/api/health"
    variables = {"PREFECT_API_URL": health.removesuffix("/health"), "PREFECT_HOME": str(workspace.folder / ".prefect")}
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with service(workspace.folder, *command, health=health, **variables) as server:
        running = train_until(workspace, FLOW, **variables)
        kill_tree(server)
    time.sleep(AWAY_S)
    with service(workspace.folder, *command, health=health, **variables):
        said = end(running)
    is_fine = running.returncode == 0 and same(bench, workspace)
    return Outcome(
        "kill -9 of the Prefect server",
        f"SIGKILL in the middle of stage 1, started again after {AWAY_S:.0f} s",
        "the flow waits where it needs the server and goes on to its end" if is_fine else last_line(said),
        "nothing" if is_fine else "THE RUN",
        is_fine,
    )


def drop_mlflow(bench: Bench) -> Outcome:
    workspace = bench.fork("drop_mlflow")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = (
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{workspace.folder}/server.db"),
        *("--default-artifact-root", (workspace.folder / "artifacts").as_uri()),
    )
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": uri}
    with service(workspace.folder, *command, health=f"{uri}/health", **quiet) as server:
        running = train_until(workspace, **quiet)
        kill_tree(server)
        said = end(running)
    if running.returncode:
        return Outcome("MLflow's port drops", "", "", "THE TRAINING FAILED", False)
    with service(workspace.folder, *command, health=f"{uri}/health", **quiet):
        workspace.must(sys.executable, "-m", "tasks.tracking.sync", **quiet)
        history = json.loads(workspace.must(sys.executable, "-c", HISTORY, **quiet).splitlines()[-1])
    written = [json.loads(line) for line in (workspace.folder / "models/stage1/metrics.jsonl").read_text().splitlines()]
    is_whole = history == [[line["step"], line["total"]] for line in written]
    return Outcome(
        "MLflow's server dies in training and comes back later",
        "SIGKILL to `mlflow server` after step 12 of 40; started again after the stage's end, then `make sync`",
        f"training goes on, with one warning: “{_shortened(said, 'does not answer')}”",
        "nothing: every step's loss is there once, in order" if is_whole else "METRICS ARE MISSING OR DOUBLED",
        is_whole and said.count("does not answer") == 1 and same(bench, workspace),
    )


HISTORY = """
import json
from mlflow.tracking.client import MlflowClient
client = MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("miras").experiment_id])
run = next(run for run in runs if run.info.run_name == "stage1")
print(json.dumps([[m.step, m.value] for m in client.get_metric_history(run.info.run_id, "total")]))
"""


def preempt(bench: Bench) -> Outcome:
    workspace = bench.fork("preempt")
    profile = workspace.folder / "infra" / "launch" / "slurm.yaml"
    text = profile.read_text("utf-8")
    for key, value in SLURM.items():
        text = re.sub(rf"^{key}: \S+", f"{key}: {value}", text, flags=re.MULTILINE)
    profile.write_text(text, "utf-8")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="miras-slurm-"))  # a socket's path is short
        try:
            variables = stack.enter_context(slurm_cluster(Path(folder)))
        except FileNotFoundError as missing:
            raise NotRunError(str(missing)) from None
        running = train_until(workspace, MIRAS_LAUNCH="slurm", **variables)
        urgent = ("sbatch", "--partition=main", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
        workspace.must(*urgent, **variables)
        said = end(running)
    is_equal = running.returncode == 0 and same(bench, workspace, "models/stage1/weights.safetensors")
    stopped = re.findall(
        r"stopped after step (\d+)", "".join(map(_text, workspace.folder.glob("work/stage1/**/log.*")))
    )
    return Outcome(
        "a job is preempted on Slurm",
        "stage 1 as a job of a partition that gives way, an urgent job in the middle",
        f"nothing to do: it saved after step {stopped[-1]}, was queued again and went on"
        if stopped
        else last_line(said),
        "nothing: the weights are equal byte by byte" if is_equal else "THE WEIGHTS DIFFER",
        is_equal and bool(stopped),
    )


SLURM = {
    "partition": "spot",
    "gpus_per_node": 0,
    "processes": 1,
    "cpus_per_process": 1,
    "memory_gb": 3,
    "zero_stage": 0,
    "gradient_checkpointing": "false",
    "threads": 1,
    "time": '"1:00:00"',
    "poll_s": 0.5,
    "gpu_memory_gb": "null",
}


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")


def fill_disk(bench: Bench) -> Outcome:
    workspace = bench.fork("fill_disk")
    work = workspace.folder / "work" / "stage1"
    work.mkdir(parents=True, exist_ok=True)
    undisturbed = stage_work(bench.undisturbed)
    assert undisturbed is not None
    size = int(2.5 * (undisturbed / FILE).stat().st_size)  # two checkpoints fit, a third beside them does not
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(work)], check=False)
    if mounted.returncode:
        raise NotRunError("mounting a small tmpfs needs root")
    try:
        failed = workspace.run(*STAGE1, **EVERY_STEP)
        steps = redone(workspace)
        subprocess.run(["mount", "-o", f"remount,size={8 * size}", str(work)], check=True)
        workspace.must(*STAGE1, **EVERY_STEP)
        lost, is_fine = steps_lost(bench, workspace, steps)
    finally:
        subprocess.run(["umount", "-l", str(work)], check=True)
    return Outcome(
        "the disk is full",
        "work/stage1 on a tmpfs that has no room for the third checkpoint",
        f"“{_shortened(failed.stdout, 'full')}”; with room made, the same command goes on",
        lost,
        is_fine and failed.returncode != 0,
    )


def corrupt_shard(bench: Bench) -> Outcome:
    workspace = bench.fork("corrupt_shard", of=bench.undisturbed)
    shard = sorted((workspace.folder / "data" / "features").rglob("*.safetensors"))[0]
    flip(shard)
    is_seen = "data/features" in workspace.must("dvc", "status")
    workspace.must("dvc", "repro", "evaluate", **EVERY_STEP)
    is_equal = same(bench, workspace, "data/features") and same(bench, workspace)
    return Outcome(
        "a feature shard is damaged",
        "one byte of a shard in data/features flipped",
        "`dvc status` names it; the next run brings the right bytes back",
        "nothing" if is_equal else "THE FEATURES DIFFER",
        is_equal and is_seen,
    )


def corrupt_checkpoint(bench: Bench) -> Outcome:
    workspace = bench.fork("corrupt_checkpoint")
    running = train_until(workspace)
    child(running, "tasks.run", "stage1").kill()
    end(running)
    work = stage_work(workspace)
    assert work is not None
    steps = redone(workspace) + CHECKPOINT_EVERY
    flip(work / FILE)
    said = workspace.must(*STAGE1, **EVERY_STEP)
    lost, is_fine = steps_lost(bench, workspace, steps, most=2 * CHECKPOINT_EVERY)
    return Outcome(
        "a checkpoint is damaged",
        "killed after step 12 of 40, then one byte of the last checkpoint flipped",
        f"“{_shortened(said, 'damaged')}”",
        lost,
        is_fine and "damaged" in said,
    )


def corrupt_cache(bench: Bench) -> Outcome:
    workspace = bench.fork("corrupt_cache", of=bench.undisturbed)
    target = workspace.folder / "models" / "stage1" / "weights.safetensors"
    md5 = hashlib.md5(target.read_bytes(), usedforsecurity=False).hexdigest()
    entry = workspace.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    flip(entry)
    shutil.rmtree(workspace.folder / "models" / "stage1")
    said = workspace.must("dvc", "repro", "evaluate", **EVERY_STEP)
    is_run_again = "Running stage 'stage1'" in said and RESUMED in said
    is_equal = same(bench, workspace) and same(bench, workspace, "reports/evaluate/predictions.jsonl")
    return Outcome(
        "an entry of DVC's cache is damaged, and the output is gone",
        "one byte of the cached stage-1 weights flipped, models/stage1 removed",
        "DVC refuses the entry and runs the stage again, which goes on from its last checkpoint",
        "nothing" if is_equal else "THE RESULT DIFFERS",
        is_equal and is_run_again,
    )


def two_runs(bench: Bench) -> Outcome:
    workspace = bench.fork("two_runs")
    running = train_until(workspace, FLOW)
    second = workspace.run(*FLOW)
    end(running)
    is_fine = running.returncode == 0 and second.returncode == 1 and same(bench, workspace)
    return Outcome(
        "two runs at once in one workspace",
        "a second `make run` in the middle of stage 1",
        f"the second one ends at once: “{_shortened(second.stdout, 'busy')}”; the first is not touched",
        "nothing" if is_fine else "THE RUNS DISTURBED EACH OTHER",
        is_fine,
    )


def clock_skew(bench: Bench) -> Outcome:
    if not FAKETIME.exists():
        raise NotRunError("needs Debian's package faketime")
    workspace = bench.fork("clock_skew")
    running = train_until(workspace)
    child(running, "tasks.run", "stage1").kill()
    end(running)
    steps = redone(workspace)
    said = workspace.must(*STAGE1, **EVERY_STEP, LD_PRELOAD=str(FAKETIME), FAKETIME="-1d")
    complaints = [line for line in said.splitlines() if re.search("warn|error", line, re.IGNORECASE)]
    lost, is_fine = steps_lost(bench, workspace, steps)
    return Outcome(
        "the clock is wrong",
        "killed after step 12 of 40, gone on with a clock that is a day behind",
        f"“{complaints[0]}”" if complaints else "nothing special",
        lost,
        is_fine,
    )


def kill_evaluate(bench: Bench) -> Outcome:
    workspace = bench.fork("kill_evaluate", of=bench.undisturbed)
    shutil.rmtree(workspace.folder / "reports" / "evaluate")
    shutil.rmtree(workspace.folder / "work" / "evaluate", ignore_errors=True)
    force = ("dvc", "repro", "--force", "--single-item", "evaluate")
    running = workspace.start(*force)

    def answers() -> list[str]:
        work = stage_work(workspace, "evaluate")
        files = (work / "predictions").glob("*.jsonl") if work else ()
        return [
            line for file in files for line in file.read_text("utf-8").splitlines(keepends=True) if line[-1] == "\n"
        ]

    wait_until(lambda: len(answers()) >= 10 or running.poll() is not None, "answers")
    child(running, "tasks.run", "evaluate").kill()
    end(running)
    done = answers()
    workspace.must(*force)
    is_kept = set(done) <= set(answers())  # an answer given again would have taken another time
    is_equal = _scores(workspace) == _scores(bench.undisturbed)
    return Outcome(
        "kill -9 while test questions are answered",
        f"SIGKILL to the stage `evaluate` after {len(done)} answers",
        "the same command goes on after the answers that are there",
        "the answers under way, at most one group per process; the scores are equal"
        if is_equal
        else "THE SCORES DIFFER",
        is_equal and is_kept,
    )


def _scores(workspace: Workspace) -> str:
    """Without the times that answers took."""
    text = (workspace.folder / "reports" / "evaluate" / "scores.json").read_text("utf-8")
    return re.sub(r'"seconds[^"]*": [\d.e-]+', "", text)


FAULTS: dict[str, Callable[[Bench], Outcome]] = {
    function.__name__: function
    for function in (
        *(kill_stage, kill_rank, kill_flow, kill_prefect_server, drop_mlflow, preempt, fill_disk, corrupt_shard),
        *(corrupt_checkpoint, corrupt_cache, two_runs, clock_skew, kill_evaluate),
    )
}


def _shortened(text: str, word: str) -> str:
    found = [line.split("\r")[-1].strip() for line in text.splitlines() if word in line]
    shown = re.sub(r"^.*step/s[^\]]*\]", "", found[-1] if found else last_line(text))  # without a bar before it
    shown = re.sub(r"(/[\w.\-]+)+/(?=work/|infra/|data/|models/)", "", shown)
    return shown if len(shown) <= 400 else shown[:397] + "…"
