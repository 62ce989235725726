# SPDX-License-Identifier: Apache-2.0
"""Simultaneous latency and quality for the `evaluate` library, without network."""

import datasets
import evaluate

from .instances import Instance
from .report import report_line


class SimulTranslation(evaluate.Metric):
    """AL, LAAL, AP, DAL, ATD, and BLEU, chrF, chrF++, TER, through the `evaluate` API.

    Example:

    ```python
    >>> from transformers_simul.evaluation.metric import SimulTranslation
    >>> metric = SimulTranslation()
    >>> metric.add(prediction="ein Hund", reference="ein Hund", delays=[1, 2], source_length=2)
    >>> scores = metric.compute()
    >>> round(scores["AL"], 6), round(scores["BLEU"])
    (1.0, 0)

    ```
    """

    def _info(self):
        return evaluate.MetricInfo(
            description="Latency and quality of simultaneous translation.",
            citation="",
            inputs_description="Predictions and references as texts; of each the delays, one per word, and the "
            "number of source words.",
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Value("string"),
                    "delays": datasets.Sequence(datasets.Value("float64")),
                    "source_length": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions, references, delays, source_length, unit="word"):
        instances = [
            Instance(index, prediction, each, [0.0] * len(each), len(each), reference, "", length)
            for index, (prediction, reference, each, length) in enumerate(
                zip(predictions, references, delays, source_length, strict=True)
            )
        ]
        line = report_line("", instances, resamples=1, metrics=("BLEU", "chrF", "chrF++", "TER"), unit=unit)
        return line.latency | {each.name: each.score for each in line.quality}


__all__ = ["SimulTranslation"]
