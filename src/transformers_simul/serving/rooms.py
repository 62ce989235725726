# SPDX-License-Identifier: Apache-2.0
"""Rooms: one speaks, many listen; who comes late gets what was said."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import anyio

from .failure import Failure
from .messages import Listen, RoomState, SentenceEnd, Started, WordMessage
from .settings import Settings
from .tokens import Principal

# Messages that may wait for a listener while it takes the ones before.
_WAITING = 2000


class Said(NamedTuple):
    """Something that was said in a room.

    Attributes:
        message: a word, the end of a sentence, or the room's state.
        text (`str`): as JSON.
        at_s (`float`): seconds since the room was opened.
    """

    message: WordMessage | SentenceEnd | RoomState
    text: str
    at_s: float


class Listener:
    """Gets what is said, in order; one that takes too little is dropped alone.

    Args:
        room (`Room`): where.
        listen (`Listen`): what it wants.
    """

    def __init__(self, room: "Room", listen: Listen):
        self.room, self.listen = room, listen
        self._waiting: deque[Said] = deque(self._kept())
        self._most = len(self._waiting) + _WAITING
        self._bell = asyncio.Event()
        self._failure: Failure | None = None
        self._is_over = room.state == "ended"

    def _kept(self) -> Iterator[Said]:
        state = self.room.state_message()
        if state.state == "ended":
            # Who comes after the end hears of it after what was said.
            first = state.model_copy(update={"state": "live"})
            yield Said(first, first.model_dump_json(exclude_none=True), 0.0)
        else:
            yield Said(state, state.model_dump_json(exclude_none=True), 0.0)
        for said in self.room.history():
            message = said.message
            if isinstance(message, RoomState) or not self._wants(message):
                continue
            there = self.listen.after.get(message.target_lang, 0)
            if (message.index if isinstance(message, WordMessage) else message.target_words) >= there:
                yield said
        if state.state == "ended":
            yield Said(state, state.model_dump_json(exclude_none=True), 0.0)

    def _wants(self, message: WordMessage | SentenceEnd | RoomState) -> bool:
        wanted = self.listen.target_langs
        return isinstance(message, RoomState) or wanted is None or message.target_lang in wanted

    def put(self, said: Said) -> None:
        """Take a message of the room; called by the room."""
        if not self._wants(said.message):
            return
        if len(self._waiting) >= self._most:
            self.stop(Failure("slow_reader", "Too many messages wait for this listener."))
            return
        self._waiting.append(said)
        self._is_over = isinstance(said.message, RoomState) and said.message.state == "ended"
        self._bell.set()

    def stop(self, failure: Failure) -> None:
        """End the listener with an error."""
        self._failure = self._failure or failure
        self._waiting.clear()
        self._bell.set()

    async def next(self, timeout_s: float | None = None) -> Said | None:
        """Wait for what comes next; None if nothing came in time, or nothing comes any more (`is_done`).

        Args:
            timeout_s (`float`, *optional*): how long to wait.

        Raises:
            Failure: if it was stopped.
        """
        while True:
            if self._failure is not None:
                raise self._failure
            if self._waiting:
                return self._waiting.popleft()
            if self._is_over:
                return None
            self._bell.clear()
            # Not asyncio.wait_for: until Python 3.12 it may swallow a cancellation that comes with what it waits for.
            with anyio.move_on_after(timeout_s) as scope:
                await self._bell.wait()
            if scope.cancelled_caught:
                return None

    @property
    def is_done(self) -> bool:
        """Whether the room has ended and all of it was given out."""
        return self._is_over and not self._waiting


class Room:
    """One room. A room is kept while somebody speaks, listens, or may come back to speak.

    Args:
        name (`str`): of it.
        settings (`Settings`): limits.
    """

    def __init__(self, name: str, settings: Settings):
        self.name, self.settings = name, settings
        self.state, self.source_lang, self.target_langs = "waiting", "", list[str]()
        self.unit: str | None = None
        self.listeners: set[Listener] = set()
        self.speaker: Principal | None = None
        self.lost_at_s = 0.0
        self._opened_s = time.monotonic()
        self._said: dict[str, deque[Said]] = {}
        # Words that were said, by language.
        self._words: dict[str, int] = {}

    @property
    def joiner(self) -> str:
        """What stands between its words."""
        return " " if self.unit in (None, "word") else ""

    @property
    def now_s(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._opened_s

    def history(self) -> Iterator[Said]:
        """What is kept, language by language."""
        for said in list(self._said.values()):
            yield from list(said)

    def history_of(self, target_lang: str) -> list[Said]:
        """What is kept of a language."""
        return list(self._said.get(target_lang, ()))

    def state_message(self) -> RoomState:
        """The event as listeners get it."""
        first = {}
        for target_lang, said in self._said.items():
            indices = (each.message.index for each in said if isinstance(each.message, WordMessage))
            first[target_lang] = next(indices, self._words.get(target_lang, 0))
        return RoomState(
            room=self.name,
            state=self.state,  # type: ignore[arg-type]
            source_lang=self.source_lang or None,
            target_langs=self.target_langs,
            unit=self.unit,  # type: ignore[arg-type]
            first=first,
        )

    def begin(self, started: Started, speaker: Principal) -> None:
        """Note that somebody speaks, for the first time or again."""
        if self.speaker is None:
            self._opened_s = time.monotonic()
        self.speaker, self.state = speaker, "live"
        self.source_lang, self.target_langs = started.source_lang, started.target_langs
        self.unit = started.unit
        for target_lang in started.target_langs:
            self._said.setdefault(target_lang, deque(maxlen=self.settings.room_words))
        self._tell_state()

    def publish(self, message: WordMessage | SentenceEnd) -> None:
        """Tell all who listen. What a speaker who came back says again is not told again."""
        words = self._words.get(message.target_lang, 0)
        if isinstance(message, WordMessage):
            if message.index < words:
                return
            self._words[message.target_lang] = message.index + 1
            # Only the speaker needs the ids, to resume.
            message = message.model_copy(update={"ids": []})
        said = Said(message, message.model_dump_json(exclude_none=True, exclude_defaults=False), self.now_s)
        self._said[message.target_lang].append(said)
        self._tell(said)

    def lose(self) -> None:
        """The speaker's connection is lost."""
        self.state, self.lost_at_s = "lost", time.monotonic()
        self._tell_state()

    def end(self) -> None:
        """End the room."""
        if self.state != "ended":
            self.state, self.lost_at_s = "ended", time.monotonic()
            self._tell_state()

    def _tell_state(self) -> None:
        message = self.state_message()
        self._tell(Said(message, message.model_dump_json(exclude_none=True), self.now_s))

    def _tell(self, said: Said) -> None:
        for listener in list(self.listeners):
            listener.put(said)


class Rooms:
    """All rooms of a server.

    Args:
        settings (`Settings`): limits.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._rooms: dict[str, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def listeners(self) -> int:
        """The number of listeners in all rooms."""
        return sum(len(room.listeners) for room in self._rooms.values())

    def __iter__(self) -> Iterator[Room]:
        return iter(list(self._rooms.values()))

    def find(self, name: str) -> Room:
        """Return a room that is there.

        Args:
            name (`str`): of the room.

        Returns:
            `Room`: the room of that name.

        Raises:
            Failure: if it is not, or this server keeps none.
        """
        self._check()
        self.sweep()
        if name not in self._rooms:
            raise Failure("not_found", "There is no such room.")
        return self._rooms[name]

    def speak(self, name: str, speaker: Principal) -> Room:
        """The room for a speaker, made if need be.

        Args:
            name (`str`): of the room.
            speaker (`Principal`): who.

        Raises:
            Failure: if somebody else speaks there, or there are too many rooms.
        """
        room = self._make(name)
        if room.state == "live" or room.speaker not in (None, speaker):
            raise Failure("room_taken", "Somebody else speaks in this room.", retry_after_s=10.0)
        if room.state == "ended":
            # A new talk: what the last one's listeners got is theirs.
            room = self._rooms[name] = Room(name, self.settings)
        return room

    def listen(self, name: str, listen: Listen) -> Listener:
        """Begin to listen, also where nobody speaks yet.

        Args:
            name (`str`): of the room.
            listen (`Listen`): what is wanted.

        Raises:
            Failure: if there are too many rooms or listeners.
        """
        room = self._make(name)
        if len(room.listeners) >= self.settings.listeners:
            raise Failure("room_full", "This room has as many listeners as it takes.", retry_after_s=30.0)
        listener = Listener(room, listen)
        room.listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Remove a listener, which listens no more."""
        listener.room.listeners.discard(listener)
        self.sweep()

    def _check(self) -> None:
        """Refuse rooms on a server whose clients may come to another one the next time."""
        if not self.settings.rooms:
            raise Failure("forbidden", "This server keeps no rooms: another address does, which its operator knows.")

    def _make(self, name: str) -> Room:
        self._check()
        self.sweep()
        if name not in self._rooms:
            if len(self._rooms) >= self.settings.rooms:
                raise Failure("room_full", "This server has as many rooms as it takes.", retry_after_s=30.0)
            self._rooms[name] = Room(name, self.settings)
        return self._rooms[name]

    def sweep(self) -> None:
        """End rooms whose speaker did not come back, and forget those that nobody needs."""
        now = time.monotonic()
        for name, room in list(self._rooms.items()):
            is_stale = now - room.lost_at_s > self.settings.room_s
            if room.state == "lost" and is_stale:
                room.end()
            # An ended room is kept a while for who fetches its subtitles.
            if not room.listeners and (room.state == "waiting" or (room.state == "ended" and is_stale)):
                del self._rooms[name]


__all__ = ["Listener", "Room", "Rooms", "Said"]
