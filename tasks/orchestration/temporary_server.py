"""A Prefect server for one flow that has none: over this workspace's records, on loopback, gone when the flow is.

Prefect can start one by itself, but imports its whole server into the flow's process for it, one after the other with
the server's own start, and leaves it behind when the flow is killed.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

from miras.errors import ServiceUnavailableError

LOG_FILE = Path("work") / "services" / "temporary-prefect.log"
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception): .+", re.MULTILINE)
_MODULE = "tasks.orchestration.temporary_server"
_STOP_S = 20.0
_LOOK_S = 1.0


def start() -> str:
    """Starts one and waits until it answers; the address of its API. It is stopped when this process exits.

    Not sooner: Prefect sends the last messages and events of a run while the interpreter is ending.

    Raises:
        ServiceUnavailableError: it ended at once, or did not answer within `server.ephemeral.startup_timeout_seconds`
            of prefect.toml.
    """
    LOG_FILE.parent.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener, LOG_FILE.open("wb") as log:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        process = subprocess.Popen(
            (sys.executable, "-m", _MODULE, str(listener.fileno()), str(os.getpid())),
            env={**os.environ, "PREFECT_API_URL": address},
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the flow, which still has to tell the server how it ended
        )
    atexit.register(_stop, process)  # before Prefect's senders register, hence run after them
    _wait_for(address, process)
    return address


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    """The socket listens from the start, so that one request waits for as long as the server needs."""
    limit_s = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    try:
        httpx.get(f"{address}/health", timeout=limit_s, trust_env=False).raise_for_status()
    except httpx.TimeoutException:
        found = f"did not answer within {limit_s} s. The machine may be busy: try again"
    except httpx.HTTPError as error:
        _stop(process)
        said = _ERROR.findall(LOG_FILE.read_text("utf-8", errors="replace"))
        found = f"ended at once: {said[-1] if said else error}"
    else:
        return
    raise ServiceUnavailableError(
        f"Prefect's temporary server {found}. What it printed: {LOG_FILE}. If its records are damaged (.prefect, or "
        "PREFECT_HOME), move them away: they are made anew, and only the history on Prefect's pages is lost."
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(arguments: Sequence[str]) -> None:
    """Serves on the socket with the number `arguments[0]`, until process `arguments[1]` is gone.

    Without arguments it makes the records and ends, for `make install`.
    """
    if not arguments:
        try:
            start()
        except ServiceUnavailableError as error:
            sys.exit(str(error))
        return
    descriptor, starter = map(int, arguments)
    threading.Thread(target=_end_with, args=(starter,), name="starter", daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error", lifespan="on"))
    server.run(sockets=[socket.socket(fileno=descriptor)])


def _end_with(starter: int) -> None:
    """Ends this process when its parent is no longer `starter`."""
    while os.getppid() == starter:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
