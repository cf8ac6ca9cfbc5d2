"""From pictures to checked dialogues with masks, drawn by people where they are missing: the flow `build-prist`.

    python -m flows.build_prist           everything, in this process, without a server
    prefect deployment run build-prist    the same, by a worker (after `make deploy`)

While people draw, a deployed run is suspended: resume it in Prefect when they are done. In this process the command
ends with exit code 3 instead, and the same command goes on. Order, inputs and outputs of the stages stand in
dvc.yaml, settings in params.yaml (section annotate).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prefect import flow, runtime

from tasks import environment, params
from tasks.flow import run_as_command, run_stages
from tasks.lock import workspace_lock
from tasks.pipeline_run import PipelineRun
from tasks.preset import apply as apply_preset

LAST_STAGE = "check"


@flow(name="build-prist", persist_result=False)
def build_prist(until_stage: str = LAST_STAGE, preset: str | None = None) -> None:
    """Brings the data set up to date, from pictures to checked dialogues.

    1. Takes the workspace, so that no second run interferes.
    2. Puts the preset in the place of params.yaml, if one is named, and checks params.yaml.
    3. Runs each stage up to the checks; what is up to date is skipped.
    4. Is suspended where people have to draw, and begins again at 1 when it is resumed.

    Args:
        until_stage: the last stage to run.
        preset: a file of presets/, without its ending.
    """
    environment.prepare()
    with workspace_lock("the flow build-prist"):
        if preset:
            apply_preset(preset)
        params.load()
        run_stages(until_stage, PipelineRun.of_flow(f"build-prist {runtime.flow_run.name}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the flow in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.build_prist", description=__doc__.splitlines()[0])
    parser.add_argument("--until-stage", default=LAST_STAGE, help=f"the last stage to run (default: {LAST_STAGE})")
    parser.add_argument("--preset", help="put presets/NAME.yaml in the place of params.yaml first")
    options = parser.parse_args(arguments)
    return run_as_command(lambda: build_prist(options.until_stage, options.preset))


if __name__ == "__main__":
    sys.exit(main())
