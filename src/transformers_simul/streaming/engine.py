# SPDX-License-Identifier: Apache-2.0
"""StreamEngine: many live translations in one process, each at its own progress, answered by common forwards."""

import functools
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..models.cache import SimulCache
from ..models.committed import committed_words, encoded_unit
from ..models.configuration_generation import SimulGenerationConfig
from ..models.glossary import Glossary, bound_glossary
from ..models.policies import Policy, check_count
from ..models.policy_names import named
from ..models.positions import check_context
from ..models.processing import SimulProcessor
from ..models.room import check_room
from ..models.row import Prompt
from ..models.row_decoder import RowDecoder
from ..models.seam import StreamingModel
from ..models.streams import SourceStream
from ..models.text import ends_sentence
from .context import KeptSentences
from .engine_rows import EngineRows
from .engine_stream import EngineStream
from .options import decoder_options
from .sentences import SentenceReader
from .stream_life import StreamLife
from .streamer import SimulStreamer, Word

_logger = logging.getLogger(__name__)


class EngineFull(Exception):
    """All of the engine's streams are taken."""


class StreamEngine:
    """Translates many live sources at once.

    Every forward answers all streams that have something to ask, within `max_step_tokens`; a stream's ids are those
    that it would get alone. Memory is bounded: `max_streams * max_tokens` cache entries, allocated once. What goes
    wrong in one stream ends it alone; what goes wrong in the engine itself ends all of them with that error.

    Args:
        model: of any family, put into evaluation mode.
        processor (`SimulProcessor`): saved beside it.
        max_streams (`int`, *optional*): most streams at a time; [`StreamEngine.open`] refuses more.
        max_tokens (`int`, *optional*): most tokens that one stream may hold: prompt, source and target; of an endless
            one, of one sentence.
        max_step_tokens (`int`, *optional*): most tokens of one forward, unless a single stream asks for more; the
            streams that have waited longest come first.
        max_waiting (`int`, *optional*): most source units of a stream that may wait unread; then `put` raises.
        max_unread (`int`, *optional*): most words of a stream that may wait for their reader; then it ends.

    Raises:
        ValueError: if a bound is below 1, or a row has no room for the prompt and a token more on either side.

    Example:

    ```python
    >>> from transformers_simul import StreamEngine, WaitKPolicy
    >>> with StreamEngine(model, processor, max_streams=8) as engine:
    ...     stream = engine.open(WaitKPolicy(1), max_new_tokens=4)
    ...     stream.source.put("a dog runs")
    ...     stream.source.end()
    ...     words = [word.text for word in stream]
    >>> len(words) <= 4, stream.stop_reason in ("eos", "max_new_tokens")
    (True, True)

    ```
    """

    def __init__(
        self,
        model: StreamingModel,
        processor: SimulProcessor,
        max_streams: int = 64,
        max_tokens: int = 512,
        max_step_tokens: int = 1024,
        max_waiting: int = 10_000,
        max_unread: int = 10_000,
    ):
        if max_step_tokens < 1:
            raise ValueError(f"max_step_tokens must be at least 1, got {max_step_tokens}.")
        self.model, self.processor = model.eval(), processor
        self.max_waiting, self.max_unread = max_waiting, max_unread
        self.max_tokens, self.cache = max_tokens, SimulCache(max_streams, max_tokens)
        # Prompts by languages. The processor's own is checked first, so that errors show here.
        self._prompts: dict[tuple[str, str], Prompt] = {}
        self._prompt_of(processor)
        self._numbers = itertools.count()
        # Free rows of the cache and streams that join, shared with the threads that open; the rest is the worker's.
        self._changed = threading.Condition()
        self._free = list(range(max_streams))
        self._joining: deque[tuple[int, StreamLife]] = deque()
        self._rows = EngineRows(self.model, self.cache, max_step_tokens, self._free, self._changed)
        self._arrived = threading.Event()
        # One thread steps at a time: the engine's own, once it is started, or the caller's.
        self._stepping = threading.Lock()
        self._stepper: int | None = None
        # Whether no stream is accepted any more, and the error that was the reason.
        self._is_closed = False
        self._error: BaseException | None = None

    def open(
        self,
        policy: Policy | str,
        source: SourceStream | None = None,
        *,
        sentences: bool = False,
        max_sentence_words: int | None = None,
        ends_sentence: Callable[[str], bool] = ends_sentence,
        ends_between: Callable[[Sequence[str], str], bool] | None = None,
        source_lang: str | None = None,
        target_lang: str | None = None,
        wait_s: float = 0.0,
        row_decoder: type[RowDecoder] = RowDecoder,
        streamer: SimulStreamer | None = None,
        committed: Iterable[Word | tuple[str | Sequence[int], int | None]] = (),
        words_before: int = 0,
        words_over: int | None = None,
        glossary: Glossary | Mapping[str, str] | None = None,
        context_sentences: int | None = None,
        **kwargs: Any,
    ) -> EngineStream:
        """Begin a translation; from any thread.

        Args:
            policy (`Policy` or `str`): when to READ and WRITE; a name is one that [`policy_from_name`] knows.
            source (`SourceStream`, *optional*): where the source arrives; a new one without.
            sentences (`bool`, *optional*): whether the source is endless and translated sentence by sentence: what was
                read and written leaves the cache at each sentence's end. Limits such as `max_new_tokens` then hold for
                each sentence, and what a sentence's translation leaves unread is passed over.
            max_sentence_words (`int`, *optional*): where to end a sentence that has no end.
            ends_sentence (`Callable[[str], bool]`, *optional*): whether a sentence ends with this word.
            ends_between (`Callable[[Sequence[str], str], bool]`, *optional*): whether a sentence ends between its words
                so far and the next, where there is no punctuation: a [`Segmenter`].
            source_lang, target_lang (`str`, *optional*): the stream's languages, of those that the processor knows.
            wait_s (`float`, *optional*): how long to wait for a place.
            row_decoder (`type`, *optional*): how it reads and writes.
            streamer (`SimulStreamer`, *optional*): takes the words and the ends of sentences; a new one without.
            committed (`Iterable`, *optional*): words of a stream that was cut off, which the target begins with: its
                [`Word`]s, or pairs of text or ids and delay. The same source must be put again; only words that come
                after are given out. Of an endless stream, sentences that ended before the last one are passed over.
            words_before (`int`, *optional*): source units that are not put again, since their sentences have ended;
                delays count them too.
            words_over (`int`, *optional*): source units, those before included, whose sentences had ended: nothing more
                is written of them, and put again they are context. By default what the newest committed word says.
            glossary (`Glossary` or `Mapping[str, str]`, *optional*): terms to prefer once they were read.
            context_sentences (`int`, *optional*): how many sentences that have ended stay in view, with their
                translations, in at most half of `max_tokens`; as many as training showed. Unless told, an endless
                stream keeps what the generation configuration says, or none.
            **kwargs: arguments of `generate()` that concern one row: `generation_config`, or its fields such as
                `max_new_tokens` and `do_sample`; `logits_processor`, `stopping_criteria`, `generators` (one) and
                `max_word_tokens`.

        Raises:
            EngineFull: if there is no place.
            RuntimeError: if the engine is closed or has failed.
            ValueError: for arguments that `generate()` would not know or take, if the source counts other units than
                the processor, for languages that the processor does not know, for `max_sentence_words`, `ends_between`,
                `words_over` or `context_sentences` without `sentences`, for context that [`check_context`] refuses, for
                committed words that no decoder writes, or for a glossary that is none. A target term that the processor
                cannot write ends the stream with this error once it is due.
        """
        bounds = {"max_sentence_words": max_sentence_words, "ends_between": ends_between}
        for name, value in {**bounds, "context_sentences": context_sentences, "words_over": words_over}.items():
            if value is not None and not sentences:
                raise ValueError(f"{name}={value} needs sentences=True.")
        context = self._context_sentences(context_sentences, row_decoder) if sentences else 0
        check_count("words_before", words_before, least=0)
        over = check_count("words_over", words_before if words_over is None else words_over, least=words_before)
        policy = named(policy, self.model)
        processor = self.processor.with_languages(source_lang, target_lang)
        prompt = self._prompt_of(processor)
        make_decoder = functools.partial(
            row_decoder,
            policy=policy,
            prompt=prompt,
            # Not at once: who opens a stream for a stranger, as a server does, has others that wait meanwhile.
            glossary=bound_glossary(glossary, prompt, at_once=False),
            **decoder_options(self.model, processor, **kwargs),
        )
        shown = committed_words(committed, prompt.rule, encoded_unit(processor), words_before, sentences)
        if sentences and any(word.delay is None for word in shown):
            raise ValueError("committed must have delays with sentences=True: they say which a word belongs to.")
        number = next(self._numbers)
        if source is None:
            source = self.processor.stream(max_waiting=self.max_waiting, name=f"the source of stream {number}")
        bound = source.bind(self.processor)
        reader = SentenceReader(bound, max_sentence_words, ends_sentence, ends_between) if sentences else bound
        words = streamer or SimulStreamer(self.processor, max_unread=self.max_unread, name=f"stream {number}")
        for word in shown:
            # The last may end within a character, which the next word completes.
            words.word(0, word.ids, 0, 0.0)
        stream = EngineStream(number, source, words)
        with self._changed:
            row = self._free_row(wait_s)
            kept = KeptSentences(self.cache, row, prompt.head, context, self.max_tokens // 2)
            life = StreamLife(stream, reader, make_decoder, kept, shown, words_before, over)
            self._joining.append((row, life))
        source.listen(self._arrived.set)
        self._arrived.set()
        return stream

    def _context_sentences(self, wanted: int | None, row_decoder: type[RowDecoder]) -> int:
        """How many sentences that have ended an endless stream keeps."""
        if wanted is None:
            wanted = SimulGenerationConfig.of(self.model.generation_config).context_sentences or 0
        if check_count("context_sentences", wanted, least=0):
            check_context(self.model.config)
            if not row_decoder.feeds_ahead:
                raise ValueError(f"context_sentences needs a decoder that keeps its cache, got {row_decoder.__name__}.")
        return wanted

    def _free_row(self, wait_s: float) -> int:
        """A row that is free from now on or within so many seconds. The caller holds the lock."""
        self._changed.wait_for(lambda: self._free or self._is_closed, wait_s)
        if self._error is not None:
            raise RuntimeError(f"the engine has failed: {self._error!r}.") from self._error
        if self._is_closed:
            raise RuntimeError("the engine is closed.")
        if not self._free:
            raise EngineFull(f"max_streams is {self.cache.batch_size}, and all places were taken for wait_s={wait_s}.")
        return self._free.pop()

    def step(self) -> int:
        """Run one forward, and return how many streams it answered. The engine's own thread calls it, or you do."""
        with self._stepping:
            self._stepper = threading.get_ident()
            try:
                self._join()
                answered = self._rows.step()
                if self._is_closed:
                    # A callback closed it, which could not wait for the end of this step.
                    self._end_rows()
                return answered
            finally:
                self._stepper = None

    @property
    def active_streams(self) -> int:
        """Streams that have a place."""
        with self._changed:
            return self.cache.batch_size - len(self._free)

    @property
    def is_closed(self) -> bool:
        """Whether no stream is accepted any more: the engine was closed, or has failed."""
        return self._is_closed

    def start(self) -> None:
        """Work in a thread of its own until [`StreamEngine.close`]. Starting twice is no error.

        Raises:
            RuntimeError: if the engine is closed.
        """
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the engine is closed.")
            if self._rows.worker is None:
                self._rows.worker = threading.Thread(target=self._work, daemon=True, name="StreamEngine")
                self._rows.worker.start()

    def close(self) -> None:
        """Cancel what runs and stop the thread."""
        self._refuse()
        if self._stepper == threading.get_ident():
            return
        if self._rows.worker is not None:
            self._rows.worker.join()
        with self._stepping:
            self._end_rows()

    def __enter__(self) -> "StreamEngine":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while not self._is_closed:
                self._arrived.clear()
                if not self.step():
                    self._arrived.wait(self._rows.wait_s)
        except BaseException as error:
            # Nobody would step any more, so nobody may wait for it.
            _logger.exception("The engine has failed; its streams end with this error.")
            self._refuse(error)
        with self._stepping:
            self._end_rows()

    def _refuse(self, error: BaseException | None = None) -> None:
        """Accept no further streams."""
        with self._changed:
            self._is_closed, self._error = True, self._error or error
            self._changed.notify_all()
        self._arrived.set()

    def _end_rows(self) -> None:
        self._join()
        self._rows.close_all("cancelled" if self._error is None else "error", self._error)

    def _prompt_of(self, processor: SimulProcessor) -> Prompt:
        """The prompt of its languages, for the model."""
        languages = processor.source_lang, processor.target_lang
        if languages not in self._prompts:
            prompt = processor.prompt.fit(self.model)
            check_room(self.model.config, self.max_tokens, len(prompt.head), len(prompt.tail))
            self._prompts[languages] = prompt
        return self._prompts[languages]

    def _join(self) -> None:
        with self._changed:
            while self._joining:
                self._rows.add(*self._joining.popleft())


__all__ = ["EngineFull", "EngineStream", "StreamEngine"]
