"""Exported models behind an address of the MLflow registry: `models:/miras@champion`, `models:/miras/3`.

miras does not import MLflow; where it is installed it is run in a process of its own. A version never changes, so it is
fetched once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from miras.errors import ConfigError, ServiceUnavailableError
from miras.files import finished_folder

PREFIX = "models:/"
CACHE_VARIABLE = "MIRAS_CACHE"  # folder of fetched models; without it, below ~/.cache
_NAME = re.compile(r"[^/:@]+")
_ADDRESS = re.compile(r"models:/(?P<name>[^/:@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_SCRIPT = """\
import sys
try:
{work}
except Exception as error:  # its message alone is for people
    sys.exit(" ".join(str(error).split()) or type(error).__name__)
"""
_RESOLVE = """\
from mlflow.tracking.client import MlflowClient
name, alias = sys.argv[1:]
print(MlflowClient().get_model_version_by_alias(name, alias).version)
"""
_FETCH = """\
import mlflow
mlflow.artifacts.download_artifacts(artifact_uri=sys.argv[1], dst_path=sys.argv[2])
"""
_LOGIN = re.compile(r"(?<=://)[^/\s@]*@")  # name and password in an address


@dataclass(frozen=True)
class Address:
    """A version of a registered model: by alias or by number, the other is None."""

    name: str
    alias: str | None
    version: int | None


def parse(address: str) -> Address:
    """What `models:/<name>@<alias>` or `models:/<name>/<version>` says; nothing is asked.

    Raises:
        ConfigError: no such address.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"{address}: no address of a model. Write models:/NAME@ALIAS or models:/NAME/VERSION.")
    return Address(found["name"], found["alias"], int(found["version"]) if found["version"] else None)


def check_name(model: str) -> None:
    """Lets a registered model's name pass.

    Raises:
        ConfigError: it cannot be one; where it is an address, the message says the name in it.
    """
    if _NAME.fullmatch(model):
        return
    found = _ADDRESS.fullmatch(model)
    advice = f"did you mean {found['name']}?" if found else "expected a name as `miras`, without any of / : @."
    raise ConfigError(f"model {model!r}: no name of a registered model; {advice}")


def fetch(address: str, *, holds: str) -> Path:
    """The directory of an exported model, fetched from the registry that `MLFLOW_TRACKING_URI` names.

    Args:
        address: `models:/<name>@<alias>` or `models:/<name>/<version>`.
        holds: file that the directory of the export holds.

    Raises:
        ConfigError: no such address, or MLflow is not installed.
        ServiceUnavailableError: the registry does not answer, or has no such model.
    """
    found = parse(address)
    if found.alias is None:
        version = str(found.version)
    else:
        version = _mlflow(_RESOLVE, found.name, found.alias, address=address).strip()
    root = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "miras")
    place = root / "registry" / re.sub(r"[^\w.-]", "_", _registry()) / found.name / version
    if not place.exists():
        with finished_folder(place) as folder:
            _mlflow(_FETCH, f"{PREFIX}{found.name}/{version}", str(folder), address=address)
    exported = next(iter(sorted(place.rglob(holds))), None)
    if exported is None:
        shutil.rmtree(place)
        raise ConfigError(f"{address}: holds no {holds}; it was not registered by miras. Name another model.")
    return exported.parent


def _registry() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or str(Path.cwd())


def _mlflow(work: str, *arguments: str, address: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(work=textwrap.indent(work, "    ")), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"MLFLOW_ENABLE_ASYNC_LOGGING": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        | dict(os.environ),
    )
    if done.returncode == 0:
        return done.stdout
    said = [line for line in done.stderr.splitlines() if line.strip()]
    if "No module named 'mlflow'" in done.stderr:
        raise ConfigError(f"{address}: MLflow is not installed here; `pip install mlflow`, or name a directory.")
    message = (
        f"{address}: {said[-1].rstrip('.') if said else 'MLflow failed'} (registry: {_registry()}). Set "
        "MLFLOW_TRACKING_URI to the registry that has it, or name a directory that `miras export` wrote."
    )
    raise ServiceUnavailableError(_LOGIN.sub("", message))
