"""The recipe through the real client, against a real HTTP server that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader, Environment, PackageLoader, StrictUndefined

from miras.dialogue.records import Dialogue, Picture, Region
from miras.files import read_records
from miras.generate import stage
from miras.generate.written import prompts
from miras.generate.written.records import UnansweredRequest
from miras.generate.written.use import ModelUse, prompts_sha256
from miras.generate.written.writing import Counts
from miras.llm import pace
from miras.llm.asking import open_model
from miras.llm.budget import BudgetSpentError
from miras.llm.config import ModelConfig, ServiceConfig
from miras.paths import Paths
from tests.llm_server import ANSWER_TOKENS, PROMPT_TOKENS, Answer, LlmServer, Said, question, unreliable
from tests.unit.generate.conftest import CONFIG
from tests.unit.generate.written.conftest import ScriptedModel, Texts, assert_adds_up

Write = Callable[..., Counts]
ONE = PROMPT_TOKENS + ANSWER_TOKENS


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(pace, "MAX_WAIT_S", 0.02)


@pytest.fixture
def by_text(write: Write, texts: Texts) -> dict[str, str]:
    """Text of a prompt -> our answer."""
    model = ScriptedModel(texts)
    write(model, name="scripted")
    return {prompt.text: texts[prompt.name, prompt.key] for prompt in model.prompts}


def model_config(**changes: object) -> ModelConfig:
    values = {
        "provider": "openai",
        "model": "scripted",
        "temperature": 0.0,
        "seed": 1,
        "max_answer_tokens": 800,
        "max_repairs": 4,
        "schema_support": "json_schema",
    }
    return ModelConfig.model_validate(values | changes)


def service(server: LlmServer) -> ServiceConfig:
    return ServiceConfig(base_url=server.url, api_key_variable="", concurrency=4, timeout_s=10.0)


def records(folder: Path) -> dict[str, bytes]:
    """All files but the one that tells of repairs."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "answers.jsonl"}


def at_first(answer: Answer, instead: Answer) -> Answer:
    """The first call of every prompt is answered by `instead`."""
    seen: set[str] = set()

    def answering(request: dict[str, Any]) -> str | Said:
        is_first = question(request) not in seen
        seen.add(question(request))
        return instead(request) if is_first else answer(request)

    return answering


def test_a_server_that_misbehaves_changes_nothing_and_nothing_is_paid_twice(
    write: Write, by_text: dict[str, str], tmp_path: Path
) -> None:
    def good(request: dict[str, Any]) -> str:
        return by_text[question(request)]

    with LlmServer(at_first(good, unreliable(good, share=0.7, seed=3))) as server:
        first = write(open_model(model_config(), service(server), cache=tmp_path / "cache"), name="first")
        paid, attempts = server.answered.total(), server.attempts
        again = write(open_model(model_config(), service(server), cache=tmp_path / "cache"), name="again")
        assert server.attempts == attempts, "everything comes from the cache"
    assert attempts > paid > first.answers == 17, "the server did misbehave, and some of that was paid for"
    assert first.repairs > 0
    assert again.answers_from_cache == again.answers == first.answers
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("first", "again")]
    assert files[0] == files[1]
    assert records(tmp_path / "first") == records(tmp_path / "scripted")


def test_a_recording_gives_the_same_files_without_a_server(
    write: Write, by_text: dict[str, str], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with LlmServer(lambda request: by_text[question(request)]) as server:
        write(open_model(model_config(), service(server), cache=cache), name="served")
    replay = model_config(provider="replay", recorded=str(cache))
    write(open_model(replay, ServiceConfig(), cache=tmp_path / "unused"), name="replayed")
    assert records(tmp_path / "served") == records(tmp_path / "replayed") == records(tmp_path / "scripted")


def test_an_edit_of_the_last_prompt_pays_for_the_last_step_alone(
    write: Write, by_text: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = PackageLoader("miras.generate.written", "prompts")
    sources = {name: loader.get_source(Environment(), name)[0] for name in loader.list_templates()}
    sources["dialogue.md.j2"] = sources["dialogue.md.j2"].replace("Rules", "What to keep in mind")
    edited = prompts._environment().overlay(loader=DictLoader(sources), undefined=StrictUndefined)
    with LlmServer(lambda request: by_text[question(request).replace("What to keep in mind", "Rules")]) as server:
        first = write(open_model(model_config(), service(server), cache=tmp_path / "cache"), name="first")
        assert server.answered.total() == first.answers == 17
        monkeypatch.setattr(prompts, "_environment", lambda: edited)
        write(open_model(model_config(), service(server), cache=tmp_path / "cache"), name="edited")
        assert server.answered.total() == 17 + first.dialogues


def test_a_picture_that_vanished_is_unanswered_and_the_others_go_on(
    write: Write, by_text: dict[str, str], scenes: tuple[tuple[Picture, tuple[Region, ...]], ...], tmp_path: Path
) -> None:
    picture, regions = scenes[1]
    gone = (picture.model_copy(update={"file_name": "gone.png"}), regions)
    with LlmServer(lambda request: by_text[question(request)]) as server:
        model = open_model(model_config(), service(server), cache=tmp_path / "cache")
        counts = write(model, pictures=[scenes[0], gone, scenes[2]])
    assert_adds_up(counts)
    assert (counts.with_dialogues, counts.unanswered) == (2, {"elements: failed": 1})
    (request,) = read_records(tmp_path / "out" / "unanswered.jsonl", UnansweredRequest)
    assert "gone.png" in request.reason


def test_the_stage_has_the_model_write_prist_dialogues_and_pays_once(
    by_text: dict[str, str], paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"teacher": "model", "model": model_config(), "mrseg_per_picture": 1})
    with LlmServer(lambda request: by_text[question(request)]) as server:
        monkeypatch.setattr(stage, "read_service", lambda: service(server))
        stage.run(paths=paths, work=tmp_path / "work" / "a", generate=config)
        paid = server.answered.total()
        stage.run(paths=paths, work=tmp_path / "work" / "b", generate=config)
        assert server.answered.total() == paid == 17
    dialogues = list(read_records(paths.generated_dialogues, Dialogue))
    kinds = {dialogue.kind for dialogue in dialogues}
    assert sum(dialogue.kind == "prist" for dialogue in dialogues) == 8
    assert {"mrseg", "referring", "caption"} <= kinds
    assert [region.mask for region in read_records(paths.generated_regions, Region)] == [None]
    use = ModelUse.model_validate_json((Path(paths.generate) / "model.json").read_bytes())
    assert (use.model, use.cached, use.calls, use.spent_tokens) == ("scripted", 17, 0, 17 * ONE)
    assert use.prompts_sha256 == prompts_sha256()
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["a", "b", stage.STORE]


def test_a_spent_budget_keeps_what_was_refused_and_the_message_says_where(
    by_text: dict[str, str], paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = next(iter(by_text))  # elements of the first picture

    def refusing(request: dict[str, Any]) -> str | Said:
        return Said(refusal="I will not.") if question(request) == refused else by_text[question(request)]

    monkeypatch.setattr("tests.llm_server.PROMPT_TOKENS", 3000)
    config = CONFIG.model_copy(update={"teacher": "model", "model": model_config(max_repairs=0)})
    with LlmServer(refusing) as server:
        limited = service(server).model_copy(update={"budget_tokens": 20_000, "concurrency": 1})
        monkeypatch.setattr(stage, "read_service", lambda: limited)
        with pytest.raises(BudgetSpentError) as raised:
            stage.run(paths=paths, work=tmp_path / "work" / "a", generate=config)
        kept = tmp_path / "work" / "a" / stage.STOPPED
        assert f"is in {kept}: 1 requests without a usable answer, 0 silent pictures" in str(raised.value)
        (request,) = read_records(kept / "unanswered.jsonl", UnansweredRequest)
        assert (request.cause, request.raw) == ("refused", ("I will not.",))
        use = ModelUse.model_validate_json((kept / "model.json").read_bytes())
        assert use.calls == server.answered.total() < 12
        assert not Path(paths.generate).exists()
        monkeypatch.setattr(stage, "read_service", lambda: service(server))
        stage.run(paths=paths, work=tmp_path / "work" / "a", generate=config)
        assert max(server.answered.values()) == 1
    assert not kept.exists()
    counts = json.loads((Path(paths.generate) / "written.json").read_text())
    assert (counts["pictures"], counts["with_dialogues"], counts["unanswered"]) == (3, 2, {"elements: refused": 1})
