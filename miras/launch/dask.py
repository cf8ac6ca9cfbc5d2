"""Shares of a job on Dask workers: of this machine, of Slurm jobs that are asked for, or of a scheduler that is there.

A share is one Dask task, which runs the share's process on its worker and waits for it. Workers must see the
workspace's files under the same path and have miras installed (or start in the workspace). Shares end with the stage:
whatever of it is killed, run again it goes on from the finished pieces. Training is no matter for Dask.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from miras.config import Section
from miras.errors import ConfigError, ServiceUnavailableError
from miras.launch.job import JobSpec, JobState
from miras.launch.profiles import Launch
from miras.launch.slurm import Duration, Line, Name, Option
from miras.launch.slurm_cluster import ask, handed_on

try:
    import dask
    import distributed
    from distributed.security import Security
except ImportError as error:  # an extra: see pyproject.toml
    raise ConfigError(
        f"{error}: Dask needs more packages. Run `pip install -c constraints.txt -e '.[dask]'`."
    ) from None

from miras.launch.dask_share import Share, how_failed, run_share

FOLDER = "dask"
"""In the work folder: the shares' output, `share<number>.log`, and what Slurm's jobs say."""
CONNECT_S = 20.0
_GONE_S = 10.0
_ENDED = ("finished", "error")
_OUTPUT_BYTES = 65536
_PLAIN_PATH = re.compile(r"[\w./@+:,=-]+")


class SlurmWorkers(Section):
    """What a Slurm job asks for; each is one worker."""

    partition: Name | None
    """null: the cluster's default, as for `account`."""
    account: Name | None
    time: Duration
    """Limit of a job, [days-]hours:minutes:seconds; a share that is cut off there counts as a restart."""
    cpus_per_worker: int = Field(ge=1)
    memory_gb: float = Field(gt=0, strict=False)
    """Of a worker, in 2**30 bytes."""
    interface: Name | None
    """Network interface of this machine and the nodes by which they reach each other, such as ib0; null: the default
    route's."""
    setup: tuple[Line, ...] = Field(strict=False)
    """Lines of shell that run first on the node, such as `module load cuda`."""
    extra: tuple[Option, ...] = Field(strict=False)
    """Further options of sbatch, such as `--gres=gpu:1`."""


class DaskLaunch(Launch):
    """A profile for the shares of sharded stages on Dask workers."""

    place: Literal["dask", "prefect-dask"]
    """dask: alone; prefect-dask: every share also is a task run in Prefect (and workers must reach Prefect's API)."""
    shares: int = Field(ge=1)
    """Parts that pictures and test questions are shared out in; more than `workers` even out slow and fast ones."""
    cluster: Literal["local", "slurm"] | None
    """Who starts workers: this machine, or jobs of Slurm. null: the scheduler at `address` has its own."""
    address: Annotated[str, StringConstraints(pattern=r"^(tcp|tls)://[^\s/]+:\d+\z")] | None
    """Of a scheduler that is there, such as tcp://head:8786; tls:// takes its certificates from Dask's settings."""
    workers: int | None = Field(ge=1)
    """To start; each runs one share at a time. null with `address`."""
    restarts: int = Field(ge=0)
    """How often a share is started again whose worker was lost. A scheduler that is there has a number of its own
    (`distributed.scheduler.allowed-failures`)."""
    slurm: SlurmWorkers | None
    """With `cluster: slurm`."""
    poll_s: float = Field(gt=0, le=20, strict=False)
    """Seconds between two looks at the shares."""

    @model_validator(mode="after")
    def _names_one_cluster(self) -> DaskLaunch:
        if (self.cluster is None) == (self.address is None):
            raise ValueError("set either `cluster` or `address`, and the other one to null")
        if (self.cluster is None) != (self.workers is None):
            raise ValueError("`workers` goes with `cluster`; with `address` it is null")
        if (self.cluster == "slurm") != (self.slurm is not None):
            raise ValueError("`slurm` goes with `cluster: slurm`; else it is null")
        return self


class DaskPlace:
    """A Dask cluster, started here or there already."""

    def __init__(self, launch: Launch) -> None:
        assert isinstance(launch, DaskLaunch)
        self.name: str = launch.place
        self.poll_s = launch.poll_s
        self._launch = launch
        self._cluster: Any = None
        self._client: Any = None
        self._futures: dict[int, Any] = {}  # of the shares that have not ended well
        self._logs: list[Path] = []
        self._read_bytes = 0
        self._end: JobState | None = None

    def attach(self, spec: JobSpec) -> str | None:
        """None: no share outlives its stage."""
        del spec
        return None

    def submit(self, spec: JobSpec) -> str:
        """Starts or finds the cluster, and hands it the shares.

        Raises:
            ConfigError: it is asked for training, or Slurm refuses a worker's job.
            ServiceUnavailableError: no scheduler answers at the address.
        """
        if spec.kind == "ranks":
            raise ConfigError(
                f"{spec.name}: place {self.name} shares out pictures and questions, it does not train. Run on with a "
                "launch profile of place local, slurm or sagemaker for this stage: what is finished is kept, and later "
                "stages may come back to this profile."
            )
        folder = (spec.folder / FOLDER).resolve()
        folder.mkdir(exist_ok=True)
        self._logs = [folder / f"share{number}.log" for number in range(spec.processes)]
        for log in self._logs:
            log.unlink(missing_ok=True)
        shares = [_share(spec, number, log) for number, log in enumerate(self._logs)]
        try:
            self._connect(folder)
            self._futures = dict(enumerate(self._start(spec.name, shares)))
        except BaseException:
            self._close()
            raise
        return f"{spec.name}-{uuid.uuid4().hex[:8]}"

    def state(self, job: str) -> JobState:
        """Failed as soon as one share is, which ends the others.

        Raises:
            ServiceUnavailableError: the scheduler does not answer any more; the shares end by themselves.
        """
        del job
        if self._end is None:
            state = self._look()
            if not state.is_over:
                return state
            self._end = state
            self._close()
        return self._end

    def cancel(self, job: str) -> None:
        """Takes the shares back; their workers end them within a second."""
        if self._end is None:
            self._end = JobState("cancelled")
            self._close()

    def new_output(self, job: str) -> str:
        """What share 0 has printed."""
        del job
        log = self._logs[0]
        if not log.exists():
            return ""
        with log.open("rb") as lines:
            lines.seek(self._read_bytes)
            content = lines.read(_OUTPUT_BYTES)
        self._read_bytes += len(content)
        return content.decode("utf-8", "replace")

    def collect(self, job: str, spec: JobSpec) -> None:
        """Nothing: workers write where we read."""
        del job, spec

    def about(self, job: str) -> dict[str, str]:
        """The logs, and Dask's page where there is one."""
        del job
        page = getattr(self._client, "dashboard_link", None) if self._client else None
        return {"logs": str(self._logs[0].parent), **({"page": page} if page else {})}

    def _start(self, stage: str, shares: list[Share]) -> list[Any]:
        """A future per share."""
        del stage
        return [self._client.submit(run_share, asdict(share), key=key_of(share), pure=False) for share in shares]

    def _how_failed(self, result: Any) -> str | None:
        """From the result of a share's future; None: it ended well."""
        return how_failed(result)

    def _connect(self, folder: Path) -> None:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # each loss is told by us, in one line
        security = None
        if self._launch.cluster:
            # Whoever reaches a scheduler without keys can run code as us; a login node has many users.
            security = Security.temporary()
            with dask.config.set({"distributed.scheduler.allowed-failures": self._launch.restarts}):
                opener = {"local": self._open_local, "slurm": self._open_slurm}[self._launch.cluster]
                self._cluster = opener(security, folder)
        try:
            self._client = distributed.Client(
                self._cluster or self._launch.address, timeout=CONNECT_S, set_as_default=False, security=security
            )
        except (OSError, TimeoutError) as error:
            raise ServiceUnavailableError(
                f"No Dask scheduler answers at {self._launch.address} ({type(error).__name__}). Start it, or correct "
                "`address` in the launch profile."
            ) from None

    def _open_local(self, security: Security, folder: Path) -> Any:
        return distributed.LocalCluster(
            n_workers=self._launch.workers,
            threads_per_worker=1,
            memory_limit=0,  # the processes are not Dask's own, it would count nothing
            dashboard_address="127.0.0.1:0",
            security=security,
            silence_logs=logging.CRITICAL,
            local_directory=str(folder),
        )

    def _open_slurm(self, security: Security, folder: Path) -> Any:
        from dask_jobqueue import SLURMCluster  # reads Dask's settings files for queues

        if not _PLAIN_PATH.fullmatch(str(folder)):
            raise ConfigError(
                f"{folder}: dask-jobqueue cannot write a job's script for a path with blanks or quotes. Move the "
                "workspace, or use a launch profile of place slurm."
            )
        asked = self._launch.slurm
        assert asked is not None
        cluster = SLURMCluster(
            queue=asked.partition,
            account=asked.account,
            walltime=asked.time,
            cores=1,  # shares at a time
            processes=1,
            job_cpu=asked.cpus_per_worker,
            memory=f"{round(asked.memory_gb * 1024)}MiB",
            job_mem=f"{round(asked.memory_gb * 1024)}M",
            interface=asked.interface,
            job_script_prologue=list(asked.setup),
            job_extra_directives=[f"--export={','.join(handed_on(os.environ))}", *asked.extra],
            log_directory=str(folder),
            local_directory=str(folder),
            shared_temp_directory=str(folder),
            security=security,
            protocol="tls://",
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            silence_logs="critical",
        )
        script = folder / "worker.sh"
        script.write_text(cluster.job_script(), "utf-8")
        answer = ask("sbatch", "--test-only", str(script))
        if answer.returncode:
            cluster.close()
            raise ConfigError(
                f"sbatch refuses a Dask worker: {' '.join(answer.stderr.split())}. Correct `slurm` in the launch "
                f"profile; the script is {script}."
            )
        cluster.scale(self._launch.workers)
        return cluster

    def _look(self) -> JobState:
        for number, future in list(self._futures.items()):
            if future.status == "cancelled":  # not by us: every future is, as soon as the scheduler is gone
                self._close()
                raise ServiceUnavailableError(
                    f"Dask's scheduler{f' at {self._launch.address}' if self._launch.address else ''} does not answer "
                    "any more. Run again when it is back: finished pieces are kept."
                )
            if future.status not in _ENDED:
                continue
            if failure := self._failure(number, future):
                return JobState("failed", f"share {number} of {len(self._logs)} {failure}")
            del self._futures[number]  # else Dask would run it again if the worker that holds its exit code is lost
        if not self._futures:
            return JobState("done")
        workers = self._count_workers()
        if not workers:
            return JobState("waiting", "there is no worker yet")
        return JobState("running", f"on {workers} worker{'s' if workers > 1 else ''}")

    def _failure(self, number: int, future: Any) -> str | None:
        """How a share that has ended has failed; None: it has not."""
        log = self._logs[number]
        if future.status == "error":
            error = future.exception()
            if isinstance(error, distributed.KilledWorker):
                times = error.allowed_failures + 1
                return f"lost its worker {times} times (out of memory, or a time limit?); its output is in {log}"
            return f"could not be run: {type(error).__name__}: {error}"
        how = self._how_failed(future.result())
        return how and f"{how}; its output is in {log}"

    def _count_workers(self) -> int:
        if self._launch.cluster == "slurm":
            self._cluster.scale(self._launch.workers)  # asks again for those that a time limit has ended
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def _left(self) -> list[Any]:
        """Futures of what still waits or runs."""
        return [future for future in self._futures.values() if future.status not in _ENDED]

    def _close(self) -> None:
        """Takes back what still runs, and ends the cluster if it is ours."""
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        if client is not None and client.status == "running":
            client.cancel(self._left(), force=True)
        for opened in (client, cluster):
            if opened is not None:
                opened.close(timeout=_GONE_S)


def key_of(share: Share) -> str:
    """Name of a share's task, unique."""
    return f"{share.module.rpartition('.')[2]}-{share.number}-{uuid.uuid4().hex[:8]}"


def _share(spec: JobSpec, number: int, log: Path) -> Share:
    return Share(
        module=spec.module,
        request=str(spec.request),
        number=number,
        shares=spec.processes,
        threads=spec.threads or 1,
        workspace=str(Path.cwd()),
        log=str(log),
    )
