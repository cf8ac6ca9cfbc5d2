"""Two real processes on gloo: DDP, ZeRO-2 and ZeRO-3 learn what one process learns, and go on from each other.

Run as a module it is the worker: it does several trainings in one process, because starting one takes seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from accelerate.state import AcceleratorState

from miras.dialogue.records import Dialogue
from miras.errors import DataError, MirasError
from miras.files import read_records
from miras.launch.job import JobSpec, run_job
from miras.launch.local import LocalPlace
from miras.launch.process import rank_main
from miras.launch.profiles import Launch, read_launch
from miras.metrics_log import METRICS
from miras.paths import Paths
from miras.train import stage
from miras.train.checkpoint import FILE, Checkpoint
from miras.train.mixture import Mixture
from tests.unit.model.tiny_network import network_config
from tests.unit.train.workspace import build_workspace, train_config

STEPS = 6
COPIED = 4  # the checkpoint after this step is kept for others to go on from
LIMIT_S = 120.0
NETWORK = network_config(mask_memory="both", reference_loss=True)
ADAPTERS = NETWORK.model_copy(update={"language_training": "lora"})
# One row per process and step, so that at a step the processes differ in what their row has.
SETTINGS = {"mixture": {"mrseg": 1, "vqa": 1}, "global_batch_size": 2, "micro_batch_size": 1, "dialogues_per_row": 1}
LOSSES = ("total", "text", "bce", "dice", "reference")


def launch(processes: int, zero_stage: int = 0) -> Launch:
    return read_launch("infra/launch/local.yaml").model_copy(
        update={"processes": processes, "zero_stage": zero_stage, "gradient_checkpointing": False, "threads": 1}
    )


def train(paths: Paths, work: Path, *, launch: Launch, has_adapters: bool = False, steps: int = STEPS) -> None:
    """Trains stage 1 in this process, alone or as one of several."""
    stage.run_worker(
        "stage1",
        paths=paths,
        work=work,
        network=ADAPTERS if has_adapters else NETWORK,
        config=train_config(**SETTINGS, steps=steps),
        launch=launch,
    )


def copy_checkpoints() -> Callable[..., None]:
    """From now on checkpoints after step `COPIED` are also kept in the folder `copy`; returns the original `save`."""
    save = Checkpoint.save

    def save_and_copy(self: Checkpoint, *args: object, step: int) -> None:
        save(self, *args, step=step)  # type: ignore[arg-type]
        if step == COPIED and self.accelerator.is_main_process:
            (self.path.parent / "copy").mkdir()
            shutil.copy(self.path, self.path.parent / "copy")

    Checkpoint.save = save_and_copy  # type: ignore[method-assign]
    return save


def prepare(root: Path, name: str, *, source: str = "") -> Path:
    """The work folder of a run, with the copied checkpoint of another to go on from."""
    work = root / name
    work.mkdir(exist_ok=True)
    if source:
        shutil.copy(root / source / "copy" / FILE, work)
    return work


def main(request_path: Path) -> None:
    """One process of the pair: all runs of the request, one after the other."""
    request = json.loads(request_path.read_text())
    copy_checkpoints()
    for name, zero_stage, source, has_adapters in request["runs"]:
        work = request_path.parent / name
        if os.environ["RANK"] == "0":
            prepare(request_path.parent, name, source=source)
        while not (work / FILE).exists() if source else not work.exists():
            time.sleep(0.01)
        paths = Paths.model_validate(request["paths"])
        train(paths, work, launch=launch(2, zero_stage), has_adapters=has_adapters)
        AcceleratorState._reset_state(reset_partial_state=True)


def metrics(work: Path, first: int = 0) -> list[dict[str, float]]:
    return [line for text in (work / METRICS).read_text().splitlines() if (line := json.loads(text))["step"] >= first]


def losses(work: Path, first: int = 0) -> list[float]:
    return [line[name] for line in metrics(work, first) for name in LOSSES]


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "-m" in child.cmdline()]


@contextmanager
def no_hang() -> Iterator[None]:
    """Ends processes that take too long, which fails the test."""
    timer = threading.Timer(LIMIT_S, lambda: [worker.kill() for worker in workers()])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return build_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def runs(paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of all runs by two processes, and of `one` by a single one."""
    root = tmp_path_factory.mktemp("runs")
    every_step = pytest.MonkeyPatch()
    every_step.setenv("MIRAS_LOG_EVERY_S", "0")
    every_step.setattr("miras.metrics_log.LOG_EVERY_S", 0.0)
    save = copy_checkpoints()
    train(paths, prepare(root, "one"), launch=launch(1))
    Checkpoint.save = save  # type: ignore[method-assign]
    pairs = [
        ("ddp", 0, "", False),
        ("ddp_adapters", 0, "", True),
        ("zero2", 2, "", False),
        ("zero3", 3, "", False),
        ("zero3_adapters", 3, "", True),
        ("one_to_zero2", 2, "one", False),
        ("zero2_to_zero3", 3, "zero2", False),
    ]
    request = root / "request.json"
    request.write_text(json.dumps({"paths": paths.model_dump(mode="json"), "runs": pairs}))
    with no_hang():
        spec = JobSpec("pairs", "tests.unit.train.test_distributed", request, "ranks", processes=2, threads=1)
        run_job(spec, LocalPlace(launch(2)))
    for source in ("zero2", "zero3"):
        train(paths, prepare(root, f"{source}_to_one", source=source), launch=launch(1))
    every_step.undo()
    return root


def test_at_some_step_only_one_process_has_masks_and_at_some_only_one_has_a_picture(paths: Paths) -> None:
    """What the other tests of this file rest on."""
    config = train_config(**SETTINGS)
    mixture = Mixture(
        read_records(paths.split_dialogues("train"), Dialogue),
        weights=config.mixture,
        dialogues_per_row=1,
        aligned_share=1.0,
        seed=config.seed,
    )
    pairs = [[row.dialogues[0] for row in mixture.rows(range(2 * step, 2 * step + 2))] for step in range(STEPS)]
    assert any({dialogue.kind for dialogue in pair} == {"mrseg", "vqa"} for pair in pairs)
    assert any([bool(dialogue.image_id) for dialogue in pair].count(False) == 1 for pair in pairs)


@pytest.mark.parametrize("name", ["ddp", "zero2", "zero3"])
def test_two_processes_learn_what_one_learns(runs: Path, name: str) -> None:
    assert [line["step"] for line in metrics(runs / name)] == list(range(STEPS))
    assert losses(runs / name) == pytest.approx(losses(runs / "one"), rel=1e-4)


def test_zero_3_trains_adapters_as_plain_torch_does(runs: Path) -> None:
    assert losses(runs / "zero3_adapters") == pytest.approx(losses(runs / "ddp_adapters"), rel=1e-4)


@pytest.mark.parametrize("name", ["one_to_zero2", "zero2_to_one", "zero2_to_zero3", "zero3_to_one"])
def test_a_run_goes_on_under_another_set_up_and_number_of_processes(runs: Path, name: str) -> None:
    assert [line["step"] for line in metrics(runs / name)] == list(range(COPIED, STEPS))
    assert losses(runs / name) == pytest.approx(losses(runs / "one", first=COPIED), rel=1e-4)


def test_zero_3_stores_whole_weights(runs: Path) -> None:
    from safetensors.torch import load_file

    stored, expected = (load_file(runs / name / "finished" / "weights.safetensors") for name in ("zero3", "one"))
    assert stored.keys() == expected.keys()
    for name, value in expected.items():
        assert stored[name].numpy() == pytest.approx(value.numpy(), rel=1e-2, abs=1e-3)


def test_deepspeed_guesses_and_builds_nothing(runs: Path) -> None:
    output = (runs / "process1.log").read_text()
    assert "stage1" in output
    for word in ("Setting accelerator", "ninja", "cpp_extension", "deprecated"):
        assert word not in output


def test_after_kill_9_of_a_process_the_next_run_goes_on_to_the_same_losses(
    paths: Paths, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRAS_LOG_EVERY_S", "0")
    monkeypatch.setattr(stage, "read_launch", lambda: launch(2))
    work = tmp_path / "work"
    work.mkdir()

    def run() -> None:
        with no_hang():
            stage.run_stage1(paths=paths, work=work, network=NETWORK, stage1=train_config(**SETTINGS, steps=STEPS))

    killer = threading.Thread(target=kill_after_lines, args=(work / METRICS, 3))
    killer.start()
    with pytest.raises(MirasError, match=r"process \d of 2 was killed by SIGKILL.* run again to go on"):
        run()
    killer.join()
    assert not workers()
    done = metrics(work)
    assert 3 <= len(done) < STEPS
    marked = [json.dumps(done[0] | {"samples": -1}), *(json.dumps(line) for line in done[1:])]
    (work / METRICS).write_text("".join(f"{line}\n" for line in marked))
    run()
    assert losses(work) == losses(runs / "ddp")
    assert metrics(work)[0]["samples"] == -1, "it went on; a new start would have written this line again"


def kill_after_lines(path: Path, lines: int) -> None:
    """kill -9 of one worker once so many steps are done."""
    ends = time.monotonic() + LIMIT_S
    while time.monotonic() < ends:
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            workers()[-1].send_signal(signal.SIGKILL)
            return
        time.sleep(0.002)


def test_a_mistake_found_by_a_process_is_the_error_of_the_stage(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "read_launch", lambda: launch(2))
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(DataError, match=rf"{FILE}: damaged"), no_hang():
        stage.run_stage1(paths=paths, work=tmp_path, network=NETWORK, stage1=train_config(**SETTINGS))


if __name__ == "__main__":
    rank_main(main)
