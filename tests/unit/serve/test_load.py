"""Many clients, clients that go away, full queues, time limits, failures: nobody sees anything of another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import APIStatusError

from miras.open_dialogue import OpenDialogue
from miras.serve.shelf import Shelf
from tests.unit.serve.conftest import Fluent, Running, asking, picture, running

CLIENTS = 50


@pytest.fixture
def slow(talker: Fluent) -> Iterator[Fluent]:
    """Half a second per answer and more."""
    talker.delay_s = 0.04
    yield talker
    talker.delay_s = 0.0


def post(server: Running, **body: Any) -> httpx.Response:
    body = {"model": "tiny", "messages": [asking("what is it?", picture())]} | body
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def wait_for(server: Running, name: str, value: float) -> None:
    for _ in range(500):
        if server.metric(name) == value:
            return
        time.sleep(0.01)
    raise AssertionError(f"{name} is {server.metric(name)}, not {value}")


def test_fifty_clients_at_once_each_get_their_own_dialogue(talker: Fluent) -> None:
    questions = [[f"number {client} asks for thing {client * 7}", f"and {client}?"] for client in range(CLIENTS)]
    expected = []
    for client in range(CLIENTS):
        talk = OpenDialogue(talker, picture(client, 40 + client, 30))
        expected.append([talk.ask(text) for text in questions[client]])
    assert len({answers[0].text for answers in expected}) > CLIENTS / 2  # they can be told apart

    def ask(server: Running, client: int) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        for number, text in enumerate(questions[client]):
            messages.append(asking(text, None if number else picture(client, 40 + client, 30)))
            if client % 2:
                stream = list(server.create(messages=messages, stream=True))
                said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
                marks = stream[-1].choices[0].delta.miras
                messages.append({"role": "assistant", "content": said, "miras": marks})
            else:
                whole = server.create(messages=messages)
                messages.append(whole.choices[0].message.model_dump())
        return messages[1::2]

    with running(talker, memory_gb=0.0005) as server, ThreadPoolExecutor(CLIENTS) as clients:
        found = list(clients.map(lambda client: ask(server, client), range(CLIENTS)))
        assert server.metric("miras_requests_total") == 2 * CLIENTS
        assert server.metric("miras_batch_size_count") < 2 * CLIENTS  # some were answered together
        assert server.metric("miras_dropped_dialogues") > 0
        assert server.metric("miras_kept_bytes") <= 0.0005e9
    for answers, theirs in zip(found, expected, strict=True):
        for answer, other in zip(answers, theirs, strict=True):
            assert answer["content"] == other.text
            assert [t["phrase"] for t in answer["miras"]["targets"]] == [t.phrase for t in other.targets]
            assert [tuple(t["box_xyxy"]) for t in answer["miras"]["targets"]] == [t.box for t in other.targets]


def test_a_client_that_leaves_frees_its_place_and_leaves_no_trace(slow: Fluent) -> None:
    with running(slow, max_batch=1, max_queue=1) as server:
        body = {"model": "tiny", "messages": [asking("what is it?", picture())], "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
            next(answer.iter_lines())
        wait_for(server, "miras_gone_clients_total", 1)
        assert server.metric("miras_kept_dialogues") == 0
        assert server.metric("miras_answer_seconds_count") == 0
        slow.delay_s = 0.0
        assert post(server).status_code == 200
        assert server.metric('miras_kept_found_total{what="nothing"}') == 2
        assert server.service.gate._places == 2


def test_a_client_that_leaves_a_shared_batch_is_not_computed_any_more(slow: Fluent) -> None:
    slow.rows.clear()
    with running(slow, batch_wait_ms=2000.0, max_batch=2) as server, ThreadPoolExecutor(1) as clients:
        stays = clients.submit(post, server)
        body = {"model": "tiny", "messages": [asking("left", picture(1))], "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as answer:
            next(answer.iter_lines())
        wait_for(server, "miras_gone_clients_total", 1)
        found = stays.result()
        assert found.status_code == 200
        assert server.metric("miras_batch_size_sum") == 2
        assert server.metric("miras_answer_seconds_count") == 1
        assert server.metric("miras_kept_dialogues") == 1
        alone = post(server)
    assert slow.rows[0] == 2
    assert slow.rows[14] == 1  # of the 15 steps of an answer
    assert found.json()["choices"] == alone.json()["choices"]


def test_a_client_that_leaves_the_line_is_never_asked(slow: Fluent) -> None:
    with running(slow, max_batch=1) as server, ThreadPoolExecutor(1) as clients:
        first = clients.submit(post, server)
        wait_for(server, "miras_batch_size_count", 1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{server.url}/v1/chat/completions",
                json={"model": "tiny", "messages": [asking("left", picture(1))]},
                timeout=0.2,
            )
        wait_for(server, "miras_gone_clients_total", 1)
        assert server.metric("miras_queue_length") == 0
        assert first.result().status_code == 200
        assert server.metric("miras_batch_size_count") == 1


def test_a_full_queue_says_so_and_when_to_come_back(slow: Fluent) -> None:
    with running(slow, max_batch=1, max_queue=1) as server, ThreadPoolExecutor(4) as clients:
        found = list(clients.map(lambda _: post(server), range(4)))
        statuses = sorted(each.status_code for each in found)
        assert statuses == [200, 200, 503, 503]
        busy = next(each for each in found if each.status_code == 503)
        assert busy.json()["error"]["code"] == "overloaded"
        assert int(busy.headers["retry-after"]) > 0
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert post(server).status_code == 200


def test_what_takes_too_long_ends_with_504_or_within_the_stream(slow: Fluent) -> None:
    slow.delay_s = 0.1
    with running(slow, timeout_s=0.5) as server:
        late = post(server)
        assert late.status_code == 504
        assert late.json()["error"]["code"] == "timeout"
        lines = [line for line in post(server, stream=True).text.splitlines() if line]
        assert '"code":"timeout"' in lines[-1]
        assert "data: [DONE]" not in lines
        wait_for(server, 'miras_requests_total{endpoint="chat",status="504"}', 2)


def test_a_body_that_does_not_come_is_not_waited_for(talker: Fluent) -> None:
    with running(talker, timeout_s=0.3) as server:
        ever = threading.Event()

        def dripping() -> Iterator[bytes]:
            yield b'{"model":'
            ever.wait(2)
            yield b"}"

        head = {"Content-Type": "application/json"}
        found = httpx.post(f"{server.url}/segment", content=dripping(), headers=head, timeout=10)
        assert found.status_code == 408


def test_what_one_question_breaks_does_not_hit_its_neighbours(
    talker: Fluent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Fluent.stream

    def breaking(self: Fluent, talks: Any, asked: Any) -> Any:
        if any("poison" in text for text, _ in asked):
            raise ValueError("the question was: poison")
        return stream(self, talks, asked)

    monkeypatch.setattr(Fluent, "stream", breaking)
    texts = ["a mug", "poison", "a cat", "a dog"]
    with running(talker, batch_wait_ms=500.0, max_batch=4) as server, ThreadPoolExecutor(4) as clients:
        with caplog.at_level(logging.DEBUG):
            found = list(clients.map(lambda text: post(server, messages=[asking(text, picture())]), texts))
        assert [each.status_code for each in found] == [200, 500, 200, 200]
        assert "poison" not in found[1].text
        assert "Traceback" not in found[1].text
        ours = [record.getMessage() for record in caplog.records if record.name == "miras.serve"]
        assert any("error=ValueError" in line for line in ours)
        assert not any("poison" in line or "mug" in line for line in ours)
        assert server.metric("miras_batch_size_sum") == 4 + 4  # together, then each alone
        assert post(server).status_code == 200


def test_a_failure_after_the_answers_does_not_stop_the_engine(talker: Fluent, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(talker) as server:
        monkeypatch.setattr(Shelf, "keep", lambda *_: (_ for _ in ()).throw(MemoryError))
        assert post(server).status_code == 200
        monkeypatch.undo()
        assert post(server).status_code == 200


def test_a_client_in_a_hurry_is_told_when_to_go_on(talker: Fluent) -> None:
    with running(talker, requests_per_minute=3) as server:
        found = [post(server) for _ in range(4)]
        assert [each.status_code for each in found] == [200, 200, 200, 429]
        assert 1 <= int(found[3].headers["retry-after"]) <= 20
        assert found[3].json()["error"]["type"] == "rate_limit_error"
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_behind_a_proxy_clients_are_told_apart(talker: Fluent) -> None:
    body = {"picture": "x", "question": "?"}
    for proxies, statuses in ((["127.0.0.1"], [422, 422, 429]), ([], [422, 429, 429])):
        with running(talker, requests_per_minute=1, trusted_proxies=proxies) as server:
            found = [
                httpx.post(f"{server.url}/segment", json=body, headers={"X-Forwarded-For": client}).status_code
                for client in ("10.0.0.1", "10.0.0.2", "10.0.0.1")
            ]
            assert found == statuses


def test_without_the_key_only_health_is_told(talker: Fluent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAS_TEST_KEY", "s3cret")
    with running(talker, api_key_variable="MIRAS_TEST_KEY") as server:
        assert httpx.get(f"{server.url}/health").status_code == 200
        for path in ("/metrics", "/v1/models"):
            assert httpx.get(server.url + path).status_code == 401
        messages = [asking("what is it?", picture())]
        for key in ("none", "s3cre", "s3crett", "\xfc"):
            with pytest.raises((APIStatusError, UnicodeEncodeError)) as error:
                server.create(key=key, messages=messages)
            assert getattr(error.value, "status_code", 401) == 401
            assert "s3cret" not in str(error.value)
        right = server.create(key="s3cret", messages=messages)
        assert right.choices[0].message.content
