"""The environment every command of ours runs its tools in: no telemetry, everything kept in the workspace."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",  # Prefect takes 1/true/yes, MLflow only the word
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",
}

DEFAULTS = {
    "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
    "MLFLOW_EXPERIMENT_NAME": "miras",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is away must not hold up a stage; we send again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # transformers draws one for every loading of weights
    "PREFECT_PLUGINS_ENABLED": "true",
    "GOMP_SPINCOUNT": "3000",  # measured: threads that spin longer make a step several times slower on busy cores
}

WORKSPACE = "MIRAS_WORKSPACE"  # set for the runs of `miras reproduce`, which have a folder of their own
_TEMPORARY_EXPERIMENT = (".dvc", "tmp", "exps")


def prepare() -> None:
    """Sets what is missing in this process's environment; what the user set stays."""
    for name, value in {**NO_TELEMETRY, **DEFAULTS}.items():
        os.environ.setdefault(name, value)
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed says at every import that it had to guess
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri == DEFAULTS["MLFLOW_TRACKING_URI"]:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{workspace() / 'mlflow.db'}"
    interpreter = str(Path(sys.executable).parent)
    if interpreter not in os.environ["PATH"].split(os.pathsep):  # dvc.yaml says `python`
        os.environ["PATH"] = os.pathsep.join([interpreter, os.environ["PATH"]])


def workspace() -> Path:
    """The current folder; the workspace it belongs to for `dvc exp run --temp` and for a run of `miras reproduce`."""
    told = os.environ.get(WORKSPACE)
    if told:
        return Path(told)
    here = Path.cwd()
    for folder in here.parents:
        if folder.parts[-3:] == _TEMPORARY_EXPERIMENT:
            return folder.parents[2]
    return here
