# SPDX-License-Identifier: Apache-2.0
"""A client's stream, whatever carries it: one source, a track for each target language, messages out in order."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from .failure import Failure
from .messages import Ended, Limits, Notice, Pong, SentenceEnd, Start, Started, WordMessage
from .metrics import Metrics
from .models import Served, policy_of
from .pace import Pace
from .punctuation import EndsBetween, Punctuation
from .settings import Settings
from .track import Arrival, Track

_logger = logging.getLogger(__name__)

Message = Started | WordMessage | SentenceEnd | Notice | Pong | Ended


class Session:
    """One stream. All calls come from one event loop; only the engine's threads hand events over.

    Args:
        models (`Sequence[Served]`): one for each target language.
        start (`Start`): what the client wants.
        settings (`Settings`): limits.
        metrics (`Metrics`): gets the figures.
        segmenters (`Mapping[str, Callable]`): where sentences end in source without punctuation, by language; `""` for
            all others.

    Raises:
        Failure: if an engine has no place, or cannot do what the client wants; nothing is held then.
    """

    def __init__(
        self,
        models: Sequence[Served],
        start: Start,
        settings: Settings,
        metrics: Metrics,
        segmenters: Mapping[str, EndsBetween],
    ):
        self.name = secrets.token_hex(8)
        self.settings, self.policy = settings, start.policy or settings.policy or policy_of(models)
        self._start, self._models = start, models
        self._loop = asyncio.get_running_loop()
        # Events that the engines' threads handed over, messages that nothing of an engine leads to, and their bell.
        self._events: deque[tuple[Track | None, Any]] = deque()
        self._is_rung = False
        self._bell = asyncio.Event()
        self._failure: Failure | None = None
        self._has_ended = False
        self._pace = Pace(settings.words_per_second, settings.burst_words)
        self._words = start.resume.source_words if start.resume else 0
        self._punctuation = _punctuation_of(start, models[0], settings, segmenters)
        self.tracks: list[Track] = []
        try:
            for served in models:
                track = Track(served, start, self.policy, settings, metrics, self._hand_over)
                self.tracks.append(track)
                metrics.opened.labels(served.name).inc()
        except BaseException:
            self.close()
            raise

    def started(self) -> Started:
        """Return the first message."""
        settings = self.settings
        return Started(
            stream=self.name,
            models={served.target_lang: served.name for served in self._models},
            source_lang=self._models[0].source_lang,
            target_langs=[served.target_lang for served in self._models],
            unit=self._models[0].unit,  # type: ignore[arg-type]
            policy=self.policy,
            context_sentences={track.target_lang: track.context_sentences for track in self.tracks},
            kept_sentences=max(track.kept_sentences for track in self.tracks),
            limits=Limits(
                message_bytes=settings.message_bytes,
                words_per_second=settings.words_per_second,
                burst_words=settings.burst_words,
                waiting_words=settings.waiting_words,
                idle_s=settings.idle_s,
                total_s=settings.total_s,
            ),
        )

    def put(self, text: str, at_ms: float | None = None) -> None:
        """Take source from the client.

        Args:
            text (`str`): any piece of it.
            at_ms (`float`, *optional*): when it came to the client.

        Raises:
            Failure: if the source has ended, comes too fast, too much of it waits, or something inside is wrong.
        """
        if self._has_ended:
            raise Failure("bad_order", "source came after end or cancel.")
        with self._taking(at_ms):
            self._give(text if self._punctuation is None else self._punctuation.put(text))

    @contextlib.contextmanager
    def _taking(self, at_ms: float | None = None) -> Iterator[None]:
        """Say what is wrong as the protocol does, and note what came."""
        before = self._put_words
        try:
            yield
        except BufferError as error:
            most = self.settings.waiting_words
            what = f"More than {most} source words, or characters of one that has not ended, would wait unread."
            raise Failure("too_much_waiting", what) from error
        except Exception as error:
            # A segmenter is anybody's.
            raise self._internal(error) from error
        self._note(self._put_words - before, at_ms)

    @property
    def _put_words(self) -> int:
        """Source words that came, those included that wait for a next one."""
        if self._punctuation is not None:
            return self._punctuation.put_words
        # A track that is over takes none.
        return max(track.source.put_units for track in self.tracks)

    def _give(self, text: str) -> None:
        for track in self.tracks:
            # A track may be over; its end is under way, and the others go on.
            with contextlib.suppress(ValueError):
                track.source.put(text)

    def _complete(self) -> None:
        """Give what waits for a next word."""
        if self._punctuation is not None:
            self._give(self._punctuation.complete())

    def end_sentence(self) -> None:
        """End a sentence of the source.

        Raises:
            Failure: as [`Session.put`].
        """
        if self._has_ended:
            raise Failure("bad_order", "end_sentence came after end or cancel.")
        with self._taking():
            self._complete()
            for track in self.tracks:
                track.source.end_sentence()

    def end(self) -> None:
        """End the source; ending it twice is no error.

        Raises:
            Failure: as [`Session.put`].
        """
        with self._taking():
            if not self._has_ended:
                self._complete()
            self._has_ended = True
            for track in self.tracks:
                track.source.end()

    @property
    def has_ended(self) -> bool:
        """Whether the source is complete or given up."""
        return self._has_ended

    def cancel(self) -> None:
        """Cancel the translation for a client that wants no more; the end is the last that it gets."""
        self._has_ended = True
        self.close()

    def say(self, message: Notice | Pong) -> None:
        """Send a message between the others.

        Args:
            message (`Notice` or `Pong`): it.
        """
        self._events.append((None, message))
        self._bell.set()

    def stop(self, failure: Failure) -> None:
        """End the stream with an error, after what was written; the first one counts.

        Args:
            failure (`Failure`): why.
        """
        self._failure = self._failure or failure
        self.close()
        self._bell.set()

    def close(self) -> None:
        """Free all places."""
        for track in self.tracks:
            track.close()

    async def messages(self) -> AsyncIterator[Message]:
        """Everything that is said to the client, to the end.

        Raises:
            Failure: if the stream ended by an error.
        """
        yield self.started()
        running = len(self.tracks)
        while running or self._events:
            if not self._events:
                await self._bell.wait()
            self._bell.clear()
            while self._events:
                track, event = self._events.popleft()
                if track is None:
                    yield event
                    continue
                try:
                    said = list(track.messages(event))
                except Exception as error:
                    raise self._internal(error) from error
                for message in said:
                    yield message
                if track.stop_reason:
                    running -= 1
                    self._look_at_end(track)
            if self._failure is not None:
                raise self._failure
        ends = [track.end_message() for track in self.tracks]
        yield Ended(reason=next((end.reason for end in ends if end.reason != "eos"), "eos"), tracks=ends)

    @property
    def waiting_words(self) -> int:
        """Source words that wait unread."""
        return sum(track.waiting_words for track in self.tracks)

    @property
    def unsent(self) -> int:
        """Events that wait for the client."""
        return len(self._events)

    def _note(self, new: int, at_ms: float | None) -> None:
        """Note when words were complete, and hold who sends too many."""
        if not new:
            return
        self._words += new
        arrival = Arrival(self._words, at_ms, time.monotonic())
        for track in self.tracks:
            track.arrive(arrival)
        if not self._pace.take(new):
            rate = self.settings.words_per_second
            raise Failure("too_fast", f"More source than {rate:g} words a second, after a burst, is not taken.")

    def _look_at_end(self, track: Track) -> None:
        if track.failure is None or self._failure is not None:
            return
        failure = track.failure
        if isinstance(failure, ValueError) and "committed" in str(failure):
            self.stop(Failure("bad_resume", str(failure)))
            return
        self.stop(self._internal(failure))

    def _internal(self, error: BaseException) -> Failure:
        # Its text may hold anything; the log has it, the client does not.
        _logger.error("stream %s ended with an error", self.name, exc_info=error)
        return Failure("internal", f"The stream {self.name} ended with an error inside the server.")

    def _hand_over(self, track: Track, event: Any) -> None:
        """Take an event of a track; called in an engine's thread."""
        if len(self._events) >= self.settings.unsent_messages:
            # Ends the stream; the client is told why if it ever reads again.
            self._failure = self._failure or Failure("slow_reader", "Too many messages wait for this client.")
            track.source.cancel("its client does not read")
        self._events.append((track, event))
        if not self._is_rung:
            self._is_rung = True
            # A loop that is closed has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        self._is_rung = False
        self._bell.set()


def _punctuation_of(
    start: Start, served: Served, settings: Settings, segmenters: Mapping[str, EndsBetween]
) -> Punctuation | None:
    """What adds punctuation, if the client wants it."""
    if not start.add_punctuation:
        return None
    if served.unit != "word":
        raise Failure("bad_option", f"add_punctuation needs a model of words, but {served.name!r} has {served.unit}s.")
    longest = min(start.max_sentence_words or settings.sentence_words, settings.sentence_words)
    ends_between = segmenters.get(served.source_lang, segmenters.get(""))
    return Punctuation(served.source_lang, longest, ends_between, settings.waiting_words)


__all__ = ["Message", "Session"]
