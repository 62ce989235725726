# SPDX-License-Identifier: Apache-2.0
"""One row's life: a coroutine that yields what it wants fed and is sent the logits of its newest token; it yields None
while its source has nothing yet. So one stream's logic reads from top to bottom, and any set of rows makes a batch.
"""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import torch

from .policies import Policy, Progress
from .schedule import BLANK_START
from .streams import SourceCancelled, SourceTimeout


class Ask(NamedTuple):
    """What a row wants fed; the logits of the newest token are the answer.

    Attributes:
        source_ids (`list[int]`): head or source tokens not fed before.
        source_offset (`int`): where they begin in head+source.
        target_ids (`list[int]`): tail or target tokens.
        target_offset (`int`): where they begin in tail+target.
        visible_source (`int`): head and source tokens that they see.
        forgets (`tuple[int, ...]`): the row's stored tokens to give up first, counted from its newest, 0.
        replacement (`int`, *optional*): feed the last token a second time, seeing so much source: its answer too.
    """

    source_ids: list[int]
    source_offset: int
    target_ids: list[int]
    target_offset: int
    visible_source: int
    forgets: tuple[int, ...] = ()
    replacement: int | None = None

    @property
    def tokens(self) -> int:
        """How many tokens are fed."""
        return len(self.source_ids) + len(self.target_ids) + (self.replacement is not None)


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
        polled = self.peek(0)
        self._next += 1
        return polled

    def peek(self, index: int) -> tuple[bool, list[int] | None]:
        """What the poll after `index` more would give."""
        word = self._next + index
        return True, self.words[word] if word < len(self.words) else None


class _Stop(Exception):
    """A row stops for this reason."""


class RowDecoder:
    """One stream: reads, writes, commits words (arXiv 2405.10443, section 4; provisional rows: `docs/decoding.md`).

    Args:
        source: [`KnownSource`] or a live reader with `poll`, `peek`, `listen` and `wait_s`.
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
        head_is_fed (`bool`, *optional*): whether the cache holds the head already.

    Raises:
        ValueError: while it runs, if logits are NaN.
    """

    # What a query must not see is hidden from it, so source may be fed before it is read: all of it if it is known, and
    # what waits already, so that a provisional row and the one that would replace it are asked in one forward.
    feeds_ahead = True

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
        head_is_fed: bool = False,
    ):
        self.source, self.policy, self.tail = source, policy, tail
        self.word_rule, self.processors, self.criteria = word_rule, processors, criteria
        self.generator, self.max_new_tokens, self.max_word_tokens = generator, max_new_tokens, max_word_tokens
        self.keeps_logits, self.on_word = keeps_logits, on_word
        self.started = time.perf_counter() if started is None else started
        self.eos_token_id = word_rule.eos_token_id
        # Head and source tokens that the row has, those fed to the model, and those its next query sees; words among
        # them that are not read yet.
        self.before = list(head)
        self._held_words = 0
        self._fed = len(head) if head_is_fed else 0
        self._visible = len(head)
        if self.feeds_ahead and source.is_known:
            self._hold(source.words)
        self.target: list[int] = []
        self.words: list[list[int]] = []
        self.delays: list[int] = []
        self.elapsed_ms: list[float] = []
        self.queries: list[Query] = []
        self.logits: list[torch.Tensor] = []
        self.stop_reason = ""
        self._read_words = 0
        self._finished = False
        # After asking ahead: the answer to the replaced row, and which of the two stored rows is one too many.
        self._ahead: torch.Tensor | None = None
        self._spare: int | None = None

    def run(self) -> Generator[Ask | None, Any, None]:
        """The row's life. Yields what to feed, and is sent the answer; or None to wait for source, and is sent None."""
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
            within = "continue" if self.word_rule.kinds[token] == BLANK_START else "any"
            if len(word) >= self.max_word_tokens:
                within = "start"
            reads_next = not self._finished and self.policy.reads(Progress(self._read_words, len(self.words) + 1))
            if reads_next and within != "continue":
                # A provisional row: it is asked only whether the word ends, before the READ that would follow.
                logits = yield from self._ask([token], replacement=self._visible_after_word())
                if self._word_ends(logits, within):
                    break
                within = "continue"
            else:
                logits = yield from self._ask([token])
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

    def _visible_after_word(self) -> int | None:
        """What the newest row would see if its word ended now, if all that would be READ then is there, and
        hold it ready; None where it is not, or there is no more."""
        if not self.feeds_ahead:
            return None
        words: list[list[int]] = []
        while self.policy.reads(Progress(self._read_words + len(words), len(self.words) + 1)):
            ready, word = self.source.peek(len(words))
            if not ready:
                return None
            if word is None:
                break
            words.append(word)
        self._hold(words[self._held_words :])
        return self._visible + sum(map(len, words)) if words else None

    def _hold(self, words: list[list[int]]) -> None:
        """Words that wait to be fed and read."""
        self.before += [token for word in words for token in word]
        self._held_words += len(words)

    def _start_word(self, logits: torch.Tensor) -> Generator[Ask | None, torch.Tensor, int]:
        return (yield from self._accept(self._choose(logits, self._word_start()), logits))

    def _word_start(self) -> str:
        return "start" if self.target else self.word_rule.first

    def _accept(self, token: int, logits: torch.Tensor) -> Generator[Ask | None, torch.Tensor, int]:
        """A word start as it is; EOS only once the source has ended: until then it means READ and ask again."""
        while token == self.eos_token_id and not self._finished:
            visible = self._visible
            yield from self._read()
            if self._visible != visible:
                logits = yield from self._ask_again()
                token = self._choose(logits, self._word_start())
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
        if not self._held_words:
            self._hold([word])
        self._held_words -= 1
        self._visible += len(word)
        self._read_words += 1

    def _ask(
        self, ids: list[int], drops: int = 0, replacement: int | None = None
    ) -> Generator[Ask, torch.Tensor, torch.Tensor]:
        """Feed these last tokens of tail+target, behind all source that was not fed yet, in place of the `drops`
        newest; the last one's logits."""
        fresh, self._fed = self._fed, len(self.before)
        offset = len(self.tail) + len(self.target) - len(ids)
        spare, self._spare = self._spare, None if replacement is None else 0
        forgets = (*range(drops), *([] if spare is None or spare < drops else [spare]))
        ask = Ask(self.before[fresh:], fresh, ids, offset, self._visible, forgets, replacement)
        return (yield from self._answer(ask))

    def _answer(self, ask: Ask) -> Generator[Ask, torch.Tensor, torch.Tensor]:
        logits = yield ask
        if torch.isnan(logits).any():
            raise ValueError(
                f"logits are NaN after {len(self.target)} target tokens: check the weights and their dtype."
            )
        self._ahead = logits[1] if ask.replacement is not None else None
        return self._note(logits[0])

    def _note(self, logits: torch.Tensor) -> torch.Tensor:
        self.queries.append(Query(len(self.tail) + len(self.target) - 1, self._read_words))
        if self.keeps_logits:
            self.logits.append(logits)
        return logits

    def _ask_again(self) -> Generator[Ask, torch.Tensor, torch.Tensor]:
        """The newest token once more, now that more source is visible; its cache entry is replaced."""
        if self._ahead is not None:
            answer, self._ahead, self._spare = self._ahead, None, 1
            return self._note(answer)
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
            if all(self.word_rule.kinds[token] == BLANK_START for token in word):
                # Nothing of it can be seen yet.
                del self.target[-len(word) :]
            else:
                self._commit(word, delay)
            raise _Stop(reason)

    def _commit(self, word: list[int], delay: int) -> None:
        self.words.append(word)
        self.delays.append(delay)
        self.elapsed_ms.append(1000 * (time.perf_counter() - self.started))
        if self.on_word is not None:
            self.on_word(word, delay, self.elapsed_ms[-1])


__all__ = ["Ask", "KnownSource", "Query", "RowDecoder"]
