# SPDX-License-Identifier: Apache-2.0
"""Visitors of the live page who open, overlap, vanish and send nonsense: what is shown is safe, and every place comes
back."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

from helpers import make_model, make_processor
from transformers_simul import StreamEngine
from transformers_simul.live_page import visitors as page

from .tiny import sentence_pool
from .trial import Case, Trial

HOSTILE = [
    "", " ", "\n", "\ud800 \udfff", "<script>alert(1)</script> .", "\x00\x07", "a" * 5_000, "a " * 5_000,
    "<|endoftext|> <|pad|>", "&lt;img src=x onerror=alert(1)>", "\u202e\u2066 x", "'\"><svg/onload=x> y",
    "Bonjour\u00a0! ", "." * 50, "? ! . ", None,
]  # fmt: skip
RATES = [0, -1, 3, 20, 1e9, float("nan"), float("inf"), -float("inf"), None, "3"]
# As on the page, but in a hurry: no word is waited for as long as a person would take.
HURRY: dict[str, Any] = {"RATES": (0.5, 500.0), "WAIT_S": 0.2, "IDLE_S": 0.2, "_TICK_S": 0.002}


class Visitor:
    """One browser tab: some acts, of which some overlap."""

    def __init__(self, name: str, visitors: Any, pool: list[str], draw: random.Random):
        self.name, self.visitors, self.pool, self.draw = name, visitors, pool, draw
        self.shown: list[str] = []

    def text(self) -> Any:
        draw = self.draw
        if draw.random() < 0.3:
            return draw.choice(HOSTILE)
        return " ".join(draw.sample(self.pool, draw.choice((1, 1, 3))))

    def policies(self) -> tuple[str, str]:
        names = list(page.POLICIES)
        return self.draw.choice(names), self.draw.choice([*names, page.NOTHING, page.NOTHING])

    async def come(self) -> None:
        acts = [asyncio.ensure_future(self._act()) for _ in range(self.draw.randint(1, 3))]
        await asyncio.gather(*acts)
        if self.draw.random() < 0.5:
            self.visitors.stop(self.name)

    async def _act(self) -> None:
        await asyncio.sleep(self.draw.random() * 0.05)
        kind = self.draw.random()
        if kind < 0.1:
            self.visitors.stop(self.name)
        elif kind < 0.55:
            rate = self.draw.choice((500.0, 500.0, self.draw.choice(RATES)))
            await self._watch(self.visitors.play(self.name, self.text(), rate, *self.policies()))
        else:
            await self._type(self.text())

    async def _type(self, text: Any) -> None:
        """Key by key, or all at once; with events that do not wait for those before them."""
        policies, keys = self.policies(), []
        ends = range(0, len(text or ""), self.draw.randint(1, 4)) if self.draw.random() < 0.7 else []
        for end in [*ends][:20]:
            keys.append(asyncio.ensure_future(self._watch(self.visitors.type(self.name, text[:end], *policies))))
            if self.draw.random() < 0.5:
                await asyncio.sleep(0.001)
        is_complete = self.draw.random() < 0.6
        await self._watch(self.visitors.type(self.name, text, *policies, is_complete))
        await asyncio.gather(*keys)

    async def _watch(self, boards: AsyncIterator[page.Shown]) -> None:
        most = self.draw.choice((10**9, 10**9, 0, 1, 3))
        async for state, html in boards:
            self.shown += [state or "", html or ""]
            most -= 1
            if most <= 0:
                if self.draw.random() < 0.5:
                    await boards.aclose()  # type: ignore[attr-defined]
                return


async def _case(engine: StreamEngine, pool: list[str], draw: random.Random) -> None:
    visitors = page.Visitors(engine, max_waiting=draw.choice((0, 1, 8)))
    tabs = [Visitor(f"tab {index}", visitors, pool, draw) for index in range(draw.randint(2, 7))]
    await asyncio.gather(*(tab.come() for tab in tabs))
    for text in (text for tab in tabs for text in tab.shown):
        text.encode()
        assert not any(tag in text.lower() for tag in ("<script", "<img", "onload=x>")), text[:500]
    # Those who fell silent are timed out, in the line and in their places; then a new one finds all places free.
    await asyncio.sleep(HURRY["WAIT_S"])
    until = time.monotonic() + 20
    while engine.active_streams:
        assert time.monotonic() < until, f"{engine.active_streams} places are lost"
        await asyncio.sleep(0.005)
    last = Visitor("last", visitors, pool, draw)
    last.shown = [""]
    async for state, html in visitors.play("last", "a dog runs.", 500.0, "wait-1", "wait-3"):
        last.shown = [state or last.shown[0], html or ""]
    assert page._DONE in last.shown[0], last.shown


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    processor = make_processor()
    model, pool = make_model(processor), sentence_pool(40)

    def case(draw: random.Random) -> None:
        with (
            mock.patch.multiple(page, **HURRY),
            StreamEngine(model, processor, max_streams=draw.choice((2, 2, 3, 5))) as engine,
        ):
            asyncio.run(_case(engine, pool, draw))

    yield case


TRIAL = Trial(
    "visitors",
    "visitors of the page who open, overlap, vanish and send nonsense are shown safe HTML, and every place comes back",
    prepare,
    {"smallest": 1, "small": 5, "full": 300},
    {"smallest": 60, "small": 15, "full": 400},
)
