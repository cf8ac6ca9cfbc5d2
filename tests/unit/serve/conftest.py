"""A served model, and servers on free ports of this machine."""

from __future__ import annotations

import base64
import contextlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from openai import OpenAI
from PIL import Image

from miras.model.records import Response
from miras.model.talk import Talk
from miras.model.talker import Talker, TalkSteps
from miras.pretrained import Miras
from miras.serve.app import ServedModel, Service
from miras.serve.config import ServeConfig
from miras.serve.server import listen, server_config
from tests.unit.model.tiny_network import tiny_mini, write_backbones
from tests.unit.test_export import export, settings, train

LIMITS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "trusted_proxies": [],
    "api_key_variable": "",
    "max_body_mb": 4,
    "max_megapixels": 4,
    "max_turns": 8,
    "max_question_characters": 1000,
    "max_queue": 100,
    "max_batch": 8,
    "batch_wait_ms": 5.0,
    "timeout_s": 60.0,
    "requests_per_minute": 0,
    "memory_gb": 1.0,
    "device": "cpu",
    "dtype": "float32",
}


@dataclass
class Running:
    """A server and its address."""

    url: str
    service: Service

    def client(self, key: str = "none") -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def create(self, *, key: str = "none", **body: Any) -> Any:
        """What OpenAI's client makes of an answer."""
        create: Any = self.client(key).chat.completions.create
        return create(model="tiny", **body)

    def metric(self, name: str) -> float:
        """Value of a line of /metrics."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def picture(number: int = 0, width: int = 50, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def data_address(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def asking(text: str, image: Image.Image | None = None, **extra: Any) -> dict[str, Any]:
    """A user message."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if image is not None:
        parts.append({"type": "image_url", "image_url": {"url": data_address(png(image))}})
    return {"role": "user", "content": parts} | extra


@contextlib.contextmanager
def running(talker: Talker, **limits: Any) -> Iterator[Running]:
    """A real server in a thread of its own."""
    config = ServeConfig.model_validate(LIMITS | limits)
    service = Service(talker, ServedModel("tiny", "0123"), config)
    listening = listen(config.host, config.port)
    server = uvicorn.Server(server_config(service))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield Running(f"http://127.0.0.1:{listening.getsockname()[1]}", service)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()


@pytest.fixture(scope="package")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not trained, but it marks something in nearly every answer."""
    folder = tmp_path_factory.mktemp("served")
    backbones = write_backbones(folder / "backbones", tiny_mini())
    train(backbones, folder / "stage2", max_tokens=4096, **settings("miras-memory"))
    return export(weights=folder / "stage2", backbones=backbones.folder, out=folder / "exported").folder


@pytest.fixture(scope="package")
def model(exported: Path) -> Miras:
    return Miras.from_pretrained(exported)


class Fluent(Talker):
    """Says two or three words of its own choice between markers: the form of an answer, whatever the weights."""

    def __init__(self, model: Miras) -> None:
        super().__init__(model.talker.responder)
        self.delay_s = 0.0
        """Before every token."""
        self.step = 0
        self.rows: list[int] = []
        """How many answers were computed at each step."""
        builder, head = self.responder.builder, self.responder.network.text_output
        markers = [builder.obj_id, builder.seg_id, builder.ref_id, builder.image_id, builder.mask_id, builder.box_id]
        forced = {3: builder.obj_id, 6: builder.seg_id, 9: builder.obj_id, 11: builder.seg_id, 14: builder.end_id}
        free = head.forward

        def shaped(states: torch.Tensor) -> torch.Tensor:
            logits = free(states).clone()
            self.rows.append(len(states))
            logits[..., [*markers, builder.end_id]] = -1e4
            if self.step in forced:
                logits[..., forced[self.step]] = 1e4
            self.step += 1
            return logits

        self.shaped, self.free, self.head = shaped, free, head

    def stream(self, talks: Sequence[Talk], asked: Sequence[tuple[str, Sequence[np.ndarray]]]) -> TalkSteps:
        self.step = 0
        self.head.forward = self.shaped
        try:
            steps = super().stream(talks, asked)
            gone = None
            while True:
                time.sleep(self.delay_s)
                try:
                    gone = yield (next(steps) if gone is None else steps.send(gone))
                except StopIteration as end:
                    found: list[Response | None] = end.value
                    return found
        finally:
            self.head.forward = self.free


@pytest.fixture(scope="package")
def talker(model: Miras) -> Fluent:
    return Fluent(model)


@pytest.fixture(scope="package")
def server(talker: Fluent) -> Iterator[Running]:
    with running(talker) as found:
        yield found
