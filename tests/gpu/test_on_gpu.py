"""What only a CUDA device can show: `python -m pytest tests/gpu` on a machine that has one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from miras.launch.local import LocalLaunch
from miras.metrics_log import METRICS
from miras.model.responder import Responder
from miras.model.weights import Backbones
from miras.paths import Paths
from miras.train.stage import run_worker
from tests.unit.model.tiny_network import network_config
from tests.unit.train.workspace import build_workspace, train_config

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return build_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.mark.parametrize("zero_stage", [0, 2])
@pytest.mark.parametrize("training", ["full", "lora"])
def test_training_runs_in_bfloat16_and_its_weights_answer_alike_on_gpu_and_cpu(
    paths: Paths, tmp_path: Path, training: str, zero_stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miras.metrics_log.LOG_EVERY_S", 0.0)
    launch = LocalLaunch.model_validate(
        {
            "place": "local",
            "processes": 1,
            "zero_stage": zero_stage,
            "gradient_checkpointing": True,
            "threads": 0,
            "shares": 0,
            "gpu_memory_gb": None,
            "tflops": None,
        }
    )
    network = network_config(language_training=training, mask_memory="both", reference_loss=True)
    run_worker("stage1", paths=paths, work=tmp_path, network=network, config=train_config(), launch=launch)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6))
    assert all(math.isfinite(line["total"]) for line in lines)
    picture = Image.effect_noise((50, 40), 80).convert("RGB")
    answers = [
        Responder.load(Path(paths.backbones), tmp_path / "finished", device=device).ask(picture, ["segment it."])
        for device in ("cpu", "cuda")
    ]
    assert answers[0][0].answer == answers[1][0].answer


def test_features_on_a_gpu_are_those_of_the_cpu(paths: Paths) -> None:
    picture = Image.effect_noise((50, 40), 80).convert("RGB")
    encoders = Backbones(Path(paths.backbones)).encoders()
    cpu = encoders([picture])
    gpu = encoders.to("cuda")([picture])
    for part in ("clip", "high", "sam"):
        torch.testing.assert_close(getattr(gpu, part).cpu(), getattr(cpu, part), rtol=1e-2, atol=1e-2)
