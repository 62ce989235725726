# SPDX-License-Identifier: Apache-2.0
"""What a client keeps of a stream so that it can go on after a lost connection. Does no input or output itself."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ...models.streams import SourceStream
from ...models.text import split_at_breaks, split_words
from ..messages import (
    CommittedWord,
    End,
    EndSentence,
    Resume,
    SentenceEnd,
    SourcePiece,
    Start,
    TrackResume,
    WordMessage,
)


class _Unit(NamedTuple):
    text: str
    at_ms: float | None


class _Track:
    """What was shown of one target language: the counts at its last end of a sentence, and the words since then."""

    def __init__(self) -> None:
        self.source_words = self.target_words = self.sentences = 0
        self.committed: list[CommittedWord] = []

    @property
    def read_words(self) -> int:
        """Source words that were read, as far as the server has told."""
        return max(self.source_words, self.committed[-1].delay if self.committed else 0)


class Kept:
    """The source that was sent and the words that came, since the last sentence that all target languages have ended.

    Args:
        start (`Start`): the stream's first message, without `resume`.

    Example:

    ```python
    >>> from transformers_simul.serving.client.kept import Kept
    >>> from transformers_simul.serving.messages import Start
    >>> kept = Kept(Start())
    >>> kept.begin("word", ["de"])
    >>> kept.put("A dog. It ru"), kept.put("ns"), kept.source_words
    (3, 0, 3)
    >>> [piece.text for piece in kept.again()]
    ['A dog. It ', 'runs']

    ```
    """

    def __init__(self, start: Start):
        self._start = start
        self.unit = ""
        self.has_ended = False
        self._tracks: dict[str, _Track] = {}
        # Cuts the source into units as the server does.
        self._splitter = SourceStream()
        # Units that all target languages have done with; units from `_base` on, where among all units the caller ended
        # sentences, and what is incomplete.
        self._done = self._base = 0
        self._units: deque[_Unit] = deque()
        self._ends: deque[int] = deque()
        self._left = ""

    def begin(self, unit: str, target_langs: list[str]) -> None:
        """The server has taken the stream, for the first time or again.

        Args:
            unit (`str`): that it counts.
            target_langs (`list[str]`): that it writes.

        Raises:
            ValueError: if another server has models of another kind.
        """
        if self.unit and (unit, set(target_langs)) != (self.unit, {*self._tracks}):
            raise ValueError(
                f"url must lead to servers with the same models: one counts {self.unit}s and writes "
                f"{sorted(self._tracks)}, another counts {unit}s and writes {sorted(target_langs)}."
            )
        if not self.unit:
            self.unit, self._splitter = unit, SourceStream(unit=unit)
            self._tracks = {language: _Track() for language in target_langs}

    def add(self, message: SourcePiece | EndSentence | End) -> int:
        """A message is about to be sent.

        Args:
            message (`SourcePiece`, `EndSentence` or `End`): it.

        Returns:
            `int`: units that it completes.
        """
        match message:
            case SourcePiece():
                return self.put(message.text, message.at_ms)
            case EndSentence():
                return self.end_sentence()
        return self.end()

    def count(self, message: SourcePiece | EndSentence | End) -> int:
        """Units in a message of `again`, at most."""
        if not isinstance(message, SourcePiece):
            return 0
        return len(message.text if self.unit == "char" else split_words(message.text))

    def put(self, text: str, at_ms: float | None = None) -> int:
        """Source is about to be sent.

        Args:
            text (`str`): any piece of it.
            at_ms (`float`, *optional*): when it came.

        Returns:
            `int`: units that it completes.
        """
        self._splitter.put(text)
        pieces = split_at_breaks(text)
        if self.unit != "char":
            self._left = pieces[-1] if len(pieces) > 1 else self._left + text
        elif text:
            self._left = "" if pieces[-1] else " "
        return self._take(at_ms)

    def end_sentence(self) -> int:
        """The end of a sentence is about to be sent.

        Returns:
            `int`: units that it completes.
        """
        self._splitter.end_sentence()
        completed = self._complete()
        if self.source_words > max(self._done, self._ends[-1] if self._ends else 0):
            self._ends.append(self.source_words)
        return completed

    def end(self) -> int:
        """The end is about to be sent.

        Returns:
            `int`: units that it completes.
        """
        self.has_ended = True
        self._splitter.end()
        return self._complete()

    def _complete(self) -> int:
        if self.unit != "char":
            self._left = ""
        return self._take(None)

    def _take(self, at_ms: float | None) -> int:
        before = len(self._units)
        while (text := self._splitter.poll()[1]) is not None:
            self._units.append(_Unit(text, at_ms))
        return len(self._units) - before

    @property
    def source_words(self) -> int:
        """Complete source units, of the whole stream."""
        return self._base + len(self._units)

    @property
    def words_ahead(self) -> int:
        """Source units beyond those that words have answered, in the target language that is furthest behind."""
        return self.source_words - min((track.read_words for track in self._tracks.values()), default=0)

    def heard(self, message: WordMessage | SentenceEnd) -> bool:
        """A word or the end of a sentence came.

        Args:
            message (`WordMessage` or `SentenceEnd`): it.

        Returns:
            `bool`: False if it was heard before.

        Raises:
            ValueError: if words between the last and this one are missing, or it is of another language or of source
                that was not sent, which no server should do.
        """
        track = self._tracks.get(message.target_lang)
        if track is None:
            raise ValueError(
                f"the server sent a word of {message.target_lang!r}, and agreed to write {sorted(self._tracks)}."
            )
        if isinstance(message, WordMessage):
            expected = track.target_words + len(track.committed)
            if message.index > expected:
                raise ValueError(
                    f"the server sent word {message.index} of {message.target_lang!r} after {expected - 1}."
                )
            if message.index < expected:
                return False
            track.committed.append(CommittedWord(text=message.text, delay=message.delay, ids=message.ids))
            return True
        if message.sentences <= track.sentences:
            return False
        # Token units: the server takes no stream up but from its beginning.
        if self._start.sentences and self.unit != "token":
            if not track.source_words <= message.source_words <= self.source_words:
                raise ValueError(
                    f"the server ended a sentence of {message.target_lang!r} after {message.source_words} source "
                    f"words; it was sent {self.source_words}, and the sentence before ended after {track.source_words}."
                )
            track.source_words, track.target_words = message.source_words, message.target_words
            track.committed.clear()
            self._forget()
        track.sentences = message.sentences
        return True

    def _forget(self) -> None:
        """Source that all target languages have done with."""
        done = self._done = min(track.source_words for track in self._tracks.values())
        while self._ends and self._ends[0] <= done:
            self._ends.popleft()
        for _ in range(done - self._base):
            self._units.popleft()
        self._base = done

    def start(self) -> Start:
        """The first message: of a new stream, or of one that goes on."""
        if not self.unit:
            return self._start
        forgets = self._start.sentences and self.unit != "token"
        tracks = [
            TrackResume(
                target_lang=language,
                source_words=track.source_words,
                target_words=track.target_words,
                sentences=track.sentences if forgets else 0,
                committed=track.committed,
            )
            for language, track in self._tracks.items()
        ]
        return self._start.model_copy(update={"resume": Resume(source_words=self._base, tracks=tracks)})

    def again(self, longest: int = 1000) -> Iterator[SourcePiece | EndSentence | End]:
        """What must be sent again once the stream goes on.

        Args:
            longest (`int`, *optional*): most characters of a piece, unless a single unit has more.
        """
        ends, text, at_ms = set(self._ends), "", None
        joiner = "" if self.unit == "char" else " "
        for number, unit in enumerate(list(self._units), start=self._base + 1):
            if text and (unit.at_ms != at_ms or len(text) + len(unit.text) >= longest):
                yield SourcePiece(text=text, at_ms=at_ms)
                text = ""
            text, at_ms = text + unit.text + joiner, unit.at_ms
            if number in ends:
                yield SourcePiece(text=text, at_ms=at_ms)
                yield EndSentence()
                text = ""
        if text:
            yield SourcePiece(text=text, at_ms=at_ms)
        if self.has_ended:
            yield End()
        elif self._left:
            yield SourcePiece(text=self._left)


__all__ = ["Kept"]
