"""Slurm's commands: asked with patience, and their answers read."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from miras.errors import ConfigError, ServiceUnavailableError
from miras.launch.job import JobState, State

PATIENCE_S = 600.0
"""How long slurmctld may be away before we give up looking (the job itself runs on)."""
_COMMAND_S = 30.0
_RETRY_S = 2.0

# Slurm's messages when its daemons or munge do not answer: asked again, the same command may work.
_AWAY = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted|Connection refused"
    r"|Connection timed out|communication connection failure|temporarily unable to accept|standby mode"
    r"|Insane message length|Unexpected message received|[Mm]unge|authentication error|Unable to (connect|establish)"
    r"|Resource temporarily unavailable|Transport endpoint|No route to host",
    re.IGNORECASE,
)
_UNKNOWN_JOB = re.compile(r"Invalid job id|job not found", re.IGNORECASE)

WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}

# What a job's processes may be told of this environment. Slurm stores it and shows it to others, so it is a list of
# what they need, and no secret.
_HANDED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|PYTHON\w*|VIRTUAL_ENV|CONDA_\w+|LD_LIBRARY_PATH|CUDA_HOME"
    r"|MODULEPATH|MODULESHOME|LMOD_\w+|(NCCL|GLOO|HF|TRANSFORMERS|TORCH|MIRAS)_\w+|GOMP_SPINCOUNT|MKL_\w+|DO_NOT_TRACK"
    r"|XDG_CACHE_HOME|SBATCH_\w+|SLURM_CONF|SLURM_CLUSTERS|MUNGE_\w+"
)
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|ACCESS_KEY|AUTH_STRING|CREDENTIAL", re.IGNORECASE)


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What Slurm's commands, and by sbatch the job, get of this environment: names that are needed and no secret."""
    return {
        name: value
        for name, value in environment.items()
        if _HANDED_ON.fullmatch(name) and not SECRET_NAME.search(name)
    }


def user_name() -> str:
    """Of this process, as Slurm knows it."""
    return pwd.getpwuid(os.getuid()).pw_name


def ask(*command: str, patience_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """What a command of Slurm answers, be it a refusal; asked again while Slurm itself is away.

    Args:
        command: its words.
        patience_s: how long it is asked again.

    Raises:
        ConfigError: there is no such command here.
        ServiceUnavailableError: Slurm was away all the time.
    """
    deadline = time.monotonic() + patience_s
    is_told = False
    while True:
        answer = ask_once(*command)
        if answer is not None and not is_away(answer):
            return answer
        said = "it does not end" if answer is None else _one_line(answer)
        if time.monotonic() >= deadline:
            raise ServiceUnavailableError(
                f"{command[0]}: Slurm did not answer for {patience_s:.0f} s ({said}). A job that runs is not touched: "
                "when `squeue` answers again, run the same command, which finds it."
            )
        if not is_told:
            print(f"Slurm does not answer ({said}); trying on.", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(_RETRY_S)


def ask_once(*command: str) -> subprocess.CompletedProcess[str] | None:
    """A command's answer; None: it did not end.

    Raises:
        ConfigError: there is no such command here.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_S,
            check=False,
            env=handed_on(os.environ),
            start_new_session=True,  # Ctrl-C is for us: we still have to cancel
        )
    except FileNotFoundError:
        raise ConfigError(
            f"{command[0]} is not on PATH: the launch profile is for a Slurm cluster. Run from its login node, or "
            "choose another profile (MIRAS_LAUNCH)."
        ) from None
    except subprocess.TimeoutExpired:
        return None


def is_away(answer: subprocess.CompletedProcess[str]) -> bool:
    """Whether a command failed because Slurm did not answer."""
    return answer.returncode != 0 and bool(_AWAY.search(answer.stderr))


def _one_line(answer: subprocess.CompletedProcess[str]) -> str:
    return "; ".join(answer.stderr.strip().splitlines())


def queued(job: str) -> dict[int, JobState]:
    """How the elements of a job stand of which slurmctld still knows; 0 for a job that is no array."""
    answer = ask("squeue", "--noheader", "--states=all", "--array", f"--jobs={job}", "--format=%K|%T|%r")
    if answer.returncode and not _UNKNOWN_JOB.search(answer.stderr):
        raise ServiceUnavailableError(f"squeue --jobs={job} failed: {_one_line(answer)}. Run again to go on.")
    return read_queue(answer.stdout)


def read_queue(text: str) -> dict[int, JobState]:
    """Lines `element|state|reason` of squeue, element N/A for a job that is no array."""
    found = {}
    for line in text.splitlines():
        element, state, reason = line.split("|", 2)
        found[int(element) if element.isdecimal() else 0] = element_state(state, reason)
    return found


def accounted(job: str) -> dict[int, JobState]:
    """How the elements of a job ended, from accounting; nothing where the cluster keeps none."""
    answer = ask_once("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=JobID,State")
    if answer is None or answer.returncode:
        return {}
    return read_accounts(answer.stdout)


def read_accounts(text: str) -> dict[int, JobState]:
    """Lines `number|state` or `number_element|state` of sacct."""
    found = {}
    for line in text.splitlines():
        number, _, state = line.partition("|")
        element = number.partition("_")[2] or "0"
        if element.isdecimal():  # else elements that never began, `7_[3-5]`
            found[int(element)] = element_state(state.split()[0], "")  # CANCELLED by 1000
    return found


def element_state(name: str, reason: str) -> JobState:
    """A state of Slurm as one of ours, with Slurm's words as the reason."""
    words = f"{name} ({reason})" if reason not in ("", "None") else name
    state: State = "failed"
    if name in WAITING:
        state = "waiting"
    elif name in RUNNING:
        state = "running"
    elif name == "COMPLETED":
        return JobState("done")
    elif name == "CANCELLED":
        state = "cancelled"
    return JobState(state, words)


def job_of_comment(comment: str, *, patience_s: float = PATIENCE_S) -> str | None:
    """The number of the user's job with this comment, whatever its state, while slurmctld knows of it."""
    words = ("squeue", "--noheader", "--states=all", f"--user={user_name()}", "--format=%F|%k")
    lines = (line.partition("|") for line in ask(*words, patience_s=patience_s).stdout.splitlines())
    return next((number for number, _, said in lines if said == comment), None)


def submit(command: Sequence[str], comment: str) -> str:
    """Submits, once: an answer that was lost on the way is found by the comment.

    Raises:
        ConfigError: Slurm refuses the job.
        ServiceUnavailableError: Slurm was away all the time.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = ask_once(*command)
        if answer is not None and answer.returncode == 0:
            return answer.stdout.strip().partition(";")[0]  # `number;cluster` where there are several
        if answer is not None and not is_away(answer):
            raise ConfigError(
                f"sbatch refuses the job: {_one_line(answer)}. Correct the launch profile (`sinfo` shows the "
                f"partitions, `sacctmgr show assoc user={user_name()}` the accounts). The command was: "
                f"{' '.join(command)}"
            )
        left = deadline - time.monotonic()
        time.sleep(min(_RETRY_S, max(left, 0.0)))
        if (job := job_of_comment(comment, patience_s=left)) is not None:
            return job


def faults(partition: str | None) -> list[tuple[str, str]]:
    """What keeps this cluster from running jobs in the profile's partition (None: its default), each with a remedy."""
    away = "slurmctld or munge is away, or there is no slurm.conf: `scontrol ping`; ask those who run the cluster."
    known: list[str] = []
    try:
        for command in (("sbatch", "--version"), ("squeue", "--noheader", "--me"), ("sinfo", "--noheader", "-o", "%R")):
            answer = ask_once(*command)
            if answer is None or answer.returncode:
                return [(f"{command[0]}: {_one_line(answer) if answer else 'it does not end'}", away)]
            known = answer.stdout.split()
    except ConfigError as error:
        return [(str(error), "`module load slurm`, perhaps.")]
    if partition is not None and not set(partition.split(",")) <= set(known):
        return [(f"there is no partition {partition}", f"Set partition to one of {', '.join(known)}.")]
    return []
