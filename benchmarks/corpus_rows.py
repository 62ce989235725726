# SPDX-License-Identifier: Apache-2.0
"""A corpus on refilled rows against fixed batches: of sentences of like length, and as the sentences come. The same
real sentences and forced targets, a small model; processor time in turns, and forwards."""

import functools
import time
from collections.abc import Callable

import common
from transformers_simul import WaitKPolicy
from transformers_simul.evaluation.corpus_rows import CorpusRows

POLICY = WaitKPolicy(3)


def measure(
    results: dict[str, float], raw: dict[str, list[float]], sentences: int = 64, rows: int = 8, rounds: int = 2
) -> None:
    mixed = common.sample(sentences)
    pairs = sorted(mixed, key=lambda pair: -len(pair["text"]))
    model, processor = common.model(320, 6), common.processor()
    forwards: dict[str, int] = {}

    def refilled() -> None:
        decoder = common.forced_decoder([pair["forced"] for pair in pairs])
        corpus = CorpusRows(model, processor, POLICY, rows, row_decoder=decoder)
        texts = enumerate(pair["text"] for pair in pairs)
        forwards["refilled rows"] = corpus.translate(texts, lambda place, units, row: None)

    def batches(name: str, ordered: list) -> None:
        forwards[name] = 0
        for start in range(0, len(ordered), rows):
            batch = ordered[start : start + rows]
            output = model.generate(
                **processor(source=[pair["text"] for pair in batch]),
                policy=POLICY,
                row_decoder=common.forced_decoder([pair["forced"] for pair in batch]),
                return_dict_in_generate=True,
            )
            forwards[name] += output.forwards

    fixed = {"fixed batches": pairs, "fixed batches, as they come": mixed}
    sides: dict[str, Callable[[], None]] = {"refilled rows": refilled}
    sides |= {name: functools.partial(batches, name, ordered) for name, ordered in fixed.items()}
    with common.one_thread():
        seconds = common.alternate(sides, rounds, clock=time.process_time)
    for name, note in zip(fixed, ("", ", as they come"), strict=True):
        results[f"corpus_engine_vs_batches{note}"] = common.ratio(seconds, name, "refilled rows")
        results[f"corpus_forwards: batches{note} by refilled"] = forwards[name] / forwards["refilled rows"]
    raw |= {f"corpus, {name}": each for name, each in seconds.items()}


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
