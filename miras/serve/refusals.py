"""What the server says when it does not answer: OpenAI's error objects, one sentence, never a traceback."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, Literal

from starlette.responses import JSONResponse

MAX_MESSAGE_CHARACTERS = 500  # parts of a request may be quoted in it

Reason = Literal[
    "invalid_request",
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "too_slow",
    "too_large",
    "wrong_content_type",
    "cannot_be_taken",
    "context_length_exceeded",
    "rate_limit_exceeded",
    "internal_error",
    "overloaded",
    "timeout",
]

STATUS: Mapping[Reason, int] = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "unauthorized": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "too_large": 413,
    "wrong_content_type": 415,
    "cannot_be_taken": 422,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
    "overloaded": 503,
    "timeout": 504,
}


class RefusedError(Exception):
    """A request that is not answered, and why."""

    def __init__(self, reason: Reason, message: str, *, where: str = "", retry_after_s: int | None = None) -> None:
        """`where`: the field of the request that is meant."""
        super().__init__(message)
        self.reason, self.where, self.retry_after_s = reason, where, retry_after_s
        self.message = message[:MAX_MESSAGE_CHARACTERS]

    @property
    def status(self) -> int:
        """Of HTTP."""
        return STATUS[self.reason]

    def body(self) -> dict[str, Any]:
        """As OpenAI's interface writes errors."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.reason in ("unauthorized", "rate_limit_exceeded"):
            kind = "authentication_error" if self.reason == "unauthorized" else "rate_limit_error"
        return {"error": {"message": self.message, "type": kind, "param": self.where or None, "code": self.reason}}

    def response(self) -> JSONResponse:
        """To send."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.reason == "unauthorized":
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), status_code=self.status, headers=headers)


def place_of(error: Exception) -> str:
    """File and line that raised it, for the log: it says where without anything of the request."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{place.filename}:{place.lineno}"
