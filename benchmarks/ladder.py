# SPDX-License-Identifier: Apache-2.0
"""Systems at several sizes of the model: what one is ahead of others, and a line through the sizes, with 95% intervals.

Usage: benchmarks/ladder.py PICTURE MILLIONS[:SYSTEM]=LOGS_FOLDER... [--minus causal-norec causal-rec] [--k 1 3 5 7]

MILLIONS are the model's parameters, and SYSTEM the one that is ahead or not, SM-norec-mod unless told. Each LOGS_FOLDER
holds SYSTEM/k=K/instances.log, as examples/run_experiment.py leaves them. The line is that of least squares over the
logarithm of the size; its slope is what ten times the parameters add.
"""

import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from by_length import read_logs
from transformers_simul.cli.flags import CommandParser
from transformers_simul.evaluation import Instance, quality
from transformers_simul.evaluation.quality import score_differences

COLOURS = ("#0b6e99", "#d9622b", "#5b8c2a", "#7a4fa3")


class Size(NamedTuple):
    """One rung.

    Attributes:
        millions (`float`): of parameters.
        system (`str`): the one that is ahead of others or not.
        folder (`str`): of the logs.
    """

    millions: float
    system: str
    folder: str


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("sizes", nargs="+", metavar="MILLIONS[:SYSTEM]=LOGS_FOLDER", type=size)
    parser.add_argument("--minus", nargs="+", default=["causal-norec", "causal-rec"])
    parser.add_argument("--k", type=int, nargs="+", default=[1, 3, 5, 7])
    args = parser.parse_args()
    if len({each.millions for each in args.sizes}) < 2:
        parser.error("sizes must be at least two, for a line through them")
    args.sizes.sort()
    # What each rung is ahead of each other system, on all sentences and on each resample: rows of a table.
    leads: dict[tuple[str, int], numpy.ndarray] = {}
    for k in args.k:
        logs = [read_logs(each.folder, k) for each in args.sizes]
        for each, found in zip(args.sizes, logs, strict=True):
            for name in (each.system, *args.minus):
                if name not in found:
                    parser.error(f"{each.folder} has no system {name} at k = {k}, but {[*found]}")
        for name in args.minus:
            pairs = [(found[each.system], found[name]) for each, found in zip(args.sizes, logs, strict=True)]
            leads[name, k] = numpy.array([lead(*pair) for pair in pairs])
        ours = [found[each.system] for each, found in zip(args.sizes, logs, strict=True)]
        print(f"k = {k}\n\n{table(args.sizes, ours, {name: leads[name, k] for name in args.minus})}\n")
    draw(args.picture, [each.millions for each in args.sizes], leads)
    print(f"written: {args.picture}", file=sys.stderr)


def size(text: str) -> Size:
    name, _, folder = text.partition("=")
    millions, _, system = name.partition(":")
    return Size(float(millions), system or "SM-norec-mod", folder)


def lead(ours: list[Instance], theirs: list[Instance]) -> numpy.ndarray:
    """What `ours` is ahead, on all sentences and on each resample."""
    references = [each.reference for each in ours]
    if references != [each.reference for each in theirs]:
        sys.exit("error: logs of one size must hold the same sentences.")
    return score_differences([each.prediction for each in ours], [each.prediction for each in theirs], references)


def line(sizes: list[float], scores: numpy.ndarray) -> numpy.ndarray:
    """Slope over ten times the parameters, and value at a million, of each column's line of least squares."""
    return numpy.polyfit(numpy.log10(sizes), scores, 1)


def interval(drawn: numpy.ndarray) -> str:
    first, *rest = drawn
    low, high = numpy.percentile(rest, [2.5, 97.5])
    return f"{first:+.1f} ({low:+.1f} to {high:+.1f})"


def table(sizes: list[Size], ours: list[list[Instance]], leads: dict[str, numpy.ndarray]) -> str:
    """A row for each size, and one for the slope."""
    rows = [f"| parameters | sentences | system | BLEU | {' | '.join(f'minus {name}' for name in leads)} |"]
    rows.append("|---" * (4 + len(leads)) + "|")
    for index, (each, log) in enumerate(zip(sizes, ours, strict=True)):
        score, *_ = quality([e.prediction for e in log], [e.reference for e in log], names=["BLEU"])
        gaps = " | ".join(interval(scores[index]) for scores in leads.values())
        rows.append(f"| {each.millions:g} M | {len(log)} | {each.system} | {score} | {gaps} |")
    slopes = " | ".join(interval(line([each.millions for each in sizes], scores)[0]) for scores in leads.values())
    rows.append(f"| ten times the parameters add | | | | {slopes} |")
    return "\n".join(rows)


def draw(path: Path, sizes: list[float], leads: dict[tuple[str, int], numpy.ndarray]) -> None:
    """One plot for each other system: points with intervals, and the line through them, for each k."""
    others = [*dict.fromkeys(name for name, _ in leads)]
    figure = Figure(figsize=(4.2 * len(others), 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(1, len(others), sharey=True, squeeze=False)[0]
    numbers = [*dict.fromkeys(k for _, k in leads)]
    for axes, other in zip(every, others, strict=True):
        for place, (k, colour) in enumerate(zip(numbers, COLOURS * math.ceil(len(numbers) / 4), strict=False)):
            scores = leads[other, k]
            low, high = numpy.percentile(scores[:, 1:], [2.5, 97.5], axis=1)
            # Side by side, so that intervals do not hide one another.
            across = [each * 1.03 ** (place - (len(numbers) - 1) / 2) for each in sizes]
            # A score may lie outside of its resamples' interval.
            bars = [numpy.clip(scores[:, 0] - low, 0, None), numpy.clip(high - scores[:, 0], 0, None)]
            axes.errorbar(across, scores[:, 0], bars, fmt="o", ms=4, lw=1, color=colour, label=f"k = {k}")
            slope, start = line(sizes, scores[:, :1])[:, 0]
            axes.plot(sizes, [slope * math.log10(each) + start for each in sizes], color=colour, lw=1, alpha=0.6)
        axes.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{each:g} M" for each in sizes])
        axes.minorticks_off()
        axes.set_xlabel("parameters")
        axes.set_title(f"minus {other}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set_ylabel("BLEU of SimulMask minus the other")
    every[-1].legend(frameon=False, fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    main()
