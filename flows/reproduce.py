"""A paper's table, trained and tested here: the flow `reproduce`.

    miras reproduce miras-6 --preset tiny --seeds 3    everything, in this process, without a server
    miras reproduce miras-6 --dry-run                  rows, runs, what is restored, hours
    prefect deployment run reproduce -p table=miras-6  the same, by a worker (after `make deploy`)

Tables stand in miras/reproduce/tables; every run goes through the stages of dvc.yaml in a workspace of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect import flow

from miras.reproduce import catalogue, rendering
from miras.reproduce.results import given_files, read_given
from tasks.beforehand import run_checked
from tasks.choices import Launch, Preset, Table, default_launch, use_launch
from tasks.flow import begin, on_wait
from tasks.lock import workspace_lock
from tasks.reproduction.outlook import outlook
from tasks.reproduction.runs import check_failures, make_runs, read_request
from tasks.stage import say


@flow(name="reproduce", persist_result=False)
def reproduce(
    table: Table = "miras-6",
    preset: Preset = "tiny",
    seeds: int = 1,
    jobs: int = 1,
    launch: Launch = "local",
    given: Mapping[str, Path] | None = None,
) -> None:
    """Makes the runs that a paper's table needs, and the table.

    1. Lays the settings of every row over the preset and checks them.
    2. Takes the table's folder, so that no second run interferes; `make run` may go on beside it.
    3. Runs every row and seed through the stages until `evaluate`; what is up to date, or was made before, is not
       made again. A row that fails stops no other.
    4. Writes the table beside the paper's figures, after every run.
    5. Fails if a run failed, with its message.

    Args:
        table: The paper's table.
        preset: Settings that each row changes, a file of presets/.
        seeds: Trainings of every row, each with another seed.
        jobs: Runs side by side.
        launch: Where the stages run, a file of infra/launch/.
        given: Files with scores of other models, by the row of the table that they belong to.
    """
    begin(launch)
    request = read_request(table, preset, seeds)
    with workspace_lock(f"the flow reproduce {table}", request.folder / "run.lock", on_wait=on_wait()):
        result = make_runs(request, jobs=max(jobs, 1), given=given or {})
    say(f"\n{rendering.terminal(result)}\n\n  table    {request.folder / rendering.PAGE}")
    check_failures(result)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the flow in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("table", help=", ".join(catalogue.names()))
    parser.add_argument("--preset", default="tiny", help="a file of presets/ (default: tiny)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of every row (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (default: 1)")
    parser.add_argument("--launch", default=default_launch(), help="a file of infra/launch/ (default: local)")
    parser.add_argument(
        "--given", action="append", default=[], metavar="ROW=SCORES.json", help="another model's scores"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")
    options = parser.parse_args(arguments)
    chosen = (options.table, options.preset, options.seeds, options.jobs, options.launch)
    return run_checked(
        lambda: _can_be_reproduced(options), lambda: reproduce(*chosen, given=given_files(options.given))
    )


def _can_be_reproduced(options: argparse.Namespace) -> bool:
    """Whether runs are wanted, else prints what they would be; raises what stops them."""
    use_launch(options.launch)
    request = read_request(options.table, options.preset, options.seeds)
    read_given(request.table, given_files(options.given))
    if options.dry_run:
        print(outlook(request))
    return not options.dry_run


if __name__ == "__main__":
    sys.exit(main())
