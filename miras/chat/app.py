"""The chat page's server: the page, the dialogues of each browser, answers as they are said.

Everything a person or a model wrote is sent as JSON and shown as text. A browser is known by a random cookie.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from starlette.concurrency import run_in_threadpool

from miras.chat.answerers import Answerer
from miras.chat.config import ChatLimits
from miras.chat.corrections import CorrectionFolder, corrected_answer
from miras.chat.doorway import SESSION_KEY, Doorway
from miras.chat.downloads import download
from miras.chat.edits import edited
from miras.chat.requests import Correction, Named, Question, TooLargeError, body, parsed
from miras.chat.rooms import BusyError, NotFoundError, Room, Rooms, title_of
from miras.chat.saved import open_saved
from miras.chat.views import room_view, shown_picture, turn_view
from miras.chat.worker import BusyServerError, Event, Reference, Worker
from miras.errors import DataError, MirasError
from miras.open_dialogue import OpenDialogue, check_question
from miras.sources.pictures import upright_picture
from miras.sources.scenes import render_scene
from miras.taking import mask_png

log = logging.getLogger(__name__)

PAGE = "page.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SAMPLE_SEEDS = (3, 11, 14, 21, 34, 42)
SAMPLE_PX = 640
STATUS: dict[type[Exception], int] = {NotFoundError: 404, BusyError: 409, TooLargeError: 413, BusyServerError: 503}


class ChatServer:
    """All that the requests share."""

    def __init__(self, answerers: Sequence[Answerer], limits: ChatLimits, corrections: Path) -> None:
        """`corrections`: folder for samples of answers that people put right."""
        self.answerers, self.limits = list(answerers), limits
        self.worker = Worker(limits)
        self.rooms = Rooms(limits, forget=self.worker.forget)
        self.corrections = CorrectionFolder(corrections)

    def room(self, request: Request) -> Room:
        """The dialogue that a request names."""
        return self.rooms.get(request.scope[SESSION_KEY], request.path_params["room_id"])

    def add(self, request: Request, title: str, talks: dict[int, OpenDialogue]) -> dict[str, Any]:
        """A new dialogue of the browser that asks."""
        room = self.rooms.add(request.scope[SESSION_KEY], Room(title, talks))
        return room_view(room)

    def wanted_models(self, request: Request) -> list[int]:
        """Numbers of the models that a new dialogue asks, as `?models=0,1`.

        Raises:
            DataError: there is no such model.
        """
        given = request.query_params.get("models", "0").split(",")
        wanted = [int(item) for item in given if item in {str(number) for number in range(len(self.answerers))}]
        if len(wanted) != len(given) or len(set(wanted)) != len(wanted):
            raise DataError(
                f"models={','.join(given)[:40]}: expected numbers of models, 0 to {len(self.answerers) - 1}."
            )
        return wanted

    def about(self) -> dict[str, Any]:
        """What the page has to know."""
        return {
            "models": [
                {"name": item.name, "notice": item.notice, "can_refer": item.can_refer} for item in self.answerers
            ],
            "limits": {"upload_mb": self.limits.max_body_mb, "megapixels": self.limits.max_megapixels},
            "samples": len(SAMPLE_SEEDS),
            "corrections": str(self.corrections.folder),
        }


def build_app(answerers: Sequence[Answerer], limits: ChatLimits, *, corrections: Path) -> FastAPI:
    """The application.

    Args:
        answerers: one model, or two side by side.
        limits: of sizes, numbers and memory.
        corrections: folder for samples of answers that people put right; made when the first one is saved.
    """
    server = ChatServer(answerers, limits, corrections)

    @asynccontextmanager
    async def lifetime(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.worker.close()

    app = FastAPI(openapi_url=None, lifespan=lifetime)
    app.add_middleware(Doorway, open_session=server.rooms.open_session)
    app.add_exception_handler(MirasError, _refused)
    app.add_exception_handler(Exception, _our_fault)
    _add_page(app, server)
    _add_dialogues(app, server)
    _add_answers(app, server)
    _add_files(app, server)
    return app


def _add_page(app: FastAPI, server: ChatServer) -> None:
    for file in (resources.files("miras.chat") / "page").iterdir():
        address = "/" if file.name == PAGE else f"/{file.name}"
        app.add_api_route(address, _file(file.read_bytes(), MEDIA_TYPES[Path(file.name).suffix]), methods=["GET"])

    @app.get("/api/about")
    def about() -> Any:
        return JSONResponse(server.about())

    @app.get("/api/samples/{number}.png")
    def sample(number: int) -> Response:
        if not 0 <= number < len(SAMPLE_SEEDS):
            raise NotFoundError(f"There is no sample picture {number}; expected 0 to {len(SAMPLE_SEEDS) - 1}.")
        return Response(_sample(number), media_type="image/png")


def _add_dialogues(app: FastAPI, server: ChatServer) -> None:
    @app.get("/api/dialogues")
    def listed(request: Request) -> Any:
        rooms = server.rooms.of(request.scope[SESSION_KEY])
        return JSONResponse([{"id": room.room_id, "title": room.title, "turns": room.num_turns} for room in rooms])

    @app.post("/api/dialogues")
    async def begun(request: Request) -> Any:
        wanted = server.wanted_models(request)
        limits = server.limits
        content = await body(request, max_bytes=limits.max_body_mb * 1_000_000, what="The picture")
        title = title_of(unquote(request.headers.get("x-file-name", "")))
        picture = await run_in_threadpool(
            lambda: upright_picture(content, where=title, max_megapixels=limits.max_megapixels).pixels
        )
        return JSONResponse(server.add(request, title, server_talks(server, wanted, picture)))

    @app.post("/api/saved")
    async def loaded(request: Request) -> Any:
        (wanted,) = server.wanted_models(request)[:1]
        limits = server.limits
        content = await body(request, max_bytes=limits.max_body_mb * 1_000_000, what="The file")
        talk = await run_in_threadpool(
            lambda: open_saved(
                content,
                server.answerers[wanted].model,
                max_megapixels=limits.max_megapixels,
                max_turns=limits.max_turns,
            )
        )
        title = title_of(unquote(request.headers.get("x-file-name", "")))
        return JSONResponse(server.add(request, title, {wanted: talk}))

    @app.get("/api/dialogues/{room_id}")
    def shown(request: Request) -> Any:
        return JSONResponse(room_view(server.room(request)))

    @app.delete("/api/dialogues/{room_id}")
    def ended(request: Request) -> Any:
        server.rooms.remove(request.scope[SESSION_KEY], server.room(request))
        return JSONResponse({})

    @app.post("/api/dialogues/{room_id}/undo")
    def undone(request: Request) -> Any:
        room = server.room(request)
        room.undo()
        return JSONResponse(room_view(room))

    @app.post("/api/dialogues/{room_id}/branch")
    def branched(request: Request) -> Any:
        branch = server.room(request).branch()
        return JSONResponse(room_view(server.rooms.add(request.scope[SESSION_KEY], branch)))

    @app.post("/api/dialogues/{room_id}/again")
    def begun_again(request: Request) -> Any:
        room, wanted = server.room(request), server.wanted_models(request)
        return JSONResponse(server.add(request, room.title, server_talks(server, wanted, room.first.picture)))


def _add_answers(app: FastAPI, server: ChatServer) -> None:
    @app.post("/api/dialogues/{room_id}/ask")
    async def asked(request: Request) -> StreamingResponse:
        room = server.room(request)
        given = await parsed(request, Question)
        check_question(given.question, most=server.limits.max_question_characters)
        room.check_free()
        server.worker.check_room()
        if room.num_turns >= server.limits.max_turns:
            raise DataError(
                f"This dialogue has {room.num_turns} turns, the most that are kept. Undo some, or begin anew."
            )
        references = [_reference(room, item) for item in given.about]
        names = {number: item.name for number, item in enumerate(server.answerers)}
        events = server.worker.answer(room, given.question, references, names=names)
        return StreamingResponse(_lines(events, room), media_type="application/x-ndjson")

    @app.post("/api/dialogues/{room_id}/corrections")
    async def corrected(request: Request) -> Any:
        room = server.room(request)
        given = await parsed(request, Correction)
        room.check_free()
        room.is_busy = True  # a question asked meanwhile would be answered without the correction
        try:
            return JSONResponse(await run_in_threadpool(_correct, server, room, given))
        finally:
            room.is_busy = False


def _add_files(app: FastAPI, server: ChatServer) -> None:
    @app.get("/api/dialogues/{room_id}/picture")
    def picture(request: Request) -> Response:
        content, media_type = shown_picture(server.room(request).first.picture)
        return Response(content, media_type=media_type, headers={"cache-control": "private, max-age=3600"})

    @app.get("/api/dialogues/{room_id}/download/{kind}")
    def taken(request: Request, kind: str, model: int = 0) -> Response:
        found = download(server.room(request), kind, model)
        return _attachment(found.content, found.media_type, found.name)

    @app.get("/api/dialogues/{room_id}/masks/{model}/{turn}/{target}.png")
    def mask(request: Request, model: int, turn: int, target: int) -> Response:
        content = mask_png(server.room(request).mask(model, turn, target))
        return _attachment(content, "image/png", f"turn{turn + 1}-mask{target + 1}.png")


def server_talks(server: ChatServer, wanted: Sequence[int], picture: Image.Image) -> dict[int, OpenDialogue]:
    """A new dialogue of each wanted model about an upright picture."""
    return {number: server.answerers[number].model.dialogue(picture) for number in wanted}


def _reference(room: Room, named: Named) -> Reference:
    return Reference(named.model, named.turn, named.target, room.mask(named.model, named.turn, named.target))


async def _lines(events: AsyncIterator[Event], room: Room) -> AsyncIterator[bytes]:
    """One JSON line per event; the last one holds the whole turn."""
    try:
        async for event in events:
            if event["kind"] == "done":
                event |= {"turn": await run_in_threadpool(turn_view, room, event["turn"])}
            yield json.dumps(event).encode() + b"\n"
    finally:
        await events.aclose()  # type: ignore[attr-defined]


def _correct(server: ChatServer, room: Room, given: Correction) -> dict[str, Any]:
    """Puts an answer right and saves the sample; the dialogue is as before where it cannot be saved."""
    before = room.targets(given.model, given.turn)
    picture = room.first.picture
    targets = []
    for target in given.targets:
        if target.source is None:
            start = np.zeros((picture.height, picture.width), dtype=bool)
        elif 0 <= target.source < len(before):
            start = before[target.source][1]
        else:
            raise NotFoundError(f"Answer {given.turn + 1} has no mask {target.source + 1}.")
        targets.append((target.phrase, edited(start, target.edits)))
    better = corrected_answer(given.text, targets, [target.source for target in given.targets])
    with room.put_right(given.model, given.turn, better):
        path = server.corrections.save(room, given.model, answered_by=server.answerers[given.model].name)
    log.info("corrected model=%d turn=%d path=%s", given.model, given.turn, path)
    return {"room": room_view(room), "path": str(path)}


def _attachment(content: bytes, media_type: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}  # names of ours, nothing of a user's
    return Response(content, media_type=media_type, headers=headers)


def _file(content: bytes, media_type: str) -> Callable[[], Response]:
    def page_file() -> Response:
        return Response(content, media_type=media_type)

    return page_file


@lru_cache(maxsize=len(SAMPLE_SEEDS))
def _sample(number: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(render_scene(SAMPLE_SEEDS[number], size_px=SAMPLE_PX).pixels).save(buffer, format="PNG")
    return buffer.getvalue()


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"message": str(error)}, status_code=STATUS.get(type(error), 400))


async def _our_fault(request: Request, error: Exception) -> JSONResponse:
    log.error("request failed path=%s", request.url.path, exc_info=error)
    message = "A fault of the page's server; nothing was changed. Its log says why."
    return JSONResponse({"message": message}, status_code=500)
