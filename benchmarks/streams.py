# SPDX-License-Identifier: Apache-2.0
"""Many live streams: words per second of 64 in one engine against one, eager against eager; real sentences, forced
targets, a new stream for each one that ends."""

import statistics
import time

import common
from transformers_simul import StreamEngine, WaitKPolicy


def play(engine: StreamEngine, pairs: list, streams: int) -> float:
    """Translate all pairs, so many at a time; target words per second."""
    waiting = list(reversed(pairs))
    started = time.perf_counter()
    while waiting or engine.active_streams:
        while waiting and engine.active_streams < streams:
            pair = waiting.pop()
            stream = engine.open(WaitKPolicy(3), row_decoder=common.forced_decoder([pair["forced"]]))
            stream.source.put(pair["text"])
            stream.source.end()
        engine.step()
    return sum(len(pair["target_ids"]) for pair in pairs) / (time.perf_counter() - started)


def measure(results: dict[str, float], raw: dict[str, list[float]], rounds: int = 3, streams: int = 64) -> None:
    pairs = common.sample(192)
    engine = StreamEngine(common.model(), common.processor(), max_streams=streams, max_tokens=256)
    sides = {f"{streams} streams": (pairs * 2, streams), "1 stream": (pairs[:12], 1)}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    play(engine, pairs[:streams], streams)
    for _ in range(rounds):
        for name, (text, count) in sides.items():
            rates[name].append(play(engine, text, count))
    many, one = (statistics.median(each) for each in rates.values())
    results[f"streams{streams}_vs_1"] = many / one
    results[f"words_per_s: {streams} streams"], results["words_per_s: 1 stream"] = many, one
    raw |= {f"words per s, {name}": each for name, each in rates.items()}


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
