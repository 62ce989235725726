# SPDX-License-Identifier: Apache-2.0
"""Pictures of quality against latency, and of attention masks."""

import io
import itertools
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy

from ..text_files import write_bytes
from .quality import Quality
from .report import FULL_SOURCE, ReportLine

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
except ImportError as error:
    raise ImportError("pictures are drawn by matplotlib: pip install 'transformers_simul[plot]'.") from error

_INK, _GREY = "#222222", "#bbbbbb"
_COLOURS = (
    "#0b6e99",
    "#d9622b",
    "#5b8c2a",
    "#7a4fa3",
    "#a8860b",
    "#c2377a",
    "#4a4a4a",
    "#2aa198",
    "#9c5a3c",
    "#8aa0d6",
)
_MARKERS = "osD^vPX<>*"
# Most characters of a label, and inches of one at the size of a path's labels.
_LONGEST_LABEL, _CHARACTER = 32, 0.075


def plot_curves(
    path: str | os.PathLike, curves: Mapping[str, Sequence[ReportLine]], title: str = "", metric: str = "BLEU"
) -> None:
    """Draw quality over LAAL to a PNG or SVG file, one curve per system, like the paper's figures 5 to 9; see
    [`curves_figure`]."""
    _save(curves_figure(curves, title, metric), path)


def curves_figure(curves: Mapping[str, Sequence[ReportLine]], title: str = "", metric: str = "BLEU") -> Figure:
    """Make the figure that [`plot_curves`] writes. Its legend is beside or below the axes, where no data is.

    Args:
        curves (`Mapping[str, Sequence[ReportLine]]`): lines of each system; one named `"full source"` is drawn as a
            level, since its lagging only says how long the sentences are.
        title (`str`, *optional*): title of the picture.
        metric (`str`, *optional*): which quality.

    Raises:
        ValueError: if the lagging of some lines is counted otherwise than that of others.
    """
    kinds = {f"{line.lagging} ({line.source_unit})" for lines in curves.values() for line in lines}
    if len(kinds) > 1:
        raise ValueError(f"curves must have one kind of lagging, got {' and '.join(sorted(kinds))}.")
    many = len(curves) > 5
    figure = _figure((9.6, 5.2) if many else (6.4, 4.6))
    axes = figure.subplots()
    labelled = next((name for name, lines in curves.items() if any(line.name != FULL_SOURCE for line in lines)), None)
    has_unnamed_level = False
    for (name, lines), colour, marker in zip(curves.items(), _COLOURS * 3, _MARKERS * 3, strict=False):
        points = [line for line in lines if line.name != FULL_SOURCE]
        points.sort(key=lambda line: line.latency[line.lagging])
        if points:
            # Intervals of many curves would hide the curves.
            _draw_curve(axes, points, metric, name, colour, marker, interval_alpha=0.3 if many else 1.0)
        # Several curves share their policies: one set of labels, and the legend says what the levels are.
        if name == labelled:
            _label_points(axes, points, metric)
        for line in lines:
            if line.name == FULL_SOURCE:
                level = None if points else f"{name}, {FULL_SOURCE}"
                has_unnamed_level = has_unnamed_level or level is None
                axes.axhline(_score(line, metric).score, color=colour, linestyle="--", linewidth=1, label=level)
    if has_unnamed_level:
        axes.plot([], [], color=_INK, linestyle="--", linewidth=1, label=f"{FULL_SOURCE}, whatever its lagging")
    # Room for the points' labels.
    axes.margins(0.12)
    axes.set_xlabel(next(iter(kinds), "LAAL (source words)"))
    axes.set_ylabel(f"{metric} (95% intervals)")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if many:
        figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    else:
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    return figure


def _draw_curve(
    axes: Axes, points: Sequence[ReportLine], metric: str, name: str, colour: str, marker: str, interval_alpha: float
) -> None:
    laal = [line.latency[line.lagging] for line in points]
    quality = [_score(line, metric) for line in points]
    errors = [[each.score - each.low for each in quality], [each.high - each.score for each in quality]]
    scores = [each.score for each in quality]
    _, _, bars = axes.errorbar(
        laal, scores, yerr=errors, marker=marker, markersize=5, color=colour, capsize=2, label=name
    )
    for bar in bars:
        bar.set_alpha(interval_alpha)


def _label_points(axes: Axes, points: Sequence[ReportLine], metric: str) -> None:
    for line in points:
        place = (line.latency[line.lagging], _score(line, metric).score)
        label = axes.annotate(line.name, place, textcoords="offset points", xytext=(7, -11), fontsize=8, color=_INK)
        # Readable where it crosses a curve.
        label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _figure(size: tuple[float, float], dpi: int = 150) -> Figure:
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | os.PathLike) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format=Path(path).suffix.removeprefix(".") or "png")
    write_bytes(path, picture.getvalue())


def _score(line: ReportLine, metric: str) -> Quality:
    return next(each for each in line.quality if each.name == metric)


def plot_boxes(path: str | os.PathLike, boxes: Mapping[str, Sequence[float]], label: str, title: str = "") -> None:
    """Draw a box per system, as the paper's figure of FLOPs: quartiles, whiskers to 1.5 times their distance, and
    outliers.

    Args:
        path (`str` or `os.PathLike`): a PNG or SVG file.
        boxes (`Mapping[str, Sequence[float]]`): numbers of each system.
        label, title (`str`): labels of the axis and of the picture.
    """
    figure = _figure((6.8, 0.42 * len(boxes) + 1.4))
    axes = figure.subplots()
    axes.boxplot(
        list(boxes.values()),
        tick_labels=list(boxes),
        orientation="horizontal",
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": _GREY},
        medianprops={"color": _COLOURS[1], "linewidth": 1.6},
    )
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def plot_path(path: str | os.PathLike, source: Sequence[str], target: Sequence[str], delays: Sequence[int]) -> None:
    """Draw the read/write path of a sentence: a READ goes right, a WRITE down, and what a word could see is shaded.

    Args:
        path (`str` or `os.PathLike`): a PNG or SVG file.
        source, target (`Sequence[str]`): words.
        delays (`Sequence[int]`): source words read before each target word.
    """
    plot_paths(path, source, {"": (target, delays)})


def plot_paths(
    path: str | os.PathLike, source: Sequence[str], paths: Mapping[str, tuple[Sequence[str], Sequence[int]]]
) -> None:
    """Draw several paths through one source sentence, as [`plot_path`] does, two in a row.

    Args:
        path (`str` or `os.PathLike`): a PNG or SVG file.
        source (`Sequence[str]`): words.
        paths (`Mapping[str, tuple[Sequence[str], Sequence[int]]]`): target words and delays by title.

    Raises:
        ValueError: if there is no path.
    """
    if not paths:
        raise ValueError("paths must hold at least one path, got none.")
    columns = min(2, len(paths))
    rows = -(-len(paths) // columns)
    source, targets = _labels(source), [_labels(target) for target, _ in paths.values()]
    # Labels stand aslant above the columns, and left of the rows.
    above, left = _widest(source), _widest(itertools.chain.from_iterable(targets))
    width = 0.5 * len(source) + max(2.2, 0.8 + left + above / 2)
    height = 0.34 * max(1, *map(len, targets)) + max(1.6, 0.6 + above)
    figure = _figure((columns * width, rows * height), dpi=130)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, target, (title, (_, delays)) in zip(grid, targets, paths.items(), strict=False):
        _draw_path(axes, source, target, delays)
        axes.set_title(title, fontsize=9)
    for axes in grid[len(paths) :]:
        axes.set_axis_off()
    _save(figure, path)


def _labels(texts: Iterable[str]) -> list[str]:
    """Make labels of words: cut if they are long, with marks for control characters, and no mathematics between
    dollars."""
    cut = [text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…" for text in texts]
    unprintable = "\N{REPLACEMENT CHARACTER}"
    shown = ["".join(letter if letter.isprintable() else unprintable for letter in text) for text in cut]
    return [text.replace("$", r"\$") for text in shown]


def _widest(labels: Iterable[str]) -> float:
    """Return the width of the widest label in inches."""
    return _CHARACTER * max(map(len, labels), default=0)


def _draw_path(axes: Axes, source: Sequence[str], target: Sequence[str], delays: Sequence[int]) -> None:
    seen = numpy.array([[0.35 * (column < delay) for column in range(len(source))] for delay in delays])
    if len(target):
        axes.imshow(seen, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(0, len(source), len(target), 0))
    across, down = path_corners(len(source), delays)
    axes.plot(across, down, color=_COLOURS[1], linewidth=2.4, solid_joinstyle="miter", clip_on=False)
    axes.set_xticks(numpy.arange(len(source)) + 0.5, source, rotation=60, ha="left", fontsize=8)
    axes.set_yticks(numpy.arange(len(target)) + 0.5, target, fontsize=8)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(source) + 1), minor=True)
    axes.set_yticks(range(len(target) + 1), minor=True)
    axes.grid(which="minor", color=_GREY, linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def path_corners(source_words: int, delays: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return where a path turns: how far right and how far down it is.

    Args:
        source_words (`int`): of the sentence, all of which is read in the end.
        delays (`Sequence[int]`): source words read before each target word.

    Example:

    ```python
    >>> from transformers_simul.evaluation.plots import path_corners
    >>> path_corners(3, [1, 3])  # READ, WRITE, READ, READ, WRITE
    ([0, 1, 1, 3, 3], [0, 0, 1, 1, 2])

    ```
    """
    across, down, read = [0], [0], 0
    for row, delay in enumerate(delays):
        if delay > read:
            across.append(delay)
            down.append(row)
        across.append(delay)
        down.append(row + 1)
        read = delay
    if read < source_words:
        across.append(source_words)
        down.append(len(delays))
    return across, down


def plot_masks(
    path: str | os.PathLike,
    panels: Mapping[str, numpy.ndarray],
    queries: Sequence[str],
    keys: Sequence[str],
    caption: str = "",
    tokens: int | None = None,
) -> None:
    """Draw who sees whom, panels side by side: rows are queries, columns are keys.

    Args:
        path (`str` or `os.PathLike`): a PNG or SVG file.
        panels (`Mapping[str, numpy.ndarray]`): arrays of shape `(queries, keys)`, 0 where hidden, by title.
        queries, keys (`Sequence[str]`): labels.
        caption (`str`, *optional*): text below the panels.
        tokens (`int`, *optional*): how many of the queries, the first ones, are tokens; a line separates the peek rows.
    """
    queries, keys = _labels(queries), _labels(keys)
    width = 0.28 * len(keys) + 1.6
    figure = _figure((width * len(panels), 0.24 * len(queries) + 2.2), dpi=130)
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
        if tokens is not None and tokens < len(queries):
            axes.axhline(tokens - 0.5, color=_COLOURS[1], linewidth=1.6)
    if caption:
        # As wide as the picture, at about 12 characters an inch of this size.
        figure.supxlabel(textwrap.fill(caption, int(12 * width * len(panels))), fontsize=8)
    _save(figure, path)


__all__ = ["curves_figure", "path_corners", "plot_boxes", "plot_curves", "plot_masks", "plot_path", "plot_paths"]
