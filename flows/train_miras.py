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

from tasks import environment, params
from tasks.flow import run_as_command, run_stages
from tasks.lock import workspace_lock
from tasks.pipeline_run import PipelineRun
from tasks.preset import apply as apply_preset
from tasks.stage import say
from tasks.storage import push_outputs
from tasks.summary import publish_summary, summary_text


@flow(name="train-miras", persist_result=False)
def train_miras(until_stage: str | None = None, preset: str | None = None, push: bool = False) -> None:
    """Brings every stage up to date, from pictures to a registered model.

    1. Takes the workspace, so that no second run interferes.
    2. Puts the preset in the place of params.yaml, if one is named, and checks params.yaml.
    3. Runs each stage that dvc.yaml names, after those it reads from; what is up to date is skipped.
    4. Pushes the outputs to the DVC remote, if wanted.
    5. Says what came out and where to look.

    Args:
        until_stage: only this stage and what it needs are run; by default all stages.
        preset: a file of presets/, without its ending.
        push: whether `dvc push` follows.
    """
    environment.prepare()
    with workspace_lock("the flow train-miras"):
        if preset:
            apply_preset(preset)
        settings = params.load()
        pipeline = PipelineRun.of_flow(f"train-miras {runtime.flow_run.name}")
        done = run_stages(until_stage, pipeline)
        if push:
            push_outputs()
        is_evaluated = "evaluate" in done
        if is_evaluated:
            publish_summary(settings["paths"])
        say(summary_text(settings["paths"], is_evaluated=is_evaluated))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the flow in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.train_miras", description=__doc__.splitlines()[0])
    parser.add_argument("--until-stage", help="run only this stage and what it needs (default: all stages)")
    parser.add_argument("--preset", help="put presets/NAME.yaml in the place of params.yaml first")
    parser.add_argument("--push", action="store_true", help="push the outputs to the DVC remote")
    options = parser.parse_args(arguments)
    return run_as_command(lambda: train_miras(options.until_stage, options.preset, options.push))


if __name__ == "__main__":
    sys.exit(main())
