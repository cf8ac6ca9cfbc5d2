"""The batch service: submitted once, collected whenever, the rest asked call by call."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from openai.resources.batches import AsyncBatches

from miras.errors import ConfigError, DataError, ServiceUnavailableError, WorkspaceBusyError
from miras.llm import batches
from miras.llm.asking import open_model
from miras.llm.budget import BudgetSpentError, Ledger
from miras.llm.records import Answered
from tests.llm_server import ANSWER_TOKENS, PROMPT_TOKENS, LlmServer, Said, question
from tests.unit.llm.asked import GOOD, model, prompt, service

PROMPTS = [prompt(number) for number in range(12)]
ONE = PROMPT_TOKENS + ANSWER_TOKENS


def good(request: dict[str, Any]) -> str:
    return GOOD


def ask(server: LlmServer, cache: Path, **changes: Any) -> int:
    config = service(server.url, use_batch_api=True, max_retries=1, **changes)
    outcomes = list(open_model(model(), config, cache=cache).ask(PROMPTS))
    assert [outcome.prompt for outcome in outcomes] == PROMPTS
    return sum(isinstance(outcome, Answered) for outcome in outcomes)


def test_a_batch_answers_all_in_order_for_one_payment(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        assert ask(server, tmp_path) == 12
        assert (server.attempts, len(server.batches)) == (0, 1)
        assert ask(server, tmp_path) == 12
        assert (server.attempts, len(server.batches)) == (0, 1)
        assert set(server.answered.values()) == {1}
    assert list((tmp_path / "batches").iterdir()) == []
    assert Ledger(tmp_path).spent().tokens == 12 * ONE


def test_answers_of_a_batch_count_as_calls_once(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        config = service(server.url, use_batch_api=True)
        opened = open_model(model(), config, cache=tmp_path)
        outcomes = [*opened.ask([*PROMPTS, PROMPTS[3]]), *opened.ask(PROMPTS[:2])]
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert [outcome.cached for outcome in outcomes] == [*[0] * 12, 1, 1, 1]
    counts = opened.counts()
    assert (counts.calls, counts.cached, counts.spent_tokens) == (12, 3, 12 * ONE)


def test_a_question_that_stands_in_two_files_is_paid_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_REQUESTS", 4)
    with LlmServer(good) as server:
        server.polls_until_done = 6
        config = service(server.url, use_batch_api=True, concurrency=8)
        asked = [*PROMPTS, *PROMPTS[:6], prompt(99)]
        assert len(list(open_model(model(), config, cache=tmp_path).ask(asked))) == len(asked)
        assert server.attempts == 0
        assert set(server.answered.values()) == {1}


def test_line_ends_within_an_answer_do_not_part_it(tmp_path: Path) -> None:
    with LlmServer(lambda request: '{"name": "red\u2028and\x85blue"}') as server:
        server.is_ascii = False
        assert ask(server, tmp_path) == 12
        assert server.attempts == 0


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "batches"
    folder.mkdir()
    for name in (".abc.json.17.partial", "def.jsonl"):
        (folder / name).write_text("{")
    with LlmServer(good) as server:
        list(open_model(model(), service(server.url), cache=tmp_path).ask(PROMPTS[:1]))
    assert list(folder.iterdir()) == []


def test_one_process_at_a_time_has_batches(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        process = _submitted(server, tmp_path)
        for uses_batches in (True, False):
            config = service(server.url, use_batch_api=uses_batches)
            with pytest.raises(WorkspaceBusyError, match="another process looks after batches"):
                list(open_model(model(), config, cache=tmp_path).ask(PROMPTS))
        process.kill()
        process.wait()
        server.polls_until_done = 0
        assert ask(server, tmp_path) == 12
        assert set(server.answered.values()) == {1}


def test_failed_lines_and_repairs_are_ordinary_calls(tmp_path: Path) -> None:
    seen: set[str] = set()

    def first_time_wrong(request: dict[str, Any]) -> str | Said:
        asked = question(request)
        if asked in ("question 3", "question 5") and asked not in seen:
            seen.add(asked)
            return Said(status=500) if asked == "question 3" else "no json"
        return GOOD

    with LlmServer(first_time_wrong) as server:
        assert ask(server, tmp_path) == 12
        assert server.attempts == 2
        assert server.answered["question 5"] == 2  # the bad answer and its repair
        assert sum(server.answered.values()) == 13


def test_a_batch_left_running_is_collected_by_the_next_run(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        _killed_after_submission(server, tmp_path)
        server.polls_until_done = 0
        assert ask(server, tmp_path) == 12
        assert (server.attempts, len(server.batches)) == (0, 1)
        assert set(server.answered.values()) == {1}


def test_a_batch_whose_id_was_never_written_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = AsyncBatches.create

    async def created_but_lost(self: AsyncBatches, **values: Any) -> None:
        await create(self, **values)
        raise ZeroDivisionError("killed here")

    with LlmServer(good) as server:
        monkeypatch.setattr(AsyncBatches, "create", created_but_lost)
        with pytest.raises(ZeroDivisionError):
            ask(server, tmp_path)
        monkeypatch.setattr(AsyncBatches, "create", create)
        assert ask(server, tmp_path) == 12
        assert (server.attempts, len(server.batches)) == (0, 1)
        assert set(server.answered.values()) == {1}


def test_a_batch_that_is_not_taken_is_an_error_and_costs_nothing(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        _killed_after_submission(server, tmp_path)
        server.batches[0] |= {
            "status": "failed",
            "errors": {"object": "list", "data": [{"message": "too much queued"}]},
        }
        with pytest.raises(ServiceUnavailableError, match="too much queued"):
            ask(server, tmp_path)
        assert Ledger(tmp_path).spent().tokens == 0
        server.polls_until_done = 0
        assert ask(server, tmp_path) == 12


def test_a_batch_that_the_server_forgot_is_named(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        _killed_after_submission(server, tmp_path)
        server.batches.clear()
        with pytest.raises(DataError, match=r"batches/[0-9a-f]+\.json: the server knows no batch"):
            ask(server, tmp_path)


def test_the_budget_bounds_batches(tmp_path: Path) -> None:
    with LlmServer(good) as server:
        with pytest.raises(BudgetSpentError):
            ask(server, tmp_path, budget_tokens=6 * ONE + 400, concurrency=2)
        paid = sum(server.answered.values())
        assert 1 <= paid <= 9
        assert Ledger(tmp_path).spent().tokens == paid * ONE
        assert ask(server, tmp_path, budget_tokens=100 * ONE) == 12
        assert set(server.answered.values()) == {1}


def test_a_server_without_batches_says_so(tmp_path: Path) -> None:
    with LlmServer(good) as server, pytest.raises(ConfigError, match="has no batch service"):
        ask_at = service(server.url + "/nowhere", use_batch_api=True)
        list(open_model(model(), ask_at, cache=tmp_path).ask(PROMPTS))


PROGRAM = """
import sys
from pathlib import Path
from miras.llm import batches
from miras.llm.asking import open_model
from tests.unit.llm.asked import model, prompt, service

batches.FIRST_POLL_S = 0.01
config = service(sys.argv[1], use_batch_api=True)
list(open_model(model(), config, cache=Path(sys.argv[2])).ask(prompt(number) for number in range(12)))
"""


def _submitted(server: LlmServer, cache: Path) -> subprocess.Popen[bytes]:
    """A process that has submitted a batch and waits for it."""
    server.polls_until_done = 10**9
    command = [sys.executable, "-c", PROGRAM, server.url, str(cache)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 60
    while not (server.batches and server.batches[0]["polls"] > 1):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def _killed_after_submission(server: LlmServer, cache: Path) -> None:
    process = _submitted(server, cache)
    process.kill()
    process.wait()
