# SPDX-License-Identifier: Apache-2.0
"""One row's life: a coroutine that yields what it wants fed and is sent what its newest token says; it yields None
while its source has nothing yet. So one stream's logic reads from top to bottom, and any set of rows makes a batch.
"""

import time
from collections.abc import Callable, Generator, Sequence
from itertools import accumulate
from typing import Any

import torch

from .adaptive import Evidence
from .choosing import Answer
from .committed import Committed
from .glossary_row import BoundGlossary
from .policies import Policy, Progress
from .questions import Questions
from .row import Ask, Drafts, Prompt, Reading, RowStopped
from .row_chooser import RowChooser
from .source import Source, SourceCancelled, SourceTimeout, all_words
from .word_rule import Expected


class RowDecoder(RowChooser):
    """One stream: reads, writes, commits words (arXiv 2405.10443, section 4; provisional rows: `docs/decoding.md`).

    Other systems derive from it and say what to feed: [`RowDecoder.feed`] after a token was chosen,
    [`RowDecoder.feed_again`] after a READ, and `feeds_ahead`; or what is chosen: [`RowChooser.word_ends`],
    [`RowChooser.choose`] and [`RowChooser.likeliest`]. Everything else is the same for all.

    Args:
        source (`Source`): known or live.
        policy (`Policy`): READ or WRITE.
        prompt (`Prompt`): around the source, with the rule for words.
        processors, criteria (`Sequence[Callable]`, *optional*): further logits processors and stopping criteria.
        generator (`torch.Generator`, *optional*): samples with it; greedy without.
        max_new_tokens (`int`, *optional*): most target tokens; without it 20 and three for each source token read.
        max_word_tokens (`int`, *optional*): most tokens of a word.
        keeps_logits (`bool`, *optional*): whether to keep every answer.
        started (`float`, *optional*): `time.perf_counter()` of the call; now, unless told.
        on_word (`Callable`, *optional*): called with `(ids, delay, elapsed_ms)` of each committed word.
        head_is_fed (`bool`, *optional*): whether the cache holds the head already.
        committed (`Sequence[Committed]`, *optional*): words that were shown before: the target begins with them. They
            are written as they are, under the source that they saw, and `on_word` is not called for them.
        glossary (`BoundGlossary`, *optional*): terms to prefer once they were read.
        context (`Sequence[int]`, *optional*): ids that the cache holds before the head: sentences that have ended.
        is_over (`bool`, *optional*): whether the committed words are all of the target: nothing more is written.
        eos_threshold (`float`, *optional*): see [`SimulGenerationConfig`].

    Attributes:
        feeds_ahead (`bool`): whether source may be fed before it is read, since it is hidden: all of it if it is known,
            and what waits already, so that a row and those that replace it after READs are asked in one forward.
        reading (`Reading`): head and source.
        target (`list[int]`): ids that were written.
        words, delays, elapsed_ms, queries, logits, stop_reason: as in [`SimulGenerateOutput`].
        drafts (`Drafts`): what a policy that looks has seen of words to come.

    Raises:
        ValueError: for committed words or context where `feeds_ahead` is False. While it runs: if logits are NaN, or
            what logits processors make of them; or if the source ends before it has as many words as a committed one
            had read.
    """

    feeds_ahead = True

    def __init__(
        self,
        source: Source,
        policy: Policy,
        prompt: Prompt,
        processors: Sequence[Callable[..., torch.Tensor]] = (),
        criteria: Sequence[Callable[..., torch.Tensor]] = (),
        generator: torch.Generator | None = None,
        max_new_tokens: int | None = None,
        max_word_tokens: int = 64,
        keeps_logits: bool = False,
        started: float | None = None,
        on_word: Callable[[list[int], int, float], None] | None = None,
        head_is_fed: bool = False,
        committed: Sequence[Committed] = (),
        glossary: BoundGlossary | None = None,
        context: Sequence[int] = (),
        is_over: bool = False,
        eos_threshold: float | None = None,
    ):
        for name, given in (("committed words need", committed), ("context needs", context)):
            if given and not self.feeds_ahead:
                raise ValueError(f"{name} a decoder that keeps its cache, got {type(self).__name__}.")
        reading = Reading(prompt.head, head_is_fed, context)
        super().__init__(prompt, reading, processors, generator, glossary, eos_threshold)
        self.source, self.policy, self.criteria = source, policy, criteria
        self.max_new_tokens, self.max_word_tokens = max_new_tokens, max_word_tokens
        self.keeps_logits, self.on_word, self.committed, self.is_over = keeps_logits, on_word, committed, is_over
        self.started = time.perf_counter() if started is None else started
        if source.is_known and self.feeds_ahead:
            self.reading.hold(all_words(source))
        self.words: list[list[int]] = []
        self.delays: list[int] = []
        self.elapsed_ms: list[float] = []
        self.stop_reason = ""
        self.drafts = Drafts()
        self.questions = Questions(
            self.reading, self.tail, self.target, self.drafts, policy.heads, self.rule_alone, keeps_logits
        )
        self.queries, self.logits = self.questions.queries, self.questions.logits

    def run(self) -> Generator[Ask | None, Any, None]:
        """The row's life. Yields what to feed, and is sent the answer; or None to wait for source, and is sent None.
        When it is over, `stop_reason` says why, and `target` holds the committed words."""
        try:
            yield from self._read_until_write()
            answer = yield from self._write_committed()
            token = self.rule.eos_token_id
            if self.is_over:
                yield from self._read_the_rest()
            else:
                token = yield from self._start_word((yield from self._wait_to_write(answer)))
            while token != self.rule.eos_token_id:
                token = yield from self._write_word(token)
            self.stop_reason = "eos"
        except RowStopped as stop:
            self.stop_reason = str(stop)
        except SourceCancelled:
            self.stop_reason = "cancelled"
        except SourceTimeout:
            self.stop_reason = "timeout"
        # Nobody has seen the beginning of a word that did not end.
        del self.target[sum(map(len, self.words)) :]

    def feed(self, ids: list[int], copies: tuple[int, ...] = ()) -> Ask:
        """What to feed once `ids` are the newest of tail+target: these, after all source that the model has not got.

        Args:
            ids (`list[int]`): the tail, or the token that was chosen.
            copies (`tuple[int, ...]`, *optional*): see [`Ask`]; only with `feeds_ahead`.
        """
        return self.questions.compose(ids)._replace(copies=copies)

    def in_place(self, ids: list[int]) -> Ask:
        """Feed the last tokens of tail+target again, in their own places: the stored ones are given up.

        Args:
            ids (`list[int]`): these tokens; as fed before, with no source after their first.
        """
        return self.questions.compose(ids, in_place=True)

    def feed_again(self) -> Ask:
        """What to feed after a READ that follows the newest token: this token under the new source, in its own place;
        before the first word the whole tail, all of which sees what the first word sees."""
        return self.in_place(self.target[-1:] or self.tail)

    @property
    def prompt_ids(self) -> list[int]:
        """Head, source and tail: a known source whole, of a live one what was read."""
        unread = [token for word in all_words(self.source) for token in word] if self.source.is_known else []
        return self.reading.ids[: self.reading.visible] + unread + self.tail

    def stored(self) -> tuple[list[int], tuple[int, ...]]:
        """What the cache holds of a row that has ended with EOS.

        Returns:
            The ids in the order of the text: what was there before, head, source, tail and target; and the entries
            beside these to give up, counted from the newest, 0.
        """
        forgets = self.questions.compose([]).forgets
        return self.reading.ids[: self.reading.visible] + self.tail + self.target, forgets

    def _write_committed(self) -> Generator[Ask | None, list[Answer], Answer]:
        """Write what was shown before, each token under the source that it saw; returns what the model says then. All
        that decides from here on, the drafts of a policy that asks for them too, is what it would be without a break.
        """
        newest = self.tail
        for word, delay in self.committed:
            if self.policy.draft_words:
                yield from self._wait_to_write((yield from self.questions.ask(self.feed(newest))))
            visible = self.reading.visible
            while self._reads_committed(delay):
                yield from self._read()
            if self.policy.draft_words:
                if self.reading.visible != visible:
                    yield from self._ask_again()
                newest = []
            self.target += word[:-1]
            if ids := [*newest, *word[:-1]]:
                yield from self.questions.ask(self.feed(ids))
            self.target += word[-1:]
            self._commit(word, self.reading.source_words, is_shown=True)
            newest = word[-1:]
        if self.committed and (reason := self._limit_reached()):
            raise RowStopped(reason)
        return (yield from self.questions.ask(self.feed(newest, self._copies_due(len(self.words), 1))))

    def _read_the_rest(self) -> Generator[Ask | None, list[Answer], None]:
        """READ to the end, so that what is stored saw all of the source, as before an EOS."""
        visible = self.reading.visible
        while not self.reading.is_over:
            yield from self._read()
        if self.reading.visible != visible:
            yield from self._ask_again()

    def _reads_committed(self, delay: int | None) -> bool:
        """Whether more was read before the next committed word."""
        reads = self._reads(len(self.words)) if delay is None else self.reading.source_words < delay
        if reads is None or (reads and self.reading.is_over):
            raise ValueError(
                f"committed words must have delays, with {self.policy!r}, within the source, but word "
                f"{len(self.words)} has {delay} and the source {self.reading.source_words} words."
            )
        return reads

    def _write_word(self, token: int) -> Generator[Ask | None, list[Answer], int]:
        """Write the word that `token` starts; returns the token that starts the next, or EOS."""
        delay, word = self.reading.source_words, []
        while True:
            word.append(token)
            self.target.append(token)
            self._check_limits(word, delay)
            expected = self._expected_in(word)
            if expected != "continue" and self._reads(len(self.words) + 1) is not False:
                # A provisional row: it is asked only whether the word ends, before the READ that may follow.
                answer = yield from self._feed_token(token, self._copies_due(len(self.words) + 1, 1))
                if expected == "start" or self.word_ends(answer):
                    break
                expected = "continue"
            else:
                answer = yield from self._feed_token(token)
            token = self.choose(answer, expected)
            if self.rule.is_start(token):
                self._commit(word, delay)
                return (yield from self._accept(token))
        self._commit(word, delay)
        return (yield from self._start_word((yield from self._wait_to_write(answer))))

    def _expected_in(self, word: list[int]) -> Expected:
        """What may follow what is written of a word."""
        if len(word) >= self.max_word_tokens:
            return "start"
        return "continue" if self.rule.is_blank(word[-1]) else "any"

    def _feed_token(self, token: int, copies: tuple[int, ...] = ()) -> Generator[Ask, list[Answer], Answer]:
        """Ask the token that was chosen, unless the newest draft foresaw it: then it was asked."""
        if (answer := self.questions.foreseen(token)) is not None:
            return answer
        return (yield from self.questions.ask(self.feed([token], copies)))

    def _wait_to_write(self, answer: Answer) -> Generator[Ask | None, list[Answer], Answer]:
        """READ until the policy says WRITE; returns what the model says then. READs that take no look follow
        one another before the model is asked again."""
        visible, first = self.reading.visible, None
        while True:
            reads = self._reads(len(self.words))
            if not reads and self.reading.visible != visible:
                answer, visible = (yield from self._ask_again()), self.reading.visible
            if reads is None:
                evidence = yield from self._look(answer, first)
                reads, first = self.policy.reads_after(evidence), evidence.first_log_probs
                # A tensor's truth is one, too.
                if not (isinstance(reads, bool) or hasattr(reads, "dtype")):
                    raise ValueError(f"reads_after of {self.policy!r} must give True or False, got {reads!r}.")
            if not reads:
                return answer
            yield from self._read()

    def _look(self, answer: Answer, first: torch.Tensor | None) -> Generator[Ask, list[Answer], Evidence]:
        """What the policy may see; `first` is what it saw at the first look before this word."""
        # When to READ is no question of terms.
        log_probs = self.scores(answer.logits, self.next_start, prefers_terms=False).log_softmax(-1)
        first = log_probs if first is None else first
        progress = Progress(self.reading.source_words, len(self.words))
        if self.policy.draft_words:
            least = self.policy.words_to_draft(progress)
            if not self.drafts.begin(self.reading.source_words, least):
                self.drafts.add((yield from self._draft(answer, least)))
        newest, *earlier = self.drafts.words or [[]]
        seen = self.questions.attention
        attention = None if seen is None else self.reading.by_word(seen)
        return Evidence(progress, log_probs, self.rule.eos_token_id, first, newest, earlier, attention)

    def _draft(self, answer: Answer, least: int) -> Generator[Ask, list[Answer], list[list[int]]]:
        """So many words that the model would write now, without a READ; fewer if it would READ."""
        start, words = len(self.target), list[list[int]]()
        expected = self.next_start
        try:
            while True:
                token = self.likeliest(answer, expected)
                if not words or self.rule.is_start(token):
                    if token == self.rule.eos_token_id or len(words) >= least:
                        return words
                    words.append([])
                words[-1].append(token)
                self.target.append(token)
                expected = self._expected_in(words[-1])
                answer = yield from self.questions.ask_draft(token, len(self.target) - start - 1)
        except RowStopped:
            # There is no room for the word that was begun.
            return words[:-1]
        finally:
            del self.target[start:]

    def _start_word(self, answer: Answer) -> Generator[Ask | None, list[Answer], int]:
        return (yield from self._accept(self.choose(answer, self.next_start)))

    def _accept(self, token: int) -> Generator[Ask | None, list[Answer], int]:
        """A word start as it is; EOS only once the source has ended: until then it means READ and ask again."""
        while token == self.rule.eos_token_id and not self.reading.is_over:
            visible = self.reading.visible
            yield from self._read()
            if self.reading.visible != visible:
                token = self.choose((yield from self._ask_again()), self.next_start)
        return token

    def _reads(self, written: int) -> bool | None:
        if self.reading.is_over:
            return False
        delay = self.committed[written].delay if written < len(self.committed) else None
        if delay is not None and self.reading.source_words >= delay:
            # It was written then, whatever the policy says now.
            return False
        return self.policy.reads(Progress(self.reading.source_words, written))

    def _read_until_write(self) -> Generator[None, None, None]:
        while self._reads(len(self.words)):
            yield from self._read()

    def _read(self) -> Generator[None, None, None]:
        while not (polled := self.source.poll())[0]:
            yield None
        self.reading.read(polled[1])

    def _copies_due(self, written: int, most: int) -> tuple[int, ...]:
        """What the newest token will see when it is asked again, if every look before word `written` ends in a READ: so
        many questions at most, and as far as their source is there, which is held ready."""
        # Each copy of a longer tail would have to be hidden from the others.
        if not self.feeds_ahead or self.policy.draft_words or not (self.target or len(self.tail) == 1):
            return ()
        words: list[list[int]] = []
        due: list[int] = []
        while len(due) < most:
            reads = self.policy.reads(Progress(self.reading.source_words + len(words), written))
            if words and not reads:
                due.append(len(words))
            ready, word = (True, None) if reads is False else self.source.peek(len(words))
            if word is None:
                # At its end, what is asked next sees all of the source.
                if ready and words and reads:
                    due.append(len(words))
                break
            words.append(word)
        if due:
            self.reading.hold(words[: due[-1]])
        lengths = [*accumulate(map(len, words), initial=self.reading.visible)]
        return tuple(lengths[count] for count in due)

    def _ask_again(self) -> Generator[Ask, list[Answer], Answer]:
        """The newest token once more, now that more source is visible: a copy has been asked, or it is fed again, with
        the draft under less source after it."""
        # EOS before the end of the source READs one word, whatever the policy would have READ.
        if (answer := self.questions.asked_ahead()) is not None:
            return answer
        guesses = self.questions.drafted
        # Who has READ so often may go on.
        copies = self._copies_due(len(self.words), self.questions.copies + 1)
        return (yield from self.questions.ask(self.feed_again()._replace(copies=copies), guesses))

    def _limit_reached(self) -> str:
        """The reason to stop after the newest token; empty if there is none."""
        limit = self.max_new_tokens
        if limit is None:
            limit = 20 + 3 * (self.reading.visible - self.reading.ends[0])
        if len(self.target) >= limit:
            return "max_new_tokens"
        ids = self.shown_ids(self.rule.ends_word.device) if self.criteria else None
        stops = any(bool(criterion(ids, None).all()) for criterion in self.criteria)
        return "stopping_criteria" if stops else ""

    def _check_limits(self, word: list[int], delay: int) -> None:
        if reason := self._limit_reached():
            # A lone space shows nothing yet.
            if not all(map(self.rule.is_blank, word)):
                self._commit(word, delay)
            raise RowStopped(reason)

    def _commit(self, word: list[int], delay: int, is_shown: bool = False) -> None:
        self.words.append(word)
        self.drafts.write(word)
        self.delays.append(delay)
        self.elapsed_ms.append(0.0 if is_shown else 1000 * (time.perf_counter() - self.started))
        if self.on_word is not None and not is_shown:
            self.on_word(word, delay, self.elapsed_ms[-1])


__all__ = ["RowDecoder"]
