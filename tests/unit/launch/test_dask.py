"""A profile of Dask workers says one thing; what Dask cannot do is one message (tests/slow/test_dask.py: the rest)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("distributed", reason="needs the extra `dask`")

from miras.errors import ConfigError, ServiceUnavailableError
from miras.launch import dask as place_module
from miras.launch.dask import DaskLaunch, DaskPlace
from miras.launch.dask_share import how_failed
from miras.launch.job import JOB, JobSpec, run_job
from miras.launch.profiles import open_place, read_launch

ROOT = Path(__file__).parents[3]
SLURM = {
    "partition": None,
    "account": None,
    "time": "00:10:00",
    "cpus_per_worker": 1,
    "memory_gb": 1,
    "interface": None,
    "setup": [],
    "extra": [],
}


def launch(tmp_path: Path, **changes: Any) -> DaskLaunch:
    values = yaml.safe_load((ROOT / "infra" / "launch" / "dask.yaml").read_text())
    file = tmp_path / "dask.yaml"
    file.write_text(yaml.safe_dump(values | changes))
    found = read_launch(str(file))
    assert isinstance(found, DaskLaunch)
    return found


def spec(tmp_path: Path, kind: Any = "shares") -> JobSpec:
    (tmp_path / "request.json").write_text("{}")
    return JobSpec("stage1", "a_module", tmp_path / "request.json", kind, 2, 1)


def test_the_profile_of_the_repository_opens_its_place(tmp_path: Path) -> None:
    assert isinstance(open_place(launch(tmp_path)), DaskPlace)
    assert launch(tmp_path, cluster="slurm", slurm=SLURM).slurm is not None
    assert launch(tmp_path, shares=5).number_of_shares() == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"address": "tcp://head:8786"}, r"set either `cluster` or `address`"),
        ({"cluster": None}, r"set either `cluster` or `address`"),
        ({"cluster": None, "address": "tcp://head:8786"}, r"`workers` goes with `cluster`"),
        ({"cluster": None, "workers": None, "address": "head"}, r"address"),
        ({"cluster": "slurm"}, r"`slurm` goes with `cluster: slurm`"),
        ({"slurm": SLURM}, r"`slurm` goes with `cluster: slurm`"),
        ({"cluster": "slurm", "slurm": SLURM | {"extra": ["--array=1-9"]}}, r"another key of the profile"),
        ({"shares": 0}, r"shares.*greater than or equal to 1"),
    ],
)
def test_a_profile_that_says_two_things_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        launch(tmp_path, **changes)


def test_training_is_refused_before_any_worker_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage1: place dask .* does not train.*place local, slurm or sagemaker"):
        run_job(spec(tmp_path, "ranks"), DaskPlace(launch(tmp_path)))
    assert not (tmp_path / JOB).exists()
    assert not (tmp_path / place_module.FOLDER).exists()


def test_no_scheduler_at_the_address_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "CONNECT_S", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServiceUnavailableError, match=f"No Dask scheduler answers at {address}"):
            run_job(spec(tmp_path), DaskPlace(launch(tmp_path, cluster=None, workers=None, address=address)))


def test_an_exit_code_in_words() -> None:
    assert how_failed(0) is None
    assert how_failed(3) == "failed with exit code 3"
    assert how_failed(-9) == "was killed by signal 9"
