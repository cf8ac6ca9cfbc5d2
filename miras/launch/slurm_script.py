"""The script of a Slurm job, and what its launch profile asks the cluster for; both as text, nothing is run here."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miras.launch.job import ERROR, JobSpec
from miras.launch.process import KEPT, SAVE_ON_SIGNAL, STARTER, STOPPED_EARLY

if TYPE_CHECKING:
    from miras.launch.slurm import SlurmLaunch

LOG = "log"
"""`log.<number>` in a submission's folder: the output of rank 0, or of a share."""
END = "end"
"""`end.<number>`: the exit code of a script that will not be started again."""
NOTHING_KEPT = 76
"""Exit code of a script whose time limit came too early."""

_HEAD = """\
#!/bin/bash
# {name}, a job of miras. Submitted from {workspace} by
#   {command}
# What it finishes is kept: submitted once more it goes on from there.
folder={folder}
number=${{SLURM_ARRAY_TASK_ID:-0}}
job=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_}}${{SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}}
exec >>"$folder/{log}.$number" 2>&1 || exit 1
rm -f "$folder/{end}.$number" "$folder/kept.$number"
asked=
trap 'asked=yes' USR1 TERM
echo "$(date '+%F %T') job $job on $(hostname), start $((${{SLURM_RESTART_COUNT:-0}} + 1))"

{exports}
{setup}
"""

_RANKS = """\
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 12000))
export MASTER_ADDR MASTER_PORT
rm -f "$folder/rank0"
# Rank 0 prints here, every other one to a file of its own. None outlives the daemon of its step.
srun --kill-on-bad-exit=1 --mpi=none --cpus-per-task={cpus} bash -c '
  if [ "$SLURM_PROCID" = 0 ]; then echo $$ >"$0/rank0"; else exec >>"$0/{log}.$SLURM_PROCID" 2>&1; fi
  {starter}=$PPID exec "$@"' "$folder" \\
  {command} &
child=$!
watch() {{ # srun waits for ever where that daemon is killed; rank 0 runs on this node
  local gone=0
  while [ "$gone" -lt 5 ]; do
    sleep 3
    if [ ! -s "$folder/rank0" ] || kill -0 "$(cat "$folder/rank0")"; then gone=0; else gone=$((gone + 1)); fi
  done 2>/dev/null
  echo "rank 0 is gone, and its step does not end"
  kill -s KILL "$child"
}}
watch &
watcher=$!
"""

_SHARES = """\
export {starter}=$$ # it does not outlive this script
export {kept}="$folder/kept.$number"
{command} "$number" {shares} &
child=$!
watcher=
"""

_TAIL = """\
ask() {{ # the time limit is near, or another job needs this place
  asked=yes signalled=yes
  kill -s {signal} "$child"
}}
trap ask USR1 TERM
[ -z "$asked" ] || ask
while :; do
  signalled=
  wait "$child"
  code=$?
  [ -n "$signalled" ] || break # else a signal may have ended the waiting and not the process
done
trap - USR1 TERM
[ -z "$watcher" ] || kill "$watcher" 2>/dev/null

again() {{ # only a running job: asked for a cancelled one, Slurm would start it once more
  for _ in {{1..60}}; do
    state=$(scontrol -o show job "$job" | sed -n 's/.* JobState=\\([A-Z_]*\\).*/\\1/p')
    case $state in
      RUNNING)
        if scontrol requeue "$job"; then
          sleep 600 # until Slurm ends it; an exit would count as the job's end
          return
        fi ;;
      ?*) return ;;
    esac
    sleep 5 # Slurm does not answer
  done
}}
kept=$folder/kept.$number
if [ -n "$asked" ] && [ "$code" != {stopped} ] && [ ! -e "$kept" ] && [ "$SECONDS" -ge {too_late_s} ]; then
  echo "its time limit came before it had anything to keep"
  code={nothing_kept}
elif [ "$code" = {stopped} ] || {{ [ -n "$asked" ] && [ "$code" != 0 ] && ! ls {error} >/dev/null 2>&1; }}; then
  {again}
fi
echo "$code" >"$folder/.{end}.$number" && mv "$folder/.{end}.$number" "$folder/{end}.$number"
exit "$code"
"""


def sbatch_command(launch: SlurmLaunch, spec: JobSpec, *, script: Path, comment: str) -> list[str]:
    """The words of the sbatch command: no shell reads them.

    Args:
        launch: the profile.
        spec: what is to run.
        script: what `script_text` wrote.
        comment: by which the job is found again.
    """
    given = {
        "--parsable": None,
        "--job-name": f"miras-{spec.name}",
        "--comment": comment,
        "--chdir": str(Path.cwd()),
        "--output": "/dev/null",  # the script writes its own: in a path given here, % and \ have meanings
        "--export": "ALL",  # of what `Cluster` hands on
        "--signal": f"B:USR1@{launch.save_before_end_s}",
        "--requeue" if launch.requeue else "--no-requeue": None,
        "--time": str(launch.time),
        "--partition": launch.partition,
        "--account": launch.account,
        "--qos": launch.qos,
        "--constraint": launch.constraint,
        "--cpus-per-task": str(launch.cpus_per_process),
    }
    per_node = max(1, spec.processes // launch.nodes)
    if spec.kind == "ranks":
        given |= {"--nodes": str(launch.nodes), "--ntasks-per-node": str(per_node)}
        memory_gb, gpus = launch.memory_gb, launch.gpus_per_node
    else:
        last = f"0-{spec.processes - 1}"
        given |= {"--array": f"{last}%{launch.array_limit}" if launch.array_limit else last}
        given |= {"--nodes": "1", "--ntasks": "1"}
        memory_gb, gpus = launch.process_memory_gb, min(1, launch.gpus_per_node)
    given |= {
        "--mem": f"{round(memory_gb * 1024)}M" if memory_gb is not None else None,
        "--gres": f"gpu:{gpus}" if gpus else None,
    }
    bare = ("--parsable", "--requeue", "--no-requeue")
    options = [
        name if name in bare else f"{name}={value}"
        for name, value in given.items()
        if name in bare or value is not None
    ]
    return ["sbatch", *options, *launch.extra, str(script)]


def script_text(launch: SlurmLaunch, spec: JobSpec, *, request: Path, folder: Path, command: Sequence[str]) -> str:
    """The batch script: every rank by one srun, or one share per element of the array.

    When Slurm tells it that its time ends (SIGUSR1) or that it has to give way (SIGUSR1 or SIGTERM), ranks are asked to
    save and a share is ended; then the job asks to be started again.

    Args:
        launch: the profile.
        spec: what is to run.
        request: what the processes read.
        folder: absolute, for the logs and the ends.
        command: by which the script is submitted, for people.
    """
    is_ranks = spec.kind == "ranks"
    words = shlex.join([sys.executable, "-m", spec.module, str(request)])
    if is_ranks:
        body = _RANKS.format(cpus=launch.cpus_per_process, log=LOG, starter=STARTER, command=words)
        error = f"{shlex.quote(str(spec.folder.resolve() / ERROR))}*"
    else:
        body = _SHARES.format(starter=STARTER, kept=KEPT, command=words, shares=spec.processes)
        error = f'{shlex.quote(str(spec.folder.resolve() / ERROR))}."$(printf \'%05d\' "$number")"'
    head = _HEAD.format(
        name=spec.name,
        workspace=shlex.quote(str(Path.cwd())).replace("\n", " "),
        command=shlex.join(command).replace("\n", " "),
        folder=shlex.quote(str(folder)),
        log=LOG,
        end=END,
        exports="\n".join(f"export {name}={shlex.quote(value)}" for name, value in _exported(launch, spec).items()),
        setup="\n".join(launch.setup),
    )
    tail = _TAIL.format(
        signal="USR1" if is_ranks else "TERM",
        stopped=STOPPED_EARLY,
        nothing_kept=NOTHING_KEPT,
        # Slurm may ask up to a minute earlier than told.
        too_late_s=max(1, launch.time_s - launch.save_before_end_s - 60),
        error=error,
        again="again" if launch.requeue else "echo 'saved and stopped; requeue is false in the launch profile'",
        end=END,
    )
    return head + body + tail


def _exported(launch: SlurmLaunch, spec: JobSpec) -> Mapping[str, str]:
    values = {"OMP_NUM_THREADS": str(spec.threads or launch.cpus_per_process), "PYTHONUNBUFFERED": "1"}
    if spec.kind == "ranks":
        values |= {SAVE_ON_SIGNAL: "1", "LOCAL_WORLD_SIZE": str(max(1, spec.processes // launch.nodes))}
    return values | launch.environment
