"""Load on `miras serve`: `python -m benchmarks.serve [--quick] [--device cpu|cuda] [--size tiny|7b]`.

A server in a process of its own; clients that each hold one dialogue after the other, three questions about a new
picture, every second one streamed. For a minute (quick: five seconds) all at once, against one client alone for a third
of that. Nothing may be dropped; masks must have the size of the client's own picture, which no other client's has; and
some dialogues are asked again alone afterwards, to the same masks.

Weights are random, for time does not depend on them; every answer has the same tokens, with one mask.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from PIL import Image

from benchmarks.report import Row, compare, device_name, publish
from benchmarks.talk import make_talker
from benchmarks.train_setup import SCALES
from miras.config import read_yaml
from miras.dialogue.masks import decode
from miras.dialogue.records import Rle
from miras.serve.app import ServedModel, Service
from miras.serve.config import SERVE, ServeConfig
from miras.serve.server import listen, server_config

CLIENTS = 32
SECONDS, QUICK_SECONDS = 60.0, 5.0
QUESTIONS = ("where is the red mug on the left?", "and its handle?", "what stands next to it? please segment it.")
CHECKED = 16  # dialogues that are asked again
LEAST_IOU = 0.95  # sums in another order move the rims of random masks by some pixels


@dataclass
class Dialogue:
    """What a client sent and got."""

    picture: bytes
    height: int
    width: int
    messages: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of each answer."""
    first: list[float] = field(default_factory=list)
    """Until the first words of each streamed answer."""
    faults: list[str] = field(default_factory=list)
    """Why an answer did not come."""

    @property
    def masks(self) -> list[Rle]:
        """Of all answers."""
        return [
            Rle.model_validate(target["mask"])
            for message in self.messages[1::2]
            for target in message["miras"]["targets"]
        ]


def run_server(size: str, device: str, told: Connection) -> None:
    """In a process of its own; tells its port."""
    values = read_yaml(SERVE) | {"port": 0, "requests_per_minute": 0, "device": device}
    config = ServeConfig.model_validate(values)
    talker = make_talker(SCALES[size], torch.device(device))
    talker.responder.network.eval()
    listening = listen(config.host, config.port)
    told.send(listening.getsockname()[1])
    uvicorn.Server(server_config(Service(talker, ServedModel("benchmark", ""), config))).run(sockets=[listening])


@contextmanager
def served(size: str, device: str) -> Iterator[str]:
    """The address of a running server."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run_server, args=(size, device, there))
    process.start()
    try:
        url = f"http://127.0.0.1:{here.recv()}"
        while not _is_ready(url):
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.join()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def new_dialogue(client: int, number: int, picture_px: int) -> Dialogue:
    """About a picture that nobody else has, of a size that no other client has."""
    height, width = picture_px + client, picture_px
    noise = np.random.default_rng((client, number)).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(buffer, format="JPEG")
    return Dialogue(buffer.getvalue(), height, width)


def hold(url: str, dialogue: Dialogue, *, is_streamed: bool, until: float = float("inf")) -> Dialogue:
    """Asks the questions in order; returns the dialogue."""
    address = "data:image/jpeg;base64," + base64.b64encode(dialogue.picture).decode()
    with httpx.Client(timeout=300) as client:
        for number, question in enumerate(QUESTIONS):
            parts: list[dict[str, Any]] = [{"type": "text", "text": question}]
            if not number:
                parts.append({"type": "image_url", "image_url": {"url": address}})
            asked = [*dialogue.messages, {"role": "user", "content": parts}]
            body = {"model": "benchmark", "messages": asked, "stream": is_streamed}
            started = time.perf_counter()
            if started > until:
                break
            try:
                answer = (_streamed if is_streamed else _whole)(client, f"{url}/v1/chat/completions", body, dialogue)
            except (httpx.HTTPError, KeyError, ValueError) as error:
                dialogue.faults.append(repr(error))
                break
            dialogue.seconds.append(time.perf_counter() - started)
            dialogue.messages = [*asked, answer]
    return dialogue


def _whole(client: httpx.Client, url: str, body: dict[str, Any], dialogue: Dialogue) -> dict[str, Any]:
    del dialogue
    found = client.post(url, json=body).raise_for_status().json()
    message: dict[str, Any] = found["choices"][0]["message"]
    return {name: message[name] for name in ("role", "content", "miras")}


def _streamed(client: httpx.Client, url: str, body: dict[str, Any], dialogue: Dialogue) -> dict[str, Any]:
    started, text, marks = time.perf_counter(), "", None
    with client.stream("POST", url, json=body) as found:
        found.raise_for_status()
        for line in found.iter_lines():
            if not line.startswith("data: {"):
                continue
            delta = json.loads(line[6:])["choices"][0]["delta"]
            if delta.get("content") and not text:
                dialogue.first.append(time.perf_counter() - started)
            text, marks = text + delta.get("content", ""), delta.get("miras", marks)
    if marks is None:
        raise ValueError("the stream ended without marks")
    return {"role": "assistant", "content": text, "miras": marks}


def load(url: str, *, clients: int, seconds: float, picture_px: int, first: int) -> tuple[list[Dialogue], float]:
    """All dialogues that so many clients held in this time, and answers per second.

    `first`: number of the first dialogue of each client, so that no picture comes twice.
    """
    started = time.perf_counter()
    until = started + seconds

    def client(number: int) -> list[Dialogue]:
        held: list[Dialogue] = []
        while time.perf_counter() < until:
            fresh = new_dialogue(number, first + len(held), picture_px)
            held.append(hold(url, fresh, is_streamed=bool((number + len(held)) % 2), until=until))
        return held

    with ThreadPoolExecutor(clients) as pool:
        held = [dialogue for dialogues in pool.map(client, range(clients)) for dialogue in dialogues]
    return held, sum(len(each.seconds) for each in held) / (time.perf_counter() - started)


def mixed_up(url: str, held: Sequence[Dialogue]) -> int:
    """Answers with masks of another size than the client's picture, and dialogues that alone get other masks."""
    answered = [each for each in held if each.seconds]
    wrong = sum(code.size != (each.height, each.width) for each in answered for code in each.masks)
    for each in answered[:: max(1, len(answered) // CHECKED)]:
        again = hold(url, Dialogue(each.picture, each.height, each.width), is_streamed=False)
        pairs = zip(each.masks, again.masks, strict=False)
        is_same = len(each.masks) == len(each.seconds) and all(_is_alike(one, other) for one, other in pairs)
        wrong += bool(again.faults) or not is_same
    return wrong


def _is_alike(one: Rle, other: Rle) -> bool:
    first, second = decode(one), decode(other)
    either = np.logical_or(first, second).sum()
    return not either or bool(np.logical_and(first, second).sum() / either >= LEAST_IOU)


def _none_row(measure: str, count: int, unit: str) -> Row:
    return Row(measure, float(count), None, None, unit, "0", count == 0)


def _percentile(values: Sequence[float], percent: int) -> float | None:
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else None


def rows_of(url: str, *, clients: int, seconds: float, picture_px: int) -> list[Row]:
    """Everybody at once against one client."""
    load(url, clients=1, seconds=min(2.0, seconds), picture_px=picture_px, first=10**6)  # warms up
    alone, slow = load(url, clients=1, seconds=seconds / 3, picture_px=picture_px, first=10**5)
    held, fast = load(url, clients=clients, seconds=seconds, picture_px=picture_px, first=0)
    faults = [fault for each in held for fault in each.faults]
    for fault in sorted(set(faults)):
        print(f"fault: {fault}")
    answers = sum(len(each.seconds) for each in held)
    name = f"{clients} clients for {seconds:g} s, {answers} answers"
    rows = [
        _none_row(f"{name}: dropped", len(faults), "answers"),
        _none_row(f"{name}: mixed up", mixed_up(url, held), "answers"),
        compare("answers per second (other: one client)", ours=fast, other=slow, unit="answers/s", more_is_better=True),
    ]
    for said, get in (("first words", lambda each: each.first), ("text and masks", lambda each: each.seconds)):
        ours, other = ([second for each in some for second in get(each)] for some in (held, alone))
        for percent in (50, 95):
            measure = f"{said}, {percent}th percentile of {clients} clients (other: one client)"
            rows.append(compare(measure, ours=_percentile(ours, percent), other=_percentile(other, percent), unit="s"))
    return rows


def main() -> None:
    """Runs the benchmark and writes benchmarks/results/serve-<size>-<device>.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five seconds")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=("tiny", "7b"), default="tiny")
    options = parser.parse_args()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    with served(options.size, options.device) as url:
        rows = rows_of(url, clients=CLIENTS, seconds=seconds, picture_px=SCALES[options.size].picture_px)
    publish(f"serve-{options.size}", device_name(torch.device(options.device)), rows, is_quick=options.quick)


if __name__ == "__main__":
    main()
