# SPDX-License-Identifier: Apache-2.0
"""Translation quality by sacreBLEU, with its signatures and paired bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from sacrebleu.metrics import BLEU, CHRF


@dataclass(frozen=True)
class Quality:
    """A corpus score with its 95% bootstrap interval.

    Attributes:
        name (`str`): `"BLEU"` or `"chrF++"`.
        score, low, high (`float`): the score, and the interval's ends.
        signature (`str`): sacreBLEU's, which reproduces it.
    """

    name: str
    score: float
    low: float
    high: float
    signature: str


def quality(
    predictions: Sequence[str], references: Sequence[str], resamples: int = 1000, seed: int = 0
) -> list[Quality]:
    """BLEU and chrF++ (word order 2) of a corpus.

    Args:
        predictions, references (`Sequence[str]`): one a sentence.
        resamples (`int`, *optional*): of the bootstrap over sentences (Koehn 2004).
        seed (`int`, *optional*): of the bootstrap; the same sentences are drawn for every system.

    Raises:
        ValueError: if the counts differ, or there is no sentence.

    Example:

    ```python
    >>> from transformers_simul.evaluation import quality
    >>> [(score.name, round(score.score)) for score in quality(["a b c d"], ["a b c d"], resamples=10)]
    [('BLEU', 100), ('chrF++', 100)]

    ```
    """
    scores = []
    for name, metric in (("BLEU", BLEU()), ("chrF++", CHRF(word_order=2))):
        statistics = _statistics(metric, predictions, references)
        drawn = _resampled(metric, statistics, resamples, seed)
        low, high = numpy.percentile(drawn, [2.5, 97.5])
        score = metric.corpus_score(list(predictions), [list(references)]).score
        scores.append(Quality(name, score, float(low), float(high), str(metric.get_signature())))
    return scores


def paired_difference(
    better: Sequence[str], worse: Sequence[str], references: Sequence[str], resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """BLEU of one system minus another's on the same sentences, with its paired 95% bootstrap interval.

    Args:
        better, worse, references (`Sequence[str]`): one a sentence.
        resamples, seed (`int`): as in [`quality`].

    Returns:
        `tuple[float, float, float]`: difference, low, high.
    """
    metric = BLEU()
    pairs = [_statistics(metric, predictions, references) for predictions in (better, worse)]
    drawn = [_resampled(metric, statistics, resamples, seed) for statistics in pairs]
    scores = [metric._compute_score_from_stats(list(statistics.sum(0))).score for statistics in pairs]
    low, high = numpy.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    return scores[0] - scores[1], float(low), float(high)


def _statistics(metric, predictions: Sequence[str], references: Sequence[str]) -> numpy.ndarray:
    if not predictions or len(predictions) != len(references):
        raise ValueError(
            f"predictions and references must be as many, and at least one: got {len(predictions)} and "
            f"{len(references)}."
        )
    # sacreBLEU's own bootstrap uses the same two methods; its public one draws no paired difference.
    return numpy.array(metric._extract_corpus_statistics(list(predictions), [list(references)]))


def _resampled(metric, statistics: numpy.ndarray, resamples: int, seed: int) -> numpy.ndarray:
    draws = numpy.random.default_rng(seed).integers(len(statistics), size=(resamples, len(statistics)))
    return numpy.array([metric._compute_score_from_stats(list(statistics[draw].sum(0))).score for draw in draws])


__all__ = ["Quality", "paired_difference", "quality"]
