"""Recorded answers, and the estimate before a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from miras.errors import ConfigError
from miras.llm.asking import open_model
from miras.llm.config import ModelConfig
from miras.llm.estimating import Estimate, Estimator, tile_tokens
from miras.llm.records import Answered, Prompt, Unanswered
from tests.llm_server import LlmServer, record
from tests.unit.llm.asked import GOOD, Colour, model, prompt, service

NOWHERE = service("http://127.0.0.1:9/v1", usd_per_million_prompt_tokens=1e6, usd_per_million_answer_tokens=1e6)


def replay(folder: Path) -> ModelConfig:
    return model(provider="replay", recorded=str(folder))


def test_what_a_server_answered_is_replayed_repairs_included(tmp_path: Path) -> None:
    def right_when_told(request: dict[str, Any]) -> str:
        return GOOD if len(request["messages"]) > 2 else "no json"

    with LlmServer(right_when_told) as server:
        live = list(open_model(model(), service(server.url), cache=tmp_path).ask([prompt(1), prompt(2)]))
    opened = open_model(replay(tmp_path), NOWHERE, cache=tmp_path / "unused")
    again = list(opened.ask([prompt(1), prompt(2), prompt(3)]))
    for before, after in zip(live, again[:2], strict=True):
        assert isinstance(before, Answered)
        assert isinstance(after, Answered)
        assert (after.value, after.repairs, after.is_cached) == (before.value, 1, True)
    missing = again[2]
    assert isinstance(missing, Unanswered)
    assert missing.reason == "failed"
    assert "To record it, ask once with provider openai" in missing.detail
    assert opened.counts().unanswered == {"failed": 1}
    assert not (tmp_path / "unused").exists()


def test_a_recording_made_by_hand_is_replayed(tmp_path: Path) -> None:
    record(tmp_path, prompt(4), replay(tmp_path), GOOD)
    (outcome,) = open_model(replay(tmp_path), NOWHERE, cache=tmp_path).ask([prompt(4)])
    assert isinstance(outcome, Answered)
    assert outcome.value == Colour(name="red", share=0.25)


def test_a_folder_without_recordings_and_half_a_configuration_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recorded answers"):
        open_model(replay(tmp_path), NOWHERE, cache=tmp_path)
    with pytest.raises(ValidationError, match="recorded must name a folder"):
        model(provider="replay")
    with pytest.raises(ValidationError, match="budget_usd needs"):
        service("", budget_usd=1.0)


def estimate(prompts: Iterable[Prompt], cache: Path | None) -> Estimate:
    estimator = Estimator(model(), NOWHERE, cache=cache)
    for each in prompts:
        estimator.look(each)
    return estimator.estimate()


def test_an_estimate_counts_what_is_cached_and_asks_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (600, 400)).save(picture)
    record(tmp_path, prompt(0), model(), GOOD)
    record(tmp_path, prompt(1), model(), "no json")  # paid, but has to be asked again
    asked = [prompt(0), prompt(1), prompt(2), prompt(3, picture=picture), prompt(4, picture=tmp_path / "gone.png")]
    found = estimate(asked, tmp_path)
    assert (found.prompts, found.calls, found.cached, found.impossible) == (5, 3, 1, 1)
    assert found.answer_tokens == 3 * 25
    assert found.cost_usd == found.prompt_tokens + found.answer_tokens
    assert found.most_usd > found.cost_usd
    assert estimate(asked[:3], None).calls == 3
    assert found.times(2.5).calls == 8


def test_an_estimate_takes_the_answer_that_is_there_or_the_typical_one(tmp_path: Path) -> None:
    record(tmp_path, prompt(0), model(), GOOD)
    record(tmp_path, prompt(1), model(max_repairs=0), "no json")
    estimator, typical = Estimator(model(max_repairs=0), NOWHERE, cache=tmp_path), Colour(name="a typical colour")
    found = [estimator.look(prompt(number), typical=typical) for number in range(3)]
    assert found == [Colour(name="red", share=0.25), None, typical]
    assert estimator.estimate().answer_tokens == -(-len(typical.model_dump_json()) // 4)


@pytest.mark.parametrize(
    ("width", "height", "tokens"), [(512, 512, 255), (1024, 1024, 765), (2048, 4096, 1105), (100, 4000, 765)]
)
def test_picture_tokens_are_those_published(width: int, height: int, tokens: int) -> None:
    assert tile_tokens(width, height) == tokens
