"""The environment every command of ours runs its tools in: no telemetry, everything kept in the workspace."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

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
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines for every stage
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # transformers draws one for every loading of weights
    "PREFECT_PLUGINS_ENABLED": "true",
    "GOMP_SPINCOUNT": "3000",  # measured: threads that spin longer make a step several times slower on busy cores
}

WORKSPACE = "MIRAS_WORKSPACE"  # set for the runs of `miras reproduce`, which have a folder of their own
_TEMPORARY_EXPERIMENT = (".dvc", "tmp", "exps")

_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|AUTH_STRING")
_MIN_SECRET_CHARACTERS = 8  # shorter values stand in texts by chance
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]*@")


def prepare() -> None:
    """Sets what is missing in this process's environment; what the user set stays."""
    for name, value in {**NO_TELEMETRY, **DEFAULTS}.items():
        os.environ.setdefault(name, value)
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed says at every import that it had to guess
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri == DEFAULTS["MLFLOW_TRACKING_URI"]:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{workspace() / 'mlflow.db'}"
    _take_password_out_of_tracking_address()
    interpreter = str(Path(sys.executable).parent)
    if interpreter not in os.environ["PATH"].split(os.pathsep):  # dvc.yaml says `python`
        os.environ["PATH"] = os.pathsep.join([interpreter, os.environ["PATH"]])


def _take_password_out_of_tracking_address() -> None:
    """`http://name:password@host` becomes the variables that MLflow has for it: receipts show the address."""
    parts = urlsplit(os.environ["MLFLOW_TRACKING_URI"])
    if parts.password is None:
        return
    if parts.scheme in ("http", "https"):
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(parts.username or ""))
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(parts.password))
        host = parts.netloc.rpartition("@")[2]
    elif parts.scheme.startswith("postgresql"):
        os.environ.setdefault("PGPASSWORD", unquote(parts.password))
        host = f"{parts.username}@{parts.netloc.rpartition('@')[2]}"
    else:
        return
    os.environ["MLFLOW_TRACKING_URI"] = urlunsplit(parts._replace(netloc=host))


def shown_address(address: str) -> str:
    """An address as it may be shown: without name and password."""
    return _IN_ADDRESS.sub("", address)


def redacted(text: str) -> str:
    """A text without the secrets of this process's environment, and without passwords in addresses."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _MIN_SECRET_CHARACTERS:
            for secret in (value, value.partition(":")[2] if name.endswith("AUTH_STRING") else ""):
                if len(secret) >= _MIN_SECRET_CHARACTERS:
                    text = text.replace(secret, "***")
    return shown_address(text)


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
