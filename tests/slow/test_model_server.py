"""`mlflow models serve` with a registered model: the answers and masks of `Miras.from_pretrained`, over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from miras.dialogue.masks import decode
from miras.dialogue.records import Rle
from miras.dialogue.rendering import plain_text
from miras.pretrained import Miras
from tests.unit.model.tiny_network import tiny_mini, write_backbones
from tests.unit.test_export import export, settings, train

ROOT = Path(__file__).parents[2]
QUESTIONS = ["what is the red mug on the left", "and its handle?", "segment both of them, please."]
START_S, ANSWER_S = 180, 120

pytestmark = pytest.mark.slow

REGISTER = """
import sys
from pathlib import Path
from tasks.registry.register import RegisterConfig, _log
from mlflow.tracking.client import MlflowClient
version = _log(Path(sys.argv[1]), RegisterConfig(model_name="miras", alias="candidate"), None, {})
MlflowClient().set_registered_model_alias("miras", "candidate", str(version))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not trained, but it marks something in nearly every answer."""
    folder = tmp_path_factory.mktemp("registered")
    backbones = write_backbones(folder / "backbones", tiny_mini())
    train(backbones, folder / "stage2", max_tokens=4096, **settings("miras-memory"))
    return export(weights=folder / "stage2", backbones=backbones.folder, out=folder / "exported").folder


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the registered model, in a process of MLflow's own and a folder without the repository."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("miras", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", folder)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "MLFLOW_EXPERIMENT_NAME": "miras"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | store
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ours = environment | {"PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-c", REGISTER, str(exported)], cwd=folder, env=ours, check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/miras@candidate"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=elsewhere, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(process, address, folder / "server.log")
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(f"{address}/ping", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError(f"not there after {START_S} s: {log.read_text()[-3000:]}")


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def ask(server: str, *rows: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{server}/invocations", json={"dataframe_records": list(rows)}, timeout=ANSWER_S)


def row(content: bytes, questions: Any, refers_to: Any = None) -> dict[str, str]:
    found = {"image": base64.b64encode(content).decode(), "questions": json.dumps(questions)}
    return found if refers_to is None else found | {"refers_to": json.dumps(refers_to)}


def test_the_registered_model_answers_over_http_as_the_export_does(server: str, exported: Path) -> None:
    model, refers_to = Miras.from_pretrained(exported), [[], [0], []]
    answer = ask(server, *(row(png(number), QUESTIONS, refers_to) for number in range(2)))
    assert answer.status_code == 200, answer.text
    for number, found in enumerate(answer.json()["predictions"]):
        expected = model.ask(png(number), QUESTIONS, refers_to=refers_to)
        assert json.loads(found["answers"]) == [plain_text(response.answer) for response in expected]
        masks = json.loads(found["masks"])
        assert sum(map(len, masks)) > 0
        for groups, response in zip(masks, expected, strict=True):
            assert [group["phrase"] for group in groups] == [group.phrase for group in response.groups]
            for group, wanted in zip(groups, response.groups, strict=True):
                code = Rle(size=tuple(group["rle"]["size"]), counts=group["rle"]["counts"])
                assert np.array_equal(decode(code), wanted.mask)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"questions": '["what?"]'}, "image"),
        (row(b"no picture", ["what?"]), "not a picture"),
        ({"image": "?", "questions": '["what?"]'}, "base64"),
        ({"image": row(png(0), [])["image"], "questions": "what?"}, "questions"),
        (row(png(0), [""]), "empty"),
        (row(png(0), ["what?"], [[3]]), "refers_to"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(server: str, wrong: dict[str, str], said: str) -> None:
    answer = ask(server, wrong)
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert ask(server, row(png(0), ["what?"])).status_code == 200
