# SPDX-License-Identifier: Apache-2.0
"""Listening to a room, over as many connections as it takes."""

from collections import Counter

from websockets.asyncio.client import ClientConnection

from ..messages import ROOM_MESSAGES, Listen, RoomState, SentenceEnd, WordMessage
from .connection import Line, receive, send
from .incoming import Incoming


class RoomListener(Incoming[WordMessage | SentenceEnd | RoomState]):
    """What is said in a room, from [`SimulClient.listen`]; `async with` begins and ends it.

    `async for` gives its words, each once, to the room's end; `messages()` ends of sentences and the room's states too.
    Where the server had forgotten the beginning, or died with words that had not come here, indices are missing.

    Args:
        line (`Line`): to the servers.
        room (`str`): its name.
        listen (`Listen`): the first message.
        wait_s (`float`): how long to wait for a server that takes it.

    Attributes:
        state (`RoomState`): as it was told last.
        reconnects (`int`): how often a lost connection was got back.
    """

    state: RoomState

    def __init__(self, line: Line, room: str, listen: Listen, wait_s: float):
        super().__init__(line, f"/v1/rooms/{room}/listen", wait_s)
        self._listen = listen
        # Words and sentences that came, by language.
        self._words: Counter[str] = Counter()
        self._sentences: Counter[str] = Counter()

    async def _greet(self, socket: ClientConnection) -> bool:
        await send(socket, self._listen.model_copy(update={"after": dict(self._words)}))
        self.state = await receive(socket, ROOM_MESSAGES, RoomState)
        self._agree()
        # It comes on each connection: alone it makes none a good one, or who is cut off after it would not pause.
        self._take(self.state, is_progress=False)
        return True

    async def _converse(self, socket: ClientConnection) -> None:
        while self.state.state != "ended":
            message = await receive(socket, ROOM_MESSAGES, WordMessage, SentenceEnd, RoomState)
            if isinstance(message, RoomState):
                self.state = message
            elif not self._is_new(message):
                continue
            self._take(message)

    def _is_new(self, message: WordMessage | SentenceEnd) -> bool:
        counts, count = (
            (self._words, message.index + 1)
            if isinstance(message, WordMessage)
            else (self._sentences, message.sentences)
        )
        is_new = count > counts[message.target_lang]
        counts[message.target_lang] = max(count, counts[message.target_lang])
        return is_new


__all__ = ["RoomListener"]
