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

from tasks import params
from tasks.beforehand import check_stages, run_checked
from tasks.choices import DataStage, Launch, PresetOrKept, default_launch
from tasks.flow import begin, on_wait, run_stages
from tasks.graph import stages_until
from tasks.lock import workspace_lock
from tasks.pipeline_run import PipelineRun
from tasks.preset import KEEP
from tasks.preset import apply as apply_preset

LAST_STAGE = "check"


@flow(name="build-prist", persist_result=False)
def build_prist(
    preset: PresetOrKept = KEEP,
    source: str = "",
    launch: Launch = "local",
    until_stage: DataStage = LAST_STAGE,
) -> None:
    """Brings the data set up to date, from pictures to checked dialogues.

    1. Takes the workspace, so that no second run interferes.
    2. Puts the preset in the place of params.yaml, if one is named, and checks params.yaml.
    3. Runs each stage up to the checks; what is up to date is skipped.
    4. Is suspended where people have to draw, and begins again at 1 when it is resumed.

    Args:
        preset: Settings to build with, a file of presets/; params.yaml: those of the workspace as they are.
        source: Folder with your pictures and annotations, in the place of the one that the preset names
            (presets coco, labelme, small, paper). Empty: the preset's own.
        launch: Where the stages run, a file of infra/launch/.
        until_stage: Stop after this stage.
    """
    begin(launch)
    with workspace_lock("the flow build-prist", on_wait=on_wait()):
        apply_preset(preset, source)
        params.load()
        run_stages(stages_until(until_stage), PipelineRun.of_flow(f"build-prist {runtime.flow_run.name}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the flow in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.build_prist", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default=KEEP, help="put presets/NAME.yaml in the place of params.yaml first")
    parser.add_argument("--source", default="", help="folder of pictures and annotations, in the place of the preset's")
    parser.add_argument("--launch", default=default_launch(), help="a file of infra/launch/ (default: local)")
    parser.add_argument("--until-stage", default=LAST_STAGE, help=f"the last stage to run (default: {LAST_STAGE})")
    options = parser.parse_args(arguments)
    return run_checked(
        lambda: check_stages(options.preset, options.source, launch=options.launch, until_stage=options.until_stage),
        lambda: build_prist(**vars(options)),
    )


if __name__ == "__main__":
    sys.exit(main())
