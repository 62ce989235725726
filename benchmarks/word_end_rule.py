# SPDX-License-Identifier: Apache-2.0
"""Does a word end when its end has most of the probability, or when the likeliest single token starts a word?

Usage: benchmarks/word_end_rule.py MODEL_FOLDER SOURCE_FILE TARGET_FILE
"""

import sys

from transformers_simul import AutoSimulModel, SimulProcessor, WaitKPolicy
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.quality import paired_difference
from transformers_simul.evaluation.report import markdown_table, report_line
from transformers_simul.models.choosing import Answer
from transformers_simul.models.row_decoder import RowDecoder


class LikeliestToken(RowDecoder):
    """A word ends where the likeliest single token ends it."""

    def word_ends(self, answer: Answer) -> bool:
        return self.rule.is_start(self.likeliest(answer, "any"))


def main(folder: str, *files: str) -> None:
    model, processor = AutoSimulModel.from_pretrained(folder), SimulProcessor.from_pretrained(folder)
    pairs = read_pairs(files, "source", "target")
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    lines, notes = [], []
    for k in (1, 3, 5):
        predictions = []
        for name, rule in (("probability", RowDecoder), ("likeliest", LikeliestToken)):
            log = translate_corpus(
                model, processor, sources, references, WaitKPolicy(k), batch_size=32, row_decoder=rule
            )
            lines.append(report_line(f"k = {k}, {name}", log))
            predictions.append([each.prediction for each in log])
        difference, low, high = paired_difference(*predictions, references)
        notes.append(f"k = {k}: probability minus likeliest {difference:+.1f} BLEU ({low:+.1f} to {high:+.1f})")
    print(markdown_table(lines), "", *notes, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
