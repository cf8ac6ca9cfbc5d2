"""Scores of a trained model, and the report: the flow `evaluate`. Nothing is trained.

python -m flows.evaluate                               the workspace's model, if something has changed
python -m flows.evaluate --again                       the same, even if nothing has
python -m flows.evaluate --model models:/miras@champion  a registered one, on the workspace's test split
prefect deployment run evaluate                        the same, by a worker (after `make deploy`)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from prefect import flow, runtime

from tasks import params
from tasks.beforehand import check_evaluation, run_checked
from tasks.choices import Launch, default_launch
from tasks.evaluation import evaluate_registered, evaluation_stages
from tasks.flow import begin, on_wait, run_stages
from tasks.lock import workspace_lock
from tasks.orchestration.artifacts import publish_scores
from tasks.pipeline_run import PipelineRun
from tasks.stage import say
from tasks.summary import places, shown_scores, summary_text


@flow(name="evaluate", persist_result=False)
def evaluate(model: str = "", launch: Launch = "local", again: bool = False) -> None:
    """Asks a model the questions of the test split, scores the answers and writes the report.

    1. Takes the workspace, so that no second run interferes.
    2. Without a model named: runs the stages evaluate and report on the model that the workspace has now, and
       nothing before them. With one: asks that model, and writes scores and a page of its own.
    3. Says what came out and where to look.

    Args:
        model: A registered model, models:/NAME@ALIAS or models:/NAME/VERSION, or a folder that `miras export` wrote.
            Empty: the workspace's own.
        launch: Where the questions are answered, a file of infra/launch/.
        again: Evaluate the workspace's own model even if nothing has changed.
    """
    begin(launch)
    with workspace_lock("the flow evaluate", on_wait=on_wait()):
        paths = params.load()["paths"]
        if model:
            result = evaluate_registered(model)
            publish_scores(result.scores, result.places)
            say(result.text())
        else:
            pipeline = PipelineRun.of_flow(f"evaluate {runtime.flow_run.name}")
            run_stages(evaluation_stages(), pipeline, again=again)
            publish_scores(shown_scores(paths), places(paths))
            say(summary_text(paths, is_evaluated=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the flow in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="", help="models:/NAME@ALIAS, models:/NAME/VERSION or a folder (default: our own)"
    )
    parser.add_argument("--launch", default=default_launch(), help="a file of infra/launch/ (default: local)")
    parser.add_argument("--again", action="store_true", help="even if nothing has changed")
    options = parser.parse_args(arguments)
    return run_checked(
        lambda: check_evaluation(model=options.model, launch=options.launch), lambda: evaluate(**vars(options))
    )


if __name__ == "__main__":
    sys.exit(main())
