# SPDX-License-Identifier: Apache-2.0
"""One live stream: the kept cache against recomputation of all that stands behind the source, same model, same forced
targets; by sentence length, on a corpus of real sentences. The source waits when it is read (a pasted text, a stream
that has fallen behind), or comes just in time, so that nothing can be asked ahead.

Usage: benchmarks/live.py [SOURCE_FILE TARGET_FILE]
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

import common
from transformers_simul import SimulProcessor, SourceStream, WaitKPolicy
from transformers_simul.corpora import Pair, load_libreoffice, read_pairs
from transformers_simul.evaluation.flops import count_flops
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.research.baselines import RecomputingDecoder
from transformers_simul.training import train_tokenizer

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def by_length(pairs: list) -> dict[float, list]:
    """Of each quantile of the source length, the three pairs that stand around it."""
    ordered = sorted(pairs, key=lambda pair: len(pair.source.split()))
    middles = {quantile: round(quantile * (len(ordered) - 1)) for quantile in QUANTILES}
    return {quantile: ordered[middle - 1 : middle + 2] for quantile, middle in middles.items()}


def translate(
    pair, decoder: type[RowDecoder], k: int, model: Any = None, processor: SimulProcessor | None = None
) -> Callable[[], object]:
    model, processor = model or common.model(), processor or common.processor()
    words = processor.encode(pair.target, "target")
    target = [token for word in words for token in word] + [processor.eos_token_id]

    def side():
        stream = SourceStream(pair.source)
        stream.end()
        return model.generate(
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


def measure_long(results: dict[str, float], raw: dict[str, list[float]], k: int = 3) -> None:
    """FLOPs, whose ratio hardly depends on the model's size: LibreOffice's help, sentences of 20 words and more, and
    four paragraphs after another as one row; of each the three around the median length."""
    try:
        pairs = load_libreoffice()
    except ValueError as error:
        raise common.SkippedPart(str(error)) from error
    model, processor = common.model(320, 6), SimulProcessor(train_tokenizer(pairs, 8000), target_lang="de")
    long = [pair for pair in pairs if len(pair.source.split()) >= 20]
    fours = [pairs[start : start + 4] for start in range(0, len(pairs) - 3, 4)]
    documents = [Pair(*(" ".join(texts) for texts in zip(*four, strict=True))) for four in fours]
    for name, text in (("long", long), ("document", documents)):
        three = by_length(text)[0.5]
        kept, recomputed = (
            [count_flops(translate(pair, decoder, k, model, processor)) for pair in three]
            for decoder in (RowDecoder, RecomputingDecoder)
        )
        ratios = [many / few for many, few in zip(recomputed, kept, strict=True)]
        results[f"{name}_live_vs_recompute_flops"] = statistics.median(ratios)
        words = [len(pair.source.split()) for pair in three]
        results[f"{name}_live_vs_recompute_flops: words of the median"] = statistics.median(words)


if __name__ == "__main__":
    text = read_pairs(sys.argv[1:], "source", "target") if sys.argv[1:] else common.corpus()["test"]
    for lag in (1, 3):
        figures: dict[str, float] = {}
        measure(figures, {}, text, lag)
        print(f"k = {lag}")
        common.report(figures, {})
    if not sys.argv[1:]:
        longer: dict[str, float] = {}
        measure_long(longer, {})
        common.report(longer, {})
