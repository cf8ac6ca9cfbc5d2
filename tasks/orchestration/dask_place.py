"""Shares on Dask workers that are Prefect task runs, by prefect-dask's task runner (place `prefect-dask`).

A stage is a process of its own below DVC, so its shares have a flow run of their own, named after the stage and tagged
with the pipeline run. The server is that of PREFECT_API_URL, else this workspace's; without one Prefect starts its own
for the stage, which only workers of this machine reach.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any

from prefect import flow, get_client, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_LEVEL, temporary_settings
from prefect.states import Completed, Failed
from prefect_dask import DaskTaskRunner

from miras.errors import ConfigError, MirasError, ServiceUnavailableError
from miras.launch.dask import DaskPlace
from miras.launch.dask_share import Share, how_failed, run_share
from tasks.orchestration.api import api_for_run
from tasks.pipeline_run import PipelineRun

_START_S = 120.0
_END_S = 20.0
_taker: ContextVar[Callable[[list[Any]], None]] = ContextVar("taker")


class PrefectDaskPlace(DaskPlace):
    """As `DaskPlace`; who cancels the flow run in Prefect does not end the shares, who cancels the stage's does."""

    def _start(self, stage: str, shares: list[Share]) -> list[Any]:
        runner = DaskTaskRunner(
            address=self._cluster.scheduler_address if self._cluster else self._launch.address,
            client_kwargs={"security": self._cluster.security} if self._cluster else None,
        )
        handed: queue.SimpleQueue[list[Any] | BaseException] = queue.SimpleQueue()

        def take(futures: list[Any]) -> None:
            handed.put(futures)
            self._is_seen.wait()  # with the flow run its client ends, and with that they do

        def work() -> None:
            try:
                _in_prefect(runner, stage, shares, take)
            except BaseException as error:  # before the futures were handed out it is the stage's; later they tell it
                handed.put(error)

        self._is_seen = threading.Event()
        self._thread = threading.Thread(target=work, name="shares", daemon=True)
        self._thread.start()
        try:
            found = handed.get(timeout=_START_S)
        except queue.Empty:
            raise ServiceUnavailableError(f"{stage}: Prefect took more than {_START_S:.0f} s to begin.") from None
        if isinstance(found, MirasError):
            raise found
        if isinstance(found, BaseException):
            raise ConfigError(
                f"{stage}: Prefect could not hand its shares to Dask: {type(found).__name__}: {found}. Use place dask "
                "to run them without Prefect."
            ) from found
        return found

    def _how_failed(self, result: Any) -> str | None:
        assert isinstance(result, State)
        return None if result.is_completed() else result.message

    def _close(self) -> None:
        if self._client is not None and self._client.status == "running":
            self._client.cancel(self._left(), force=True)
        if (thread := getattr(self, "_thread", None)) is not None:
            self._is_seen.set()
            thread.join(_END_S)  # the flow run gets its last state
        super()._close()


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def share_task(name: str, values: dict[str, Any]) -> State[Any]:
    """One share on its worker; `name` is for people."""
    del name
    failure = how_failed(run_share(values))
    return Failed(message=failure) if failure else Completed()


@flow(name="shares", persist_result=False)
def shares_flow(stage: str, shares: list[dict[str, Any]]) -> None:
    """All shares of a job; ends with the last one, failed if one is."""
    futures: list[Any] = [  # PrefectDaskFuture, by the task runner
        share_task.submit(name=f"{stage} share {share['number']} of {share['shares']}", values=share)
        for share in shares
    ]
    _hand_out([future.wrapped_future for future in futures])
    for future in futures:
        future.result()


def _hand_out(futures: list[Any]) -> None:
    """Returns when the place needs them no more.

    Apart from the flow: with that all it names, and all its arguments, travel to the workers.
    """
    _taker.get()(futures)


def _in_prefect(runner: Any, stage: str, shares: list[Share], take: Callable[[list[Any]], None]) -> None:
    """Runs the flow of the shares; `take` gets their Dask futures as soon as all are submitted."""
    _taker.set(take)
    run = shares_flow.with_options(flow_run_name=f"{stage}: {len(shares)} shares", task_runner=runner)
    with (
        api_for_run(),
        get_client(sync_client=True) as client,
        tags(PipelineRun.of_stage().name),
        # Workers take these over: they speak to the same server, and stages alone speak on the terminal.
        temporary_settings({PREFECT_API_URL: str(client.api_url), PREFECT_LOGGING_LEVEL: "CRITICAL"}),
    ):
        run(stage, [asdict(share) for share in shares])
