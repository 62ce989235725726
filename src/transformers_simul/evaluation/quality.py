# SPDX-License-Identifier: Apache-2.0
"""Translation quality by sacreBLEU, with its signatures and paired bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

QUALITY = ("BLEU", "chrF", "chrF++", "TER")


@dataclass(frozen=True)
class Quality:
    """A corpus score with its 95% bootstrap interval.

    Attributes:
        name (`str`): one of [`QUALITY`], or the name of a neural metric.
        score, low, high (`float`): the score, and the ends of the interval.
        signature (`str`): sacreBLEU's, which reproduces it.
    """

    name: str
    score: float
    low: float
    high: float
    signature: str

    def __str__(self) -> str:
        return f"{self.score:.1f} ({self.low:.1f} to {self.high:.1f})"


def quality(
    predictions: Sequence[str],
    references: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    names: Sequence[str] = ("BLEU", "chrF++"),
    tokenize: str | None = None,
) -> list[Quality]:
    """Score a corpus with sacreBLEU.

    Args:
        predictions, references (`Sequence[str]`): one per sentence.
        resamples (`int`, *optional*): resamples of the bootstrap over sentences (Koehn 2004).
        seed (`int`, *optional*): seed of the bootstrap; the same sentences are drawn for every system.
        names (`Sequence[str]`, *optional*): names from [`QUALITY`].
        tokenize (`str`, *optional*): sacreBLEU's name of BLEU's tokeniser, such as `"zh"` or `"ja-mecab"`; `"13a"` by
            default.

    Raises:
        ValueError: if the counts differ, there is no sentence, a name is unknown, or a tokeniser lacks its package.

    Example:

    ```python
    >>> from transformers_simul.evaluation import quality
    >>> [(score.name, round(score.score)) for score in quality(["a b c d"], ["a b c d"], resamples=10)]
    [('BLEU', 100), ('chrF++', 100)]

    ```
    """
    scores = []
    for name in names:
        metric = _metric(name, tokenize)
        statistics = _statistics(metric, predictions, references)
        low, high = numpy.percentile(_resampled(metric, statistics, resamples, seed), [2.5, 97.5])
        score = metric.corpus_score(list(predictions), [list(references)]).score
        scores.append(Quality(name, score, float(low), float(high), str(metric.get_signature())))
    return scores


def mean_quality(name: str, scores: Sequence[float], signature: str) -> Quality:
    """Return the mean of scores per sentence, such as a neural metric's, with its bootstrap interval.

    Args:
        name (`str`): name of the metric.
        scores (`Sequence[float]`): one per sentence.
        signature (`str`): what reproduces them.

    Example:

    ```python
    >>> from transformers_simul.evaluation.quality import mean_quality
    >>> mean_quality("COMET", [0.5, 0.7], "model:wmt22-comet-da").score
    0.6

    ```
    """
    values = numpy.asarray(scores, dtype=float)
    draws = numpy.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    low, high = numpy.percentile(values[draws].mean(1), [2.5, 97.5])
    return Quality(name, float(values.mean()), float(low), float(high), signature)


def paired_difference(
    better: Sequence[str],
    worse: Sequence[str],
    references: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    name: str = "BLEU",
) -> tuple[float, float, float]:
    """Return one system's score minus another's on the same sentences, with its paired 95% bootstrap interval.

    Args:
        better, worse, references (`Sequence[str]`): one per sentence.
        resamples, seed (`int`): as in [`quality`].
        name (`str`, *optional*): a name from [`QUALITY`].

    Returns:
        `tuple[float, float, float]`: difference, low, high.

    Raises:
        ValueError: if the counts differ, there is no sentence, or the name is unknown.

    Example:

    ```python
    >>> from transformers_simul.evaluation import paired_difference
    >>> paired_difference(["a b c d"], ["a b c d"], ["a b c d"], resamples=10)
    (0.0, 0.0, 0.0)

    ```
    """
    difference, *drawn = score_differences(better, worse, references, resamples, seed, name)
    low, high = numpy.percentile(drawn, [2.5, 97.5])
    return float(difference), float(low), float(high)


def score_differences(
    better: Sequence[str],
    worse: Sequence[str],
    references: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    name: str = "BLEU",
) -> numpy.ndarray:
    """Return one system's score minus another's on all sentences, and then on each resample of them: what
    [`paired_difference`] takes its interval from. With as many sentences, the same ones are drawn in every call.

    Args:
        better, worse, references (`Sequence[str]`): one per sentence.
        resamples, seed (`int`): as in [`quality`].
        name (`str`, *optional*): a name from [`QUALITY`].

    Returns:
        `numpy.ndarray` of shape `(1 + resamples,)`.

    Raises:
        ValueError: if the counts differ, there is no sentence, or the name is unknown.
    """
    metric = _metric(name, None)
    pairs = [_statistics(metric, predictions, references) for predictions in (better, worse)]
    first, second = (
        numpy.array(
            [metric._compute_score_from_stats(list(each.sum(0))).score, *_resampled(metric, each, resamples, seed)]
        )
        for each in pairs
    )
    return first - second


def _metric(name: str, tokenize: str | None) -> Any:
    try:
        from sacrebleu.metrics import BLEU, CHRF, TER
    except ImportError as error:
        raise ValueError("quality is measured by sacrebleu: pip install 'transformers_simul[measure]'.") from error
    if name == "BLEU":
        if tokenize is not None and tokenize not in BLEU.TOKENIZERS:
            raise ValueError(f"tokenize must be one of {sorted(BLEU.TOKENIZERS)}, got {tokenize!r}.")
        try:
            return BLEU(tokenize=tokenize)
        except RuntimeError as error:
            raise ValueError(f"tokenize={tokenize!r} needs more: {' '.join(str(error).split())}") from error
    if name == "TER":
        return TER()
    if name not in QUALITY:
        raise ValueError(f"names must be among {QUALITY}, got {name!r}.")
    return CHRF(word_order=2 if name == "chrF++" else 0)


def _statistics(metric, predictions: Sequence[str], references: Sequence[str]) -> numpy.ndarray:
    if not predictions or len(predictions) != len(references):
        raise ValueError(
            f"predictions and references must be equally many, and at least one, got {len(predictions)} and "
            f"{len(references)}."
        )
    # sacreBLEU's own bootstrap uses the same two methods; its public one draws no paired difference.
    return numpy.array(metric._extract_corpus_statistics(list(predictions), [list(references)]))


def _resampled(metric, statistics: numpy.ndarray, resamples: int, seed: int) -> numpy.ndarray:
    draws = numpy.random.default_rng(seed).integers(len(statistics), size=(resamples, len(statistics)))
    return numpy.array([metric._compute_score_from_stats(list(statistics[draw].sum(0))).score for draw in draws])


__all__ = ["QUALITY", "Quality", "mean_quality", "paired_difference", "quality", "score_differences"]
