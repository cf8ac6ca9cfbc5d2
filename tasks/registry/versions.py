"""Versions of registered models: found by address, with their lineage; what is not there is explained."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking.client import MlflowClient
from pydantic import ValidationError

from miras.errors import DataError
from miras.registry_address import parse
from tasks.registry.lineage import TAG, Lineage

LEDGER = "-moves"  # how the names of the ledgers end (tasks.registry.moves)
_NOT_FOUND = tuple(ErrorCode.Name(code) for code in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE))


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    model: str
    number: int
    lineage: Lineage | None
    """None: registered by a miras that did not record it yet, or by something else."""
    run_id: str
    aliases: tuple[str, ...]

    @property
    def address(self) -> str:
        """`models:/<name>/<version>`."""
        return f"models:/{self.model}/{self.number}"

    def known_lineage(self) -> Lineage:
        """Its lineage.

        Raises:
            DataError: there is none.
        """
        if self.lineage is None:
            raise DataError(
                f"{self.address}: carries no lineage (tag {TAG!r}), so nothing is known of its data and scores. Bring "
                "its commit and data back and register it again: `dvc repro register` finds the same weights and adds "
                "what is missing."
            )
        return self.lineage


def find(address: str, client: MlflowClient) -> Version:
    """The version behind `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        ConfigError: no such address.
        DataError: the registry has no such model, alias or version; what there is is named.
        MlflowException: the registry does not answer.
    """
    parsed = parse(address)
    name, alias = parsed.name, parsed.alias
    known = aliases(name, client)
    if alias is not None and alias not in known:
        there = ", ".join(f"{alias} (version {number})" for alias, number in known.items()) or "none"
        raise DataError(
            f"{address}: model {name!r} has no alias {alias!r}; it has: {there}. The stage `register` sets the alias "
            "of a new version, `miras promote` that of the champion."
        )
    number = parsed.version if alias is None else known[alias]
    try:
        return version_of(client.get_model_version(name, str(number)))
    except MlflowException as error:
        if error.error_code not in _NOT_FOUND:
            raise
        numbers = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
        there = ", ".join(map(str, numbers)) or "none"
        raise DataError(f"{address}: model {name!r} has no version {number}; it has: {there}.") from None


def aliases(model: str, client: MlflowClient) -> dict[str, int]:
    """Every alias of a registered model and the version it points to.

    Raises:
        DataError: there is no such model; those that there are are named.
        MlflowException: the registry does not answer.
    """
    try:
        return {alias: int(number) for alias, number in client.get_registered_model(model).aliases.items()}
    except MlflowException as error:
        if error.error_code not in _NOT_FOUND:
            raise
        names = [one.name for one in client.search_registered_models() if not one.name.endswith(LEDGER)]
        there = ", ".join(map(repr, names)) or "none yet"
        raise DataError(
            f"models:/{model}: the registry at {os.environ['MLFLOW_TRACKING_URI']} has no model {model!r}; it has: "
            f"{there}. Set MLFLOW_TRACKING_URI to the registry that has it, or register one: `dvc repro register`."
        ) from None


def version_of(found: ModelVersion) -> Version:
    """A version as MLflow gives it.

    Raises:
        DataError: its lineage cannot be read.
    """
    text = found.tags.get(TAG)
    try:
        lineage = Lineage.model_validate_json(text) if text else None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"models:/{found.name}/{found.version}: tag {TAG!r}: {where}: {first['msg']}. Written by another release "
            "of miras? Register the version again: `dvc repro register`."
        ) from None
    return Version(found.name, int(found.version), lineage, found.run_id or "", tuple(sorted(found.aliases or ())))
