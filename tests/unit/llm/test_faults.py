"""Servers that fail, hang, refuse and limit, and a budget that ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from miras.errors import ConfigError, ServiceUnavailableError
from miras.llm import service as service_module
from miras.llm.asking import open_model
from miras.llm.budget import BudgetSpentError, Ledger
from miras.llm.records import Answered, Outcome, Unanswered
from tests.llm_server import ANSWER_TOKENS, PROMPT_TOKENS, LlmServer, Said, TokenBucket, question
from tests.unit.llm.asked import GOOD, model, prompt, service

PROMPTS = [prompt(number) for number in range(60)]
ONE = PROMPT_TOKENS + ANSWER_TOKENS


def good(request: dict[str, Any]) -> str:
    return GOOD


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (Said(status=500), "500"),
        (Said(status=503, headers={"Retry-After": "0"}), "503"),
        (Said(is_dropped=True), "connection"),
        (Said(GOOD, is_half=True), "connection"),
        (Said(GOOD, delay_s=2.0), "timeout"),
        (Said(body=b"<html>proxy</html>"), "bad_body"),
        (Said(body=b'{"choices": ['), "bad_body"),
        (Said(body=b'{"error": {"message": "no"}}'), "bad_body"),
    ],
)
def test_what_may_pass_is_tried_again(tmp_path: Path, said: Said, kind: str) -> None:
    seen = 0

    def second_time(request: dict[str, Any]) -> Said:
        nonlocal seen
        seen += 1
        return said if seen == 1 else Said(GOOD)

    with LlmServer(second_time) as server:
        opened = open_model(model(), service(server.url, timeout_s=1.0 if kind == "timeout" else 20.0), cache=tmp_path)
        (outcome,) = opened.ask([prompt()])
        assert isinstance(outcome, Answered)
        assert opened.counts().retries == {kind: 1}
        spent = Ledger(tmp_path).spent().tokens
        # where nobody knows whether the first attempt was charged, its upper estimate counts
        assert spent > ONE if kind in ("connection", "timeout", "bad_body") else spent == ONE


def test_one_prompt_that_always_fails_is_an_outcome(tmp_path: Path) -> None:
    def poison(request: dict[str, Any]) -> str | Said:
        return Said(status=502) if question(request) == "question 7" else GOOD

    with LlmServer(poison) as server:
        config = service(server.url, max_retries=2, concurrency=1)
        outcomes = list(open_model(model(), config, cache=tmp_path).ask(PROMPTS[:12]))
    bad = [outcome for outcome in outcomes if isinstance(outcome, Unanswered)]
    assert [(outcome.prompt, outcome.reason) for outcome in bad] == [(PROMPTS[7], "failed")]
    assert "3 times" in bad[0].detail


def test_a_server_that_is_down_ends_the_run_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    dies_after = 10

    def dying(request: dict[str, Any]) -> str | Said:
        return GOOD if sum(server.answered.values()) < dies_after else Said(status=503)

    with LlmServer(dying) as server:
        config = service(server.url, max_retries=2, concurrency=2)
        with pytest.raises(ServiceUnavailableError, match=r"5 calls in a row failed, each 3 times.*503"):
            list(open_model(model(), config, cache=tmp_path).ask(PROMPTS))
        dies_after = 1000
        assert len(list(open_model(model(), config, cache=tmp_path).ask(PROMPTS))) == len(PROMPTS)
        assert set(server.answered.values()) == {1}


def test_calls_that_fail_together_tell_the_first_error_and_the_next_round_begins_afresh(tmp_path: Path) -> None:
    is_down = True

    def failing(request: dict[str, Any]) -> str | Said:
        number = int(question(request).split()[1])  # the first call fails last
        return Said(status=503, delay_s=max(0.0, 0.32 - 0.02 * number)) if is_down or number == 0 else GOOD

    with LlmServer(failing) as server:
        opened = open_model(model(), service(server.url, max_retries=0, concurrency=16), cache=tmp_path)
        with pytest.raises(ServiceUnavailableError, match="5 calls in a row failed"):
            list(opened.ask(PROMPTS[1:]))
        is_down = False
        outcomes = list(opened.ask(PROMPTS))
    assert [type(outcome) for outcome in outcomes] == [Unanswered, *[Answered] * (len(PROMPTS) - 1)]


def test_a_content_filter_never_ends_the_run(tmp_path: Path) -> None:
    filtered = Said(status=400, error={"message": "no", "code": "content_filter"})
    wrong = Said(status=400, error={"message": "bad picture"})
    with LlmServer(lambda request: wrong if question(request) == "question 40" else filtered) as server:
        outcomes = list(open_model(model(), service(server.url, concurrency=1), cache=tmp_path).ask(PROMPTS))
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Unanswered)]
    assert (reasons.count("refused"), reasons.count("failed")) == (len(PROMPTS) - 1, 1)


def test_no_server_at_all_is_one_clear_error(tmp_path: Path) -> None:
    config = service("http://127.0.0.1:9/v1", max_retries=1)
    with pytest.raises(ServiceUnavailableError, match=r"http://127\.0\.0\.1:9/v1: .*Connect"):
        list(open_model(model(), config, cache=tmp_path).ask(PROMPTS))
    assert Ledger(tmp_path).spent().tokens == 0  # nothing reached anybody


def test_a_wrong_or_missing_key_is_told_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LlmServer(good, key="right-key") as server:
        config = service(server.url, api_key_variable="TEST_TEACHER_KEY")
        monkeypatch.delenv("TEST_TEACHER_KEY", raising=False)
        with pytest.raises(ConfigError, match="TEST_TEACHER_KEY: this environment variable is not set"):
            list(open_model(model(), config, cache=tmp_path).ask(PROMPTS))
        assert server.attempts == 0
        monkeypatch.setenv("TEST_TEACHER_KEY", "secret-and-wrong")
        with pytest.raises(ConfigError, match=r"not accepted \(401\). Set TEST_TEACHER_KEY") as raised:
            list(open_model(model(), config, cache=tmp_path).ask(PROMPTS))
        assert "secret" not in str(raised.value)
        assert server.attempts <= 8
        monkeypatch.setenv("TEST_TEACHER_KEY", "right-key")
        list(open_model(model(), config, cache=tmp_path).ask(PROMPTS[:2]))
    for path in tmp_path.rglob("*.json*"):
        assert "right-key" not in path.read_text()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said(status=404, error={"message": "no such model"}), "not found.*no such model.*test-model"),
        (Said(status=403), "denied"),
        (Said(status=429, error={"message": "pay", "code": "insufficient_quota"}), "no credit left"),
    ],
)
def test_what_no_retry_can_cure_stops_at_once(tmp_path: Path, said: Said, words: str) -> None:
    with LlmServer(lambda request: said) as server:
        with pytest.raises(ConfigError, match=words):
            list(open_model(model(), service(server.url), cache=tmp_path).ask(PROMPTS))
        assert server.attempts <= 8


def test_a_server_that_takes_no_request_at_all_ends_the_run(tmp_path: Path) -> None:
    with (
        LlmServer(lambda request: Said(status=400, error={"message": "unknown parameter"})) as server,
        pytest.raises(ConfigError, match=r"20 requests in a row were not taken.*unknown parameter"),
    ):
        list(open_model(model(), service(server.url), cache=tmp_path).ask(PROMPTS))


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    seen: list[float] = []

    def limited(request: dict[str, Any]) -> Said:
        seen.append(time.monotonic())
        return Said(status=429, headers={"Retry-After": "1"}) if len(seen) == 1 else Said(GOOD)

    with LlmServer(limited) as server:
        opened = open_model(model(), service(server.url), cache=tmp_path)
        list(opened.ask([prompt()]))
        assert seen[1] - seen[0] >= 1.0
        assert opened.counts().waited_s >= 1.0


def test_a_wait_of_an_hour_is_an_error_to_come_back_later(tmp_path: Path) -> None:
    with (
        LlmServer(lambda request: Said(status=429, headers={"Retry-After": "3600"})) as server,
        pytest.raises(ServiceUnavailableError, match="asks to wait 3600 s"),
    ):
        list(open_model(model(), service(server.url), cache=tmp_path).ask(PROMPTS))


def test_a_rate_limit_below_the_concurrency_fails_no_prompt(tmp_path: Path) -> None:
    with LlmServer(good, bucket=TokenBucket(rate=40, burst=5)) as server:
        opened = open_model(model(), service(server.url, concurrency=20, max_retries=1), cache=tmp_path)
        outcomes = list(opened.ask(PROMPTS))
        assert all(isinstance(outcome, Answered) for outcome in outcomes)
        assert opened.counts().retries["429"] == server.refused > 0


def budget_run(url: str, cache: Path, tokens: int, concurrency: int = 4) -> tuple[list[Outcome], str]:
    found: list[Outcome] = []
    opened = open_model(model(), service(url, budget_tokens=tokens, concurrency=concurrency), cache=cache)
    try:
        for outcome in opened.ask(PROMPTS):
            found.append(outcome)
    except BudgetSpentError as error:
        return found, str(error)
    return found, ""


def test_the_budget_is_never_exceeded_over_runs_and_all_that_was_paid_is_kept(tmp_path: Path) -> None:
    limit = 20 * ONE
    with LlmServer(good) as server:
        found, message = budget_run(server.url, tmp_path, limit)
        paid = sum(server.answered.values())
        assert 5 <= paid * ONE / ONE <= 20
        assert len(found) <= paid
        assert f"{paid * ONE} of {limit} tokens" in message
        assert "Raise budget_usd or budget_tokens" in message
        again, _ = budget_run(server.url, tmp_path, limit)
        assert len(again) == paid
        assert sum(server.answered.values()) == paid
        budget_run(server.url, tmp_path, limit, concurrency=1)
        assert sum(server.answered.values()) == paid  # the rest is too small for a call, however they are made
        last, message = budget_run(server.url, tmp_path, 1000 * ONE)
        assert (len(last), message) == (len(PROMPTS), "")
        assert set(server.answered.values()) == {1}
    assert Ledger(tmp_path).spent().tokens == len(PROMPTS) * ONE


def test_prompts_that_take_more_than_estimated_raise_the_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "most_prompt_tokens", lambda request: 1)
    monkeypatch.setattr("miras.llm.estimating.most_prompt_tokens", lambda request: 1)
    limit = 10 * ONE
    with LlmServer(good) as server:
        budget_run(server.url, tmp_path, limit, concurrency=1)
        assert sum(server.answered.values()) * ONE <= limit
