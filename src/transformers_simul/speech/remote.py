# SPDX-License-Identifier: Apache-2.0
"""Speech in, translation by a server: what was recognised is sent there, and its words come back, for a room too."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from .listening import Clock, Hearing, TranslatedWord
from .recogniser import Recogniser, SpokenWord
from .writing import SentenceWriter


class Joiner:
    """What a log and a terminal need of a processor.

    Args:
        unit (`str`): what the server's model counts; spaces stand between words alone.
    """

    def __init__(self, unit: str):
        self.joiner = " " if unit == "word" else ""

    def join(self, words: Iterable[str]) -> str:
        """Join words to a text.

        Args:
            words (`Iterable[str]`): of a translation.
        """
        return self.joiner.join(words)


class RemoteListener(Hearing):
    """As [`Listener`], but a server translates. Words come back while further audio is heard, so an event holds those
    that have come since the event before; the last one waits for all.

    Args:
        client (`PlainSimulClient`): to the server; a lost connection is resumed.
        recogniser, writer, clock: as [`Listener`] has them.
        **kwargs: of [`PlainSimulClient.open`], such as `policy` and `room`.

    Attributes:
        processor (`Joiner`): joins words.

    Raises:
        ServerError, ConnectionLost: if the server does not take the stream.
        ValueError: if its model counts tokens.
    """

    def __init__(
        self,
        client: Any,
        recogniser: Recogniser,
        writer: SentenceWriter | None = None,
        clock: Clock | None = None,
        **kwargs: Any,
    ):
        super().__init__(recogniser, writer, clock)
        self._stack = contextlib.ExitStack()
        self._stream = self._stack.enter_context(client.open(**kwargs))
        try:
            unit = self._stream.started.unit
            if unit == "token":
                raise ValueError("the server's model must count words or characters: a recogniser knows no tokens.")
        except BaseException:
            self._stack.close()
            raise
        self.processor, self._unit = Joiner(unit), unit
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for message in self._stream.messages():
                self._messages.put(message)
        except Exception as error:
            self._messages.put(error)

    def _translate(self, words: list[SpokenWord], is_last: bool) -> list[TranslatedWord]:
        for word in words:
            if word.text:
                text = word.text if self._unit == "char" else f"{word.text} "
                self._stream.put(text, at_ms=1000 * word.end_s)
        if is_last:
            self._stream.end()
            self._reader.join()
        target = [*self._come()]
        if is_last:
            self._stack.close()
        return target

    def _come(self) -> Iterator[TranslatedWord]:
        while not self._messages.empty():
            message = self._messages.get()
            if isinstance(message, Exception):
                raise message
            now_s = self.clock.now_s()
            if message.type == "word":
                spoken_s = (message.source_at_ms or 0.0) / 1000
                yield TranslatedWord(message.text, message.delay, spoken_s, self.heard_s, now_s)
            elif message.type == "sentence_end":
                yield TranslatedWord("", message.source_words, self.heard_s, self.heard_s, now_s)

    def close(self) -> None:
        """Give the translation up."""
        self._stack.close()


__all__ = ["Joiner", "RemoteListener"]
