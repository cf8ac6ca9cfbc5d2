"""What a flow's command looks at before Prefect starts: a mistake in its parameters is told within seconds.

The flows look at the same themselves, by the same functions, for those whom Prefect starts.
"""

from __future__ import annotations

from collections.abc import Callable

from miras.errors import MirasError
from miras.evaluate.asked_model import check_model
from tasks import environment, params, preset
from tasks.choices import ALL, stages, use_launch
from tasks.flow import run_as_command
from tasks.graph import check_stage
from tasks.stage import say


def run_checked(check: Callable[[], bool], flow_run: Callable[[], None]) -> int:
    """Checks, then runs a flow as a command; the exit code.

    Args:
        check: raises `MirasError` for a mistake, which is exit code 1; false: there is nothing to run, exit code 0.
        flow_run: as `run_as_command` takes it.
    """
    environment.prepare()
    try:
        if not check():
            return 0
    except MirasError as error:
        say(str(error))
        return 1
    return run_as_command(flow_run)


def check_stages(preset_name: str, source: str, *, launch: str, until_stage: str) -> bool:
    """Checks what a flow over stages is told.

    Raises:
        ConfigError: the preset, the folder, params.yaml, the launch profile or the stage.
    """
    use_launch(launch)
    if preset.check(preset_name, source) is None:
        params.load()
    if until_stage != ALL:
        check_stage(until_stage, stages())  # DVC reads dvc.yaml with params.yaml, which the preset has still to become
    return True


def check_evaluation(*, model: str, launch: str) -> bool:
    """Checks what the flow `evaluate` is told; an empty `model` is the workspace's own.

    Raises:
        ConfigError: params.yaml, the launch profile, or the model's name.
    """
    use_launch(launch)
    params.load()
    if model:
        check_model(model)
    return True
