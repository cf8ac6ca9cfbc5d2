"""From pictures to a registered model: the flow `train-miras`.

    make run                              everything, in this process, without a server
    python -m flows.train_miras --help    the same with options
    prefect deployment run train-miras    the same, by a worker (after `make deploy`)

Order, inputs and outputs of the stages stand in dvc.yaml, settings in params.yaml.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prefect import flow, runtime

from tasks import params
from tasks.beforehand import check_stages, run_checked
from tasks.choices import ALL, Launch, PresetOrKept, StageOrAll, default_launch
from tasks.flow import begin, on_wait, run_stages
from tasks.graph import stages_until
from tasks.lock import workspace_lock
from tasks.orchestration.artifacts import publish_scores
from tasks.pipeline_run import PipelineRun
from tasks.preset import KEEP
from tasks.preset import apply as apply_preset
from tasks.stage import say
from tasks.storage.outputs import pull_outputs, push_outputs
from tasks.summary import places, shown_scores, summary_text


@flow(name="train-miras", persist_result=False)
def train_miras(
    preset: PresetOrKept = KEEP,
    source: str = "",
    launch: Launch = "local",
    until_stage: StageOrAll = ALL,
    pull: bool = False,
    push: bool = False,
) -> None:
    """Brings every stage up to date, from pictures to a registered model.

    1. Takes the workspace, so that no second run interferes.
    2. Puts the preset in the place of params.yaml, if one is named, and checks params.yaml.
    3. Runs each stage that dvc.yaml names, after those it reads from; what is up to date is skipped.
    4. Before and after that, pulls and pushes the outputs from and to the DVC remote, if wanted.
    5. Says what came out and where to look.

    Args:
        preset: Settings to train with, a file of presets/ (with a network laid over it: size+network);
            params.yaml: those of the workspace as they are.
        source: Folder with your pictures and annotations, in the place of the one that the preset names
            (presets coco, labelme, small, paper). Empty: the preset's own.
        launch: Where the stages run, a file of infra/launch/.
        until_stage: Stop after this stage.
        pull: Fetch first from the DVC remote what earlier runs made.
        push: Send the outputs to the DVC remote at the end.
    """
    begin(launch)
    with workspace_lock("the flow train-miras", on_wait=on_wait()):
        apply_preset(preset, source)
        paths = params.load()["paths"]
        stages = stages_until(None if until_stage == ALL else until_stage)
        if pull:
            pull_outputs()
        done = run_stages(stages, PipelineRun.of_flow(f"train-miras {runtime.flow_run.name}"))
        if push:
            push_outputs()
        is_evaluated = "evaluate" in done
        if is_evaluated:
            publish_scores(shown_scores(paths), places(paths))
        say(summary_text(paths, is_evaluated=is_evaluated))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the flow in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.train_miras", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default=KEEP, help="put presets/NAME.yaml in the place of params.yaml first")
    parser.add_argument("--source", default="", help="folder of pictures and annotations, in the place of the preset's")
    parser.add_argument("--launch", default=default_launch(), help="a file of infra/launch/ (default: local)")
    parser.add_argument(
        "--until-stage", default=ALL, help="run only this stage and what it needs (default: all stages)"
    )
    parser.add_argument("--pull", action="store_true", help="fetch from the DVC remote what earlier runs made")
    parser.add_argument("--push", action="store_true", help="push the outputs to the DVC remote")
    options = parser.parse_args(arguments)
    return run_checked(
        lambda: check_stages(options.preset, options.source, launch=options.launch, until_stage=options.until_stage),
        lambda: train_miras(**vars(options)),
    )


if __name__ == "__main__":
    sys.exit(main())
