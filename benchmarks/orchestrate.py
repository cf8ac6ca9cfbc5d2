"""What orchestration costs: `python -m benchmarks.orchestrate [PART...] [--quick]`.

- the flow (Prefect, DVC, MLflow, locks) beside the bare functions of the same stages, each in a process of its own, in
  workspaces as `make install` leaves them; the last stage, `register`, is left out: without MLflow there is nothing to
  do;
- `dvc status` and a `dvc repro` that has nothing to do, at the size of PRIST (2,800 pictures, 8,400 dialogues; quick: a
  tenth);
- `dvc push` and `dvc pull` of what that run made beside a plain copy of the same files, over a folder and over S3 (a
  server on loopback);
- Slurm, from submission to the first training step.

Everything runs in copies of this repository.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.report import Row, compare, device_name, publish
from benchmarks.workspace import ROOT, Workspace, free_port, plain_environment, service, slurm_cluster
from miras.stages import STAGES
from tasks.orchestration import temporary_server

MOST_S_PER_STAGE = 2.0
MOST_S_STATUS = 5.0
MOST_SHARE_OF_TINY = 0.05
TINY_S = 1637.0  # of `make run` on two idle cores (README)
PICTURES = 2800
ROUNDS = 3
SETS = ("data", "models", "reports")
S3_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_S3 = "http://127.0.0.1"
_DONE = re.compile(r"(\w+): done")


def data_rows(root: Path, *, is_quick: bool) -> list[Row]:
    """DVC on a data set of PRIST's size."""
    large = large_workspace(root / "large", pictures=PICTURES // 10 if is_quick else PICTURES)
    return [*status_rows(large), *transfer_rows(large, root)]


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def at_most(measure: str, value: float, limit: float, unit: str, *, other: float | None = None) -> Row:
    """A row whose own value is limited, whatever the other side takes."""
    ratio = other / value if other else None
    shown = None if ratio is None else float(f"{ratio:.4g}")
    other = None if other is None else float(f"{other:.4g}")
    return Row(measure, float(f"{value:.4g}"), other, shown, unit, f"<= {limit:g} {unit}", value <= limit)


def overhead_rows(root: Path, *, is_quick: bool) -> list[Row]:
    """The flow beside the bare stages, each from nothing, with the smoke preset.

    They take turns, and of each stage the fastest of all rounds counts: what else the machine does only ever adds.
    """
    stages = [name for name in STAGES if name != "register"]
    script = (sys.executable, "-m", "benchmarks.bare_stage")
    command = (sys.executable, "-m", "flows.train_miras", "--until-stage", stages[-1])
    plain, whole, again, records = [], [], [], []
    for number in range(1 if is_quick else ROUNDS):
        bare, flow = Workspace.make(root / f"bare-{number}"), Workspace.make(root / f"flow-{number}")
        # as `make install` does
        records.append(seconds(partial(flow.must, sys.executable, "-m", temporary_server.__name__)))
        whole.append(flow_parts(flow, command))
        plain.append({name: seconds(partial(bare.must, *script, name)) for name in stages})
        again.append(seconds(partial(flow.must, *command)))
        print(f"round {number}: flow {sum(whole[-1].values()):.1f} s, bare {sum(plain[-1].values()):.1f} s", flush=True)
    ours, other = fastest(whole), fastest(plain)
    extra = ours - other
    name = "smoke pipeline, the flow beside its bare stages"
    of_tiny = f"what the flow adds, of a tiny run of {TINY_S:,.0f} s"
    return [
        compare(name, ours=ours, other=other, unit="s"),
        at_most("what the flow adds, per stage", extra / len(stages), MOST_S_PER_STAGE, "s"),
        at_most(of_tiny, 100 * extra / TINY_S, 100 * MOST_SHARE_OF_TINY, "%"),
        plain_row("the flow with nothing to do", min(again), "s"),
        plain_row("once, in `make install`: Prefect's records", min(records), "s"),
    ]


def flow_parts(workspace: Workspace, command: Sequence[str]) -> dict[str, float]:
    """Seconds of a flow by stage, each from the end of the one before, the first from the flow's start; and of its end.

    Nothing of the flow is left out: together they are all of its time.
    """
    parts = {}
    began = time.perf_counter()
    with workspace.start(*command) as process:
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(line)
            if found := _DONE.match(line):
                now = time.perf_counter()
                parts[found[1]], began = now - began, now
    parts["end"] = time.perf_counter() - began
    if process.returncode or set(parts) != {*STAGES, "end"} - {"register"}:
        raise RuntimeError("".join(output))
    return parts


def fastest(rounds: Sequence[dict[str, float]]) -> float:
    """Seconds of all parts together, of each its fastest."""
    return sum(min(times[part] for times in rounds) for part in rounds[0])


def plain_row(measure: str, value: float, unit: str) -> Row:
    """A row that is compared with nothing."""
    return Row(measure, float(f"{value:.4g}"), None, None, unit, "", None)


def large_workspace(folder: Path, *, pictures: int) -> Workspace:
    """A workspace that has been run over a data set of PRIST's size."""
    made = Workspace.make(folder)
    params = folder / "params.yaml"
    text = params.read_text("utf-8").replace("count: 48", f"count: {pictures}")
    params.write_text(text, "utf-8")
    print(f"running {pictures} pictures: {seconds(lambda: made.must('dvc', 'repro', 'report')):.0f} s", flush=True)
    return made


def status_rows(workspace: Workspace) -> list[Row]:
    """DVC with nothing to do, the second time of each (the first one fills the system's cache of files)."""
    found = []
    for words in (("dvc", "status"), ("dvc", "repro", "report")):
        workspace.must(*words)
        value = seconds(partial(workspace.must, *words))
        name = "dvc status" if words[1] == "status" else "dvc repro with nothing to do"
        found.append(at_most(f"{name}, PRIST size", value, MOST_S_STATUS, "s"))
    return found


def transfer_rows(workspace: Workspace, root: Path) -> list[Row]:
    """Megabytes a second of push and pull beside a plain copy of the same files."""
    size = sum(file.stat().st_size for name in SETS for file in (workspace.folder / name).rglob("*") if file.is_file())
    megabytes = size / 1e6
    print(f"{megabytes:.0f} MB", flush=True)
    copied = root / "copied"
    copied.mkdir()

    def copy() -> None:
        for name in SETS:
            shutil.copytree(workspace.folder / name, copied / name)
        subprocess.run(["sync", "-f", str(copied)], check=True)

    plain = megabytes / seconds(copy)
    found = []
    with service(root, "moto_server", "-H", "127.0.0.1", "-p", str(port := free_port()), health=f"{_S3}:{port}") as _:
        s3 = {**S3_VARIABLES, "AWS_ENDPOINT_URL": f"{_S3}:{port}"}
        workspace.must(sys.executable, "-c", "import boto3; boto3.client('s3').create_bucket(Bucket='miras')", **s3)
        for name, url, variables in (("a folder", str(root / "store"), {}), ("S3 on loopback", "s3://miras/store", s3)):
            workspace.must("dvc", "remote", "add", "-f", "-d", "bench", url)
            pushed = megabytes / seconds(partial(workspace.must, "dvc", "push", **variables))
            shutil.rmtree(workspace.folder / ".dvc" / "cache")
            for place in SETS:
                shutil.rmtree(workspace.folder / place)
            pulled = megabytes / seconds(partial(workspace.must, "dvc", "pull", "--allow-missing", **variables))
            found += [
                compare(f"dvc push to {name}", ours=pushed, other=plain, unit="MB/s", more_is_better=True),
                compare(f"dvc pull from {name}", ours=pulled, other=plain, unit="MB/s", more_is_better=True),
            ]
    return found


def slurm_rows(root: Path, *, is_quick: bool) -> list[Row]:
    """From sbatch to the first step of two processes under ZeRO-2, on a cluster of this machine with an empty queue."""
    (root / "slurm").mkdir()
    with tempfile.TemporaryDirectory(prefix="miras-slurm-") as folder, slurm_cluster(Path(folder)) as variables:
        command = (sys.executable, "-m", "benchmarks.slurm_start")
        environment = plain_environment({**variables, "MIRAS_LOG_EVERY_S": "0"})
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    steps = {"its script runs": "script_s", "the first training step": "first_step_s"}
    return [plain_row(f"Slurm, from sbatch until {name}", found[key], "s") for name, key in steps.items()]


PARTS = {"overhead": overhead_rows, "data": data_rows, "slurm": slurm_rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Times everything, or the parts named; prints and writes the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestrate", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the pictures")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    for part in options.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="miras-orchestrate-") as folder:
            found = PARTS[part](Path(folder), is_quick=options.quick)
            publish(f"orchestrate-{part}", device_name(torch.device("cpu")), found, is_quick=options.quick)


if __name__ == "__main__":
    main()
