# SPDX-License-Identifier: Apache-2.0
"""Weights for decoding against the model's own, in turns: the speed of one stream, and of 8 and 64
sentences that begin together; and of a trained model BLEU and the speed of one stream.

Usage: benchmarks/decoding_weights.py [MODEL_FOLDER SOURCE_FILE TARGET_FILE]
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import common
from transformers_simul import AutoSimulModel, SimulProcessor, StreamEngine, WaitKPolicy
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation.decode import run_settings, translate_corpus
from transformers_simul.evaluation.quality import paired_difference
from transformers_simul.evaluation.report import markdown_table, report_line
from transformers_simul.models.decoding_weights import KINDS, set_decoding_weights
from transformers_simul.text_files import read_lines

# The model's own weights, which are float32: what the others are measured against.
NONE = "none"


def models() -> dict:
    """Half of the benchmarks' usual model, with each kind of weights."""
    exact = common.model(num_hidden_layers=3)
    found = {NONE: exact}
    for kind in KINDS:
        found[kind] = copy.deepcopy(exact)
        set_decoding_weights(found[kind], kind)
    return found


def measure(results: dict[str, float], raw: dict[str, list[float]], rounds: int = 3, streams: int = 64) -> None:
    pairs = common.sample(streams)
    found = models()
    for count, text in ((1, pairs[:3]), (8, pairs[:8]), (streams, pairs)):
        sides = {f"{kind}, {count} streams": side(model, text, count) for kind, model in found.items()}
        # Time of the processor, which other programs on the machine leave alone.
        with common.one_thread():
            seconds = common.alternate(sides, rounds, clock=time.process_time)
        for kind in KINDS:
            # The kind float32 changes only the order of the weights.
            name = "onednn_order" if kind == "float32" else kind
            name += "_vs_float32" if count == 1 else f"_streams{count}_vs_float32"
            results[name] = common.ratio(seconds, f"{NONE}, {count} streams", f"{kind}, {count} streams")
        raw |= seconds


def side(model: Any, pairs: list, streams: int) -> Callable[[], object]:
    """Translate all pairs in an engine of so many streams."""
    engine = StreamEngine(model, common.processor(), max_streams=streams, max_tokens=256)

    def translate() -> None:
        for start in range(0, len(pairs), streams):
            for pair in pairs[start : start + streams]:
                stream = engine.open(WaitKPolicy(3), row_decoder=common.forced_decoder([pair["forced"]]))
                stream.source.put(pair["text"])
                stream.source.end()
            while engine.step():
                pass

    return translate


def quality(folder: str, *files: str) -> None:
    """BLEU of each kind under wait-3, and the difference from float32 with its 95% interval."""
    pairs = read_pairs(files, "source", "target")
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    processor, policy = SimulProcessor.from_pretrained(folder), WaitKPolicy(3)
    lines, notes, exact = [], [], None
    for kind in (None, *KINDS):
        model = AutoSimulModel.from_pretrained(folder, decoding_weights=kind)
        log = translate_corpus(model, processor, sources, references, policy, batch_size=32)
        settings = run_settings(policy, model.dtype, model.device, weights=kind or NONE)
        lines.append(report_line(kind or NONE, log, settings=settings))
        predictions = [each.prediction for each in log]
        exact = exact or predictions
        same = sum(one == other for one, other in zip(predictions, exact, strict=True)) / len(exact)
        difference, low, high = paired_difference(predictions, exact, references)
        notes.append(
            f"{kind or NONE}: {difference:+.2f} BLEU ({low:+.2f} to {high:+.2f}), {same:.1%} of sentences the same"
        )
    print(markdown_table(lines), "", *notes, sep="\n")


def speed(folder: str, source_file: str, sentences: int = 20, rounds: int = 5) -> None:
    """Words of the translation for a second of the processor, one stream, one thread, in turns."""
    lines = read_lines(source_file)[:sentences]
    processor = SimulProcessor.from_pretrained(folder)
    words: dict[str, int] = {}

    def side(name: str, model: Any) -> Callable[[], object]:
        engine = StreamEngine(model, processor, max_streams=1)

        def translate() -> None:
            words[name] = 0
            for line in lines:
                stream = engine.open(WaitKPolicy(3))
                stream.source.put(line)
                stream.source.end()
                while engine.step():
                    pass
                words[name] += len(list(stream))

        return translate

    kinds = (None, *KINDS)
    found = {kind or NONE: AutoSimulModel.from_pretrained(folder, decoding_weights=kind).eval() for kind in kinds}
    translations = {name: side(name, model) for name, model in found.items()}
    with common.one_thread():
        seconds = common.alternate(translations, rounds, clock=time.process_time)
    for name, each in seconds.items():
        print(f"{name}: {words[name] / statistics.median(each):.0f} words per second", end=", ")
        print(f"{common.ratio(seconds, NONE, name):.2f} times as fast")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        speed(*sys.argv[1:3])
        quality(*sys.argv[1:])
    else:
        figures: dict[str, float] = {}
        measure(figures, {})
        common.report(figures, {})
