# SPDX-License-Identifier: Apache-2.0
"""One stream of 20,000 source words, real sentences one behind the other: the cost of words 19,000 to 20,000 against
that of words 1,000 to 2,000 of a second stream, in turns of 100 words; and the process's memory."""

import statistics
import threading
import time
from collections import deque

import psutil

import common
from transformers_simul import StreamEngine, WaitKPolicy


class Talk:
    """A speaker in an engine of its own, whose translation is forced to be the corpus's."""

    def __init__(self, words: int):
        model, processor = common.model(256, 4), common.processor()
        self.engine = StreamEngine(model, processor, max_streams=1, max_tokens=512, max_waiting=1000)
        self.text, targets = [], []
        pairs = common.corpus()["train"]
        while len(self.text) - len(targets) < words:
            pair = pairs[len(targets) % len(pairs)]
            self.text += [*pair.source.split(), None]
            encoded = processor.encode(pair.target, "target")
            targets.append([token for word in encoded for token in word] + [processor.eos_token_id])
        # The caller ends the sentences, so that each meets its target.
        self.stream = self.engine.open(
            WaitKPolicy(3),
            sentences=True,
            ends_sentence=lambda word: False,
            row_decoder=common.forced_decoder(targets),
        )
        self.at = self.said = 0
        threading.Thread(target=lambda: deque(self.stream.words, maxlen=0), daemon=True).start()

    def say(self, words: int) -> float:
        """Say so many words and translate as they come; seconds."""
        started, end = time.perf_counter(), self.said + words
        while self.said < end:
            word = self.text[self.at]
            self.at += 1
            if word is None:
                self.stream.source.end_sentence()
            else:
                self.stream.source.put(f"{word} ")
                self.said += 1
            while self.engine.step():
                pass
        return time.perf_counter() - started


def measure(results: dict[str, float], raw: dict[str, list[float]], words: int = 20_000) -> None:
    late, early = Talk(words), Talk(2100)
    process, memory = psutil.Process(), {}
    early.say(1000)
    for said in range(0, words - 1000, 1000):
        late.say(1000)
        memory[said + 1000] = process.memory_info().rss / 1e6
    seconds: dict[str, list[float]] = {"late": [], "early": []}
    for _ in range(10):
        seconds["late"].append(late.say(100))
        seconds["early"].append(early.say(100))
    results["endless_late_vs_early"] = statistics.median(
        late / early for late, early in zip(*seconds.values(), strict=True)
    )
    results["endless_mb: after 2,000 words"] = memory[2000]
    results[f"endless_mb: after {words - 1000:,} words"] = memory[words - 1000]
    results["endless_ms_per_word"] = 10 * statistics.median(seconds["late"])
    raw |= {f"endless, 100 words {name}": times for name, times in seconds.items()}


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
