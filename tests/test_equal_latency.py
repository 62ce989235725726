# SPDX-License-Identifier: Apache-2.0
"""Differences at equal latency, against a calculation by hand."""

import pytest
import sacrebleu

from transformers_simul.evaluation import Instance
from transformers_simul.evaluation.equal_latency import difference_at

REFERENCES = ["a b c d e", "b c d e f", "c d e f g"]


def log(delay, cut):
    """Five words a sentence, all written after `delay` source words of ten; the last `cut` words are wrong."""
    texts = [" ".join([*text.split()[: 5 - cut], *["x"] * cut]) for text in REFERENCES]
    return [
        Instance(index, text, [delay] * 5, [0.0] * 5, 5, REFERENCES[index], "s " * 10, 10)
        for index, text in enumerate(texts)
    ]


def bleu(instances):
    return sacrebleu.corpus_bleu([each.prediction for each in instances], [REFERENCES]).score


def test_curves_are_interpolated_between_their_points():
    # LAAL of a constant delay d at ten source and five target words: the mean of d - 2i over the five words, d - 4.
    better, worse = [log(6, 1), log(8, 0)], [log(9, 0), log(5, 1)]
    value, low, high = difference_at(better, worse, laal=3.5, resamples=20)
    first = bleu(better[0]) + (bleu(better[1]) - bleu(better[0])) * (3.5 - 2) / 2
    second = bleu(worse[1]) + (bleu(worse[0]) - bleu(worse[1])) * (3.5 - 1) / 4
    assert value == pytest.approx(first - second)
    assert low <= value <= high
    assert difference_at(better, better, laal=3, resamples=20) == (0, 0, 0)
    assert difference_at(better, worse, laal=1.5, resamples=20) is None
    with pytest.raises(ValueError, match="same sentences"):
        difference_at(better, [log(5, 0)[:2]], laal=3)
