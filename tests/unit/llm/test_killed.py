"""A real process, killed with -9 in the middle of its calls, again and again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from miras.llm.budget import Ledger
from tests.llm_server import ANSWER_TOKENS, PROMPT_TOKENS, LlmServer, Said

PROGRAM = """
import sys
from pathlib import Path
from miras.llm.asking import open_model
from tests.unit.llm.asked import model, prompt, service

opened = open_model(model(), service(sys.argv[1], concurrency=4), cache=Path(sys.argv[2]))
print("ready", flush=True)
print(sum(1 for _ in opened.ask(prompt(number) for number in range(60))))
"""


def start(server: LlmServer, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, server.url, str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def test_a_kill_pays_at_most_the_calls_under_way_and_no_answer_twice(tmp_path: Path) -> None:
    with LlmServer(lambda request: Said('{"name": "red"}', delay_s=0.03)) as server:
        kept: set[str] = set()
        for kill in (1, 2):
            process = start(server, tmp_path)
            deadline = time.monotonic() + 60
            while sum(server.answered.values()) < 15 * kill and time.monotonic() < deadline:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kept |= {path.name for path in (tmp_path / "answers").rglob("[0-9a-f]*.json")}
        assert 20 <= len(kept) < 60
        last = start(server, tmp_path)
        out, _ = last.communicate(timeout=60)
        assert out.split() == ["ready", "60"]
        paid = sum(server.answered.values())
        assert 60 <= paid <= 60 + 2 * 4  # two kills, four calls under way at each
        assert max(server.answered.values()) <= 3
    # what the kills broke off counts in full: nobody knows whether it was charged
    assert Ledger(tmp_path).spent().tokens >= paid * (PROMPT_TOKENS + ANSWER_TOKENS)


def test_two_processes_that_share_a_cache_pay_each_question_once(tmp_path: Path) -> None:
    with LlmServer(lambda request: Said('{"name": "red"}', delay_s=0.02)) as server:
        both = [start(server, tmp_path) for _ in range(2)]
        for process in both:
            out, _ = process.communicate(timeout=60)
            assert out.split() == ["ready", "60"]
        assert len(server.answered) == 60
        assert set(server.answered.values()) == {1}
