"""A page with a real, untrained model that marks something in nearly every answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from miras.chat.answerers import Answerer, open_answerers
from miras.chat.app import build_app
from miras.chat.config import ChatLimits, read_limits
from miras.chat.rooms import Room
from miras.dialogue.masks import encode
from miras.model.records import Group, Response
from miras.model.talk import Said
from miras.sources.pictures import encode_png
from miras.sources.scenes import render_scene
from tests.unit.model.tiny_network import tiny_mini, write_backbones
from tests.unit.test_export import export, settings, train

ROOT = Path(__file__).parents[3]
HEIGHT, WIDTH = 30, 50


@pytest.fixture(scope="session")
def answerers(tmp_path_factory: pytest.TempPathFactory) -> list[Answerer]:
    """Two models: with other weights each, both with memory of masks."""
    folder = tmp_path_factory.mktemp("chat-models")
    backbones = write_backbones(folder / "backbones", tiny_mini())
    for name, preset in (("one", "miras-memory"), ("two", "segllm")):
        train(backbones, folder / f"{name}-stage2", max_tokens=4096, **settings(preset))
        export(weights=folder / f"{name}-stage2", backbones=backbones.folder, out=folder / name)
    return open_answerers([str(folder / "one"), str(folder / "two")], device="cpu")


@pytest.fixture
def limits() -> ChatLimits:
    """Those that come with miras, for smaller uploads."""
    return read_limits(ROOT / "infra" / "chat.yaml").model_copy(update={"max_body_mb": 1})


@pytest.fixture
def client(answerers: list[Answerer], limits: ChatLimits, tmp_path: Path) -> Iterator[TestClient]:
    """A browser on a page of both models."""
    with TestClient(build_app(answerers, limits, corrections=tmp_path / "corrections")) as browser:
        yield browser


@pytest.fixture
def picture() -> bytes:
    """A PNG of 50 x 30, of which both models say words and mark something."""
    scene = Image.fromarray(render_scene(5, size_px=64).pixels)
    return encode_png(scene.crop((0, 64 - 4 - HEIGHT, WIDTH, 64 - 4)))


@pytest.fixture
def told_room(answerers: list[Answerer], picture: bytes) -> Room:
    """A dialogue whose answers are known: two cups, then the left cup's handle, asked about with its mask."""
    talk = answerers[0].model.dialogue(picture)
    left, right, handle = square(2, 12), square(20, 30), square(4, 6)
    first = Response(
        answer="I see the [OBJ]left cup[SEG] and the [OBJ]right cup[SEG] .",
        groups=(Group("left cup", left, 0.9), Group("right cup", right, 0.8)),
        seconds=0.1,
    )
    second = Response(answer="It is [OBJ]its handle[SEG].", groups=(Group("its handle", handle, 0.7),), seconds=0.1)
    talk.state.said = (
        Said("Which cups are there?", (), first),
        Said("Where does one hold this?", (left,), second),
    )
    assert encode(left) != encode(right)
    return Room("cups.png", {0: talk})


def square(first: int, last: int) -> np.ndarray:
    """A mask of the picture's size that is set between two numbers, in rows and columns."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[first : min(last, HEIGHT - 1), first:last] = True
    return mask
