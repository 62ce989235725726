# SPDX-License-Identifier: Apache-2.0
"""The decoding step, one for known, live and many streams: rows ask, one forward answers all that are ready.

Each row is a coroutine that yields what it wants fed and is sent the logits of its newest token; it yields None
while its source has nothing yet. So one stream's logic reads from top to bottom, and any set of rows makes a batch.
"""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import torch

from .policies import Policy, Progress
from .schedule_simul import BLANK_START, EOS, Schedule
from .streams_simul import SourceCancelled, SourceTimeout


class Ask(NamedTuple):
    """What a row wants fed; the logits of the last token are the answer.

    Attributes:
        source_ids (`list[int]`): head or source tokens not fed before.
        source_offset (`int`): where they begin in head+source.
        target_ids (`list[int]`): tail or target tokens.
        target_offset (`int`): where they begin in tail+target.
        visible_source (`int`): head and source tokens that they see.
        drops (`int`): how many of the row's newest cache entries these tokens overwrite.
    """

    source_ids: list[int]
    source_offset: int
    target_ids: list[int]
    target_offset: int
    visible_source: int
    drops: int


class Query(NamedTuple):
    """One question to the model.

    Attributes:
        offset (`int`): index in tail+target of the token that asked.
        visible_words (`int`): source words that it saw.
    """

    offset: int
    visible_words: int


class KnownSource:
    """A source that is there from the start: fed at once, shown word by word.

    Args:
        words (`list[list[int]]`): ids of each source word.
    """

    is_known = True

    def __init__(self, words: list[list[int]]):
        self.words = words
        self._next = 0

    def poll(self) -> tuple[bool, list[int] | None]:
        """As a live reader's: `(True, ids)`, or `(True, None)` at the end."""
        self._next += 1
        return True, self.words[self._next - 1] if self._next <= len(self.words) else None


class _Stop(Exception):
    """A row stops for this reason."""


class RowDecoder:
    """One stream: reads, writes, commits words.

    Args:
        source: [`KnownSource`] or a live reader with `poll`, `listen` and `wait_s`.
        policy (`Policy`): READ or WRITE.
        head, tail (`list[int]`): ids of the prompt around the source.
        word_rule (`SimulLogitsProcessor`): keeps words whole.
        processors, criteria (`Sequence[Callable]`, *optional*): further logits processors and stopping criteria.
        generator (`torch.Generator`, *optional*): samples with it; greedy without.
        max_new_tokens (`int`, *optional*): most target tokens; 20 + 3 per source token read without.
        max_word_tokens (`int`, *optional*): most tokens of a word.
        keeps_logits (`bool`, *optional*): whether to keep every answer.
        started (`float`, *optional*): `time.perf_counter()` of the call; now, unless told.
        on_word (`Callable`, *optional*): called with `(ids, delay, elapsed_ms)` of each committed word.
    """

    # What a query must not see is hidden from it, so a source that is known is fed in one piece.
    feeds_known_source_at_once = True

    def __init__(
        self,
        source: Any,
        policy: Policy,
        head: list[int],
        tail: list[int],
        word_rule: Any,
        processors: Sequence[Callable] = (),
        criteria: Sequence[Callable] = (),
        generator: torch.Generator | None = None,
        max_new_tokens: int | None = None,
        max_word_tokens: int = 64,
        keeps_logits: bool = False,
        started: float | None = None,
        on_word: Callable[[list[int], int, float], None] | None = None,
    ):
        self.source, self.policy, self.tail = source, policy, tail
        self.word_rule, self.processors, self.criteria = word_rule, processors, criteria
        self.generator, self.max_new_tokens, self.max_word_tokens = generator, max_new_tokens, max_word_tokens
        self.keeps_logits, self.on_word = keeps_logits, on_word
        self.started = time.perf_counter() if started is None else started
        self.eos_token_id = int((word_rule.kinds == EOS).nonzero()[0])
        # Head and source tokens that the row has, those fed to the model, and those its next query sees.
        self.before = list(head)
        self._fed = 0
        self._visible = len(head)
        if self.feeds_known_source_at_once and source.is_known:
            self.before += [token for word in source.words for token in word]
        self.target: list[int] = []
        self.words: list[list[int]] = []
        self.delays: list[int] = []
        self.elapsed_ms: list[float] = []
        self.queries: list[Query] = []
        self.logits: list[torch.Tensor] = []
        self.stop_reason = ""
        self._read_words = 0
        self._finished = False

    def run(self) -> Generator[Ask | None, torch.Tensor, None]:
        """The row's life. Yields what to feed, or None to wait for source; is sent logits, shape `(vocabulary,)`."""
        try:
            yield from self._read_until_write()
            logits = yield from self._ask(self.tail)
            token = yield from self._start_word(logits)
            while token != self.eos_token_id:
                token = yield from self._write_word(token)
            self.stop_reason = "eos"
        except _Stop as stop:
            self.stop_reason = str(stop)
        except SourceCancelled:
            self.stop_reason = "cancelled"
        except SourceTimeout:
            self.stop_reason = "timeout"

    def _write_word(self, token: int) -> Generator[Ask | None, torch.Tensor, int]:
        """Write the word that `token` starts; returns the token that starts the next, or EOS."""
        delay, word = self._read_words, []
        while True:
            word.append(token)
            self.target.append(token)
            self._check_limits(word, delay)
            logits = yield from self._ask([token])
            within = "continue" if self.word_rule.kinds[token] == BLANK_START else "any"
            if len(word) >= self.max_word_tokens:
                within = "start"
            if not self._finished and self.policy.reads(Progress(self._read_words, len(self.words) + 1)):
                # A provisional row: it is asked only whether the word ends, before the READ that would follow.
                if self._word_ends(logits, within):
                    break
                within = "continue"
            token = self._choose(logits, within)
            if self.word_rule.ends_word[token]:
                self._commit(word, delay)
                return (yield from self._accept(token, logits))
        self._commit(word, delay)
        visible = self._visible
        yield from self._read_until_write()
        if self._visible != visible:
            logits = yield from self._ask_again()
        return (yield from self._start_word(logits))

    def _start_word(self, logits: torch.Tensor) -> Generator[Ask | None, torch.Tensor, int]:
        return (yield from self._accept(self._choose(logits, "start"), logits))

    def _accept(self, token: int, logits: torch.Tensor) -> Generator[Ask | None, torch.Tensor, int]:
        """A word start as it is; EOS only once the source has ended: until then it means READ and ask again."""
        while token == self.eos_token_id and not self._finished:
            visible = self._visible
            yield from self._read()
            if self._visible != visible:
                logits = yield from self._ask_again()
                token = self._choose(logits, "start")
        return token

    def _read_until_write(self) -> Generator[None, None, None]:
        while not self._finished and self.policy.reads(Progress(self._read_words, len(self.words))):
            yield from self._read()

    def _read(self) -> Generator[None, None, None]:
        while not (polled := self.source.poll())[0]:
            yield None
        word = polled[1]
        if word is None:
            self._finished = True
            return
        if not (self.feeds_known_source_at_once and self.source.is_known):
            self.before += word
        self._visible += len(word)
        self._read_words += 1

    def _ask(self, ids: list[int], drops: int = 0) -> Generator[Ask, torch.Tensor, torch.Tensor]:
        """Feed these last tokens of tail+target, behind all source that was not fed yet; the last one's logits."""
        fresh, self._fed = self._fed, len(self.before)
        offset = len(self.tail) + len(self.target) - len(ids)
        return (yield from self._answer(Ask(self.before[fresh:], fresh, ids, offset, self._visible, drops)))

    def _answer(self, ask: Ask) -> Generator[Ask, torch.Tensor, torch.Tensor]:
        logits = yield ask
        newest = Query(len(self.tail) + len(self.target) - 1, self._read_words)
        if torch.isnan(logits).any():
            raise ValueError(
                f"logits are NaN after {len(self.target)} target tokens: check the weights and their dtype."
            )
        self.queries.append(newest)
        if self.keeps_logits:
            self.logits.append(logits)
        return logits

    def _ask_again(self) -> Generator[Ask, torch.Tensor, torch.Tensor]:
        """The newest token once more, now that more source is visible; its cache entry is replaced."""
        return (yield from self._ask((self.tail + self.target)[-1:], drops=1))

    def _word_ends(self, logits: torch.Tensor, within: str) -> bool:
        if within != "any":
            return within == "start"
        ends = self._scores(logits, "any").softmax(-1)[self.word_rule.ends_word].sum()
        if self.generator is None:
            return bool(ends > 0.5)
        return bool(torch.rand((), generator=self.generator, device=ends.device) < ends)

    def _choose(self, logits: torch.Tensor, expect: str) -> int:
        scores = self._scores(logits, expect)
        if self.generator is None:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(-1), 1, generator=self.generator))

    def _scores(self, logits: torch.Tensor, expect: str) -> torch.Tensor:
        self.word_rule.expect = expect
        ids = self._shown_ids(logits.device) if self.processors else None
        scores = self.word_rule(ids, logits[None])
        for processor in self.processors:
            scores = processor(ids, scores)
        return scores[0]

    def _shown_ids(self, device) -> torch.Tensor:
        """What logits processors and stopping criteria may see: nothing of the unread source."""
        return torch.tensor([self.before[: self._visible] + self.tail + self.target], device=device)

    def _check_limits(self, word: list[int], delay: int) -> None:
        limit = 20 + 3 * self._visible if self.max_new_tokens is None else self.max_new_tokens
        reason = "max_new_tokens" if len(self.target) >= limit else ""
        if not reason and self.criteria:
            ids = self._shown_ids(self.word_rule.kinds.device)
            if any(bool(criterion(ids, None).all()) for criterion in self.criteria):
                reason = "stopping_criteria"
        if reason:
            self._commit(word, delay)
            raise _Stop(reason)

    def _commit(self, word: list[int], delay: int) -> None:
        self.words.append(word)
        self.delays.append(delay)
        self.elapsed_ms.append(1000 * (time.perf_counter() - self.started))
        if self.on_word is not None:
            self.on_word(word, delay, self.elapsed_ms[-1])


def decode_step(model: Any, cache: Any, asks: Sequence[Ask | None]) -> torch.Tensor:
    """One forward for all rows that ask.

    Args:
        model: takes `input_ids`, a schedule and the cache.
        cache (`SimulCache`): one row per ask.
        asks (`Sequence[Ask | None]`): None for a row that waits or is done.

    Returns:
        `torch.Tensor` of shape `(rows, vocabulary)`, float32: logits of each row's last token.
    """
    length = max(len(ask.source_ids) + len(ask.target_ids) for ask in asks if ask is not None)
    columns = [_columns(ask, length) for ask in asks]
    ids, *fields = (torch.tensor(column, device=model.device) for column in zip(*columns, strict=True))
    schedule = Schedule(fields[0], fields[1].bool(), fields[2], fields[3], torch.zeros_like(fields[0]))
    cache.place(schedule, [0 if ask is None else ask.drops for ask in asks])
    outputs = model(ids, past_key_values=cache, logits_to_keep=1, return_dict=True, **schedule._asdict())
    return outputs.logits[:, -1].float()


def _columns(ask: Ask | None, length: int) -> tuple[list[int], ...]:
    """Ids, `pair_ids`, `in_target`, `offsets` and `visible_source` of one row, padded on the left."""
    if ask is None:
        return ([0] * length, [0] * length, [0] * length, [0] * length, [1] * length)
    source, target = len(ask.source_ids), len(ask.target_ids)
    padding = [0] * (length - source - target)
    offsets = [*range(ask.source_offset, ask.source_offset + source)]
    return (
        padding + ask.source_ids + ask.target_ids,
        padding + [1] * (source + target),
        padding + [0] * source + [1] * target,
        padding + offsets + [*range(ask.target_offset, ask.target_offset + target)],
        [1] * len(padding) + [offset + 1 for offset in offsets] + [ask.visible_source] * target,
    )


def decode_rows(model: Any, cache: Any, rows: Sequence[RowDecoder]) -> int:
    """Run rows to their ends, together; returns the number of forwards.

    Rows whose source has nothing yet are left out until it has; the call blocks only when none can go on.
    """
    arrived = threading.Event()
    runs: dict[int, Generator[Ask | None, torch.Tensor, None]] = {}
    asks: dict[int, Ask | None] = {}
    for index, row in enumerate(rows):
        if not row.source.is_known:
            row.source.listen(arrived.set)
        runs[index], asks[index] = row.run(), None

    forwards = 0
    while runs:
        arrived.clear()
        for index in [index for index in runs if asks[index] is None]:
            _advance(runs, asks, index, None)
        if not any(asks.values()):
            if runs:
                waits = [wait for index in runs if (wait := rows[index].source.wait_s) is not None]
                arrived.wait(min(waits) if waits else None)
            continue
        logits = decode_step(model, cache, [asks[index] for index in range(len(rows))])
        forwards += 1
        for index in [index for index in runs if asks[index] is not None]:
            _advance(runs, asks, index, logits[index])
    return forwards


def _advance(runs: dict, asks: dict, index: int, answer: torch.Tensor | None) -> None:
    """Let a row go on until it asks, waits or ends."""
    try:
        asks[index] = runs[index].send(answer)
    except StopIteration:
        asks[index] = None
        del runs[index]


__all__ = ["Ask", "KnownSource", "Query", "RowDecoder", "decode_rows", "decode_step"]
