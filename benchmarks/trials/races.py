# SPDX-License-Identifier: Apache-2.0
"""Writers and readers in threads that change places all the time: nothing is lost, counted twice or waited for in
vain."""

import contextlib
import random
import sys
import threading
from collections.abc import Iterator

from helpers import make_processor
from transformers_simul import SimulStreamer, SourceStream
from transformers_simul.streaming.sentences import SentenceReader

from .sources import Drain, Oracle, pieces_of, rule
from .trial import Case, Trial


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    processor = make_processor(template="{source} => {target}")
    oracle = Oracle(processor.tokenizer)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def read(draw: random.Random) -> None:
        """A writer and a reader of sentences."""
        text = " ".join(draw.choices(("a", "dog", "runs.", "over!", "meadow"), k=draw.randrange(1, 30)))
        events = pieces_of(text, draw, 0.0)
        stream, arrived = SourceStream(), threading.Event()
        drain = Drain(SentenceReader(stream.bind(processor), None, rule), True, draw)
        stream.listen(arrived.set)

        def write():
            for event in events:
                stream.put(event or "")
            stream.end()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        while not drain.over:
            arrived.clear()
            if not drain.step() and not drain.over:
                assert arrived.wait(20), "the reader was not woken"
        writer.join(20)
        assert drain.sentences == oracle.sentences(events, "word", None), (events, drain.sentences)

    def show(draw: random.Random) -> None:
        """One that writes words and several that read them."""
        count, streamer = draw.randrange(1, 60), SimulStreamer(processor)
        ids = processor.encode("dog")[0]
        seen: list[list[int]] = [[] for _ in range(draw.randrange(1, 4))]
        readers = [
            threading.Thread(target=lambda got=got: got.extend(word.delay for word in streamer), daemon=True)
            for got in seen
        ]
        for reader in readers:
            reader.start()
        for delay in range(count):
            streamer.put_word(0, ids, delay, 0.0)
        streamer.end()
        for reader in readers:
            reader.join(20)
        assert all(got == list(range(count)) for got in seen), (count, seen)

    try:
        yield lambda draw: (read if draw.random() < 0.7 else show)(draw)
    finally:
        sys.setswitchinterval(before)


TRIAL = Trial(
    "races",
    "a source that is read while it is written, and words that several read, lose nothing and wake everybody",
    prepare,
    {"smallest": 10, "small": 100, "full": 5_000},
    {"smallest": 60, "small": 10, "full": 120},
    case_s=90,
)
