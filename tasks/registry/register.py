"""The stage `register`: puts the trained model into the MLflow registry, ready to be loaded and called.

Only model versions with new content are made; the same weights again give the version that is there, with the scores of
now. Every version carries its lineage (`miras lineage`); `miras promote` makes one the champion.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from miras.config import Section
from miras.errors import DataError
from miras.files import write_json
from miras.paths import Paths
from tasks.environment import shown_address

if TYPE_CHECKING:
    from tasks.registry.lineage import Lineage

MODEL_FILE = Path(__file__).with_name("pyfunc_model.py")
REQUIREMENTS = [
    "mlflow",
    "numpy",
    "pandas",
    "peft",
    "pillow",
    "pycocotools",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "segment-anything",
    "tokenizers",
    "torch",
    "torchvision",
    "tqdm",
    "transformers",
]


class RegisterConfig(Section):
    """Name and alias in the registry."""

    model_name: str = Field(min_length=1)
    """Registered model that gets a new version."""
    alias: str = Field(min_length=1)
    """Alias that is moved to this version."""


def run(*, paths: Paths, work: Path, register: RegisterConfig) -> None:
    """Registers the stage-2 model and writes the receipt `paths.receipt`.

    Raises:
        ServiceUnavailableError: MLflow does not answer.
        DataError: weights or scores are missing, or dvc.lock does not record them as they are here.
    """
    from miras.export import export
    from tasks.registry.provenance import lineage_of
    from tasks.tracking.record import current_run_id
    from tasks.tracking.shipping import service_errors  # these import torch and MLflow, seconds

    content = content_hash([Path(paths.backbones), Path(paths.stage2), MODEL_FILE])
    lineage = lineage_of(paths, model_hash=content)
    tags = _tags(lineage)
    run_id = current_run_id()
    with service_errors():
        version = _find(register.model_name, content)
        if version is None:
            exported = work / "exported"
            origin = lineage.model_dump(mode="json", exclude={"inputs"})
            export(weights=Path(paths.stage2), backbones=Path(paths.backbones), out=exported, lineage=origin)
            version = _log(exported, register, run_id, tags)
            shutil.rmtree(exported)
        else:
            _renew(register.model_name, version, tags)
        receipt = _point(register, version, lineage)
    write_json(Path(paths.receipt), receipt)


def content_hash(places: list[Path]) -> str:
    """SHA-256 over the names and bytes of files, and of all files in folders.

    Raises:
        DataError: a place is missing.
    """
    digest = hashlib.sha256()
    for place in places:
        if not place.exists():
            raise DataError(f"{place}: not there; `dvc repro` makes it.")
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
        for file in files:
            digest.update(str(file.relative_to(place)).encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def requirements() -> list[str]:
    """What inference needs, each pinned to the version that is installed here."""
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]


def encode_picture(file: Path) -> str:
    """A picture file as the model takes it: its bytes in base64."""
    return base64.b64encode(file.read_bytes()).decode("ascii")


def _tags(lineage: Lineage) -> dict[str, str]:
    """The lineage, whole, and what of it people look for in MLflow's pages."""
    shown = {
        "git.commit": lineage.commit,
        "git.dirty": str(lineage.is_dirty).lower(),
        "data.version": lineage.data,
        "params.preset": lineage.params.preset,
        "network": lineage.params.network,
        "checkpoint.sha256": lineage.checkpoint_sha256,
        "model_hash": lineage.model_hash,
        **{f"test_data.{name}": data.sha256 for name, data in lineage.test_data.items()},
        **{f"score.{name}": f"{score.value:.4g}" for name, score in lineage.scores.items()},
    }
    return {"lineage": lineage.model_dump_json()} | {name: value for name, value in shown.items() if value}


def _find(name: str, content: str) -> Any:
    """The version of this model that has this content, or None."""
    from mlflow.tracking.client import MlflowClient

    found = MlflowClient().search_model_versions(f"name = '{name}' and tags.model_hash = '{content}'")
    return found[0].version if found else None


def _log(exported: Path, register: RegisterConfig, run_id: str | None, tags: Mapping[str, str]) -> Any:
    """A new version; its tags are there from its first moment."""
    import mlflow

    from tasks.tracking.shipping import experiment_name

    example = _example()
    if run_id is None:
        mlflow.set_experiment(experiment_name())
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        info = mlflow.pyfunc.log_model(
            name=register.model_name,
            python_model=str(MODEL_FILE),
            artifacts={"model": str(exported), "params": "params.yaml"},
            code_paths=["miras"],
            pip_requirements=requirements(),
            signature=_signature(),
            input_example=example,
        )
    return mlflow.register_model(info.model_uri, register.model_name, tags=dict(tags)).version


def _renew(name: str, version: Any, tags: Mapping[str, str]) -> None:
    """The same model measured again: the lineage changes at once, then what people see of it."""
    from mlflow.tracking.client import MlflowClient

    client = MlflowClient()
    for tag, value in tags.items():
        client.set_model_version_tag(name, str(version), tag, value)
    shown = ("score.", "test_data.")
    for tag in client.get_model_version(name, str(version)).tags:
        if tag.startswith(shown) and tag not in tags:
            client.delete_model_version_tag(name, str(version), tag)


def _point(register: RegisterConfig, version: Any, lineage: Lineage) -> dict[str, Any]:
    """Moves the alias to the version; the receipt."""
    from mlflow.tracking.client import MlflowClient

    client = MlflowClient()
    client.set_registered_model_alias(register.model_name, register.alias, str(version))
    return {
        "model": register.model_name,
        "version": int(version),
        "uri": f"models:/{register.model_name}/{version}",
        "alias": register.alias,
        "run_id": client.get_model_version(register.model_name, str(version)).run_id,
        "tracking_uri": shown_address(os.environ["MLFLOW_TRACKING_URI"]),
        "lineage": lineage.model_dump(mode="json"),
    }


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    def strings(*names: str) -> Any:
        return Schema([ColSpec(DataType.string, name) for name in names])

    inputs = Schema([*strings("image", "questions").inputs, ColSpec(DataType.string, "refers_to", required=False)])
    return ModelSignature(inputs=inputs, outputs=strings("answers", "masks"))


def _example() -> Any:
    """One small grey picture and two turns: shows the form of the input."""
    import pandas as pd
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(picture, format="PNG")
    image = base64.b64encode(picture.getvalue()).decode("ascii")
    questions = json.dumps(["What is in the picture?", "Can you show me the left one?"])
    return pd.DataFrame({"image": [image], "questions": [questions]})
