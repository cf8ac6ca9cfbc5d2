"""Why DVC could not work with its remote, as one of our errors: what to set, or that another try can help."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

from dvc.config import RemoteConfigError
from dvc.fs import AuthError, RemoteMissingDepsError
from dvc.fs import ConfigError as RemoteSettingError
from dvc.lock import LockError

from miras.errors import ConfigError, DiskFullError, MirasError, ServiceUnavailableError, WorkspaceBusyError
from tasks.environment import redacted

_REFUSED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "403", "401")
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")


def explain(failures: Iterable[BaseException], *, address: str, name: str) -> MirasError:
    """The error to raise for what DVC and its clients raised or logged.

    Args:
        failures: the most telling first; each with its causes.
        address: the remote's, without a password.
        name: what was being done.
    """
    causes = [cause for failure in failures for cause in _chain(failure)]
    reason = redacted(_first_line(causes[0]))
    where = f"{name} to {address} failed" if name.endswith("push") else f"{name} at {address} failed"
    for cause in causes:
        found = _known(cause, address=address, where=where)
        if found:
            return found
    return ServiceUnavailableError(
        f"{where}: {reason}\nWhat is here is kept; the same command goes on with what is missing."
    )


def _known(cause: BaseException, *, address: str, where: str) -> MirasError | None:
    said = redacted(_first_line(cause))
    if isinstance(cause, RemoteMissingDepsError):
        return ConfigError(f"{where}: {said}\nIts package is missing: `pip install -c constraints.txt -e '.[aws]'`.")
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{where}: {said}\nFree some space and run the same command again; it goes on.")
    if isinstance(cause, LockError):
        return WorkspaceBusyError("DVC is busy with another command in this workspace; wait for it to end.")
    if isinstance(cause, (RemoteConfigError, RemoteSettingError, AuthError)):
        return ConfigError(f"{where}: {said}\nLook at `dvc remote list` and .dvc/config.")
    if type(cause).__name__ in _NO_CREDENTIALS:
        return ConfigError(f"{where}: {said}\nSet AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.")
    if isinstance(cause, PermissionError) or any(word in str(cause) for word in _REFUSED):
        is_s3 = address.startswith("s3:")
        hint = "Are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL those of this store?"
        return ConfigError(
            f"{address} does not let us in: {said}\n{hint if is_s3 else 'Ask for the right to write there.'}"
        )
    if "bucket does not exist" in str(cause) or "NoSuchBucket" in str(cause):
        return ConfigError(f"{address}: there is no such bucket. Make it, or name another: `dvc remote modify`.")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The innermost cause first: clients wrap "connection refused" several times."""
    if error.__cause__ or error.__context__:
        yield from _chain(error.__cause__ or error.__context__)  # type: ignore[arg-type]
    yield error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
