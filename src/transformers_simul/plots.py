# SPDX-License-Identifier: Apache-2.0
"""Pictures: quality against latency, and who sees whom."""

import os
from collections.abc import Mapping, Sequence

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .evaluation.report import ReportLine

_INK, _GREY, _COLOURS = "#222222", "#bbbbbb", ("#0b6e99", "#d9622b", "#5b8c2a", "#7a4fa3", "#a8860b")


def plot_curves(path: str | os.PathLike, curves: Mapping[str, Sequence[ReportLine]], title: str = "") -> None:
    """BLEU over LAAL, one curve per system, like the paper's figures 5 to 9.

    Args:
        path (`str` or `os.PathLike`): a PNG or SVG file.
        curves (`Mapping[str, Sequence[ReportLine]]`): lines of each system; one named `"full source"` is drawn as a
            level, since its lagging only says how long the sentences are.
        title (`str`, *optional*): above the picture.
    """
    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, lines), colour in zip(curves.items(), _COLOURS * 3, strict=False):
        points = [line for line in lines if line.name != "full source"]
        laal = [line.laal for line in points]
        bleu = [line.quality[0] for line in points]
        below = [each.score - each.low for each in bleu]
        above = [each.high - each.score for each in bleu]
        scores = [each.score for each in bleu]
        axes.errorbar(laal, scores, yerr=[below, above], marker="o", color=colour, capsize=3, label=name)
        # Several curves share their policies: one set of labels, and the legend says what the levels are.
        if colour == _COLOURS[0]:
            for line, x, y in zip(points, laal, scores, strict=True):
                axes.annotate(line.name, (x, y), textcoords="offset points", xytext=(7, -11), fontsize=8, color=_INK)
        for line in lines:
            if line.name == "full source":
                axes.axhline(line.quality[0].score, color=colour, linestyle="--", linewidth=1)
    axes.plot([], [], color=_INK, linestyle="--", linewidth=1, label="full source, whatever its lagging")
    axes.set_xlabel("LAAL (source words)")
    axes.set_ylabel("BLEU (95% intervals)")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path)


def plot_masks(
    path: str | os.PathLike, panels: Mapping[str, numpy.ndarray], queries: Sequence[str], keys: Sequence[str]
) -> None:
    """Who sees whom, panels side by side: rows are queries, columns keys.

    Args:
        path (`str` or `os.PathLike`): a PNG or SVG file.
        panels (`Mapping[str, numpy.ndarray]`): title to an array of shape `(queries, keys)` with 0 where hidden.
        queries, keys (`Sequence[str]`): labels.
    """
    width = 0.28 * len(keys) + 1.6
    figure = Figure(figsize=(width * len(panels), 0.24 * len(queries) + 2.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, seen) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        shades = numpy.where(seen > 0, 0.35 + 0.65 * seen / max(seen.max(), 1e-9), 0.0)
        axes.imshow(shades, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
        axes.set_xticks(range(len(keys)), keys, rotation=90, fontsize=7)
        axes.set_yticks(range(len(queries)), queries, fontsize=7)
        axes.set_xticks(numpy.arange(len(keys)) - 0.5, minor=True)
        axes.set_yticks(numpy.arange(len(queries)) - 0.5, minor=True)
        axes.grid(which="minor", color=_GREY, linewidth=0.4)
        axes.tick_params(which="both", length=0)
        axes.set_title(title, fontsize=9)
    figure.savefig(path)


__all__ = ["plot_curves", "plot_masks"]
