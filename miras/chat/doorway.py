"""What every request passes: the browser's session, refusal of other sites' requests, headers that keep scripts out."""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "miras_session"
SESSION_KEY = "miras_session"  # where requests find the name of their session
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Doorway:
    """Plain ASGI, so that a browser that goes away still stops its answer."""

    def __init__(self, app: ASGIApp, *, open_session: Callable[[str | None], str]) -> None:
        """`open_session`: gives the name of the session for the cookie's value, or a new one."""
        self._app, self._open_session = app, open_session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD") and _is_from_elsewhere(headers):
            refused = JSONResponse({"message": "Requests from other sites are not taken."}, status_code=403)
            await refused(scope, receive, send)
            return
        known = _cookie(headers)
        session = self._open_session(known)
        scope[SESSION_KEY] = session

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                outgoing = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    outgoing.setdefault(name, value)
                if session != known:
                    outgoing.append("set-cookie", f"{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _is_from_elsewhere(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None else None
