"""Amazon's services on this machine: moto over HTTP, and a front before it that breaks requests on purpose."""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from miras.launch.aws import client

BUCKET = "a-bucket"
SECRET = "planted-secret-0123456789"
Fault = Callable[[str, str], str]
"""Method and path -> "cut", "flip", the code of an error to answer, or empty: forwarded."""


@contextmanager
def moto() -> Iterator[str]:
    """The address of a new server, with the bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        keys = {"region_name": "us-east-1", "aws_access_key_id": "aws", "aws_secret_access_key": "aws"}
        boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket=BUCKET)
        yield address
    finally:
        server.stop()


def use(address: str, monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    """From now on boto3 talks to this address, with a planted secret and no other login."""
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "submitter",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(nowhere / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(nowhere / "no-credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    client.cache_clear()


class Front:
    """Forwards to a server; `fault` says what goes wrong. Like S3 it refuses content that is not what was promised."""

    def __init__(self, behind: str) -> None:
        self.fault: Fault = lambda method, path: ""
        self.seen: list[str] = []
        self._behind = behind.removeprefix("http://")
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                front._serve(self)

            do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, asked: BaseHTTPRequestHandler) -> None:
        self.seen.append(f"{asked.command} {asked.path}")
        fault = self.fault(asked.command, asked.path)
        length = int(asked.headers.get("Content-Length", 0))
        if fault == "cut":
            asked.rfile.read(length // 2)
            asked.close_connection = True
            asked.connection.close()
            return
        body = asked.rfile.read(length)
        if fault == "flip":
            body = bytes([body[0] ^ 1]) + body[1:]
            fault = ""
        promised = asked.headers.get("x-amz-checksum-sha256")
        if promised and promised != base64.b64encode(hashlib.sha256(body).digest()).decode():
            fault = "BadDigest"
        if fault:
            self._refuse(asked, fault)
            return
        there = http.client.HTTPConnection(self._behind)
        there.request(asked.command, asked.path, body=body, headers=dict(asked.headers.items()))
        answer = there.getresponse()
        content = answer.read()
        asked.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                asked.send_header(name, value)
        size = answer.getheader("Content-Length") if asked.command == "HEAD" else str(len(content))
        asked.send_header("Content-Length", size or "0")
        asked.end_headers()
        asked.wfile.write(content)

    def _refuse(self, asked: BaseHTTPRequestHandler, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>as asked, AKIAABCDEFGHIJKLMNOP</Message></Error>".encode()
        asked.send_response_only(503 if code == "SlowDown" else 403 if code == "AccessDenied" else 400)
        asked.send_header("Content-Length", str(len(text)))
        asked.end_headers()
        if asked.command != "HEAD":
            asked.wfile.write(text)
