"""`miras serve`: opens a model and answers over HTTP until it is told to stop (SIGTERM or Ctrl-C)."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import uvicorn

from miras.errors import ConfigError
from miras.pretrained import DESCRIPTION, Miras, file_sha256
from miras.registry_address import PREFIX, fetch
from miras.serve.app import ServedModel, Service
from miras.serve.config import ServeConfig

LOG = logging.getLogger("miras.serve")
STOP_S = 10  # answers under way may end before the server does


def serve(address: str, config: ServeConfig) -> None:
    """Serves a model; returns when it is stopped.

    Args:
        address: a directory that `miras export` wrote, or `models:/NAME@ALIAS`.
        config: infra/serve.yaml.

    Raises:
        ConfigError: the address to listen on is taken, the key is not set, or the device is not there.
        DataError: no export, or damaged.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    listening = listen(config.host, config.port)
    try:
        config.api_key()  # before the model, which takes long
        folder = fetch(address, holds=DESCRIPTION) if address.startswith(PREFIX) else Path(address)
        opened = Miras.from_pretrained(folder, device=config.device, dtype=config.dtype)
        model = ServedModel(public_name(address), file_sha256(folder / DESCRIPTION)[:12])
        server = uvicorn.Server(server_config(Service(opened.talker, model, config)))
        port = listening.getsockname()[1]
        LOG.info("event=ready model=%s version=%s host=%s port=%d", model.name, model.version, config.host, port)
        server.run(sockets=[listening])
    finally:
        listening.close()


def server_config(service: Service) -> uvicorn.Config:
    """How uvicorn runs a service; its own log lines about requests are off."""
    proxies = service.config.trusted_proxies
    return uvicorn.Config(
        service.app(),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_graceful_shutdown=STOP_S,
        lifespan="on",
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises ConfigError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        reason = error.strerror or error
        raise ConfigError(f"{host}:{port}: cannot listen there ({reason}). Choose another host or port.") from None
    return found


def public_name(address: str) -> str:
    """What clients call a model: the registered name, or the last part of its directory."""
    registered = re.fullmatch(r"models:/([^/@]+)(?:@[^/@]+|/\d+)", address)
    return registered[1] if registered else Path(address).resolve().name
