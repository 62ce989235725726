# SPDX-License-Identifier: Apache-2.0
"""Subtitles of a room, SRT or WebVTT: of what was said, or while it is said."""

from collections import deque
from collections.abc import AsyncIterator, Iterator

from ..streaming.subtitles import Cue, Subtitles, write_cues
from .messages import WordMessage
from .rooms import Listener, Room


class _Written:
    """Words in, the file's text out, whole cues at a time."""

    def __init__(self, room: Room, format: str):
        self._subtitles = Subtitles(live=True, joiner=room.joiner)
        self._cues: deque[Cue] = deque()
        self._pieces = write_cues(self._given(), format)
        self.head = next(self._pieces) if format == "vtt" else ""

    def _given(self) -> Iterator[Cue]:
        # Asked for one only when one is there.
        while True:
            yield self._cues.popleft()

    def put(self, message: WordMessage, at_s: float) -> str:
        return self._text(self._subtitles.put(message.text, at_s))

    def wait_until(self, at_s: float) -> str:
        return self._text(self._subtitles.wait_until(at_s))

    def end(self) -> str:
        return self._text(self._subtitles.end())

    @property
    def deadline_s(self) -> float | None:
        return self._subtitles.deadline_s

    def _text(self, cues: list[Cue]) -> str:
        self._cues.extend(cues)
        return "".join(next(self._pieces) for _ in cues)


def subtitles_so_far(room: Room, target_lang: str, format: str) -> str:
    """Return subtitles of what was said.

    Args:
        room (`Room`): where.
        target_lang (`str`): of them.
        format (`str`): `"srt"` or `"vtt"`.
    """
    written = _Written(room, format)
    parts = [written.head]
    for said in room.history_of(target_lang):
        if isinstance(said.message, WordMessage):
            parts.append(written.put(said.message, said.at_s))
    return "".join([*parts, written.end()])


async def live_subtitles(listener: Listener, format: str) -> AsyncIterator[str]:
    """Yield subtitles while a room goes on, to its end.

    Args:
        listener (`Listener`): of one language.
        format (`str`): `"srt"` or `"vtt"`.

    Yields:
        `str`: the file, piece by piece, each of whole cues.
    """
    room = listener.room
    written = _Written(room, format)
    if written.head:
        yield written.head
    while True:
        deadline_s = written.deadline_s
        said = await listener.next(None if deadline_s is None else max(0.0, deadline_s - room.now_s))
        if said is None and listener.is_done:
            break
        if said is None and deadline_s is not None:
            text = written.wait_until(deadline_s)
        elif said is not None and isinstance(said.message, WordMessage):
            text = written.put(said.message, said.at_s)
        else:
            continue
        if text:
            yield text
    if last := written.end():
        yield last


__all__ = ["live_subtitles", "subtitles_so_far"]
