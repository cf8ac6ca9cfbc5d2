"""infra/serve.yaml: where the server listens and what it takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from miras.config import parse_sections, read_yaml
from miras.errors import ConfigError
from miras.talk_limits import TalkLimits

SERVE = Path("infra/serve.yaml")


class ServeConfig(TalkLimits):
    """Address, limits and device of the HTTP interface."""

    host: str = Field(min_length=1)
    """Address to listen on; 127.0.0.1 is reached from this machine only."""
    port: int = Field(ge=0, le=65535)
    """0: any free one; the log says which."""
    trusted_proxies: list[str]
    """Addresses of proxies whose X-Forwarded-For names the client; empty: the connection's own address counts."""
    api_key_variable: str
    """Environment variable with the key that clients send as `Authorization: Bearer`; empty: no key is asked for."""
    max_batch: int = Field(ge=1)
    """Dialogues that are answered together."""
    batch_wait_ms: float = Field(ge=0)
    """How long the first request of a batch waits for others."""
    timeout_s: float = Field(gt=0)
    """Of a request from its first byte to the end of the answer."""
    requests_per_minute: int = Field(ge=0)
    """Of one client; 0: no limit."""
    device: str = Field(min_length=1)
    """torch device."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Of matrix products and of LLaVA's weights."""

    def api_key(self) -> str:
        """The key, empty where none is asked for.

        Raises:
            ConfigError: the variable is named but empty.
        """
        key = os.environ.get(self.api_key_variable, "") if self.api_key_variable else ""
        if self.api_key_variable and not key:
            raise ConfigError(
                f'api_key_variable: the environment variable {self.api_key_variable} is not set. Set it, or write "" '
                "to ask for no key."
            )
        return key


def read_serve_config(path: Path = SERVE) -> ServeConfig:
    """The server's configuration; raises ConfigError naming every mistake in the file."""
    found: ServeConfig = parse_sections({"serve": read_yaml(path)}, {"serve": ServeConfig}, source=str(path))["serve"]
    return found
