# SPDX-License-Identifier: Apache-2.0
"""The WebSockets: `/v1/stream` and `/v1/rooms/{room}/listen`."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import anyio
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from .failure import Failure
from .messages import (
    CLIENT_MESSAGES,
    CLOSE_CODES,
    LISTENER_MESSAGES,
    PROTOCOL_VERSION,
    Cancel,
    End,
    Ended,
    EndSentence,
    Listen,
    Ping,
    Pong,
    SentenceEnd,
    SourcePiece,
    Start,
    WordMessage,
    what_is_wrong,
)
from .rooms import Listener, Room
from .service import Service
from .session import Session
from .settings import Settings
from .tokens import Principal, bearer


async def stream(socket: WebSocket, service: Service) -> None:
    """Serve one stream, from its first message to its last.

    Args:
        socket (`WebSocket`): not accepted yet.
        service (`Service`): of the server.
    """
    await _answer(socket, service, _stream(socket, service))


async def listen(socket: WebSocket, service: Service, name: str) -> None:
    """Serve one listener of a room.

    Args:
        socket (`WebSocket`): not accepted yet.
        service (`Service`): of the server.
        name (`str`): of the room.
    """
    await _answer(socket, service, _listen(socket, service, name))


async def _answer(socket: WebSocket, service: Service, work: Coroutine[Any, Any, None]) -> None:
    """Run it, and close the socket as the protocol says."""
    try:
        await socket.accept()
        failure: Failure | None = None
        try:
            await work
        except Failure as raised:
            failure = raised
            service.refuse(failure)
        # Nothing is awaited between the release of a stream's places and this.
        with service.last_words():
            if failure is not None:
                await _send(socket, failure.message())
            if socket.application_state is WebSocketState.CONNECTED:
                await socket.close(1000 if failure is None else CLOSE_CODES[failure.action])
    except WebSocketDisconnect:
        # Gone; what it held was released on the way here.
        pass
    finally:
        work.close()


async def _stream(socket: WebSocket, service: Service) -> None:
    start, principal = await _first(socket, service, CLIENT_MESSAGES, Start)
    room: Room | None = None
    if start.room is not None:
        room = service.rooms.speak(start.room, principal)
    session = service.open(start, principal)
    heard = _Heard()
    tasks = [asyncio.create_task(_read(socket, session, heard)), asyncio.create_task(_watch(session, heard, service))]
    is_over = False
    try:
        if room is not None:
            room.begin(session.started(), principal)
        async for message in session.messages():
            if room is not None and isinstance(message, (WordMessage, SentenceEnd)):
                room.publish(message)
            is_over = isinstance(message, Ended)
            await _send(socket, message)
    except Failure:
        if heard.is_gone:
            raise WebSocketDisconnect(1006) from None
        raise
    finally:
        if room is not None:
            room.end() if is_over else room.lose()
        try:
            await _finish(tasks)
        finally:
            service.release(session)


class _Heard:
    """What was heard of a client."""

    def __init__(self) -> None:
        self.at_s, self.is_gone = time.monotonic(), False


async def _read(socket: WebSocket, session: Session, heard: _Heard) -> None:
    """Take what the client sends, to the end of the stream."""
    try:
        while True:
            message = await _receive(socket, CLIENT_MESSAGES, session.settings)
            heard.at_s = time.monotonic()
            match message:
                case SourcePiece():
                    session.put(message.text, message.at_ms)
                case EndSentence():
                    session.end_sentence()
                case End():
                    session.end()
                case Cancel():
                    session.cancel()
                case Ping():
                    session.say(Pong(id=message.id))
                case Start():
                    raise Failure("bad_order", "start came twice.")
    except Failure as failure:
        session.stop(failure)
    except WebSocketDisconnect:
        heard.is_gone = True
        session.stop(Failure("internal", "The client has gone."))


async def _watch(session: Session, heard: _Heard, service: Service) -> None:
    """End a stream that is silent. Once the source has ended, it is the server's turn."""
    idle_s = service.settings.idle_s
    while (left := heard.at_s + idle_s - time.monotonic()) > 0 or session.has_ended:
        await asyncio.sleep(max(left, 0.05) if not session.has_ended else idle_s)
    session.stop(Failure("idle_timeout", f"Nothing came for {idle_s:g} seconds."))


async def _listen(socket: WebSocket, service: Service, name: str) -> None:
    wanted, _ = await _first(socket, service, LISTENER_MESSAGES, Listen)
    if wanted.version != PROTOCOL_VERSION:
        raise Failure("bad_version", f"This server speaks version {PROTOCOL_VERSION}, not {wanted.version}.")
    if service.is_draining:
        raise Failure("draining", "This server is about to end.")
    listener, heard = service.rooms.listen(name, wanted), _Heard()
    tasks = [asyncio.create_task(_hear(socket, listener, heard))]
    try:
        while (said := await listener.next()) is not None:
            await socket.send_text(said.text)
    except Failure:
        if heard.is_gone:
            raise WebSocketDisconnect(1006) from None
        raise
    finally:
        try:
            await _finish(tasks)
        finally:
            service.leave(listener)


async def _hear(socket: WebSocket, listener: Listener, heard: _Heard) -> None:
    """Answer a listener's pings, until it goes."""
    try:
        while True:
            message = await _receive(socket, LISTENER_MESSAGES, listener.room.settings)
            if isinstance(message, Listen):
                raise Failure("bad_order", "listen came twice.")
            await _send(socket, Pong(id=message.id))
    except Failure as failure:
        listener.stop(failure)
    except WebSocketDisconnect:
        heard.is_gone = True
        listener.stop(Failure("internal", "The listener has gone."))


async def _first(
    socket: WebSocket, service: Service, adapter: TypeAdapter[Any], kind: type[Any]
) -> tuple[Any, Principal]:
    """The first message, and who sent it."""
    header = bearer(socket.headers.get("authorization"))
    if header is not None:
        service.tokens.check(header)
    message: Any
    try:
        # Not asyncio.wait_for: until Python 3.12 it may swallow a cancellation that comes with the message.
        with anyio.fail_after(service.settings.start_s):
            message = await _receive(socket, adapter, service.settings)
    except TimeoutError:
        raise Failure("idle_timeout", "The first message did not come in time.") from None
    if not isinstance(message, kind):
        raise Failure("bad_order", f"The first message must be {kind.__name__.lower()}.")
    return message, service.tokens.check(header if header is not None else message.token)


async def _receive(socket: WebSocket, adapter: TypeAdapter[Any], settings: Settings) -> Any:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1006)
    text = message.get("text")
    if text is None:
        raise Failure("bad_message", "Messages are JSON in text frames, not bytes.")
    # Our own server takes no frame as long as this; another one that runs the application may.
    if 4 * len(text) > settings.message_bytes and len(text.encode()) > settings.message_bytes:
        raise Failure("message_too_big", f"A message may have {settings.message_bytes} bytes.")
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise Failure("bad_message", what_is_wrong(error)) from None


async def _send(socket: WebSocket, message: BaseModel) -> None:
    await socket.send_text(message.model_dump_json(exclude_none=True))


async def _finish(tasks: list[asyncio.Task[None]]) -> None:
    """End tasks: their cancellations end here, and one of the caller's own goes on."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


__all__ = ["listen", "stream"]
