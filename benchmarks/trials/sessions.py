# SPDX-License-Identifier: Apache-2.0
"""Many streams of one engine, some of which are killed, silent, failing, NaN or too long: the others get what they get
alone, everyone is told the end, and every place can be taken again."""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import LogitsProcessorList

from transformers_simul import EngineFull, OfflinePolicy, SourceStream, StreamEngine, WaitKPolicy

from .sources import rule
from .tiny import MAX_NEW_TOKENS, POISON, POLICIES, Alone, Broken, models, sentence_pool
from .trial import Case, Trial

MAX_TOKENS = 150


class PlantedExit(SystemExit):
    """As a policy that calls sys.exit()."""


class PlantedInterrupt(KeyboardInterrupt):
    """As a policy that meets Ctrl-C; not the harness's own."""


ERRORS = (
    RuntimeError, StopIteration, MemoryError, RecursionError, GeneratorExit, asyncio.CancelledError, PlantedExit,
    PlantedInterrupt,
)  # fmt: skip


class _Sleepy(WaitKPolicy):
    def reads(self, progress):
        time.sleep(0.001)
        return super().reads(progress)


class Visitor:
    """One stream: what is put, in pieces, and what becomes of it."""

    def __init__(self, kind: str, alone: Alone, sentences: list[str], draw: random.Random, errors: tuple = ERRORS):
        self.kind, self.alone, self.draw = kind, alone, draw
        self.sentences = sentences[: draw.choice((1, 1, 1, 2, 3))]
        self.is_cut = len(self.sentences) > 1
        self.policy = draw.randrange(len(POLICIES))
        text = " ".join(self.sentences)
        if kind == "poison":
            text = f"{POISON} {text} {POISON}"
        elif kind == "long":
            text = "meadow " * 100
        self.pieces: list[str] = []
        while text:
            size = draw.randint(1, 20)
            self.pieces.append(text[:size])
            text = text[size:]
        # Some leave, some fall silent, in the middle.
        if kind in ("killed", "silent"):
            del self.pieces[draw.randrange(len(self.pieces) + 1) :]
        self.broken = Broken(draw.choice(errors), draw.randrange(4))
        self.stream: Any = None

    def open(self, engine: StreamEngine, wait_s: float = 0.0) -> None:
        draw, processors = self.draw, [self.alone.babble]
        options: dict[str, Any] = {"max_new_tokens": MAX_NEW_TOKENS}
        policy: Any = POLICIES[self.policy]
        source = SourceStream(timeout_s=0.002) if self.kind == "silent" else None
        if self.kind == "rule":
            processors.append(self._fails)
        elif self.kind == "nan":
            processors.append(lambda ids, scores: torch.full_like(scores, torch.nan))
        elif self.kind == "policy":
            policy = self.broken
        elif self.kind == "sleepy":
            policy = _Sleepy(1)
        elif self.kind == "long":
            policy = draw.choice((OfflinePolicy(), WaitKPolicy(90)))
        elif self.kind == "option":
            options["max_new_token"] = 3
        if self.is_cut and self.kind != "long":
            options |= {"sentences": True, "ends_sentence": rule}
        self.stream = engine.open(
            policy, source, wait_s=wait_s, logits_processor=LogitsProcessorList(processors), **options
        )
        if self.kind == "listener":
            self.stream.source.listen(self._fails)

    def _fails(self, *_: Any) -> Any:
        raise RuntimeError("planted")

    def act(self) -> bool:
        """Put a piece, or end; whether there is more to do."""
        with contextlib.suppress(ValueError, RuntimeError if self.kind == "listener" else ValueError):
            # Of a stream that has ended, put says so.
            if self.pieces:
                self.stream.source.put(self.pieces.pop(0))
                return True
            if self.kind == "killed":
                self.stream.source.cancel()
            elif self.kind != "silent":
                self.stream.source.end()
        return False

    def check(self) -> None:
        """After the end."""
        written, error = [], None
        try:
            written = [(word.text, word.delay) for word in self.stream.words]
        except BaseException as raised:
            error = raised
        reason = self.stream.stop_reason
        assert reason, f"{self.kind}: no stop reason"
        if self.kind in ("good", "sleepy", "listener"):
            policy = 0 if self.kind == "sleepy" else self.policy
            expected, end = self.alone.words(self.sentences, policy)
            assert error is None, f"{self.kind}: {error!r}"
            assert (written, reason) == (expected, end), (self.kind, self.sentences, written, reason, expected, end)
        elif self.kind == "long":
            assert reason in ("max_tokens", "max_new_tokens"), reason
        elif self.kind == "silent":
            assert reason == "timeout" or not self.pieces, reason
        elif self.kind == "rule" or (self.kind == "policy" and self.broken.has_raised):
            assert reason in ("error", "cancelled"), (self.kind, reason)


KINDS = "killed silent rule nan poison long policy sleepy listener option".split()


class Session:
    """An engine, its visitors, and what must be true at the end."""

    def __init__(self, alone: Alone, pool: list[str], draw: random.Random):
        self.draw, self.alone, self.pool = draw, alone, pool
        self.engine = StreamEngine(alone.model, alone.processor, max_streams=draw.randint(1, 4), max_tokens=MAX_TOKENS)
        # Of who steps the engine himself, Ctrl-C is his own.
        self.is_stepped = draw.random() < 0.9
        self.todo = [self.visitor(draw.choice(["good", draw.choice(KINDS)])) for _ in range(draw.randint(2, 5))]

    def visitor(self, kind: str) -> Visitor:
        errors = tuple(each for each in ERRORS if not (self.is_stepped and each is PlantedInterrupt))
        return Visitor(kind, self.alone, self.draw.sample(self.pool, 3), self.draw, errors)

    def stepped(self) -> None:
        """In one thread, so that a seed gives the same again; every place is taken at the end, by innocents."""
        self._play(self.todo)
        self._play([self.visitor("good") for _ in range(self.engine.cache.batch_size)])

    def _play(self, visitors: list[Visitor]) -> None:
        todo, acting, opened = list(visitors), [], []
        while todo or acting:
            if todo and self.draw.random() < 0.4 and self._opened(todo[0]):
                visitor = todo.pop(0)
                if visitor.stream is not None:
                    acting.append(visitor)
                    opened.append(visitor)
            if acting:
                visitor = self.draw.choice(acting)
                if not visitor.act():
                    acting.remove(visitor)
            self.engine.step()
        until = time.monotonic() + 3
        while self.engine.active_streams:
            if not self.engine.step():
                time.sleep(0.0005)
            assert time.monotonic() < until, f"places are lost: {[v.kind for v in opened if not v.stream.stop_reason]}"
        for visitor in opened:
            visitor.check()

    def _opened(self, visitor: Visitor) -> bool:
        try:
            visitor.open(self.engine)
        except EngineFull:
            return False
        except (TypeError, ValueError):
            if visitor.kind != "option":
                raise
        return True

    def threaded(self) -> None:
        """With the engine's own thread and a thread for each visitor."""
        problems: list[BaseException] = []

        def visit(visitor: Visitor) -> None:
            try:
                try:
                    visitor.open(self.engine, wait_s=20)
                except (TypeError, ValueError):
                    if visitor.kind != "option":
                        raise
                    return
                while visitor.act():
                    pass
                visitor.check()
            except BaseException as error:
                problems.append(error)

        with self.engine:
            threads = [threading.Thread(target=visit, args=[visitor], daemon=True) for visitor in self.todo]
            for thread in threads:
                thread.start()
            until = time.monotonic() + 30
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            hanging = [visitor.kind for visitor, thread in zip(self.todo, threads, strict=True) if thread.is_alive()]
            assert not hanging, f"nobody told {hanging} the end; all: {[visitor.kind for visitor in self.todo]}"
        assert not problems, f"{problems[0]!r}; all: {[visitor.kind for visitor in self.todo]}"
        assert self.engine.active_streams == 0


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    torch.set_num_threads(1)
    # The engine logs what it is told to survive.
    logging.disable(logging.ERROR)
    made, pool = models(), sentence_pool(30)

    def case(draw: random.Random) -> None:
        session = Session(draw.choice(made), pool, draw)
        if session.is_stepped:
            session.stepped()
        else:
            session.threaded()

    try:
        yield case
    finally:
        logging.disable(logging.NOTSET)


TRIAL = Trial(
    "sessions",
    "streams beside killed, silent, failing, NaN and too long ones get what they get alone; no place is lost",
    prepare,
    {"smallest": 6, "small": 60, "full": 10_000},
    {"smallest": 60, "small": 20, "full": 900},
)
