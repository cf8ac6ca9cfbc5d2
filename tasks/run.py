"""The one form of every stage's command: `python -m tasks.run <stage>` (see dvc.yaml).

Loads params.yaml, opens the MLflow run, calls the stage's function, records what came out. A mistake of the
user's gives its message alone and exit code 1; a traceback means a fault of ours.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from miras.errors import MirasError
from miras.files import disk_errors
from miras.stages import STAGES
from tasks import environment, failure, graph, params
from tasks.guard import stopped_with_its_starters
from tasks.lock import workspace_lock
from tasks.pipeline_run import PipelineRun
from tasks.resume import remove_older, work_folder
from tasks.tracking.record import record_stage

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one stage; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.run", description="Runs one stage of dvc.yaml.")
    parser.add_argument("stage", choices=STAGES)
    name = parser.parse_args(arguments).stage
    environment.prepare()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for package in ("miras", "tasks"):
        logging.getLogger(package).setLevel(logging.INFO)
    failure.clear(name)
    try:
        # Log lines go above a moving bar, not into it.
        with logging_redirect_tqdm(), stopped_with_its_starters(), _failure_recorded(name), _own_lock(name):
            run_stage(name)
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted. The next run goes on from what is in work/{name}.", file=sys.stderr)
        return _INTERRUPTED
    return 0


def run_stage(name: str) -> None:
    """Calls the stage's function with its sections of params.yaml, recorded as one MLflow run.

    Raises:
        MirasError: what a user, a file, the network or the disk caused.
    """
    stage = STAGES[name]
    all_sections = params.load()
    sections: dict[str, Any] = {section: all_sections[section] for section in stage.sections}
    hashes = graph.dependency_hashes(name)
    work = work_folder(name, sections, hashes)
    with (
        record_stage(name, params=all_sections, sections=stage.sections, hashes=hashes, work=work),
        disk_errors(work),
    ):
        params.load_object(stage.function)(paths=all_sections["paths"], work=work, **sections)
    remove_older(work)


@contextmanager
def _failure_recorded(name: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        failure.record(name, error)
        raise


def _own_lock(name: str) -> Any:
    """Holds the workspace, unless a flow started this stage: then the flow holds it."""
    return nullcontext() if PipelineRun.of_stage().is_flow else workspace_lock(f"`dvc repro`, stage {name}")


if __name__ == "__main__":
    sys.exit(main())
