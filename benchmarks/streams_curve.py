# SPDX-License-Identifier: Apache-2.0
"""Draws words per second over the number of live streams in one engine: the kept cache, and recomputation.

Usage: benchmarks/streams_curve.py PICTURE
"""

import sys

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import common
from streams import play
from transformers_simul import StreamEngine
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.research.baselines import RecomputingDecoder

STREAMS = (1, 2, 4, 8, 16, 32, 64)
SIDES = {"cache kept": RowDecoder, "recomputed": RecomputingDecoder}


def main(picture: str) -> None:
    pairs = common.sample(192)
    engine = StreamEngine(common.model(), common.processor(), max_streams=64, max_tokens=256)
    play(engine, pairs[:128], 64)
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for streams in STREAMS:
        for name, decoder in SIDES.items():
            rate = play(engine, (pairs * 2)[: max(16, 4 * streams)], streams, decoder)
            curves[name].append((streams, rate))
            print(f"{streams:>3} streams, {name}: {rate:.0f} words per s")
    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, points), colour, marker in zip(curves.items(), ("#0b6e99", "#d9622b"), "os", strict=True):
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(STREAMS, [str(streams) for streams in STREAMS])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("live streams in one engine")
    axes.set_ylabel("target words per second, all streams")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
