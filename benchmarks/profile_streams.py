# SPDX-License-Identifier: Apache-2.0
"""Where an engine of 64 streams spends its time: a profile of the run that `streams.py` times."""

import cProfile
import pstats

import common
from streams import play
from transformers_simul import StreamEngine

# Shares by the function whose own time, or whose time with all it calls, stands for a part.
OWN = {"linear layers": "_linear_pointwise", "attention": "scaled_dot_product_attention"}
WITH_CALLS = {"storing and gathering keys": "update", "mask and bias": "_attention_mask", "the decoders": "_advance"}


def main() -> None:
    pairs = common.sample(192)
    engine = StreamEngine(common.model(), common.processor(), max_streams=64, max_tokens=256)
    play(engine, pairs[:128], 64)
    profile = cProfile.Profile()
    profile.enable()
    play(engine, pairs * 2, 64)
    profile.disable()
    stats = pstats.Stats(profile)
    total = stats.total_tt  # type: ignore[attr-defined]
    entries = stats.stats.items()  # type: ignore[attr-defined]
    print("| part | share |\n|---|---|")
    for parts, column in ((OWN, 2), (WITH_CALLS, 3)):
        for part, function in parts.items():
            spent = max(entry[column] for (_, _, name), entry in entries if function in name)
            print(f"| {part} | {spent / total:.0%} |")


if __name__ == "__main__":
    main()
