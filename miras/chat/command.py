"""What `miras chat` does: opens the models, then the page."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from miras.chat.answerers import open_answerers
from miras.chat.app import build_app
from miras.chat.config import read_limits
from miras.errors import ConfigError

GRACE_S = 5  # for answers in progress when the server is stopped


def chat(
    models: Sequence[str],
    *,
    host: str,
    port: int,
    corrections: Path,
    limits: Path,
    device: str,
    say: Callable[[str], object],
) -> None:
    """Serves the page until it is stopped.

    Args:
        models: one or two directories of exports, or registry addresses.
        host: address to listen on; 127.0.0.1 is reached from this machine only.
        port: TCP port; 0 takes a free one.
        corrections: folder for answers that people put right.
        limits: file of limits.
        device: torch device.
        say: is told the page's address once it answers.

    Raises:
        ConfigError: the port is taken or the address is none, or limits or models are wrong.
        DataError: a directory holds no sound export.
        ServiceUnavailableError: the registry does not answer.
    """
    bounds = read_limits(limits)
    listening = _listen(host, port)
    with listening:
        app = build_app(open_answerers(models, device=device), bounds, corrections=corrections)
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        say(f"http://{shown}:{listening.getsockname()[1]}  (Ctrl+C ends it; corrected answers go to {corrections}/)")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_S)
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port}: cannot be listened on ({error.strerror or error}). Name another by --host and --port."
        ) from None
    except OverflowError:
        raise ConfigError(f"port {port}: expected 0 to 65535.") from None
