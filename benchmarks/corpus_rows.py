# SPDX-License-Identifier: Apache-2.0
"""A corpus on refilled rows against fixed batches of sentences of like length: the same real sentences and forced
targets, a small model; processor time in turns, and forwards."""

import time
from collections.abc import Callable

import common
from transformers_simul import WaitKPolicy
from transformers_simul.evaluation.corpus_rows import CorpusRows

POLICY = WaitKPolicy(3)


def measure(
    results: dict[str, float], raw: dict[str, list[float]], sentences: int = 64, rows: int = 8, rounds: int = 2
) -> None:
    pairs = sorted(common.sample(sentences), key=lambda pair: -len(pair["text"]))
    model, processor = common.model(320, 6), common.processor()
    forwards: dict[str, int] = {}

    def refilled() -> None:
        decoder = common.forced_decoder([pair["forced"] for pair in pairs])
        corpus = CorpusRows(model, processor, POLICY, rows, row_decoder=decoder)
        texts = enumerate(pair["text"] for pair in pairs)
        forwards["refilled rows"] = corpus.translate(texts, lambda place, units, row: None)

    def batches() -> None:
        forwards["fixed batches"] = 0
        for start in range(0, len(pairs), rows):
            batch = pairs[start : start + rows]
            output = model.generate(
                **processor(source=[pair["text"] for pair in batch]),
                policy=POLICY,
                row_decoder=common.forced_decoder([pair["forced"] for pair in batch]),
                return_dict_in_generate=True,
            )
            forwards["fixed batches"] += output.forwards

    sides: dict[str, Callable[[], None]] = {"refilled rows": refilled, "fixed batches": batches}
    seconds = common.alternate(sides, rounds, clock=time.process_time)
    results["corpus_engine_vs_batches"] = common.ratio(seconds, "fixed batches", "refilled rows")
    results["corpus_forwards: batches by refilled"] = forwards["fixed batches"] / forwards["refilled rows"]
    raw |= {f"corpus, {name}": each for name, each in seconds.items()}


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
