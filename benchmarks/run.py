# SPDX-License-Identifier: Apache-2.0
"""Everything that is claimed about speed, quickly: one table, and `benchmarks/latest.json` with the raw medians and the
machine. Each part also runs alone."""

import logging
import warnings
from pathlib import Path

from tqdm import tqdm

import adaptive_cost
import common
import corpus_rows
import decoding_weights
import endless
import first_word
import known_source
import live
import peers
import small_models
import startup
import streams
import training


def main() -> None:
    warnings.filterwarnings("ignore", category=UserWarning)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    results: dict[str, float] = {}
    raw: dict[str, list[float]] = {}
    skipped: dict[str, str] = {}
    parts = {
        "start-up": startup.measure,
        "one stream, source known": known_source.measure,
        "policies that look": adaptive_cost.measure,
        "one stream, live": lambda results, raw: live.measure(results, raw, common.corpus()["test"]),
        "one stream, live, long text": live.measure_long,
        "64 streams": streams.measure,
        "weights for decoding": decoding_weights.measure,
        "a small model": small_models.measure,
        "peers": peers.measure,
        "a corpus": corpus_rows.measure,
        "the first word": first_word.measure,
        "training": training.measure,
        "20,000 words": endless.measure,
    }
    for name, measure in (progress := tqdm(parts.items())):
        progress.set_description(name)
        try:
            measure(results, raw)
        except common.SkippedPart as reason:
            skipped[name] = str(reason)
    common.report(results, raw, Path(__file__).with_name("latest.json"), skipped)


if __name__ == "__main__":
    main()
