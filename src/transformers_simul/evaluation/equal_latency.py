# SPDX-License-Identifier: Apache-2.0
"""One policy's quality minus another's at the same latency, with paired bootstrap intervals."""

from collections.abc import Sequence
from typing import Any

import numpy

from .instances import Instance
from .latency import LATENCY
from .quality import _metric, _statistics

# A point of a curve: the sentences' statistics, and their LAAL (NaN where nothing was written).
_Point = tuple[numpy.ndarray, numpy.ndarray]


def difference_at(
    better: Sequence[Sequence[Instance]],
    worse: Sequence[Sequence[Instance]],
    laal: float,
    name: str = "BLEU",
    resamples: int = 1000,
) -> tuple[float, float, float] | None:
    """The difference of two curves' quality at one LAAL.

    Between neighbouring points a curve is a straight line. In each resample the same sentences are drawn for every
    point of both curves, whose quality and mean LAAL are computed anew; where a resample's curve ends short of this
    LAAL, its end stands for it.

    Args:
        better, worse (`Sequence[Sequence[Instance]]`): the logs of each curve's points, of the same sentences.
        laal (`float`): in source words.
        name (`str`, *optional*): of the quality.
        resamples (`int`, *optional*): of the bootstrap.

    Raises:
        ValueError: if the sentences differ.

    Returns:
        `tuple[float, float, float]`: difference, and its 95% interval; None where one of the curves has no point on
        either side of this LAAL.
    """
    references = [each.reference for each in better[0]]
    for log in (*better, *worse):
        if [each.reference for each in log] != references:
            raise ValueError(
                "better and worse must hold the same sentences, but the references of two logs differ, of "
                f"{len(references)} and {len(log)} sentences."
            )
    metric = _metric(name, None)
    curves = [[_point(metric, log) for log in curve] for curve in (better, worse)]

    def score(curve: Sequence[_Point], draw: numpy.ndarray) -> tuple[float, bool]:
        found = sorted(
            (float(numpy.nanmean(lags[draw])), metric._compute_score_from_stats(list(stats[draw].sum(0))).score)
            for stats, lags in curve
        )
        lags, scores = zip(*found, strict=True)
        return float(numpy.interp(laal, lags, scores)), lags[0] <= laal <= lags[-1]

    everything = numpy.arange(len(references))
    (first, has_first), (second, has_second) = (score(curve, everything) for curve in curves)
    if not (has_first and has_second):
        return None
    draws = numpy.random.default_rng(0).integers(len(references), size=(resamples, len(references)))
    gains = [score(curves[0], draw)[0] - score(curves[1], draw)[0] for draw in draws]
    low, high = numpy.percentile(gains, [2.5, 97.5])
    return first - second, float(low), float(high)


def _point(metric: Any, log: Sequence[Instance]) -> _Point:
    lags = [
        LATENCY["LAAL"](each.delays, each.source_length, len(each.reference.split())) if each.delays else numpy.nan
        for each in log
    ]
    return _statistics(metric, [each.prediction for each in log], [each.reference for each in log]), numpy.array(lags)


__all__ = ["difference_at"]
