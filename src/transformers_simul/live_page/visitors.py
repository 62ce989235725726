# SPDX-License-Identifier: Apache-2.0
"""Each visitor's turn, the queue for places, and what is shown meanwhile."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ..models.glossary import Glossary, bound_glossary
from ..models.glossary_terms import words_of
from ..models.text import split_words
from ..serving.failure import Failure
from ..serving.metrics import Metrics
from ..serving.models import Served
from ..serving.punctuation import EndsBetween
from ..streaming.engine import StreamEngine
from .board import Panel, boards, status
from .translation import LiveTranslation

MAX_CHARACTERS = 2000
# How long a visitor waits for a place, and how long a place waits for a word.
WAIT_S, IDLE_S = 10.0, 60.0
# Words per second: slowest, fastest, at first.
RATES = (0.5, 20.0)
RATE = 3.0
POLICIES = {f"wait-{k}": f"wait-{k}" for k in (1, 2, 3, 5, 7)} | {"full source": "full"}
NOTHING = "nothing"
# So many new words at once were pasted, not typed.
_PASTED_WORDS = 4
_TICK_S = 0.05
# So many turns that are over are remembered, and visitors who have left.
_TURNS, _GONE = 100, 1000
HINT = "The translation appears here."
FIRST = "Choose an example, or type. A space completes a word; Enter ends the source."
_TYPING = "Reading while you type. A space completes a word; Enter ends the source."
_ENDED = "The source has ended. Writing the rest …"
_DONE = "The source has ended, and the translation with it."
_OVER = "The translation has ended."
_FULL = "All places are taken; try again in a moment."
_WAITING = "All places are taken; waiting for one …"

# The state and the boards; None for what stays as it is.
Shown = tuple[str | None, str | None]


class _Ways(NamedTuple):
    """What a visitor has chosen: titles of policies, the target language, terms, and whether punctuation is added."""

    titles: list[str]
    language: str | None
    terms: str
    is_bare: bool


class _Turn:
    """One translation, or comparison, of a visitor, until the visitor begins another."""

    def __init__(self, ways: _Ways, is_typed: bool, glossary: Any):
        self.ways, self.is_typed, self.glossary = ways, is_typed, glossary
        self.panels: list[LiveTranslation] = []
        self.wait_until = time.monotonic() + WAIT_S
        self.words: list[str] = []
        self.text = ""
        self.has_ended = self.is_over = False
        # Why it got no place; empty while it may.
        self.refusal = ""
        # Only the newest of a turn's events shows it.
        self.watcher: object | None = None

    def feed(self) -> None:
        for panel in self.panels:
            panel.feed(self.words)
            if self.has_ended:
                panel.end()

    def give_up(self) -> None:
        self.is_over = True
        for panel in self.panels:
            panel.cancel()

    def refuse(self, why: str) -> None:
        self.refusal = why
        self.give_up()

    @property
    def is_done(self) -> bool:
        return self.is_over or (bool(self.panels) and all(panel.is_done for panel in self.panels))


class Visitors:
    """Each visitor's translations; beginning anew, stopping or leaving gives up the old ones.

    All calls come from one event loop, and nothing here waits between looking and acting, so no lock is needed. After a
    wait, a call asks again whether its turn is still the visitor's.

    Args:
        engine (`StreamEngine`): started, and used by nobody else.
        max_waiting (`int`, *optional*): how many may wait for a place; further ones are refused at once.
        policies (`Mapping[str, str]`, *optional*): what visitors choose from: for each title the policy's name.
        glossary (`Glossary` or `Mapping[str, str]`, *optional*): terms to prefer, beside those of each visitor.
        ends_between (`Callable`, *optional*): such as a [`Segmenter`]: where sentences end in source that a visitor
            says to have no punctuation.

    Attributes:
        turns (`dict[str, _Turn]`): the newest translation of each visitor, until it is stopped.
        queue (`deque[_Turn]`): translations that wait for a place, in the order in which they came.
    """

    def __init__(
        self,
        engine: StreamEngine,
        max_waiting: int = 8,
        policies: Mapping[str, str] = MappingProxyType(POLICIES),
        glossary: Any = None,
        ends_between: EndsBetween | None = None,
    ):
        self.ends_between = ends_between
        self.engine, self.max_waiting, self.policies, self.glossary = engine, max_waiting, policies, glossary
        self._metrics = Metrics()
        self.turns: dict[str, _Turn] = {}
        self.queue: deque[_Turn] = deque()
        # In the order in which they left.
        self._gone: dict[str, None] = {}

    async def play(
        self,
        visitor: str,
        text: str,
        rate: float,
        left: str,
        right: str,
        language: str | None = None,
        terms: str | None = None,
        is_bare: bool = False,
    ) -> AsyncIterator[Shown]:
        """Feed the words of a text at a steady rate, until the visitor stops, leaves or begins anew.

        Args:
            visitor (`str`): who.
            text (`str`): the source.
            rate (`float`): words per second, from 0.5 to 20; 3 if it is not a number.
            left, right (`str`): names of policies; `right` may be `"nothing"`.
            language (`str`, *optional*): the target language; the processor's own without.
            terms (`str`, *optional*): the visitor's glossary, with `source term = target term` on each line.
            is_bare (`bool`, *optional*): whether the source has no punctuation and capitals, which are then added.

        Yields:
            `tuple[str | None, str | None]`: HTML of the state and of the boards whenever they change; None for what
            stays as it is.
        """
        rate = min(max(rate, RATES[0]), RATES[1]) if _is_number(rate) else RATE
        text = _clean(text)
        words = split_words(text)
        if not words:
            self.stop(visitor)
            yield status("Type or paste a source first, or choose an example."), None
            return
        try:
            turn = self._begin(visitor, _Ways(_titles(left, right), language, _clean(terms), is_bare), is_typed=False)
        except ValueError as error:
            yield status(f"Terms: {error}"), None
            return
        turn.text, turn.watcher = text, (me := object())
        try:
            async for shown in self._wait(turn, me):
                yield shown
            for count in range(1, len(words) + 1):
                turn.words = words[:count]
                turn.feed()
                said = f"Reading {rate:g} words a second: {count} of {len(words)}."
                async for shown in self._watch(turn, me, said, time.monotonic() + 1 / rate):
                    yield shown
                if turn.is_over or turn.is_done:
                    break
            turn.has_ended = True
            turn.feed()
            async for shown in self._watch(turn, me, _ENDED, is_last=True):
                yield shown
        finally:
            # Also where the visitor has gone and Gradio drops this generator.
            turn.give_up()

    async def type(
        self,
        visitor: str,
        text: str,
        left: str,
        right: str,
        language: str | None = None,
        is_complete: bool = False,
        terms: str | None = None,
        is_bare: bool = False,
    ) -> AsyncIterator[Shown]:
        """Feed what was typed: words that a space or line end follows.

        Many words at once, or a change of what was read, start nothing by themselves: the state says what to do next.

        Args:
            visitor, left, right, language, terms, is_bare: as in [`Visitors.play`].
            text (`str`): all the text in the field.
            is_complete (`bool`, *optional*): whether the source ends with it, as after Enter.

        Yields:
            as [`Visitors.play`].
        """
        text = _clean(text)
        words = split_words(text if is_complete else text[: max(text.rfind(" "), text.rfind("\n")) + 1])
        last = self.turns.get(visitor)
        if last is not None and last.text == text and not is_complete:
            # An example, or Enter: what it leads to has begun before the change of the field was heard of.
            return
        ways = _Ways(_titles(left, right), language, _clean(terms), is_bare)
        turn = _going_on(last, words, ways, is_complete)
        if turn is None:
            self.stop(visitor)
            if not words:
                yield status(FIRST), empty_boards(left, right)
                return
            if len(words) >= _PASTED_WORDS and not is_complete:
                count = len(split_words(text))
                yield status(f"{count} words: Play reads them one by one, Enter translates them at once."), None
                return
            try:
                turn = self._begin(visitor, ways, is_typed=True)
            except ValueError as error:
                yield status(f"Terms: {error}"), None
                return
        turn.text, turn.has_ended, turn.watcher = text, is_complete, (me := object())
        # What was read stays read, whether it is deleted now or an older event comes late.
        turn.words = max(turn.words, words, key=len)
        async for shown in self._wait(turn, me):
            yield shown
        turn.feed()
        async for shown in self._watch(turn, me, _ENDED if is_complete else _TYPING, is_last=True):
            yield shown

    def arrive(self, visitor: str) -> None:
        """Note that the visitor's page is open, perhaps again."""
        self._gone.pop(visitor, None)

    def leave(self, visitor: str) -> None:
        """Note that the visitor's page is closed. Its events that are still under way begin nothing any more."""
        self.stop(visitor)
        self._gone[visitor] = None
        while len(self._gone) > _GONE:
            del self._gone[next(iter(self._gone))]

    def stop(self, visitor: str) -> None:
        """Give up what a visitor has running."""
        turn = self.turns.pop(visitor, None)
        if turn is not None:
            turn.give_up()

    def _begin(self, visitor: str, ways: _Ways, is_typed: bool) -> _Turn:
        self.stop(visitor)
        glossary = self.glossary_of(ways.terms)
        if len(self.turns) > _TURNS:
            # Visitors whose leaving nobody noticed.
            self.turns = {name: turn for name, turn in self.turns.items() if not turn.is_done}
        turn = _Turn(ways, is_typed, glossary)
        if visitor in self._gone:
            turn.give_up()
        else:
            self.turns[visitor] = turn
        return turn

    def glossary_of(self, text: str) -> Any:
        """Return the terms of all visitors together with those of one, which count where both have one.

        Args:
            text (`str`): the visitor's terms, with `source term = target term` on each line.

        Returns:
            `Glossary`: of both; what the visitors were made with, which may be None, where the text has no term.

        Raises:
            ValueError: for a line that is no term, or a term that cannot be written.
        """
        own: dict[str, str] = {}
        for line in filter(str.strip, text.splitlines()):
            source, equals, target = map(str.strip, line.partition("="))
            if not equals:
                raise ValueError(f"each line must be a source term, = and its target term, got {line!r}.")
            own[source] = target
        if not own:
            return self.glossary
        shared = self.glossary if isinstance(self.glossary, Glossary) else Glossary(self.glossary or {})
        mine = {words_of(source) for source in own}
        terms = {source: target for source, target in shared.terms.items() if words_of(source) not in mine} | own
        glossary = Glossary(terms, shared.strength, shared.copy_numbers)
        bound_glossary(glossary, self.engine.processor.prompt)
        return glossary

    async def _wait(self, turn: _Turn, me: object) -> AsyncIterator[Shown]:
        """Wait until the turn has its places, first come, first served; one that gets none is over."""
        is_said = False
        while not turn.panels and not turn.is_over and turn.watcher is me:
            if self._comes_next(turn) and self._open(turn):
                self.queue.remove(turn)
                return
            if not is_said and not turn.is_over:
                is_said = True
                yield status(_WAITING), None
            await asyncio.sleep(_TICK_S)
        if turn.refusal and turn.watcher is me:
            yield status(turn.refusal), None

    def _comes_next(self, turn: _Turn) -> bool:
        """Put a turn into the queue, and return whether it is the first. Turns that have waited too long are
        refused."""
        if turn not in self.queue:
            self.queue.append(turn)
        waits = [each for each in self.queue if not each.is_over]
        # Those first whose time is up: among them who is gone without a word, and must keep nobody out.
        now = time.monotonic()
        stay = [each for each in waits if now <= each.wait_until][: self.max_waiting + 1]
        for each in waits:
            if each not in stay:
                each.refuse(_FULL)
        self.queue = deque(stay)
        return bool(stay) and stay[0] is turn

    def _open(self, turn: _Turn) -> bool:
        """Take all places of a turn or none: two visitors with one place each would wait for each other."""
        panels: list[LiveTranslation] = []
        processor = self.engine.processor
        language = turn.ways.language or processor.target_lang
        bare = self.ends_between if turn.ways.is_bare else None
        served = Served("page", self.engine, processor.source_lang, language, turn.glossary)
        try:
            for title in turn.ways.titles:
                panels.append(LiveTranslation(served, self.policies[title], self._metrics, title, IDLE_S, bare))
        except BaseException as error:
            for panel in panels:
                panel.cancel()
            if not isinstance(error, Failure):
                # Nobody waits for this turn any more.
                turn.give_up()
                raise
            if error.code != "full":
                turn.refuse(f"There is no translation: {error}")
            return False
        turn.panels = panels
        return True

    async def _watch(
        self, turn: _Turn, me: object, said: str, until: float = math.inf, is_last: bool = False
    ) -> AsyncIterator[Shown]:
        """Show the boards as they change, until a time or the end of all."""
        shown = None
        while turn.panels and not turn.is_over and turn.watcher is me:
            is_done = turn.is_done
            state = is_done, [(len(panel.source), len(panel.target), panel.is_done) for panel in turn.panels]
            if state != shown:
                yield status((_DONE if turn.has_ended else _OVER) if is_done else said), _drawn(turn.panels)
                shown = state
            if is_done or time.monotonic() >= until:
                return
            await asyncio.sleep(_TICK_S)
        if is_last and not turn.refusal:
            # Something newer is shown by now, and Gradio repeats the last of a generator when it ends.
            yield None, None


def empty_boards(left: str, right: str) -> str:
    """Draw the boards before the first word; `right` may be `"nothing"`."""
    return boards([Panel(title) for title in _titles(left, right)], HINT)


def _going_on(turn: _Turn | None, words: list[str], ways: _Ways, is_complete: bool) -> _Turn | None:
    """Return the turn if it can take these words: it was typed, it runs, and they do not contradict what it has
    read."""
    if turn is None or not turn.is_typed or turn.is_done or turn.has_ended:
        return None
    if turn.ways != ways:
        return None
    common = len(turn.words) if is_complete else min(len(turn.words), len(words))
    return turn if words and words[:common] == turn.words[:common] else None


def _titles(left: str, right: str) -> list[str]:
    return [title for title in (left, right) if title != NOTHING]


def _drawn(panels: Sequence[LiveTranslation]) -> str:
    shown = []
    for panel in panels:
        is_done, words = panel.is_done, list(panel.target)
        shown.append(
            Panel(
                panel.title,
                list(panel.source),
                [word.text for word in words],
                [word.delay for word in words],
                panel.lagging_words(),
                panel.median_ms(),
                is_done,
                panel.untranslated_words(),
                panel.error,
            )
        )
    return boards(shown, HINT)


def _clean(text: str | None) -> str:
    """Cut a text to its longest length, without lone surrogates, which are not characters and cannot be sent back."""
    return (text or "")[:MAX_CHARACTERS].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_number(rate: float | None) -> bool:
    # NaN is not itself.
    return isinstance(rate, (int, float)) and rate == rate


__all__ = ["FIRST", "MAX_CHARACTERS", "NOTHING", "POLICIES", "RATE", "RATES", "Shown", "Visitors", "empty_boards"]
