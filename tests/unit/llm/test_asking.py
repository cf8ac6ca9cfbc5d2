"""Asking a real server over HTTP: order, cache, repairs, and that nothing is paid twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from miras.llm import attempt, wire
from miras.llm.asking import open_model
from miras.llm.records import Answered, Outcome, Prompt, Unanswered
from tests.llm_server import ANSWER_TOKENS, PROMPT_TOKENS, LlmServer, Said, question, unreliable
from tests.unit.llm.asked import GOOD, Colour, model, prompt, service


def good(request: dict[str, Any]) -> str:
    return GOOD


def only(outcomes: Iterator[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def test_answers_come_in_order_and_the_second_time_from_the_cache(tmp_path: Path) -> None:
    def slow_first(request: dict[str, Any]) -> Said:
        number = int(question(request).split()[1])
        return Said(f'{{"name": "colour {number}"}}', delay_s=0.2 if number == 0 else 0.0)

    prompts = [prompt(number) for number in range(40)]
    prices = {"usd_per_million_prompt_tokens": 10.0, "usd_per_million_answer_tokens": 100.0}
    with LlmServer(slow_first) as server:
        for is_again in (False, True):
            opened = open_model(model(), service(server.url, **prices), cache=tmp_path)
            outcomes = list(opened.ask(iter(prompts)))
            assert [outcome.prompt for outcome in outcomes] == prompts
            for number, outcome in enumerate(outcomes):
                assert isinstance(outcome, Answered)
                assert outcome.value == Colour(name=f"colour {number}")
                assert outcome.is_cached == is_again
            counts = opened.counts()
            assert (counts.calls, counts.cached) == ((0, 40) if is_again else (40, 0))
            assert counts.usage.prompt_tokens == counts.calls * PROMPT_TOKENS
            assert counts.usage.cost_usd == pytest.approx(
                counts.calls * (PROMPT_TOKENS * 10 + ANSWER_TOKENS * 100) / 1e6
            )
        assert set(server.answered.values()) == {1}


def test_prompts_are_read_a_bounded_window_ahead(tmp_path: Path) -> None:
    read = 0

    def prompts() -> Iterator[Prompt]:
        nonlocal read
        for number in range(1000):
            read += 1
            yield prompt(number)

    with LlmServer(lambda request: Said(GOOD, delay_s=0.05)) as server:
        answers = open_model(model(), service(server.url, concurrency=2), cache=tmp_path).ask(prompts())
        next(answers)
        assert read <= 9
        answers.close()  # type: ignore[attr-defined]
        assert len(list((tmp_path / "answers").rglob("*.json"))) == sum(server.answered.values()) <= 10


def test_the_same_question_twice_in_a_run_is_paid_once(tmp_path: Path) -> None:
    with LlmServer(lambda request: Said(GOOD, delay_s=0.05)) as server:
        opened = open_model(model(), service(server.url), cache=tmp_path)
        outcomes = list(opened.ask([prompt(3)] * 6))
        assert len(outcomes) == 6
        assert server.answered == {"question 3": 1}


def test_calls_go_on_while_the_reader_works(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        answers = open_model(model(), service(server.url), cache=tmp_path).ask(prompt(n) for n in range(8))
        next(answers)
        deadline = time.monotonic() + 5
        while server.attempts < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.attempts == 8


def test_concurrency_is_bounded(tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def counting(request: dict[str, Any]) -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return GOOD

    with LlmServer(counting) as server:
        list(open_model(model(), service(server.url, concurrency=3), cache=tmp_path).ask(prompt(n) for n in range(30)))
    assert most == 3


def test_a_faulty_answer_is_asked_again_with_what_was_wrong(tmp_path: Path) -> None:
    def second_time_right(request: dict[str, Any]) -> str:
        return GOOD if len(request["messages"]) > 2 else '{"name": "red", "share": "half"}'

    for is_cached in (False, True):
        with LlmServer(second_time_right) as server:
            outcome = only(open_model(model(), service(server.url), cache=tmp_path).ask([prompt()]))
            assert isinstance(outcome, Answered)
            assert (outcome.repairs, outcome.is_cached) == (1, is_cached)
            assert outcome.raw == GOOD
            if not is_cached:
                messages = server.requests[-1]["messages"]
                assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
                assert messages[2]["content"] == '{"name": "red", "share": "half"}'
                assert "share: Input should be a valid number" in messages[3]["content"]
            assert server.attempts == (0 if is_cached else 2)


@pytest.mark.parametrize(
    ("said", "reason", "calls"),
    [
        (Said("no json"), "malformed", 3),
        (Said('{"colour": 1}'), "off_schema", 3),
        (Said(GOOD[:9], finish_reason="length"), "truncated", 2),
        (Said(refusal="I will not."), "refused", 1),
        (Said("", finish_reason="content_filter"), "refused", 1),
        (Said(status=400, error={"message": "bad picture"}), "failed", 1),
        (Said(status=400, error={"message": "no", "code": "content_filter"}), "refused", 1),
    ],
)
def test_repairs_end_and_paid_refusals_are_not_paid_again(tmp_path: Path, said: Said, reason: str, calls: int) -> None:
    for is_again in (False, True):
        with LlmServer(lambda request: said) as server:
            opened = open_model(model(), service(server.url), cache=tmp_path)
            outcome = only(opened.ask([prompt()]))
            assert isinstance(outcome, Unanswered)
            assert outcome.reason == reason
            assert outcome.detail
            is_paid = said.status == 200
            assert len(outcome.raw) == (calls if is_paid else 0)
            assert server.attempts == (0 if is_again and is_paid else calls)
            assert opened.counts().unanswered == {reason: 1}


def test_a_cut_answer_is_asked_once_more_with_twice_the_length(tmp_path: Path) -> None:
    def cut(request: dict[str, Any]) -> Said:
        return Said(GOOD[:9], finish_reason="length") if request["max_tokens"] == 50 else Said(GOOD)

    with LlmServer(cut) as server:
        outcome = only(open_model(model(), service(server.url), cache=tmp_path).ask([prompt()]))
        assert isinstance(outcome, Answered)
        assert [request["max_tokens"] for request in server.requests] == [50, 100]


def test_a_check_sends_the_answer_back(tmp_path: Path) -> None:
    def check(colour: Colour) -> None:
        if colour.name == "red":
            raise ValueError("There is nothing red; name another colour.")

    def blue_when_told(request: dict[str, Any]) -> str:
        return '{"name": "blue"}' if "nothing red" in request["messages"][-1]["content"] else GOOD

    with LlmServer(blue_when_told) as server:
        outcome = only(open_model(model(), service(server.url), cache=tmp_path).ask([prompt(check=check)]))
        assert isinstance(outcome, Answered)
        assert outcome.value == Colour(name="blue")
        never = only(open_model(model(max_repairs=0), service(server.url), cache=tmp_path).ask([prompt(check=check)]))
        assert isinstance(never, Unanswered)
        assert (never.reason, never.raw) == ("wrong", (GOOD,))
        assert server.attempts == 2


def test_a_missing_picture_is_an_outcome_and_the_others_go_on(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    with LlmServer(good) as server:
        asked = [prompt(0, picture=tmp_path / "gone.png"), prompt(1, picture=picture)]
        missing, found = open_model(model(), service(server.url), cache=tmp_path / "c").ask(asked)
    assert isinstance(missing, Unanswered)
    assert missing.reason == "failed"
    assert "gone.png" in missing.detail
    assert isinstance(found, Answered)


def test_the_answer_about_a_picture_that_was_replaced_is_not_kept_for_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    asked, body = prompt(picture=picture), wire.body

    def replaced_before_it_is_sent(*values: Any) -> dict[str, Any]:
        Image.new("RGB", (8, 8), "red").save(picture)
        return body(*values)

    monkeypatch.setattr(attempt, "body", replaced_before_it_is_sent)
    with LlmServer(good) as server:
        first = only(open_model(model(), service(server.url), cache=tmp_path / "c").ask([asked]))
        assert isinstance(first, Unanswered)
        assert "replaced while it was asked about" in first.detail
        assert server.attempts == 0
        assert isinstance(only(open_model(model(), service(server.url), cache=tmp_path / "c").ask([asked])), Answered)


def test_a_damaged_answer_is_asked_anew(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        list(open_model(model(), service(server.url), cache=tmp_path).ask([prompt()]))
        (path,) = (tmp_path / "answers").rglob("*.json")
        path.write_bytes(path.read_bytes()[:-20])
        opened = open_model(model(), service(server.url), cache=tmp_path)
        assert isinstance(only(opened.ask([prompt()])), Answered)
        assert server.attempts == 2
        assert opened.counts().damaged == 1
        list(open_model(model(), service(server.url), cache=tmp_path).ask([prompt()]))
        assert server.attempts == 2


def test_with_a_teacher_that_fails_a_third_of_the_time_all_adds_up_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    prompts = [prompt(number) for number in range(150)]
    with LlmServer(unreliable(good, share=0.3, seed=3)) as server:
        opened = open_model(model(max_repairs=4), service(server.url), cache=tmp_path)
        outcomes = list(opened.ask(prompts))
        assert [outcome.prompt for outcome in outcomes] == prompts
        answered = [outcome for outcome in outcomes if isinstance(outcome, Answered)]
        counts = opened.counts()
        assert counts.answered == len(answered) >= 140
        assert counts.answered + sum(counts.unanswered.values()) == len(prompts)
        assert counts.calls == sum(server.answered.values()) == len(list((tmp_path / "answers").rglob("*.json")))
        assert {"429", "500", "connection"} <= set(counts.retries)
        assert counts.unconfirmed_usd == 0.0  # no prices here
        paid = server.answered.copy()
        again = list(open_model(model(max_repairs=4), service(server.url), cache=tmp_path).ask(prompts))
        assert [type(outcome) for outcome in again] == [type(outcome) for outcome in outcomes]
        assert server.answered == paid


def test_a_program_that_forgets_its_answers_ends_quietly(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from miras.llm.asking import open_model
from tests.unit.llm.asked import model, prompt, service

answers = open_model(model(), service(sys.argv[1]), cache=Path(sys.argv[2])).ask(prompt(n) for n in range(50))
print(next(answers).value.name)
"""
    with LlmServer(lambda request: Said(GOOD, delay_s=0.1)) as server:
        command = [sys.executable, "-c", program, server.url, str(tmp_path)]
        ended = subprocess.run(
            command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60, check=True
        )
    assert (ended.stdout, ended.stderr) == ("red\n", "")
