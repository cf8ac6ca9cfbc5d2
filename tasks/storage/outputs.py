"""Sends the outputs of a run to DVC's default remote, and fetches them from there; both are checked.

DVC takes an object for good once its name is there: it asks neither for its size nor for its content. So
after sending, each object's size and, where the store tells one, its checksum are compared with ours; and
what is fetched is hashed again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from dvc.exceptions import CheckoutError, DvcException
from dvc.fs import AuthError, RemoteMissingDepsError
from dvc.fs import ConfigError as RemoteSettingError
from dvc.repo import Repo
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from miras.errors import ConfigError, DataError, MirasError, ServiceUnavailableError
from tasks.storage.remote import Damaged, forget_damaged, objects_of, remote_address, wrong_objects
from tasks.storage.remote_errors import explain

Result = TypeVar("Result")

_LOG = "dvc_data"  # where DVC tells of each object that failed, with a traceback


def can_retry(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Only what another try can help with is tried again: no missing remote, no wrong password."""
    return isinstance(state.data, MirasError) and state.data.can_retry


@task(
    name="push",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=can_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def push_outputs() -> int:
    """Pushes what the remote does not have yet, and looks at all that it has of ours; returns the files sent.

    Raises:
        ConfigError: there is no remote, or it does not let us in.
        DataError: an output is neither here nor on the remote.
        ServiceUnavailableError: the remote does not take it, or took it damaged; what was damaged is removed.
    """
    return send()


@task(
    name="pull",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=can_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def pull_outputs() -> int:
    """Fetches the outputs that dvc.lock names and puts them into the workspace; returns the files fetched.

    Raises:
        ConfigError: there is no remote, or it does not let us in.
        DataError: the remote has something not at all, or damaged.
        DiskFullError: no space left.
        ServiceUnavailableError: the remote does not answer.
    """
    return fetch()


def send() -> int:
    """What `push_outputs` does, without Prefect."""
    with Repo() as repo:
        _remote_name(repo)
        count = int(_call(repo.push, repo, "dvc push"))
        objects = _call(lambda: objects_of(repo), repo, "Looking at what was pushed")
        missing = [found.path for found in objects if found.is_missing]
        if missing:
            raise DataError(
                f"{len(missing)} output(s) are neither in DVC's cache nor on {remote_address(repo)}: "
                f"{', '.join(missing[:5])}. `dvc repro` makes them again; then push."
            )
        damaged = _call(lambda: wrong_objects(repo, objects), repo, "Looking at what was pushed")
        if damaged:
            _call(lambda: forget_damaged(repo, objects, damaged), repo, "Removing what arrived damaged")
            raise ServiceUnavailableError(_say_damaged(damaged, remote_address(repo)))
    return count


def fetch() -> int:
    """What `pull_outputs` does, without Prefect."""
    with Repo() as repo:
        verified = {"remote": {_remote_name(repo): {"verify": True}}}
    with Repo(config=verified) as repo:
        try:
            return int(_call(repo.pull, repo, "dvc pull")["stats"]["fetched"])
        except CheckoutError as error:
            raise DataError(
                f"{remote_address(repo)} does not have these, or has them damaged: "
                f"{', '.join(map(str, error.target_infos[:5]))}. Run `python -m flows.train_miras --push` where they "
                "were made: it looks at each object and sends what is wrong again."
            ) from error


def _remote_name(repo: Repo) -> str:
    name = repo.config["core"].get("remote")
    if not name:
        raise ConfigError("There is no DVC remote. Name one: `dvc remote add --default shared s3://BUCKET/dvc`.")
    return str(name)


def _say_damaged(damaged: list[Damaged], address: str) -> str:
    lines = "\n".join(f"  {one.path}: {one.found}, expected {one.expected}" for one in damaged[:5])
    return (
        f"{len(damaged)} object(s) arrived damaged at {address}:\n{lines}\n"
        "They were removed there; the same command sends them again."
    )


def _call(action: Callable[[], Result], repo: Repo, name: str) -> Result:
    """Does something with the remote, and turns every failure into one of ours."""
    with _failures_of_objects() as failures:
        try:
            return action()
        except CheckoutError:
            raise
        except (
            DvcException,
            OSError,
            AuthError,
            RemoteSettingError,
            RemoteMissingDepsError,
            *_store_errors(),
        ) as error:
            raise explain([*failures, error], address=remote_address(repo), name=name) from error


def _store_errors() -> tuple[type[Exception], ...]:
    """What an S3 client raises itself; it is not there without the extra `aws`."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return ()
    return BotoCoreError, ClientError


class _Failures(logging.Handler):
    """Keeps the exceptions that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.found.append(record.exc_info[1])


@contextmanager
def _failures_of_objects() -> Iterator[list[BaseException]]:
    """DVC's own error only counts the objects that failed; why, it logs. Here it is kept, and not printed."""
    log, handler = logging.getLogger(_LOG), _Failures()
    before = log.handlers, log.propagate
    log.handlers, log.propagate = [handler], False
    try:
        yield handler.found
    finally:
        log.handlers, log.propagate = before
