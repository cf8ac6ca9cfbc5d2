"""Training: stop and resume, two DeepSpeed processes, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from miras.errors import ConfigError, DataError, TrainingDivergedError
from miras.launch.local import LocalLaunch
from miras.metrics_log import METRICS
from miras.model.network import PARTS
from miras.model.responder import WEIGHTS, Responder
from miras.model.talker import Talker
from miras.model.weights import Backbones
from miras.paths import Paths
from miras.train import stage
from miras.train.checkpoint import FILE, Checkpoint
from miras.train.stage import run_worker
from tests.unit.model.tiny_network import network_config
from tests.unit.train.workspace import build_workspace, train_config

ONE_PROCESS = LocalLaunch(
    place="local",
    processes=1,
    zero_stage=0,
    gradient_checkpointing=False,
    threads=0,
    shares=0,
    gpu_memory_gb=None,
    tflops=None,
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return build_workspace(tmp_path_factory.mktemp("workspace"))


def run(paths: Paths, work: Path, **changes: object) -> list[dict[str, float]]:
    """Trains stage 1 in this process; every step's metrics."""
    work.mkdir(exist_ok=True)
    run_worker(
        "stage1",
        paths=paths,
        work=work,
        network=network_config(),
        config=train_config(**changes),
        launch=ONE_PROCESS,
    )
    return metrics(work)


def metrics(work: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (work / METRICS).read_text().splitlines()]


@pytest.fixture(autouse=True)
def _every_step_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miras.metrics_log.LOG_EVERY_S", 0.0)


def test_a_stopped_and_resumed_run_gives_the_losses_of_one_that_was_not_stopped(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(paths, tmp_path / "whole")
    saved = Checkpoint.save

    def save_then_die(self: Checkpoint, *args: object, step: int, **kwargs: object) -> None:
        saved(self, *args, step=step, **kwargs)  # type: ignore[arg-type]
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        run(paths, tmp_path / "cut")
    monkeypatch.setattr(Checkpoint, "save", saved)
    resumed = run(paths, tmp_path / "cut")
    assert [line["step"] for line in resumed] == [0, 1, 2, 3, 4, 5]
    assert resumed == whole
    assert whole[0]["total"] != whole[1]["total"]


def test_stage_2_starts_from_stage_1_and_its_weights_answer(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "read_launch", lambda: ONE_PROCESS)
    for name, function in (("stage1", stage.run_stage1), ("stage2", stage.run_stage2)):
        work = tmp_path / name
        work.mkdir()
        function(paths=paths, work=work, network=network_config(), **{name: train_config(steps=2)})  # type: ignore[operator]
    from PIL import Image

    answers = Talker(Responder.load(Path(paths.backbones), Path(paths.stage2))).ask(
        Image.new("RGB", (40, 30)), ["what is it?", "segment it."]
    )
    assert len(answers) == 2


def test_a_loss_that_is_not_finite_stops_with_step_and_samples(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miras.model.losses.mask_bce", lambda logits, target: logits.sum() * math.nan)
    with pytest.raises(TrainingDivergedError, match=r"step 0 .*scene-0-"):
        run(paths, tmp_path / "diverged")


def test_batch_sizes_that_do_not_come_out_even_are_refused(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a multiple of micro_batch_size 3"):
        run(paths, tmp_path / "uneven", micro_batch_size=3)


def test_a_kind_without_dialogues_is_refused(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wants dialogues of kind caption"):
        run(paths, tmp_path / "missing", mixture={"caption": 1.0})


def test_a_validation_split_without_a_kind_is_watched_without_it(tmp_path: Path) -> None:
    paths = build_workspace(tmp_path / "workspace", pictures=3)
    validation = paths.split_dialogues("val")
    kept = [line for line in validation.read_text().splitlines(keepends=True) if '"kind":"vqa"' not in line]
    validation.write_text("".join(kept))
    assert "val_total" in run(paths, tmp_path / "work", steps=3)[-1]
    validation.write_text("")
    with pytest.raises(DataError, match=r"val\.jsonl: no dialogue of a kind that the mixture wants"):
        run(paths, tmp_path / "other", steps=3)


def test_a_damaged_checkpoint_is_named(paths: Paths, tmp_path: Path) -> None:
    work = tmp_path / "damaged"
    run(paths, work, steps=2)
    (work / FILE).write_bytes((work / FILE).read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        run(paths, work, steps=3)


def test_neither_micro_batches_nor_packing_change_what_a_step_learns(paths: Paths, tmp_path: Path) -> None:
    """Losses are divided by counts of the whole step, and the dialogues of a row do not see each other."""
    torch.manual_seed(0)
    assert Accelerator(cpu=True).num_processes == 1
    whole = run(paths, tmp_path / "whole", micro_batch_size=4, steps=3)
    for size in (1, 2):
        split = run(paths, tmp_path / f"split{size}", micro_batch_size=size, steps=3)
        for name in ("total", "text", "bce", "dice"):
            assert [line[name] for line in split] == pytest.approx([line[name] for line in whole], rel=1e-4)


def weights_of(work: Path) -> dict[str, torch.Tensor]:
    return load_file(work / "finished" / WEIGHTS)


def test_frozen_parts_stay_as_they_were_and_are_stored(paths: Paths, tmp_path: Path) -> None:
    run(paths, tmp_path / "frozen", frozen=["decoder", "mining"], steps=2)
    run(paths, tmp_path / "free", steps=2)
    torch.manual_seed(0)
    backbones = Backbones(Path(paths.backbones))
    before = dict(backbones.network(network_config(), backbones.tokenizer()).learned())
    frozen, free = weights_of(tmp_path / "frozen"), weights_of(tmp_path / "free")
    assert frozen.keys() == free.keys() == before.keys()
    for name, value in frozen.items():
        is_frozen = name.startswith(("mask_decoder.", "mining."))
        assert torch.equal(value, before[name]) == is_frozen or value.std() == 0, name
    assert any(not torch.equal(free[name], before[name]) for name in free if name.startswith("mining."))


def test_a_stage_that_freezes_everything_is_refused(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is left to train"):
        run(paths, tmp_path / "nothing", frozen=list(PARTS))


def test_the_decoder_learns_at_its_own_rate(paths: Paths, tmp_path: Path) -> None:
    slow, fast = (run(paths, tmp_path / str(rate), decoder_rate=rate, steps=1) for rate in (1e-9, 1.0))
    assert slow[0]["total"] == fast[0]["total"]
    torch.manual_seed(0)
    backbones = Backbones(Path(paths.backbones))
    before = dict(backbones.network(network_config(), backbones.tokenizer()).learned())
    moved = {
        rate: max(
            (value - before[name]).abs().max()
            for name, value in weights_of(tmp_path / str(rate)).items()
            if name.startswith("mask_decoder.")
        )
        for rate in (1e-9, 1.0)
    }
    assert moved[1e-9] < 1e-6 < moved[1.0]


@pytest.mark.parametrize("option", ["focal_weight", "boundary_weight"])
def test_the_options_of_the_loss_reach_it(paths: Paths, tmp_path: Path, option: str) -> None:
    plain, more = (run(paths, tmp_path / str(value), steps=1, **{option: value}) for value in (0.0, 1.0))
    assert more[0]["total"] > plain[0]["total"]
    assert more[0]["bce"] == plain[0]["bce"]
