"""Fifty browsers on the chat page at once: nobody sees anything of another, memory stays bounded, a full line says so.

Real connections to a real server; a part of the browsers is Chromium where it is installed.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import uvicorn
from PIL import Image

from miras.chat import app as page
from miras.chat.answerers import Answerer
from miras.chat.app import ChatServer
from miras.chat.config import ChatLimits
from miras.chat.requests import MAX_REFERENCES
from miras.model.talk import TalkMemory
from miras.open_dialogue import Answer, OpenDialogue
from tests.unit.chat.conftest import answerers, limits  # noqa: F401

CLIENTS, PAGES = 50, 8
WIDTH, HEIGHT = 50, 30
WAIT_S = 120
UNNAMED, NO_WORDS = "▣", "(no words)"  # what the page says in place of words
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Site:
    """The page's address and what is behind it."""

    address: str
    server: ChatServer

    @property
    def memory(self) -> TalkMemory:
        return self.server.worker._memory


@contextmanager
def running(models: list[Answerer], bounds: ChatLimits, folder: Any, monkeypatch: Any) -> Iterator[Site]:
    made: list[ChatServer] = []

    class Kept(ChatServer):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(page, "ChatServer", Kept)
    app = page.build_app(models, bounds, corrections=folder / "corrections")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield Site(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", made[0])
    finally:
        server.should_exit = True
        thread.join()


def png(number: int) -> bytes:
    """Another picture for every client."""
    pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def questions(number: int) -> list[str]:
    return [f"client {number} asks for thing {7 * number}", f"and {number}?", f"what of {number + 1}?"]


def expected(answerer: Answerer, number: int) -> list[Answer]:
    """What a client must be told, asked alone; the last question is about the masks of the first answer."""
    talk: OpenDialogue = answerer.model.dialogue(png(number))
    first, second, third = questions(number)
    talk.ask(first)
    talk.ask(second)
    marked = [at for at, target in enumerate(talk.answers[0].targets) if target.mask.any()]
    for at in marked[:MAX_REFERENCES]:
        talk.refer(0, at)
    talk.ask(third)
    return talk.answers


def shown(turn: dict[str, Any]) -> tuple[str, list[tuple[str, int]]]:
    """Words, and name and area of each mask, of a turn as the page gets it."""
    answer = turn["answers"]["0"]
    words = "".join(piece["text"] for piece in answer["pieces"])
    return letters(words), [(target["phrase"], target["area"]) for target in answer["targets"]]


def letters(text: str) -> str:
    """Without blanks: where they stand beside markers is another test's matter."""
    return "".join(text.split())


def told(answer: Answer) -> tuple[str, list[tuple[str, int]]]:
    return letters(answer.text), [(target.phrase, int(target.mask.sum())) for target in answer.targets]


async def talk(client: httpx.AsyncClient, number: int) -> list[dict[str, Any]]:
    """Uploads, asks twice, takes back and asks again, then about a mask; returns the turns after a reload."""
    room = (await client.post("/api/dialogues", content=png(number), headers={"x-file-name": f"{number}.png"})).json()
    path = f"/api/dialogues/{room['id']}"

    async def ask(question: str, about: list[dict[str, int]]) -> dict[str, Any]:
        texts = []
        body = {"question": question, "about": about}
        async with client.stream("POST", f"{path}/ask", json=body) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                event = json.loads(line)
                assert event["kind"] != "error", event
                if event["kind"] == "text":
                    texts.append(event["text"])
        turn: dict[str, Any] = event["turn"]
        assert letters((texts or [""])[-1]) == shown(turn)[0]
        return turn

    first, second, third = questions(number)
    turn = await ask(first, [])
    await ask("something else?", [])
    await client.post(f"{path}/undo")
    await ask(second, [])
    marked = [at for at, target in enumerate(turn["answers"]["0"]["targets"]) if target["area"]]
    await ask(third, [{"model": 0, "turn": 0, "target": at} for at in marked[:MAX_REFERENCES]])
    listed = (await client.get("/api/dialogues")).json()
    assert [(item["id"], item["title"]) for item in listed] == [(room["id"], f"{number}.png")]
    found: list[dict[str, Any]] = (await client.get(path)).json()["turns"]
    return found


async def talk_all(address: str, numbers: range) -> list[list[dict[str, Any]]]:
    clients = [httpx.AsyncClient(base_url=address, timeout=WAIT_S) for _ in numbers]
    try:
        return await asyncio.gather(*map(talk, clients, numbers))
    finally:
        for client in clients:
            await client.aclose()


def in_chromium(address: str, numbers: range) -> list[tuple[str, list[str]]]:
    """Title and answers that pages of separate profiles show, all asked before any is looked at."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tabs = [browser.new_context(viewport={"width": 900, "height": 700}).new_page() for _ in numbers]
        for number, tab in zip(numbers, tabs, strict=True):
            tab.set_default_timeout(WAIT_S * 1000)
            tab.goto(address)
            tab.wait_for_selector(".sample img")
            tab.set_input_files("#file", {"name": f"{number}.png", "mimeType": "image/png", "buffer": png(number)})
            tab.wait_for_selector(".idea")
        for question in range(2):
            for number, tab in zip(numbers, tabs, strict=True):
                tab.fill("#question", questions(number)[question])
                tab.press("#question", "Enter")
            for tab in tabs:
                wanted = tab.locator(".answer-end")
                playwright.expect(wanted).to_have_count(question + 1, timeout=WAIT_S * 1000)
        for tab in tabs:
            words = [
                letters(text.replace(UNNAMED, "").replace(NO_WORDS, ""))
                for text in tab.locator(".answer > p").all_inner_texts()
            ]
            found.append((tab.locator(".tab[aria-current]").inner_text(), words))
        browser.close()
    return found


def test_fifty_browsers_at_once_each_have_their_own_dialogue(
    answerers: list[Answerer],  # noqa: F811
    limits: ChatLimits,  # noqa: F811
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = [expected(answerers[0], number) for number in range(CLIENTS + PAGES)]
    assert len({answers[0].text for answers in wanted}) > CLIENTS / 2  # they can be told apart
    small = limits.model_copy(update={"memory_gb": 0.0005})
    with running(answerers, small, tmp_path, monkeypatch) as site, ThreadPoolExecutor(1) as beside:
        pages = beside.submit(in_chromium, site.address, range(CLIENTS, CLIENTS + PAGES)) if CHROMIUM else None
        found = asyncio.run(talk_all(site.address, range(CLIENTS)))
        for turns, answers in zip(found, wanted, strict=False):
            assert [turn["question"] for turn in turns] == [answer.question for answer in answers]
            assert [shown(turn) for turn in turns] == [told(answer) for answer in answers]
        for (title, words), answers in zip(pages.result() if pages else (), wanted[CLIENTS:], strict=True):
            assert title.split(".png")[0] == answers[0].question.split()[1]
            assert words == [told(answer)[0] for answer in answers[:2]]
        assert site.memory.dropped > 0  # the bound was reached, and nobody saw it
        assert site.memory.num_bytes <= 0.0005e9


def test_many_browsers_that_come_and_go_do_not_fill_the_memory(
    answerers: list[Answerer],  # noqa: F811
    limits: ChatLimits,  # noqa: F811
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = limits.model_copy(update={"max_sessions": 10, "memory_gb": 0.0005})
    with running(answerers, few, tmp_path, monkeypatch) as site:

        def visits(client: httpx.Client, count: int) -> None:
            for number in range(count):
                client.cookies.clear()  # another browser
                room = client.post("/api/dialogues", content=png(number)).json()
                client.post(f"/api/dialogues/{room['id']}/ask", json={"question": "what is it?"})

        def memory_after(count: int) -> int:
            with ThreadPoolExecutor(10) as threads, httpx.Client(base_url=site.address, timeout=WAIT_S) as first:
                clients = [first, *(httpx.Client(base_url=site.address, timeout=WAIT_S) for _ in range(9))]
                list(threads.map(visits, clients, [count // 10] * 10))
            gc.collect()
            return int(psutil.Process().memory_info().rss)

        memory = [memory_after(100) for _ in range(4)]
        print("resident bytes after every 100 visits:", memory)
        assert memory[-1] - memory[0] < 20e6
        assert site.memory.num_bytes <= 0.0005e9
        assert len(site.server.rooms._sessions) <= 10


def test_a_full_line_is_said_and_nobody_in_it_is_lost(
    answerers: list[Answerer],  # noqa: F811
    limits: ChatLimits,  # noqa: F811
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(answerers, limits.model_copy(update={"max_queue": 5}), tmp_path, monkeypatch) as site:
        clients = [httpx.Client(base_url=site.address, timeout=WAIT_S) for _ in range(CLIENTS)]
        paths = [f"/api/dialogues/{client.post('/api/dialogues', content=png(0)).json()['id']}" for client in clients]
        with ThreadPoolExecutor(CLIENTS) as threads:
            body = {"question": "what is it?"}
            ask = lambda client, path: client.post(f"{path}/ask", json=body)  # noqa: E731
            found = list(threads.map(ask, clients, paths))
        refused = [answer for answer in found if answer.status_code == 503]
        assert refused
        assert all(
            "questions wait for the model. Try again in a moment." in answer.json()["message"] for answer in refused
        )
        for client, path, answer in zip(clients, paths, found, strict=True):
            is_taken = answer.status_code == 200
            assert is_taken or answer.status_code == 503
            assert len(client.get(path).json()["turns"]) == is_taken
            if is_taken:
                assert json.loads(answer.text.splitlines()[-1])["kind"] == "done"
            client.close()
