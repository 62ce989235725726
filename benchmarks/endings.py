# SPDX-License-Identifier: Apache-2.0
"""When a translation ends: EOS where it is the likeliest single token, as everywhere in greedy decoding, against EOS
where it is more likely than all that could follow together (`eos_threshold=0.5`). Decision rows teach EOS the
probability of a READ, while that of the next word is spread over many words, so that EOS may be the likeliest token
long before the end.

    python benchmarks/endings.py output/mine test.en test.de --policies wait-1 wait-3 full --max_samples 300
"""

from transformers_simul import AutoSimulModel, SimulProcessor, policy_from_name
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.quality import paired_difference
from transformers_simul.evaluation.report import markdown_table, report_line


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
        for rule, threshold in (("likeliest", None), ("half", 0.5)):
            model.generation_config.eos_threshold = threshold
            log = translate_corpus(model, processor, sources, references, policy_from_name(name), args.batch_size)
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
