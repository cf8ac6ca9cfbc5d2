"""A real HTTP server that speaks OpenAI's chat completions, files and batches, and misbehaves on demand.

    with LlmServer(lambda request: '{"a": 1}') as server:
        ServiceConfig(base_url=server.url, api_key_variable="")

`answer` gets the request's JSON and returns the answer's text, or a `Said` with anything that goes wrong.
`server.answered` counts, for each question text, the calls that were answered in full: those that are paid.
"""

from __future__ import annotations

import json
import math
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from miras.llm.cache import AnswerCache
from miras.llm.config import ModelConfig
from miras.llm.records import Prompt
from miras.llm.wire import make_request

PROMPT_TOKENS = 100
ANSWER_TOKENS = 20


@dataclass(frozen=True)
class Said:
    """An answer, and how it goes wrong."""

    text: str = ""
    finish_reason: str = "stop"
    refusal: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0
    is_dropped: bool = False
    """The connection is closed without a response."""
    is_half: bool = False
    """The connection is closed in the middle of the response."""
    body: bytes | None = None
    """Sent in place of a chat completion."""


Answer = Callable[[dict[str, Any]], "str | Said"]


def question(request: dict[str, Any]) -> str:
    """The text of the first question of a request."""
    content = next(message["content"] for message in request["messages"] if message["role"] == "user")
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def unreliable(answer: Answer, *, share: float, seed: int) -> Answer:
    """The answers with that share of calls going wrong in one of the ways that servers and models know."""
    draw = random.Random(seed)
    lock = threading.Lock()

    def misbehaving(request: dict[str, Any]) -> str | Said:
        with lock:
            is_good, which = draw.random() >= share, draw.randrange(9)
        said = answer(request)
        if is_good or not isinstance(said, str):
            return said
        half = said[: len(said) // 2]
        return (
            Said("asdf ghjk %%% no json"),
            Said(half),
            Said("Das kann ich gern beschreiben: ein roter Becher."),
            Said(half, finish_reason="length"),
            Said(status=500),
            Said(status=429, headers={"Retry-After": "0"}),
            Said(is_dropped=True),
            Said(said, is_half=True),
            Said('{"unknown": ["form"]}'),
        )[which]

    return misbehaving


@dataclass
class TokenBucket:
    """A rate limit as servers have it: `rate` calls a second, `burst` at once."""

    rate: float
    burst: float

    def __post_init__(self) -> None:
        self._level = self.burst
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def wait_s(self) -> float:
        """0 and one token taken, or the seconds until there is one."""
        with self._lock:
            now = time.monotonic()
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
            self._at = now
            if self._level >= 1:
                self._level -= 1
                return 0.0
            return (1 - self._level) / self.rate


class LlmServer:
    """Runs while it is entered."""

    def __init__(self, answer: Answer, *, bucket: TokenBucket | None = None, key: str = "") -> None:
        self.answer = answer
        self.bucket = bucket
        self.key = key
        self.answered: Counter[str] = Counter()
        """Calls answered in full, by question."""
        self.attempts = 0
        self.refused = 0
        """Calls beyond the rate."""
        self.requests: list[dict[str, Any]] = []
        """Bodies of all chat requests, in order of arrival."""
        self.files: dict[str, bytes] = {}
        self.batches: list[dict[str, Any]] = []
        """The latest last; a test may change their state."""
        self.polls_until_done = 1
        self.is_ascii = True
        """Whether files of answers escape what is not ASCII."""
        self.lock = threading.Lock()
        server = self

        class Handler(_Handler):
            llm = server

        self._http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> LlmServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    llm: LlmServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/v1/chat/completions":
            self._chat(json.loads(content))
        elif self.path == "/v1/files":
            self._json(200, self._stored(_uploaded(content)))
        elif self.path == "/v1/batches":
            self._json(200, self._begun(json.loads(content)))
        else:
            self._json(404, _error("no such path"))

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].split("/")[2:]
        if parts[0] == "files" and len(parts) == 3 and parts[1] in self.llm.files:
            self._send(200, self.llm.files[parts[1]])
        elif parts == ["batches"]:
            with self.llm.lock:
                listed = list(reversed(self.llm.batches))
            self._json(200, {"object": "list", "data": listed, "has_more": False})
        elif parts[0] == "batches":
            self._poll(parts[1])
        else:
            self._json(404, _error("no such path"))

    def _chat(self, request: dict[str, Any]) -> None:
        with self.llm.lock:
            self.llm.attempts += 1
            self.llm.requests.append(request)
        if self.llm.key and self.headers.get("Authorization") != f"Bearer {self.llm.key}":
            self._json(401, _error(f"Incorrect API key provided: {self.headers.get('Authorization')}"))
            return
        wait_s = self.llm.bucket.wait_s() if self.llm.bucket else 0.0
        if wait_s:
            with self.llm.lock:
                self.llm.refused += 1
            self._json(429, _error("rate limit"), {"Retry-After": str(math.ceil(wait_s))})
            return
        said = self.llm.answer(request)
        self._say(said if isinstance(said, Said) else Said(said), request)

    def _say(self, said: Said, request: dict[str, Any]) -> None:
        time.sleep(said.delay_s)
        if said.is_dropped:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif said.status != 200:
            self._json(said.status, {"error": said.error or {"message": f"status {said.status}"}}, said.headers)
        elif said.body is not None:
            self._send(200, said.body)
        else:
            with self.llm.lock:
                self.llm.answered[question(request)] += not said.is_half
            content = json.dumps(_completion(said, request)).encode()
            self._send(200, content, is_half=said.is_half)

    def _stored(self, content: bytes) -> dict[str, Any]:
        with self.llm.lock:
            name = f"file-{len(self.llm.files)}"
            self.llm.files[name] = content
        return {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": "requests.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    def _begun(self, asked: dict[str, Any]) -> dict[str, Any]:
        with self.llm.lock:
            batch = {
                "id": f"batch-{len(self.llm.batches)}",
                "object": "batch",
                "endpoint": asked["endpoint"],
                "input_file_id": asked["input_file_id"],
                "completion_window": asked["completion_window"],
                "metadata": asked.get("metadata"),
                "status": "in_progress",
                "created_at": int(time.time()),
                "polls": 0,
            }
            self.llm.batches.append(batch)
        return batch

    def _poll(self, name: str) -> None:
        with self.llm.lock:
            batch = next((each for each in self.llm.batches if each["id"] == name), None)
            if batch is not None:
                batch["polls"] += 1
        if batch is None:
            self._json(404, _error("no such batch"))
            return
        if batch["status"] == "in_progress" and batch["polls"] > self.llm.polls_until_done:
            lines = self.llm.files[batch["input_file_id"]].splitlines()
            answers = [self._line(json.loads(line)) for line in lines]
            done = "\n".join(json.dumps(answer, ensure_ascii=self.llm.is_ascii) for answer in answers).encode()
            batch["output_file_id"] = self._stored(done)["id"]
            batch["status"] = "completed"
        self._json(200, batch)

    def _line(self, asked: dict[str, Any]) -> dict[str, Any]:
        said = self.llm.answer(asked["body"])
        said = said if isinstance(said, Said) else Said(said)
        if said.status == 200:
            with self.llm.lock:
                self.llm.answered[question(asked["body"])] += 1
            body = _completion(said, asked["body"])
        else:
            body = _error("this line failed")
        response = {"status_code": said.status, "request_id": "r", "body": body}
        return {"id": "line", "custom_id": asked["custom_id"], "response": response, "error": None}

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), headers)

    def _send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, *, is_half: bool = False
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if is_half:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self.wfile.write(content)


def _completion(said: Said, request: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": None if said.refusal else said.text, "refusal": said.refusal}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": said.finish_reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": ANSWER_TOKENS,
            "total_tokens": PROMPT_TOKENS + ANSWER_TOKENS,
        },
    }


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "param": None, "code": None}}


def _uploaded(form: bytes) -> bytes:
    """The file in a multipart form."""
    boundary = form.partition(b"\r\n")[0]
    for part in form.split(boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        if re.search(rb'name="file"', head):
            return content.removesuffix(b"\r\n")
    raise ValueError("the form holds no file")


def record(folder: Path, prompt: Prompt, model: ModelConfig, text: str) -> None:
    """Puts an answer where `replay` finds it, as if a server had given it."""
    request = make_request(prompt, model, max_answer_tokens=model.max_answer_tokens)
    response = _completion(Said(text), {"model": model.model})
    AnswerCache(folder).put(request.key, response, about={"name": prompt.name, "key": prompt.key})
