# SPDX-License-Identifier: Apache-2.0
"""What a client keeps of a stream so that it can go on after a lost connection. Does no input or output itself."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel

from ...models.streams import SourceStream
from ...models.text import split_at_breaks, split_words
from ..messages import (
    MAX_COMMITTED,
    CommittedWord,
    Context,
    End,
    EndSentence,
    Limits,
    Resume,
    SentenceEnd,
    SourcePiece,
    Start,
    Started,
    TrackResume,
    WordMessage,
)

# Sentences that have ended, whatever a server asks for.
_MOST_KEPT = 1000


class _Unit(NamedTuple):
    text: str
    at_ms: float | None


class _Sentence(NamedTuple):
    source_words: int
    words: list[CommittedWord]


def _size(message: BaseModel) -> int:
    """Return the number of bytes of a message as it is sent."""
    return len(message.model_dump_json(exclude_none=True).encode())


class _Track:
    """What was shown of one target language: the counts at its last end of a sentence, the words since then, and the
    sentences before that, if they stay in view."""

    def __init__(self) -> None:
        self.source_words = self.target_words = self.sentences = 0
        self.committed: list[CommittedWord] = []
        self.context: deque[_Sentence] = deque()

    @property
    def begin(self) -> int:
        """Source words before the first that is kept."""
        return self.context[0].source_words if self.context else self.source_words

    @property
    def context_size(self) -> int:
        """Target words of the sentences that are kept."""
        return sum(len(sentence.words) for sentence in self.context)

    def end_sentence(self, message: SentenceEnd, kept_sentences: int) -> None:
        """Note that a sentence is over, and keep only so many of those that are."""
        self.context.append(_Sentence(self.source_words, self.committed))
        if message.reason != "eos":
            # It was cut off, and nothing before the next is in view.
            self.context.clear()
        while len(self.context) > kept_sentences:
            self.context.popleft()
        self.source_words, self.target_words, self.committed = message.source_words, message.target_words, []

    def resume(self, language: str, forgets: bool) -> TrackResume:
        """Return where the track goes on; from the beginning if nothing was forgotten."""
        words = [word for sentence in self.context for word in sentence.words]
        context = Context(source_words=self.begin, words=words) if self.context else None
        return TrackResume(
            target_lang=language,
            source_words=self.source_words,
            target_words=self.target_words,
            sentences=self.sentences if forgets else 0,
            committed=self.committed,
            context=context,
        )

    @property
    def read_words(self) -> int:
        """Source words that were read, as far as the server has told."""
        return max(self.source_words, self.committed[-1].delay if self.committed else 0)


class Kept:
    """The source that was sent and the words that came, since the last sentence that all target languages have ended.

    Args:
        start (`Start`): the stream's first message, without `resume`.

    Attributes:
        tracks (`dict[str, _Track]`): what was shown of each target language.
        base (`int`): how many source units were forgotten because no target language needs them any more.
        units (`deque`): the units from there on.
        ends (`deque[int]`): where among all units the caller ended sentences.

    Example:

    ```python
    >>> from transformers_simul.serving.client.kept import Kept
    >>> from transformers_simul.serving.messages import Limits, Start, Started
    >>> limits = Limits(
    ...     message_bytes=9999, words_per_second=9, burst_words=99, waiting_words=99, idle_s=9, total_s=99
    ... )
    >>> kept = Kept(Start())
    >>> languages = {"source_lang": "en", "target_langs": ["de"]}
    >>> kept.begin(Started(stream="1", models={}, **languages, unit="word", policy="wait-1", limits=limits))
    >>> kept.put("A dog. It ru"), kept.put("ns"), kept.source_words
    (3, 0, 3)
    >>> [piece.text for piece in kept.again()]
    ['A dog. It ', 'runs']

    ```
    """

    def __init__(self, start: Start):
        self._start = start
        self.unit = ""
        self._kept_sentences = 0
        self._limits: Limits
        self.has_ended = False
        self.tracks: dict[str, _Track] = {}
        # Cuts the source into units as the server does.
        self.splitter = SourceStream()
        # Units of which all target languages have ended the sentences.
        self._done = self.base = 0
        self.units: deque[_Unit] = deque()
        self.ends: deque[int] = deque()
        # What is incomplete.
        self._left = ""

    def begin(self, started: Started) -> None:
        """Note that the server has taken the stream, for the first time or again.

        Args:
            started (`Started`): what it said.

        Raises:
            ValueError: if another server has models of another kind.
        """
        unit, target_langs = started.unit, started.target_langs
        self._kept_sentences, self._limits = min(started.kept_sentences, _MOST_KEPT), started.limits
        if self.unit and (unit, set(target_langs)) != (self.unit, {*self.tracks}):
            raise ValueError(
                f"url must lead to servers with the same models: one counts {self.unit}s and writes "
                f"{sorted(self.tracks)}, another counts {unit}s and writes {sorted(target_langs)}."
            )
        if not self.unit:
            self.unit, self.splitter = unit, SourceStream(unit=unit)
            self.tracks = {language: _Track() for language in target_langs}

    def add(self, message: SourcePiece | EndSentence | End) -> int:
        """Note that a message is about to be sent.

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
        """Return the number of units in a message of `again`, at most."""
        if not isinstance(message, SourcePiece):
            return 0
        return len(message.text if self.unit == "char" else split_words(message.text))

    def put(self, text: str, at_ms: float | None = None) -> int:
        """Note that source is about to be sent.

        Args:
            text (`str`): any piece of it.
            at_ms (`float`, *optional*): when it came.

        Returns:
            `int`: units that it completes.
        """
        self.splitter.put(text)
        pieces = split_at_breaks(text)
        if self.unit != "char":
            self._left = pieces[-1] if len(pieces) > 1 else self._left + text
        elif text:
            self._left = "" if pieces[-1] else " "
        return self._take(at_ms)

    def end_sentence(self) -> int:
        """Note that the end of a sentence is about to be sent.

        Returns:
            `int`: units that it completes.
        """
        self.splitter.end_sentence()
        completed = self._complete()
        if self.source_words > max(self._done, self.ends[-1] if self.ends else 0):
            self.ends.append(self.source_words)
        return completed

    def end(self) -> int:
        """Note that the end is about to be sent.

        Returns:
            `int`: units that it completes.
        """
        self.has_ended = True
        self.splitter.end()
        return self._complete()

    def _complete(self) -> int:
        if self.unit != "char":
            self._left = ""
        return self._take(None)

    def _take(self, at_ms: float | None) -> int:
        before = len(self.units)
        while (text := self.splitter.poll()[1]) is not None:
            self.units.append(_Unit(text, at_ms))
        return len(self.units) - before

    @property
    def source_words(self) -> int:
        """Complete source units, of the whole stream."""
        return self.base + len(self.units)

    @property
    def words_ahead(self) -> int:
        """Source units beyond those that words have answered, in the target language that is furthest behind."""
        return self.source_words - min((track.read_words for track in self.tracks.values()), default=0)

    def heard(self, message: WordMessage | SentenceEnd) -> bool:
        """Note that a word or the end of a sentence came.

        Args:
            message (`WordMessage` or `SentenceEnd`): it.

        Returns:
            `bool`: False if it was heard before.

        Raises:
            ValueError: if words between the last and this one are missing, or it is of another language or of source
                that was not sent, which no server should do.
        """
        track = self.tracks.get(message.target_lang)
        if track is None:
            raise ValueError(
                f"the server sent a word of {message.target_lang!r}, and agreed to write {sorted(self.tracks)}."
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
        if self._forgets:
            if not track.source_words <= message.source_words <= self.source_words:
                raise ValueError(
                    f"the server ended a sentence of {message.target_lang!r} after {message.source_words} source "
                    f"words; it was sent {self.source_words}, and the sentence before ended after {track.source_words}."
                )
            track.end_sentence(message, self._kept_sentences)
            self.forget()
        track.sentences = message.sentences
        return True

    @property
    def _forgets(self) -> bool:
        """Whether ended sentences leave; of token units the server takes no stream up but from its beginning."""
        return self._start.sentences and self.unit != "token"

    def forget(self) -> None:
        """Forget source that no target language needs."""
        self._done = min(track.source_words for track in self.tracks.values())
        base = min(track.begin for track in self.tracks.values())
        while self.ends and self.ends[0] <= base:
            self.ends.popleft()
        for _ in range(base - self.base):
            self.units.popleft()
        self.base = base

    def start(self) -> Start:
        """The first message: of a new stream, or of one that goes on."""
        if not self.unit:
            return self._start
        excess = 0
        while tracks := [track for track in self.tracks.values() if track.context]:
            # All is measured again only once enough seems to be gone.
            excess = excess or self._excess
            if not excess:
                break
            # No server takes so much: without the oldest, words may follow that differ from those without a break.
            gone = min(tracks, key=lambda track: track.begin).context.popleft()
            excess = max(0, excess - max(1, sum(_size(word) + 1 for word in gone.words)))
            self.forget()
        return self._resuming()

    @property
    def _excess(self) -> int:
        """By how much the next start, or what is sent after it, is more than a server takes: 0 if it is not; bytes of
        the message where that is too long; 1 where there are too many source units or target words."""
        if self._done - self.base > self._limits.burst_words // 2:
            return 1
        if any(track.context_size > MAX_COMMITTED for track in self.tracks.values()):
            return 1
        return max(0, _size(self._resuming()) - self._limits.message_bytes)

    def _resuming(self) -> Start:
        """Return the first message of a stream that goes on."""
        tracks = [track.resume(language, self._forgets) for language, track in self.tracks.items()]
        return self._start.model_copy(update={"resume": Resume(source_words=self.base, tracks=tracks)})

    def again(self, longest: int = 1000) -> Iterator[SourcePiece | EndSentence | End]:
        """Yield what must be sent again once the stream goes on.

        Args:
            longest (`int`, *optional*): most characters of a piece, unless a single unit has more.
        """
        ends, text, at_ms = set(self.ends), "", None
        joiner = "" if self.unit == "char" else " "
        for number, unit in enumerate(list(self.units), start=self.base + 1):
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
