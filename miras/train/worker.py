"""One training process of several: `python -m miras.train.worker request.json` (see miras.launch.process)."""

from __future__ import annotations

import json
from pathlib import Path

from miras.launch.process import rank_main
from miras.launch.profiles import Launch
from miras.model.config import NetworkConfig
from miras.paths import Paths
from miras.train.config import TrainConfig
from miras.train.stage import run_worker


def run(request: Path) -> None:
    """Trains as the request says; every process of the job does the same."""
    asked = json.loads(request.read_text("utf-8"))
    run_worker(
        asked["stage"],
        paths=Paths.model_validate(asked["paths"]),
        work=request.parent,
        network=NetworkConfig.model_validate(asked["network"]),
        config=TrainConfig.model_validate(asked["config"]),
        launch=Launch.model_validate(asked["launch"]),
    )


if __name__ == "__main__":
    rank_main(run)
