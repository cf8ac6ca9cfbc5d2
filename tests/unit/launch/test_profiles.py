"""Profiles are found by name and checked whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from miras.errors import ConfigError
from miras.launch.local import LocalLaunch, LocalPlace
from miras.launch.profiles import Launch, open_place, profile_path, read_launch

LOCAL = """\
place: local
processes: 2
zero_stage: 0
gradient_checkpointing: false
threads: 0
shares: 3
gpu_memory_gb: null
tflops: null
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIRAS_LAUNCH", raising=False)
    made = tmp_path / "infra" / "launch"
    made.mkdir(parents=True)
    (made / "local.yaml").write_text(LOCAL)
    (made / "cluster two.yaml").write_text(LOCAL.replace("shares: 3", "shares: 4"))
    return made


def test_a_profile_is_chosen_by_name_by_variable_or_by_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_launch().shares == 3
    assert read_launch("cluster two").shares == 4
    assert read_launch(str(folder / "cluster two.yaml")).shares == 4
    monkeypatch.setenv("MIRAS_LAUNCH", "cluster two")
    assert read_launch().shares == 4
    assert read_launch("local").shares == 3


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'locale'.*did you mean local\?"):
        profile_path("locale")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("place: local", "place: moon"), r"place: found 'moon', expected one of .*local"),
        (("place: local\n", ""), r"place: found None"),
        (("processes: 2", "proceses: 2"), r"did you mean processes\?"),
        (("processes: 2", "processes: 0"), r"launch\.processes: .*greater than or equal to 1"),
        (("threads: 0", "threads: none"), r"launch\.threads: .*valid integer"),
    ],
)
def test_every_mistake_is_one_message(folder: Path, change: tuple[str, str], message: str) -> None:
    (folder / "local.yaml").write_text(LOCAL.replace(*change))
    with pytest.raises(ConfigError, match=message):
        read_launch()


def test_a_process_is_told_what_every_profile_says_and_no_more() -> None:
    told = read_launch().for_process()
    assert type(told) is Launch
    assert Launch.model_validate(told.model_dump()) == told
    assert told.shares == 3


def test_a_profile_opens_its_place() -> None:
    launch = read_launch()
    assert isinstance(launch, LocalLaunch)
    assert isinstance(open_place(launch), LocalPlace)
