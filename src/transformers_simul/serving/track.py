# SPDX-License-Identifier: Apache-2.0
"""One target language of a stream: what the engine's thread writes becomes the protocol's messages."""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from ..models.glossary import STRENGTH, Glossary
from ..models.policy_names import named, policy_from_name
from ..models.streams import SourceStream
from ..streaming.engine import EngineFull, EngineStream
from ..streaming.streamer import SimulStreamer
from .failure import Failure
from .messages import Context, SentenceEnd, Start, TrackEnd, TrackResume, WordMessage
from .metrics import Metrics
from .models import Served
from .settings import Settings

# A policy that drafts more words before each READ would hold all streams up.
_MOST_DRAFT_WORDS = 16


class Arrival(NamedTuple):
    """The arrival of source.

    Attributes:
        words (`int`): source words that were there then, from the stream's beginning.
        at_ms (`float`, *optional*): on the client's clock.
        at_s (`float`): on ours, monotonic.
    """

    words: int
    at_ms: float | None
    at_s: float


class _Written(NamedTuple):
    ids: list[int]
    text: str
    delay: int
    elapsed_ms: float


class _SentenceOver(NamedTuple):
    units: int
    reason: str


class _Over(NamedTuple):
    error: BaseException | None = None


class _Source(SourceStream):
    """Remembers what was read until a word is written, and passes over words that this track has translated."""

    def __init__(self, passed_over: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self._passed_over = self._left = passed_over
        self.read: deque[str] = deque()

    def poll(self) -> tuple[bool, str | None]:
        while True:
            ready, unit = super().poll()
            if unit is None:
                return ready, unit
            if not self._left:
                self.read.append(unit)
                return ready, unit
            self._left -= 1

    def sentence_ends_at(self, units: int) -> bool:
        return super().sentence_ends_at(units + self._passed_over)

    def forget_sentence_ends(self, units: int) -> None:
        super().forget_sentence_ends(units + self._passed_over)


class _Streamer(SimulStreamer):
    """Hands everything on at once, from the engine's thread, instead of keeping it."""

    def __init__(self, processor: Any, hand_on: Callable[[Any], None]):
        super().__init__(processor)
        self.hand_on = hand_on

    def put_word(self, row: int, ids: list[int], delay: int, elapsed_ms: float) -> None:
        word = self.word(row, ids, delay, elapsed_ms)
        self.hand_on(_Written(ids, word.text, delay, elapsed_ms))

    def end_sentence(self, source_units: int, reason: str) -> None:
        self.hand_on(_SentenceOver(source_units, reason))

    def end(self) -> None:
        self.hand_on(_Over())

    def fail(self, error: BaseException) -> None:
        self.hand_on(_Over(error))


class Track:
    """A stream of an engine for one target language.

    Args:
        served (`Served`): the model.
        start (`Start`): what the client wants.
        policy (`str`): the name of its policy.
        settings (`Settings`): limits.
        metrics (`Metrics`): gets the stream's figures.
        hand_on (`Callable`): called from the engine's thread with this track and what has happened, for
            [`Track.messages`].

    Attributes:
        stream (`EngineStream`): the translation.

    Raises:
        Failure: if the engine has no place, or cannot do what the client wants.
    """

    def __init__(
        self,
        served: Served,
        start: Start,
        policy: str,
        settings: Settings,
        metrics: Metrics,
        hand_on: Callable[["Track", Any], None],
    ):
        self.served, self.metrics, self.target_lang = served, metrics, served.target_lang
        self.context_sentences = _context_of(start, served)
        self.resume = _resume_of(start, served)
        # What stays in view, if anything does: the engine begins there.
        seen = self.resume.context if self.context_sentences else None
        self._context = seen or Context(source_words=self.resume.source_words, words=[])
        self.sentences, self.source_words = self.resume.sentences, self.resume.source_words
        self.target_words = self.resume.target_words + len(self.resume.committed)
        # Source words read, as far as words or ends of sentences have told.
        self._told = max([self.resume.source_words, *(word.delay for word in self.resume.committed)])
        self._arrivals: deque[Arrival] = deque()
        self._newest: Arrival | None = None
        self._sent_again = sent_again = start.resume.source_words if start.resume else 0
        begin = self._context.source_words
        self.source = _Source(
            begin - sent_again,
            unit=served.unit,
            # What words have answered counts as read, before it is again: as much as may come at once.
            max_waiting=settings.waiting_words + min(self._told - sent_again, settings.burst_words),
            name=f"the source of {served.target_lang!r}",
            goes_on=sent_again > 0,
        )
        # Units before the first in `source.read`. Those that committed words have read are not told again.
        self._units_taken = begin
        self.stop_reason = ""
        self.failure: BaseException | None = None
        streamer = _Streamer(served.engine.processor, lambda event: hand_on(self, event))
        self.stream = self._open(start, policy, settings.sentence_words, streamer)

    def _open(self, start: Start, policy: str, sentence_words: int, streamer: SimulStreamer) -> EngineStream:
        engine = self.served.engine
        options = start.options.model_dump(exclude_none=True, exclude={"seed"})
        if options.get("do_sample"):
            seed = secrets.randbits(63) if start.options.seed is None else start.options.seed
            options["generators"] = [torch.Generator(engine.model.device).manual_seed(seed)]
        cut = min(start.max_sentence_words or sentence_words, sentence_words) if start.sentences else None
        if self.resume.committed or self.resume.source_words:
            shown = [*self._context.words, *self.resume.committed]
            options["committed"] = [(word.ids or word.text, word.delay) for word in shown]
            options["words_before"] = self._context.source_words
            if start.sentences:
                options["words_over"] = self.resume.source_words
        try:
            check_policy(policy)
        except ValueError as error:
            raise Failure("bad_policy", str(error)) from error
        try:
            own = _glossary_of(start, self.target_lang)
            options["glossary"] = self.served.glossary if own is None else own
            return engine.open(
                policy,
                self.source,
                sentences=start.sentences,
                max_sentence_words=cut,
                context_sentences=start.context_sentences,
                streamer=streamer,
                **options | self.served.languages,
            )
        except EngineFull as error:
            places = engine.cache.batch_size
            raise Failure("full", f"All {places} places of this model are taken.", retry_after_s=5.0) from error
        except ValueError as error:
            resumes = "committed" in str(error) or "words_before" in str(error)
            raise Failure("bad_resume" if resumes else "bad_option", str(error)) from error
        except RuntimeError as error:
            raise Failure("internal", "The engine of this model has stopped.") from error

    def arrive(self, arrival: Arrival) -> None:
        """Note when source came.

        Args:
            arrival (`Arrival`): of the whole source.
        """
        self._arrivals.append(arrival)

    def messages(self, event: Any) -> Iterator[WordMessage | SentenceEnd]:
        """Yield what an event of the engine says to the client; called where `arrive` is, in the order of the events.

        Args:
            event: as it was handed on.
        """
        if isinstance(event, _Written):
            read = self._read_up_to(event.delay)
            newest = self._newest
            if newest is not None:
                self.metrics.word_s.labels(self.served.name).observe(time.monotonic() - newest.at_s)
            self.metrics.words.labels(self.served.name).inc()
            index, self.target_words = self.target_words, self.target_words + 1
            yield WordMessage(
                target_lang=self.target_lang,
                index=index,
                text=event.text,
                delay=event.delay,
                elapsed_ms=round(event.elapsed_ms, 3),
                read=read,
                source_at_ms=None if newest is None else newest.at_ms,
                ids=event.ids,
            )
        elif isinstance(event, _SentenceOver):
            # Counted by the engine from the beginning of the whole stream, not from where it was resumed.
            if event.units <= self.resume.source_words:
                # Context, which the client was told of before.
                return
            self.source_words = event.units
            self.sentences += 1
            read = self._read_up_to(self.source_words)
            yield SentenceEnd(
                target_lang=self.target_lang,
                sentences=self.sentences,
                source_words=self.source_words,
                target_words=self.target_words,
                read=read,
                reason=event.reason,  # type: ignore[arg-type]
            )
        else:
            self.stop_reason, self.failure = self.stream.stop_reason, event.error
            self.source_words = max(self.source_words, self._told)
            self.metrics.ended.labels(self.served.name, self.stop_reason).inc()

    def _read_up_to(self, delay: int) -> list[str]:
        """The source words READ since the last word; none with token units, whose texts are parts of words."""
        told, self._told = self._told, max(delay, self._told)
        count = self._told - told
        self.metrics.source_words.labels(self.served.name).inc(count)
        if self.served.unit == "token":
            self.source.read.clear()
            return []
        while self._arrivals and (self._newest is None or self._newest.words < delay):
            self._newest = self._arrivals.popleft()
        read = [self.source.read.popleft() for _ in range(delay - self._units_taken)]
        self._units_taken = delay
        return read[len(read) - count :]

    def end_message(self) -> TrackEnd:
        """Return the message that says how the track ended."""
        return TrackEnd(
            target_lang=self.target_lang,
            reason=self.stop_reason or "cancelled",  # type: ignore[arg-type]
            sentences=self.sentences,
            source_words=self.source_words,
            target_words=self.target_words,
        )

    @property
    def waiting_words(self) -> int:
        """Source words that came and were not read, as far as words have told."""
        return max(0, self.source.put_units - (self._told - self._sent_again))

    @property
    def kept_sentences(self) -> int:
        """Sentences that have ended and are needed to go on elsewhere as if there had been no break: a layer of those
        in view saw what the layer below had made of those that were in view before."""
        return self.context_sentences * self.served.engine.model.config.num_hidden_layers

    def close(self) -> None:
        """Free the place."""
        self.stream.close()


def check_policy(name: str, model: Any = None) -> None:
    """Check that streams may follow a policy.

    Args:
        name (`str`): of the policy.
        model (*optional*): that is to follow it.

    Raises:
        ValueError: for a name that is none, a policy that drafts too many words, or one that the model cannot follow.
    """
    words = (policy_from_name(name) if model is None else named(name, model)).draft_words
    if words > _MOST_DRAFT_WORDS:
        raise ValueError(f"This server drafts at most {_MOST_DRAFT_WORDS} words, got {name!r}, with {words}.")


def _glossary_of(start: Start, target_lang: str) -> Glossary | None:
    """The terms of one target language; None without terms and numbers.

    Raises:
        ValueError: for terms that are none, or contradict one another.
    """
    terms = [(term.source, term.target) for term in start.glossary if term.target_lang in (None, target_lang)]
    if not terms and not start.copy_numbers:
        return None
    return Glossary(terms, start.glossary_strength or STRENGTH, start.copy_numbers)


def _context_of(start: Start, served: Served) -> int:
    """How many sentences that have ended stay in view of this track.

    Raises:
        Failure: if the client wants more than the model was trained with.
    """
    wanted, most = start.context_sentences, served.context_sentences
    if wanted is None:
        return most if start.sentences else 0
    if wanted > most:
        trained = f"with {most}" if most else "without context"
        raise Failure(
            "bad_option",
            f"context_sentences must be at most {most} for {served.name!r}, trained {trained}, got {wanted}.",
        )
    return wanted


def _resume_of(start: Start, served: Served) -> TrackResume:
    """Where this track goes on; from the beginning where nothing is said."""
    if start.resume is None:
        return TrackResume()
    mine = [each for each in start.resume.tracks if each.target_lang in (None, served.target_lang)]
    if len(mine) != 1 or (mine[0].target_lang is None and len(start.target_langs or [""]) > 1):
        raise Failure("bad_resume", f"start.resume.tracks must have one entry for {served.target_lang!r}.")
    resume, again = mine[0], start.resume.source_words
    over = resume.source_words
    context = resume.context or Context(source_words=over, words=[])
    if context.source_words < again:
        raise Failure(
            "bad_resume",
            f"start.resume.source_words must be at most the {context.source_words} of each track, got {again}.",
        )
    if any(word.delay > over for word in context.words) or any(word.delay < over for word in resume.committed):
        raise Failure(
            "bad_resume", f"Words up to source_words, {over}, are of the context, and those after it are committed."
        )
    if context.source_words > over:
        raise Failure("bad_resume", f"context must begin before source_words, {over}, got {context.source_words}.")
    if served.unit == "token" and resume.source_words:
        raise Failure("bad_resume", "With token units all source must be sent again: source_words must be 0.")
    if not start.sentences and (resume.source_words or resume.target_words):
        raise Failure("bad_resume", "Without sentences all source must be sent again: all counts must be 0.")
    return resume


__all__ = ["Arrival", "Track", "check_policy"]
