"""Sends the outputs of a run to DVC's default remote, for colleagues and other machines."""

from __future__ import annotations

from dvc.exceptions import DvcException
from dvc.repo import Repo
from prefect import task
from prefect.cache_policies import NO_CACHE

from miras.errors import ServiceUnavailableError


@task(name="push", retries=2, retry_delay_seconds=[10, 60], cache_policy=NO_CACHE, persist_result=False)
def push_outputs() -> int:
    """Pushes what the remote does not have yet; returns the number of files sent.

    Raises:
        ServiceUnavailableError: the remote does not take it.
    """
    try:
        with Repo() as repo:
            return int(repo.push())
    except (DvcException, OSError) as error:
        raise ServiceUnavailableError(
            f"`dvc push` failed: {error}\nThe results are kept here; see `dvc remote list` for the remote."
        ) from error
