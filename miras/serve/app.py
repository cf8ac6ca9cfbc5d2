"""The web application: chat completions, segmentation, models, health, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import miras
from miras.model.talker import Talker
from miras.serve.asking import ClientGoneError, answer, events
from miras.serve.chat import ChunkStream, completion, first_of
from miras.serve.config import ServeConfig
from miras.serve.dialogues import Asked, PastTurn
from miras.serve.engine import Answered, Engine
from miras.serve.gate import Gate
from miras.serve.messages import asked_by, read_chat
from miras.serve.metrics import Metrics
from miras.serve.refusals import RefusedError, place_of
from miras.serve.segment import found_json, found_png, read_segment

LOG = logging.getLogger("miras.serve")
CLIENT_GONE = 499  # as proxies log it; nobody receives it


@dataclass(frozen=True)
class ServedModel:
    """What answers."""

    name: str
    """For clients; no path of this machine."""
    version: str
    """Changes with any file of the model."""


class Visit:
    """One request, from the gate to the end of its answer."""

    def __init__(self, service: Service, endpoint: str) -> None:
        self._service, self.endpoint = service, endpoint
        self.arrived = time.perf_counter()
        self.deadline = asyncio.get_running_loop().time() + service.config.timeout_s
        self.holds_place = False

    def end(self, status: int) -> None:
        """Gives the place back, counts and logs; nothing of the request's content is written."""
        if self.holds_place:
            self._service.gate.leave()
        metrics, seconds = self._service.metrics, time.perf_counter() - self.arrived
        metrics.requests.labels(self.endpoint, str(status)).inc()
        if status == CLIENT_GONE:
            metrics.gone.inc()
        LOG.info("event=request endpoint=%s status=%d seconds=%.3f", self.endpoint, status, seconds)


class Service:
    """One model and its endpoints."""

    def __init__(self, talker: Talker, model: ServedModel, config: ServeConfig) -> None:
        """Raises ConfigError where the configuration asks for a key that is not set."""
        self.config, self.model = config, model
        self.gate, self.metrics = Gate(config), Metrics()
        self.engine = Engine(talker, config, self.metrics)
        self._started = int(time.time())
        self._reader = ThreadPoolExecutor(1, "reader")  # one: Pillow's warning filters are global

    def app(self) -> Starlette:
        """To be run by an ASGI server."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            del app
            self.engine.start()
            yield
            await asyncio.to_thread(self.engine.stop)
            self._reader.shutdown(cancel_futures=True)

        routes = [
            Route("/v1/chat/completions", self._visited("chat", self._chat), methods=["POST"]),
            Route("/segment", self._visited("segment", self._segment), methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._models),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
        ]
        handlers = {HTTPException: _unknown, RefusedError: _refused}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)  # type: ignore[arg-type]

    def _visited(
        self, endpoint: str, handler: Callable[[Request, bytes, Visit], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The handler behind the gate; whatever it raises becomes an answer with one clear sentence."""

        async def run(request: Request) -> Response:
            visit = Visit(self, endpoint)
            try:
                self.gate.enter(request)
                visit.holds_place = True
                response = await handler(request, await self.gate.body(request), visit)
            except RefusedError as refusal:
                response = refusal.response()
            except (ClientGoneError, ClientDisconnect):
                response = Response(status_code=CLIENT_GONE)
            except Exception as error:
                LOG.error("event=failed endpoint=%s error=%s at=%s", endpoint, type(error).__name__, place_of(error))
                response = RefusedError("internal_error", "The server failed to answer; its log says where.").response()
            except BaseException:  # the server is going down
                visit.end(CLIENT_GONE)
                raise
            if not isinstance(response, ChunkStream):
                visit.end(response.status_code)
            return response

        return run

    async def _chat(self, request: Request, content: bytes, visit: Visit) -> Response:
        if not _is_json(request):
            raise RefusedError("wrong_content_type", "Send JSON, with content type application/json.")
        loop = asyncio.get_running_loop()
        chat = await loop.run_in_executor(self._reader, read_chat, content)
        if chat.model != self.model.name:
            message = f"model: there is no {chat.model[:80]!r} here; this server answers as {self.model.name!r}."
            raise RefusedError("not_found", message, where="model")
        asked = await loop.run_in_executor(self._reader, asked_by, chat, self.config)
        if not chat.stream:
            return JSONResponse(completion(await self._answer(asked, request, visit), model=self.model.name))
        said = events(
            self.engine,
            asked,
            arrived=visit.arrived,
            deadline=visit.deadline,
            timeout_s=self.config.timeout_s,
            receive=request.receive,
        )
        first = await first_of(said)
        with_usage = chat.stream_options is not None and chat.stream_options.include_usage
        return ChunkStream(said, first, model=self.model.name, with_usage=with_usage, end=visit.end)

    async def _segment(self, request: Request, content: bytes, visit: Visit) -> Response:
        kind = request.headers.get("content-type", "")
        if not _is_json(request) and not kind.lower().startswith("multipart/form-data"):
            raise RefusedError("wrong_content_type", "Send JSON or a form (multipart/form-data).")
        loop = asyncio.get_running_loop()
        asked = await loop.run_in_executor(self._reader, read_segment, content, kind, self.config)
        past: tuple[PastTurn, ...] = ()
        answers: list[Answered] = []
        for question in asked.questions:
            dialogue = Asked(asked.picture.pixels, asked.picture.name, past, question)
            answers.append(await self._answer(dialogue, request, visit))
            past = (*past, PastTurn(question, answers[-1].text, answers[-1].targets))
        if "image/png" in request.headers.get("accept", ""):
            return Response(await asyncio.to_thread(found_png, asked, answers), media_type="image/png")
        return JSONResponse(found_json(asked, answers, model=self.model.name))

    async def _answer(self, asked: Asked, request: Request, visit: Visit) -> Answered:
        return await answer(
            self.engine,
            asked,
            arrived=visit.arrived,
            deadline=visit.deadline,
            timeout_s=self.config.timeout_s,
            receive=request.receive,
        )

    async def _models(self, request: Request) -> Response:
        self.gate.check_key(request)
        ours = {"id": self.model.name, "object": "model", "created": self._started, "owned_by": "miras"}
        wanted = request.path_params.get("name")
        if wanted is None:
            return JSONResponse({"object": "list", "data": [ours]})
        if wanted != self.model.name:
            raise RefusedError("not_found", f"There is no model of this name; there is {self.model.name!r}.")
        return JSONResponse(ours)

    async def _health(self, request: Request) -> Response:
        del request
        is_ready = self.engine.is_ready
        state = {
            "model": self.model.name,
            "version": self.model.version,
            "miras": miras.__version__,
            "ready": is_ready,
        }
        return JSONResponse(state, status_code=200 if is_ready else 503)

    async def _metrics(self, request: Request) -> Response:
        self.gate.check_key(request)
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


async def _refused(request: Request, error: RefusedError) -> Response:
    del request
    return error.response()


async def _unknown(request: Request, error: HTTPException) -> Response:
    """Addresses and methods that do not exist."""
    del request
    if error.status_code == 405:
        response = RefusedError("method_not_allowed", "This address does not take this method.").response()
        response.headers.update(error.headers or {})
        return response
    return RefusedError("not_found", "There is nothing at this address.").response()
