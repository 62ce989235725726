# SPDX-License-Identifier: Apache-2.0
"""Many live streams: words per second of 64 in one engine against one, eager against eager; real sentences, forced
targets, a new stream for each one that ends. Their source waits, or comes just in time, so that nothing can be asked
ahead. And what recomputation would give in the same engine."""

import statistics
import time

import common
from transformers_simul import StreamEngine, WaitKPolicy
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.research.baselines import RecomputingDecoder


def play(engine: StreamEngine, pairs: list, streams: int, decoder: type[RowDecoder] = RowDecoder) -> float:
    """Translate all pairs, so many at a time; target words per second while all places are taken: from the moment when
    the first that was ready made way for another, to that when the last one came."""
    waiting = list(reversed(pairs))
    opened: list[float] = []
    while waiting or engine.active_streams:
        while waiting and engine.active_streams < streams:
            pair = waiting.pop()
            opened.append(time.perf_counter())
            stream = engine.open(WaitKPolicy(3), row_decoder=common.forced_decoder([pair["forced"]], decoder))
            stream.source.put(pair["text"])
            stream.source.end()
        engine.step()
    return sum(len(pair["target_ids"]) for pair in pairs[streams:-1]) / (opened[-1] - opened[streams])


def measure(results: dict[str, float], raw: dict[str, list[float]], rounds: int = 3, streams: int = 64) -> None:
    pairs = common.sample(256)
    engine = StreamEngine(common.model(), common.processor(), max_streams=streams, max_tokens=256)
    sides = {
        f"{streams} streams": (pairs, streams, RowDecoder),
        "1 stream": (pairs[:12], 1, RowDecoder),
        f"{streams} streams, just in time": (pairs, streams, common.JustInTimeDecoder),
        "1 stream, just in time": (pairs[:12], 1, common.JustInTimeDecoder),
        f"{streams} streams, recomputed": (pairs, streams, RecomputingDecoder),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    play(engine, pairs[: 2 * streams], streams)
    for _ in range(rounds):
        for name, (text, count, decoder) in sides.items():
            rates[name].append(play(engine, text, count, decoder))
    many, one, many_late, one_late, recomputed = (statistics.median(each) for each in rates.values())
    results[f"streams{streams}_vs_1"] = many / one
    results[f"streams{streams}_vs_1: just in time"] = many_late / one_late
    results[f"streams{streams}_vs_recompute"] = many / recomputed
    results[f"words_per_s: {streams} streams"], results["words_per_s: 1 stream"] = many, one
    raw |= {f"words per s, {name}": each for name, each in rates.items()}


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
