"""The server as a process: from its start to SIGTERM in the middle of an answer."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from miras.errors import DataError
from miras.serve.config import ServeConfig
from miras.serve.server import listen, serve
from tests.unit.serve.conftest import LIMITS, asking, picture

ROOT = Path(__file__).parents[3]
SCRIPT = """\
import json, sys
from miras.serve.config import ServeConfig
from miras.serve.server import serve
serve(sys.argv[1], ServeConfig.model_validate(json.loads(sys.argv[2])))
"""


def start(exported: Path, **limits: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(exported), json.dumps(LIMITS | limits)]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def test_it_answers_until_it_is_told_to_stop_and_logs_no_content(exported: Path) -> None:
    process = start(exported)
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if "event=ready" in line:
            break
    port = re.search(r"port=(\d+)", log[-1])
    assert port is not None
    url = f"http://127.0.0.1:{port[1]}"
    transport = httpx.HTTPTransport(retries=5)  # it says so a moment before it accepts
    with httpx.Client(transport=transport, timeout=60) as client:
        health = client.get(f"{url}/health").json()
        assert health["model"] == "exported"
        assert re.fullmatch(r"[0-9a-f]{12}", health["version"])
        body = {"model": "exported", "messages": [asking("a secret question", picture())], "stream": True}
        with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert "data: [DONE]" in rest
    _, left = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGTERM)
    log.append(left)
    said = "".join(log)
    assert "event=request endpoint=chat status=200" in said
    assert "Traceback" not in said
    assert "secret" not in said


def test_what_is_no_model_is_an_error_of_the_user_and_frees_the_port(tmp_path: Path) -> None:
    probe = listen("127.0.0.1", 0)
    port = probe.getsockname()[1]
    probe.close()
    for _ in range(2):
        with pytest.raises(DataError, match=r"miras\.json: no such file"):
            serve(str(tmp_path), ServeConfig.model_validate(LIMITS | {"port": port}))
