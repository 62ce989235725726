# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/translate`: a whole text, answered as one JSON or as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import format_sse_event

from ..models.text import split_words
from .failure import Failure
from .messages import Ended, Start, TranslateRequest, Translation, WordMessage
from .service import Service
from .session import Session
from .tokens import Principal


async def translate(service: Service, wanted: TranslateRequest, request: Request, who: Principal) -> Response:
    """Answer a request.

    Args:
        service (`Service`): of the server.
        wanted (`TranslateRequest`): its body.
        request (`Request`): it.
        who (`Principal`): who asks.

    Raises:
        Failure: if it is refused, or ends with an error.
    """
    most, count = service.settings.burst_words, len(split_words(wanted.text))
    start = Start(
        model=wanted.model,
        source_lang=wanted.source_lang,
        target_langs=None if wanted.target_lang is None else [wanted.target_lang],
        policy=wanted.policy,
        sentences=wanted.sentences,
        max_sentence_words=wanted.max_sentence_words,
        context_sentences=wanted.context_sentences,
        add_punctuation=wanted.add_punctuation,
        options=wanted.options,
        glossary=wanted.glossary,
        copy_numbers=wanted.copy_numbers,
        glossary_strength=wanted.glossary_strength,
    )
    if count > most:
        raise Failure("message_too_big", f"A text may have {most} words here, got {count}; /v1/stream takes more.")
    session = service.open(start, who)
    is_handed_on = False
    try:
        try:
            session.put(wanted.text)
            session.end()
        except Failure as failure:
            if failure.code == "internal":
                raise
            # Characters are units too.
            raise Failure("message_too_big", str(failure)) from failure
        if wanted.stream or "text/event-stream" in request.headers.get("accept", ""):
            response = Pieces(_events(service, session), "text/event-stream", lambda: service.release(session))
            response.headers["x-accel-buffering"] = "no"
            is_handed_on = True
            return response
        return Response(await _whole(session, request), media_type="application/json")
    finally:
        if not is_handed_on:
            service.release(session)


async def _whole(session: Session, request: Request) -> bytes:
    """Answer with all of the translation as one JSON."""
    watcher = asyncio.create_task(_give_up_with(request, session))
    words: list[WordMessage] = []
    reason: Any = "cancelled"
    try:
        async for message in session.messages():
            if isinstance(message, WordMessage):
                words.append(message)
            elif isinstance(message, Ended):
                reason = message.reason
    finally:
        watcher.cancel()
    started = session.started()
    (target_lang,) = started.target_langs
    joiner = " " if started.unit == "word" else ""
    answer = Translation(
        text=joiner.join(word.text for word in words),
        model=started.models[target_lang],
        source_lang=started.source_lang,
        target_lang=target_lang,
        reason=reason,
        words=words,
    )
    return answer.model_dump_json(exclude_none=True).encode()


async def _give_up_with(request: Request, session: Session) -> None:
    """End the translation once the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    session.cancel()


class Pieces(StreamingResponse):
    """An answer that is sent as it comes, and gives free what it holds.

    Args:
        content (`AsyncIterator`): its pieces.
        media_type (`str`): what they are.
        release (`Callable[[], None]`): called at the end, also where the client left before the first piece: a
            generator that was not begun has no end.
    """

    def __init__(self, content: AsyncIterator[str | bytes], media_type: str, release: Callable[[], None]):
        super().__init__(content, media_type=media_type)
        self._release = release

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()


async def _events(service: Service, session: Session) -> AsyncIterator[bytes]:
    try:
        async for message in session.messages():
            yield format_sse_event(event=message.type, data_str=message.model_dump_json(exclude_none=True))
    except Failure as failure:
        service.refuse(failure)
        yield format_sse_event(event="error", data_str=failure.message().model_dump_json(exclude_none=True))


__all__ = ["Pieces", "translate"]
