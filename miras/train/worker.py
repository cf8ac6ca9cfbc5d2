"""One training process under torchrun: `python -m miras.train.worker request.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from miras.errors import MirasError
from miras.launch.local import LocalLaunch
from miras.model.config import NetworkConfig
from miras.paths import Paths
from miras.train.config import TrainConfig
from miras.train.stage import run_worker


def main(request_path: Path) -> int:
    """Runs the request; returns the exit code."""
    request = json.loads(request_path.read_text("utf-8"))
    try:
        run_worker(
            request["stage"],
            paths=Paths.model_validate(request["paths"]),
            work=Path(request["work"]),
            network=NetworkConfig.model_validate(request["network"]),
            config=TrainConfig.model_validate(request["config"]),
            launch=LocalLaunch.model_validate(request["launch"]),
        )
    except MirasError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
