"""Sends spooled runs to MLflow, in batches, each event once.

Importing this module imports MLflow, which takes about a second.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.tracking.client import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from miras.errors import ServiceUnavailableError
from tasks.environment import redacted, shown_address, workspace
from tasks.tracking.spool import Sent, Spool

_RUN_KEY = "miras.run_key"
_TREND = "miras.trend"
_VERSION = "data.version."
_MAX_BATCH = 1000  # MLflow's limit for metrics; params and tags: 100
_MAX_PARAMS = 100
_MAX_PARAM_CHARACTERS = 6000

_UNREACHABLE = (MlflowException, requests.RequestException, SQLAlchemyError, OSError)
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "BAD_REQUEST")
_REFUSED = re.compile(r"error code (401|403)|PERMISSION_DENIED|password authentication failed")


class AccessRefusedError(ServiceUnavailableError):
    """MLflow answers, and does not let us in."""

    can_retry = False


class RecordRefusedError(ServiceUnavailableError):
    """MLflow answers, and does not take this run: somebody deleted it there, for instance."""

    can_retry = False


@contextmanager
def service_errors() -> Iterator[None]:
    """Turns what MLflow's client raises into one message with the address and the remedy."""
    try:
        yield
    except _UNREACHABLE as error:
        raise _explain(error) from error


def _explain(error: BaseException) -> ServiceUnavailableError:
    address = shown_address(os.environ["MLFLOW_TRACKING_URI"])
    waits = "What was recorded waits in work/tracking; `make sync` sends it."
    reason = redacted(_reason(error))
    if _REFUSED.search(reason):
        return AccessRefusedError(
            f"MLflow at {address} does not let us in: {reason.partition(' Response body')[0]}\n"
            f"Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. {waits}"
        )
    kind = RecordRefusedError if getattr(error, "error_code", "") in _REFUSALS else ServiceUnavailableError
    return kind(
        f"MLflow at {address} does not answer as it should: {reason}\n"
        f"Is it running, and is MLFLOW_TRACKING_URI right? {waits}"
    )


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause that says something: clients wrap "connection refused" several times."""
    while (cause := error.__cause__ or error.__context__) and not isinstance(cause, KeyError):
        error = cause
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def ship(pipeline: Spool) -> None:
    """Sends what is new in a pipeline run and in its stages' runs; removes the stages' runs that are over.

    Raises:
        ServiceUnavailableError: MLflow does not answer; what was sent is remembered.
    """
    with _one_sender(pipeline), service_errors():
        for run in pipeline.children():
            if run.is_over():  # who sent it died before it could remove it
                run.remove()
        if all(run.is_all_sent() for run in [pipeline, *pipeline.children()]):
            return
        client = MlflowClient()
        experiment_id = _experiment(client)
        parent = _Sender(client, pipeline, experiment_id, parent_id=None)
        parent.send()
        for run in pipeline.children():
            _Sender(client, run, experiment_id, parent_id=parent.run_id).send()
            if run.is_over():
                run.remove()


def ship_all(spools: list[Spool]) -> None:
    """Sends several pipeline runs; one that MLflow does not take keeps no other from being sent.

    Raises:
        ServiceUnavailableError: MLflow does not answer, or (after the others) did not take one.
    """
    refused: ServiceUnavailableError | None = None
    for pipeline in spools:
        try:
            ship(pipeline)
        except RecordRefusedError as error:
            refused = error
        except FileNotFoundError:  # its own sender has sent and removed it meanwhile
            continue
    if refused:
        raise refused


def experiment_name() -> str:
    """Name of the MLflow experiment all runs go to."""
    return os.environ["MLFLOW_EXPERIMENT_NAME"]


@contextmanager
def _one_sender(pipeline: Spool) -> Iterator[None]:
    """The process beside a stage and `make sync` never send the same pipeline at once."""
    with (pipeline.folder / "sender.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name(experiment_name())
    if found:
        return str(found.experiment_id)
    local = os.environ["MLFLOW_TRACKING_URI"].startswith("sqlite:")
    place = (workspace() / "mlartifacts").as_uri() if local else None  # a server knows its own place
    try:
        kind = {"mlflow.experimentKind": "custom_model_development"}  # else the page opens in its view for chat apps
        return str(client.create_experiment(experiment_name(), artifact_location=place, tags=kind))
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
        return _experiment(client)  # another run was faster


class _Sender:
    """Replays one run's events."""

    def __init__(self, client: MlflowClient, spool: Spool, experiment_id: str, *, parent_id: str | None) -> None:
        self._client = client
        self._spool = spool
        self._experiment_id = experiment_id
        self._parent_id = parent_id
        self._metrics: list[Metric] = []
        self._offset_bytes = 0
        self._run_id = spool.sent().run_id

    @property
    def run_id(self) -> str:
        """MLflow's id; the first event of every run creates it."""
        assert self._run_id is not None
        return self._run_id

    def send(self) -> None:
        """Sends every new event."""
        self._offset_bytes = start = self._spool.sent().offset_bytes
        for event, offset_bytes in self._spool.read(start):
            if event["kind"] == "metrics":
                self._add_metrics(event)
            else:
                self._flush()
                getattr(self, f"_send_{event['kind']}")(event)
            self._offset_bytes = offset_bytes
            if not self._metrics:
                self._remember()
        self._flush()

    def _add_metrics(self, event: dict[str, Any]) -> None:
        if len(self._metrics) + len(event["values"]) > _MAX_BATCH:
            self._flush()
        self._metrics += [
            Metric(name, value, event["time_ms"], event["step"]) for name, value in event["values"].items()
        ]

    def _flush(self) -> None:
        if self._metrics:
            self._client.log_batch(self.run_id, metrics=self._metrics)
            self._metrics = []
            self._remember()

    def _remember(self) -> None:
        self._spool.mark_sent(Sent(self._offset_bytes, self._run_id, self._experiment_id))

    def _send_start(self, event: dict[str, Any]) -> None:
        tags = {**event["tags"], _RUN_KEY: event["key"]}
        if self._parent_id:
            tags["mlflow.parentRunId"] = self._parent_id
        self._run_id = self._find(event["key"]) or self._create(event, tags)
        params = [Param(name, str(value)[:_MAX_PARAM_CHARACTERS]) for name, value in event["params"].items()]
        for first in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self.run_id, params=params[first : first + _MAX_PARAMS])

    def _find(self, key: str) -> str | None:
        """The run of this key, created before we could remember it."""
        found = self._client.search_runs([self._experiment_id], f"tags.`{_RUN_KEY}` = '{key}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _create(self, event: dict[str, Any], tags: dict[str, str]) -> str:
        run = self._client.create_run(
            self._experiment_id, start_time=event["time_ms"], tags=tags, run_name=event["name"]
        )
        return str(run.info.run_id)

    def _send_tags(self, event: dict[str, Any]) -> None:
        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in event["values"].items()])

    def _send_artifact(self, event: dict[str, Any]) -> None:
        place = Path(event["path"])
        local = self._spool.artifacts / place
        if local.is_dir():
            self._client.log_artifacts(self.run_id, str(local), str(place))
        else:
            parent = None if place.parent == Path(".") else str(place.parent)
            self._client.log_artifact(self.run_id, str(local), parent)

    def _send_table(self, event: dict[str, Any]) -> None:
        """As `mlflow.log_table` does, but sending it twice does not add the rows twice."""
        self._send_artifact(event)
        logged = json.loads(self._client.get_run(self.run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
        entry = {"path": event["path"], "type": "table"}
        if entry not in logged:
            self._client.set_tag(self.run_id, "mlflow.loggedArtifacts", json.dumps([*logged, entry]))

    def _send_trend(self, event: dict[str, Any]) -> None:
        """One step per version of the data; a version that is there gets its numbers again at its own step."""
        run = self._trend_run(event)
        tags = run.data.tags.items()
        steps = {value: int(key.removeprefix(_VERSION)) for key, value in tags if key.startswith(_VERSION)}
        step = steps.get(event["version"], len(steps) + 1)
        self._client.set_tag(run.info.run_id, f"{_VERSION}{step:04d}", event["version"])
        metrics = [Metric(name, value, event["time_ms"], step) for name, value in event["values"].items()]
        for first in range(0, len(metrics), _MAX_BATCH):
            self._client.log_batch(run.info.run_id, metrics=metrics[first : first + _MAX_BATCH])
        self._client.set_tag(self.run_id, f"{_VERSION}step", str(step))

    def _trend_run(self, event: dict[str, Any]) -> Run:
        """The experiment's one run in which a stage's figures stand by version of the data."""
        name = event["name"]
        found = self._client.search_runs([self._experiment_id], f"tags.`{_TREND}` = '{name}'", max_results=1)
        if found:
            return found[0]
        made = self._client.create_run(
            self._experiment_id,
            start_time=event["time_ms"],
            tags={_TREND: name, "mlflow.note.content": "One step per version of the data; the tags name them."},
            run_name=f"{name}: trend over data versions",
        )
        self._client.set_terminated(made.info.run_id, "FINISHED", event["time_ms"])
        return made

    def _send_status(self, event: dict[str, Any]) -> None:
        if event["status"] == "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            self._client.set_terminated(self.run_id, event["status"], event["time_ms"])
