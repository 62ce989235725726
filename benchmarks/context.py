# SPDX-License-Identifier: Apache-2.0
"""What sentences that have ended and stay in view do to quality, and what they cost, for any trained folder: a text is
translated document by document, each sentence with so many before it, by the same model. Its lines are sentences, of
which neighbours make a document.

The cost is counted, not timed: forwards and tokens fed for each sentence, and keys that each of these tokens may attend
to.

    python benchmarks/context.py output/mine test.en test.de --context 0 1 2 --policy wait-3
"""

from collections.abc import Sequence
from typing import Any

from transformers_simul import AutoSimulModel, SimulProcessor, policy_from_name
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import Pair, read_pairs
from transformers_simul.evaluation import quality
from transformers_simul.evaluation.documents import translate_documents
from transformers_simul.evaluation.quality import paired_difference


class Counts:
    """What the forwards of a model do, counted before each.

    Args:
        model: whose forwards get a step of the cache.
    """

    def __init__(self, model: Any):
        self.forwards = self.tokens = self.keys = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        step = kwargs["past_key_values"]
        self.forwards += 1
        self.tokens += sum(step.counts)
        held = step.keys.pair_ids.sum(-1).tolist()
        self.keys += sum(count * keys for count, keys in zip(step.counts, held, strict=True))

    def taken(self) -> tuple[int, int, int]:
        """Forwards, tokens and keys since the last call."""
        found = self.forwards, self.tokens, self.keys
        self.forwards = self.tokens = self.keys = 0
        return found


def row(
    policy: str, context: int, pairs: Sequence[Pair], texts: list[str], plain: list[str], counts: Sequence[int]
) -> str:
    """A line of the table."""
    references = [pair.target for pair in pairs]
    difference, low, high = paired_difference(texts, plain, references)
    forwards, tokens, keys = counts
    return (
        f"| {policy} | {context} | {quality(texts, references, names=['BLEU'])[0]} | {difference:+.1f} ({low:+.1f} to "
        f"{high:+.1f}) | {forwards / len(pairs):.1f} | {tokens / len(pairs):.1f} | {keys / tokens:.0f} |"
    )


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs=2, metavar="FILE", help="text: source, target")
    parser.add_argument("--context", nargs="+", type=int, default=[1, 2], help="sentences before, beside 0")
    parser.add_argument("--policy", nargs="+", default=["wait-3"])
    parser.add_argument("--document", type=int, default=20, help="lines of a document (20)")
    parser.add_argument("--max-samples", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=1, help="documents at a time; they share forwards (1)")
    args = parser.parse_args()
    model = AutoSimulModel.from_pretrained(args.model).eval()
    processor = SimulProcessor.from_pretrained(args.model)
    pairs = read_pairs(args.files, "source", "target")[: args.max_samples]
    documents = [
        [pair.source for pair in pairs[start : start + args.document]] for start in range(0, len(pairs), args.document)
    ]
    counts = Counts(model)
    print(f"{len(pairs)} sentences in documents of {args.document}")
    print(
        "| policy | sentences in view | BLEU (95%) | minus none (95%) | forwards a sentence | tokens a sentence | keys "
        "a token |\n|---|---|---|---|---|---|---|"
    )
    for name in args.policy:
        plain: list[str] = []
        for context in sorted({0, *args.context}):
            log, _ = translate_documents(
                model, processor, documents, policy_from_name(name), context, args.batch_size,
                ends_sentence=lambda word: False,
            )  # fmt: skip
            texts = [line.prediction for document in log for line in document]
            plain = plain or texts
            print(row(name, context, pairs, texts, plain, counts.taken()), flush=True)


if __name__ == "__main__":
    main()
