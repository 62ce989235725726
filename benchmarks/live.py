# SPDX-License-Identifier: Apache-2.0
"""One live stream: the kept cache against recomputation of all that stands behind the source, same model, same forced
targets; by sentence length, on a corpus of real sentences. The source waits when it is read (a pasted text, a stream
that has fallen behind), or comes just in time, so that nothing can be asked ahead.

Usage: benchmarks/live.py [SOURCE_FILE TARGET_FILE]
"""

import statistics
import sys
from collections.abc import Callable

import common
from transformers_simul import SourceStream, WaitKPolicy
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation.flops import count_flops
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.research.baselines import RecomputingDecoder

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def by_length(pairs: list) -> dict[float, list]:
    """Of each quantile of the source length, the three pairs that stand around it."""
    ordered = sorted(pairs, key=lambda pair: len(pair.source.split()))
    middles = {quantile: round(quantile * (len(ordered) - 1)) for quantile in QUANTILES}
    return {quantile: ordered[middle - 1 : middle + 2] for quantile, middle in middles.items()}


def translate(pair, decoder: type[RowDecoder], k: int) -> Callable[[], object]:
    processor = common.processor()
    words = processor.encode(pair.target, "target")
    target = [token for word in words for token in word] + [processor.eos_token_id]

    def side():
        stream = SourceStream(pair.source)
        stream.end()
        return common.model().generate(
            **processor(source=stream), policy=WaitKPolicy(k), row_decoder=common.forced_decoder([target], decoder)
        )

    return side


def measure(results: dict[str, float], raw: dict[str, list[float]], pairs: list, k: int = 3, rounds: int = 3) -> None:
    for quantile, three in by_length(pairs).items():
        flops, seconds, just_in_time, words = [], [], [], []
        for pair in three:
            decoders = {"kept": RowDecoder, "just in time": common.JustInTimeDecoder, "recomputed": RecomputingDecoder}
            sides = {name: translate(pair, decoder, k) for name, decoder in decoders.items()}
            flops.append(count_flops(sides["recomputed"]) / count_flops(sides["kept"]))
            turns = common.alternate(sides, rounds)
            seconds.append(common.ratio(turns, "recomputed", "kept"))
            just_in_time.append(common.ratio(turns, "recomputed", "just in time"))
            words.append(len(pair.source.split()))
            if quantile == 0.5:
                raw |= {f"live {name}, {words[-1]} words": times for name, times in turns.items()}
        name = "" if quantile == 0.5 else f": {statistics.median(words):.0f} words"
        results[f"live_vs_recompute_time{name}"] = statistics.median(seconds)
        results[f"live_vs_recompute_flops{name}"] = statistics.median(flops)
        results[f"just_in_time_vs_recompute_time{name}"] = statistics.median(just_in_time)
        if quantile == 0.5:
            results["live_vs_recompute: words of the median"] = statistics.median(words)


if __name__ == "__main__":
    text = read_pairs(sys.argv[1:], "source", "target") if sys.argv[1:] else common.corpus()["test"]
    for lag in (1, 3):
        figures: dict[str, float] = {}
        measure(figures, {}, text, lag)
        print(f"k = {lag}")
        common.report(figures, {})
