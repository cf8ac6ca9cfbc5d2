"""What the tests on a Slurm cluster share: a profile, waiting, acting meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .conftest import Cluster

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0  # training's imports alone take a minute on busy cores
PROFILE: dict[str, Any] = {
    "place": "slurm",
    "nodes": 1,
    "gpus_per_node": 0,
    "processes": 2,
    "cpus_per_process": 1,
    "memory_gb": 1,
    "zero_stage": 2,
    "gradient_checkpointing": False,
    "threads": 1,
    "shares": 3,
    "array_limit": None,
    "time": 5,
    "save_before_end_s": 30,
    "requeue": True,
    "partition": None,
    "account": None,
    "qos": None,
    "constraint": None,
    "setup": [],
    "environment": {},
    "extra": [],
    "poll_s": 0.3,
    "gpu_memory_gb": None,
    "tflops": None,
}


def write_profile(folder: Path, **changes: Any) -> None:
    """infra/launch/cluster.yaml in a workspace."""
    file = folder / "infra" / "launch" / "cluster.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(PROFILE | changes))


def until(is_true: Callable[[], object], *, limit_s: float = LIMIT_S) -> float:
    """Waits; the seconds it took."""
    begun = time.monotonic()
    while not is_true():
        assert time.monotonic() - begun < limit_s, "it does not happen"
        time.sleep(0.05)
    return time.monotonic() - begun


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Does something in a thread while the block runs; its failure is the test's."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join()
    assert not failed, failed[0]


def give_way(slurm: Cluster) -> None:
    """A job of a higher priority takes the whole machine for a moment."""
    slurm.ask("sbatch", "--partition=main", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
