"""`miras evaluate served:FILE`: a model behind a real, misbehaving HTTP server, from its file to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miras.errors import ConfigError
from miras.evaluate import asking, commands
from miras.evaluate.commands import Settings, evaluate_model
from miras.evaluate.records import Prediction
from miras.files import read_records
from miras.launch.profiles import read_launch
from miras.llm import pace
from miras.llm.config import ServiceConfig
from miras.paths import Paths
from tests.llm_server import LlmServer, Said

from .conftest import BOXES, HEIGHT, ONE_PROCESS, WIDTH, make_config

ROOT = Path(__file__).parents[3]
FILE = """\
box:
  model: {provider: openai, model: boxes, temperature: 0.0, seed: 0, max_answer_tokens: 100, max_repairs: 1,
          schema_support: none, recorded: ""}
  frame: pixel
"""


calls: list[int] = []


def points(request: dict[str, Any]) -> str | Said:
    """Every third call fails; the others mark what the last question is about: the mug where it is not named."""
    calls.append(1)
    if len(calls) % 3 == 0:
        return Said(status=500)
    content = [message["content"] for message in request["messages"] if message["role"] == "user"][-1]
    asked = content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")
    if "egment" not in asked:
        return "A mug and a lamp."
    if "boat" in asked:
        return "no detected"
    names = [name for name in ("lamp", "mug") if name in asked] or ["mug"]
    return " ".join("The {}<box>({},{}),({},{})</box>".format(name, *BOXES[name]) for name in names)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(pace, "MAX_WAIT_S", 0.02)


def test_a_served_model_is_asked_scored_and_paid_once(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("boxes.yaml").write_text(FILE)
    settings = Settings(paths, make_config(templates=[]))
    with LlmServer(points) as server:
        service = ServiceConfig(base_url=server.url, api_key_variable="", concurrency=4, timeout_s=10.0)
        monkeypatch.setattr(commands, "read_service", lambda: service)
        folders = evaluate_model("served:boxes.yaml", ["test"], Path("rows"), settings, ONE_PROCESS)
        paid = len(server.requests)
        evaluate_model("served:boxes.yaml", ["test"], Path("again"), settings, ONE_PROCESS)
        assert len(server.requests) == paid
    scores = json.loads((folders["test"] / "scores.json").read_text())
    rows = {(row["benchmark"], row["history"]): row for row in scores["tables"]["masks"] if row["history"] != "any"}
    assert rows.keys() == {("dialogues", "own"), ("dialogues", "reference"), ("dialogues", "none"), ("queries", "none")}
    assert rows["dialogues", "own"]["ciou"] == 100.0
    assert rows["queries", "none"]["no_target_accuracy"] == 100.0
    assert all(row["failed"] == 0 for row in rows.values())
    said = [p for p in read_records(folders["test"] / "predictions.jsonl", Prediction) if p.history == "own"]
    assert any("<box>" in prediction.raw for prediction in said)
    assert {mask.mask.size for prediction in said for mask in prediction.masks} == {(HEIGHT, WIDTH)}
    assert (folders["test"] / "report.html").exists()


@pytest.mark.parametrize("place", ["local", "slurm"])
def test_a_served_model_is_asked_from_one_process_whatever_the_profile_says(
    place: str, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("infra").symlink_to(ROOT / "infra")
    launch = read_launch(place).model_copy(update={"shares": 3})
    monkeypatch.setattr(asking, "run_job", lambda *_, **__: pytest.fail("it was shared out over processes"))
    Path("boxes.yaml").write_text(FILE)
    settings = Settings(paths, make_config(templates=[], max_rounds=0, max_queries=2))
    with LlmServer(points) as server:
        service = ServiceConfig(base_url=server.url, api_key_variable="", concurrency=4, timeout_s=10.0)
        monkeypatch.setattr(commands, "read_service", lambda: service)
        folders = evaluate_model("served:boxes.yaml", ["test"], Path("rows"), settings, launch)
    assert any(True for _ in read_records(folders["test"] / "predictions.jsonl", Prediction))


def test_what_is_no_model_is_named(paths: Paths) -> None:
    settings = Settings(paths, make_config())
    with pytest.raises(ConfigError, match=r"model 'nowhere': no such directory\. Give stage1, stage2"):
        evaluate_model("nowhere", ["test"], Path("rows"), settings, ONE_PROCESS)
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        evaluate_model("served:nowhere.yaml", ["test"], Path("rows"), settings, ONE_PROCESS)
    Path("boxes.yaml").write_text(FILE.replace("pixel", "inches"))
    with pytest.raises(ConfigError, match=r"boxes\.yaml.*frame"):
        evaluate_model("served:boxes.yaml", ["test"], Path("rows"), settings, ONE_PROCESS)
