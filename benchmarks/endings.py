# SPDX-License-Identifier: Apache-2.0
"""When a translation ends: EOS where it is the likeliest single token, as everywhere in greedy decoding, against EOS
where it is more likely than all words together that could begin there. Decision rows teach EOS the probability of a
READ, while that of the next word is spread over many words, so that EOS may be the likeliest token long before the end.

    python benchmarks/endings.py output/mine test.en test.de --policies wait-1 wait-3 full --max_samples 300
"""

import torch

from transformers_simul import AutoSimulModel, SimulProcessor, policy_from_name
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.quality import paired_difference
from transformers_simul.evaluation.report import markdown_table, report_line
from transformers_simul.models.choosing import Answer
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.models.word_rule import Expected


class EndsByHalf(RowDecoder):
    """Chooses EOS only where it has more than half of the probability of what may follow. Whether a word ends is asked
    as ever."""

    @property
    def _rule_alone(self) -> None:
        """Never: the row itself chooses."""

    def _likeliest(self, answer: Answer, expected: Expected) -> int:
        scores = self.scores(answer.logits, expected).clone()
        if scores.softmax(-1)[self.rule.eos_token_id] <= 0.5:
            scores[self.rule.eos_token_id] = -torch.inf
        return int(scores.argmax())


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs=2, metavar="FILE", help="text: source, target")
    parser.add_argument("--policies", nargs="+", default=["wait-1", "wait-3", "wait-5", "full"])
    parser.add_argument("--max-samples", type=int)
    parser.add_argument("--least-words", type=int, default=1, help="leave shorter sources out")
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    model = AutoSimulModel.from_pretrained(args.model).eval()
    processor = SimulProcessor.from_pretrained(args.model)
    pairs = read_pairs(args.files, "source", "target")
    pairs = [pair for pair in pairs if len(processor.split(pair.source)) >= args.least_words]
    sources, references = zip(*pairs[: args.max_samples], strict=True)
    lines, notes = [], []
    for name in args.policies:
        texts = {}
        for rule, decoder in (("likeliest", RowDecoder), ("half", EndsByHalf)):
            log = translate_corpus(
                model, processor, sources, references, policy_from_name(name), args.batch_size, row_decoder=decoder
            )
            lines.append(report_line(f"{name}, {rule}", log))
            texts[rule] = [line.prediction for line in log]
        difference, low, high = paired_difference(texts["half"], texts["likeliest"], references)
        words = {rule: sum(len(text.split()) for text in each) / len(each) for rule, each in texts.items()}
        notes.append(
            f"{name}: half minus likeliest {difference:+.1f} BLEU ({low:+.1f} to {high:+.1f}); words a sentence "
            f"{words['half']:.1f} and {words['likeliest']:.1f}."
        )
    print("\n".join([markdown_table(lines), "", *notes]))


if __name__ == "__main__":
    main()
