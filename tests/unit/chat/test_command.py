"""What `miras chat` refuses before a page is shown, and what the page says about its models."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from miras.chat.answerers import Answerer, open_answerers
from miras.chat.command import chat
from miras.chat.config import read_limits
from miras.errors import ConfigError, DataError
from tests.unit.chat.conftest import ROOT

LIMITS = ROOT / "infra" / "chat.yaml"


def begin(models: list[str], *, host: str = "127.0.0.1", port: int = 0, limits: Path = LIMITS) -> None:
    chat(models, host=host, port=port, corrections=Path("unused"), limits=limits, device="cpu", say=lambda _: None)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: cannot be listened on .* --port"):
            begin(["none"], port=port)


def test_an_address_or_port_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"256\.1\.1\.1:0: cannot be listened on"):
        begin(["none"], host="256.1.1.1")
    with pytest.raises(ConfigError, match="port 70000: expected 0 to 65535"):
        begin(["none"], port=70_000)


def test_models_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"miras\.json: no such file"):
        begin([str(tmp_path)])
    for number in (0, 3):
        with pytest.raises(ConfigError, match=f"model: {number} given"):
            begin(["none"] * number)


def test_limits_are_checked(tmp_path: Path) -> None:
    changed = tmp_path / "chat.yaml"
    changed.write_text(LIMITS.read_text().replace("max_turns: 200", "max_turns: none"))
    with pytest.raises(ConfigError, match="max_turns"):
        read_limits(changed)


def test_the_page_says_which_model_and_data_answer(answerers: list[Answerer]) -> None:
    one, two = answerers
    assert (one.name, two.name) == ("one", "two")
    assert one.notice["weights"] != two.notice["weights"]
    assert len(one.notice["weights"]) == 12
    assert one.notice["data"] == "unknown"
    assert one.can_refer
    again = open_answerers([one.notice["model"]], device="cpu")[0]
    assert again.notice == one.notice
