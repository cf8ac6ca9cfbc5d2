"""The stages' own work on a real Slurm cluster: the same results as on this machine, whatever befalls the jobs."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from miras.evaluate import stage as evaluate_stage
from miras.evaluate.records import Prediction
from miras.files import read_records
from miras.launch.job import HISTORY, JOB
from miras.metrics_log import METRICS
from miras.model import features
from miras.model.config import FeaturesConfig
from miras.model.responder import save_weights
from miras.model.weights import Backbones
from miras.paths import Paths
from miras.train import stage as train_stage
from tests.unit.evaluate.conftest import ONE_PROCESS, make_config
from tests.unit.model.tiny_network import network_config
from tests.unit.train.workspace import build_workspace, train_config

from .conftest import Cluster
from .slurm_trial import ROOT, give_way, meanwhile, until, write_profile

pytestmark = pytest.mark.slow

LOSSES = ("total", "text", "bce", "dice")
STEPS = 200
# No checkpoint but those that were asked for.
CONFIG = train_config(steps=STEPS, checkpoint_every=10 * STEPS, validate_every=STEPS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return build_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def space(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a launch profile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MIRAS_LAUNCH", "cluster")
    monkeypatch.setenv("MIRAS_LOG_EVERY_S", "0")
    write_profile(tmp_path)
    return tmp_path


def train(paths: Paths, root: Path, name: str) -> Path:
    """Stage 1 by the current profile; its work folder."""
    work = root / name
    work.mkdir()
    wanted = paths.model_copy(update={"stage1": str(root / f"{name}-out")})
    train_stage.run_stage1(paths=wanted, work=work, network=network_config(), stage1=CONFIG)
    assert (root / f"{name}-out" / METRICS).exists()
    return work


def curve(work: Path) -> dict[int, list[float]]:
    """Step -> losses."""
    lines = [json.loads(line) for line in (work / METRICS).read_text().splitlines()]
    assert len({line["step"] for line in lines}) == len(lines), "a step is there twice"
    return {line["step"]: [line[name] for name in LOSSES] for line in lines}


def steps_done(work: Path) -> int:
    file = work / METRICS
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture(scope="module")
def undisturbed(slurm: Cluster, paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[float]]:
    """The losses of two ranks under ZeRO-2 whom nothing befalls."""
    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name, value in (("PYTHONPATH", str(ROOT)), ("MIRAS_LAUNCH", "cluster"), ("MIRAS_LOG_EVERY_S", "0")):
            patch.setenv(name, value)
        write_profile(root)
        return curve(train(paths, root, "work"))


def test_training_that_gave_way_goes_on_at_its_step_and_learns_the_same(
    slurm: Cluster, space: Path, paths: Paths, undisturbed: dict[int, list[float]]
) -> None:
    write_profile(space, partition="spot")
    at: list[int] = []

    def push_aside() -> None:
        until(lambda: steps_done(space / "work") >= 5)
        give_way(slurm)
        at.append(steps_done(space / "work"))

    with meanwhile(push_aside):
        work = train(paths, space, "work")
    said = log_of(work)
    assert "start 2" in said
    stopped = int(said.split("stopped after step ")[1].split()[0])
    assert at[0] <= stopped < STEPS
    assert f"resumed stage=stage1 step={stopped}" in said or stopped in curve(work)
    assert curve(work).keys() == undisturbed.keys() == set(range(STEPS))
    for step, losses in undisturbed.items():
        assert curve(work)[step] == pytest.approx(losses, rel=1e-4), f"step {step}"


def test_training_longer_than_its_time_limit_is_done_in_parts(
    slurm: Cluster, space: Path, paths: Paths, undisturbed: dict[int, list[float]]
) -> None:
    write_profile(space, time=10, save_before_end_s=150)

    def shorten() -> None:
        until(lambda: steps_done(space / "work") >= 5)
        job = json.loads((space / "work" / JOB).read_text())["job"]
        slurm.ask("scontrol", "update", f"JobId={job}", "TimeLimit=2")
        until(lambda: "start 2" in log_of(space / "work") or slurm.states(job) == ["PENDING"])
        slurm.ask("scontrol", "update", f"JobId={job}", "TimeLimit=10")

    with meanwhile(shorten):
        work = train(paths, space, "work")
    assert "start 2" in log_of(work)
    assert curve(work).keys() == set(range(STEPS))
    for step, losses in undisturbed.items():
        assert curve(work)[step] == pytest.approx(losses, rel=1e-4), f"step {step}"


def log_of(work: Path) -> str:
    (log,) = work.glob("slurm/*/log.0")
    return log.read_text()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_features_made_by_an_array_are_the_bytes_that_one_process_makes(space: Path, paths: Paths) -> None:
    made = paths.model_copy(update={"features": str(space / "features")})
    config = FeaturesConfig(batch_size=4, shard_size=4)
    (space / "work" / "one").mkdir(parents=True)
    features.run(paths=made, work=space / "work" / "one", features=config)
    (line,) = (space / "work" / "one" / HISTORY).read_text().splitlines()
    assert json.loads(line)["place"] == "slurm"
    assert contents(space / "features") == contents(Path(paths.features))


def test_answers_given_by_an_array_are_those_of_one_process(
    space: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbones = Backbones(Path(paths.backbones))
    network = backbones.network(network_config(), backbones.tokenizer())
    said = {}
    trained = paths.model_copy(update={"stage1": str(space / "s1"), "stage2": str(space / "s2")})
    for folder in (trained.stage1, trained.stage2):
        Path(folder).mkdir()
        save_weights(network, Path(folder), fingerprint=backbones.manifest.fingerprint)
    config = make_config(batch_size=2, templates=["lisa"])
    read = evaluate_stage.read_launch
    for name, launch in (("one", lambda: ONE_PROCESS), ("array", read)):
        monkeypatch.setattr(evaluate_stage, "read_launch", functools.partial(launch))
        asked = trained.model_copy(update={"evaluate": str(space / name)})
        (space / f"work-{name}").mkdir()
        evaluate_stage.run(paths=asked, work=space / f"work-{name}", evaluate=config)
        said[name] = [p.model_copy(update={"seconds": 0.0}) for p in read_records(asked.predictions, Prediction)]
    assert list((space / "work-array").glob("slurm/*/log.2"))
    assert said["array"] == said["one"]
