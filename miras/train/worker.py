"""One training process of several: `python -m miras.train.worker request.json` (see miras.launch.local)."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from miras.errors import MirasError
from miras.files import write_json
from miras.launch.local import ERROR, LocalLaunch
from miras.model.config import NetworkConfig
from miras.paths import Paths
from miras.train.config import TrainConfig
from miras.train.stage import run_worker

_WATCH_S = 1.0


def main(request_path: Path) -> int:
    """Runs the request; returns the exit code. A user's mistake is left in `error.json` beside the request."""
    _end_with_starter()
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
        write_json(request_path.with_name(ERROR), {"kind": type(error).__name__, "message": str(error)})
        return 1
    return 0


def _end_with_starter() -> None:
    """Ends this process when the one that started it is gone: it would go on writing into a workspace in use."""
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
