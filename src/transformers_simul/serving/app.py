# SPDX-License-Identifier: Apache-2.0
"""The application: routes, and how errors leave it."""

import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Path, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from .captions import live_subtitles, subtitles_so_far
from .failure import STATUSES, Failure
from .guard import Guard
from .messages import Error, Listen, RoomState, TranslateRequest, Translation
from .pages import add_pages
from .service import Service
from .sockets import listen, stream
from .tokens import Principal, bearer
from .translate import Pieces, translate

_MEDIA = {"srt": "application/x-subrip", "vtt": "text/vtt"}
_TEXT = {"type": "string"}
# Of each event: OpenAPI 3.1 has no name for that, and tools read it so.
_EVENT = {
    "type": "object",
    "properties": {"event": _TEXT, "data": {**_TEXT, "contentMediaType": "application/json"}},
    "required": ["event", "data"],
}
RoomPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
# Beside what the codes say: a body that is no UTF-8, a method that no route has, and a host name that is not ours.
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": dict[Literal["error"], Error]} for status in sorted({400, 405, 421, *STATUSES})
}


def _answers(schema: dict[str, Any], *media_types: str) -> dict[int | str, dict[str, Any]]:
    """What a route may answer with: what the schema says, as one of these types, or an error."""
    return {200: {"content": {media_type: {"schema": schema} for media_type in media_types}}, **_ERRORS}


def build_app(
    service: Service,
    origins: Collection[str] = (),
    host_names: Collection[str] | None = None,
) -> FastAPI:
    """The server's ASGI application. Its engines run from its start to its end.

    Args:
        service (`Service`): models, limits, tokens.
        origins (`Collection[str]`, *optional*): whose pages may use it, beside its own; `"*"` for any.
        host_names (`Collection[str]`, *optional*): names that it answers to beside `localhost`, this machine's name
            and IP addresses; any without.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="transformers_simul",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Guard, body_bytes=service.settings.message_bytes, origins=origins, names=host_names)
    _add_errors(app, service)
    _add_state(app, service)
    _add_translation(app, service)
    _add_rooms(app, service)
    add_pages(app)
    return app


def _who(request: Request) -> Principal:
    service: Service = request.app.state.service
    return service.tokens.check(bearer(request.headers.get("authorization")))


Who = Annotated[Principal, Depends(_who)]


def _add_errors(app: FastAPI, service: Service) -> None:
    def answer(failure: Failure, status: int | None = None) -> JSONResponse:
        service.refuse(failure)
        headers = {"retry-after": str(int(failure.retry_after_s))} if failure.retry_after_s else {}
        if failure.code == "unauthorized":
            headers["www-authenticate"] = "Bearer"
        content = {"error": failure.message().model_dump(exclude_none=True)}
        return JSONResponse(content, status or failure.status, headers)

    @app.exception_handler(Failure)
    async def failed(request: Request, failure: Failure) -> JSONResponse:
        return answer(failure)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part)[:40] for part in first["loc"])
        return answer(Failure("bad_message", f"{place}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        known = error.status_code == 404
        response = answer(Failure("not_found" if known else "bad_message", str(error.detail)), error.status_code)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        # The log has the error; the client does not.
        return answer(Failure("internal", "The server failed with this request."))


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The process lives."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "it takes none"}})
    async def readyz() -> Response:
        """It takes new streams."""
        ready = service.is_ready
        return PlainTextResponse("ok\n" if ready else "draining or broken\n", 200 if ready else 503)

    # Not PlainTextResponse here, or its errors would be described as plain text too.
    @app.get("/metrics", response_class=Response, responses=_answers(_TEXT, "text/plain"))
    async def metrics(who: Who) -> Response:
        """Metrics in the format of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", responses=_ERRORS)
    async def models(who: Who) -> dict[str, Any]:
        """What can be asked for."""
        told = service.settings.policy
        return {"models": [served.about() | {"policy": told or served.policy} for served in service.served]}


def _add_translation(app: FastAPI, service: Service) -> None:
    @app.post("/v1/translate", response_model=Translation, responses=_answers(_EVENT, "text/event-stream"))
    async def post(wanted: TranslateRequest, request: Request, who: Who) -> Response:
        """A whole text; answered whole, or as it is translated."""
        return await translate(service, wanted, request, who)

    @app.websocket("/v1/stream")
    async def socket(websocket: WebSocket) -> None:
        await stream(websocket, service)


def _add_rooms(app: FastAPI, service: Service) -> None:
    @app.websocket("/v1/rooms/{room}/listen")
    async def socket(websocket: WebSocket, room: RoomPath) -> None:
        await listen(websocket, service, room)

    @app.get("/v1/rooms/{room}", responses=_ERRORS)
    async def state(room: RoomPath, who: Who) -> RoomState:
        """What a room is about."""
        return service.rooms.find(room).state_message()

    @app.get(
        "/v1/rooms/{room}/{language}.{format}", responses=_answers(_TEXT, *_MEDIA.values()), response_class=Response
    )
    async def subtitles(
        room: RoomPath,
        language: Annotated[str, Path(max_length=64)],
        format: Literal["srt", "vtt"],
        who: Who,
        live: Annotated[bool, Query(description="go on until the room ends")] = False,
    ) -> Response:
        """Subtitles of a room."""
        here = service.rooms.find(room)
        if language not in here.target_langs:
            raise Failure("not_found", f"This room has {here.target_langs}, not {language!r}.")
        if not live:
            return Response(subtitles_so_far(here, language, format), media_type=_MEDIA[format])
        if service.is_draining:
            raise Failure("draining", "This server is about to end.")
        listener = service.rooms.listen(room, Listen(target_langs=[language]))

        async def pieces() -> AsyncIterator[str]:
            try:
                async for text in live_subtitles(listener, format):
                    yield text
            except Failure as failure:
                service.refuse(failure)

        return Pieces(pieces(), _MEDIA[format], lambda: service.leave(listener))


__all__ = ["build_app"]
