# SPDX-License-Identifier: Apache-2.0
"""What sentences that have ended and stay in view do to quality, and what they cost, for any trained folder: a text is
translated document by document, each sentence with so many before it, by the same model. Its lines are sentences, of
which neighbours make a document.

The cost is counted, not timed: forwards and tokens fed for each sentence, and keys that each of these tokens may attend
to. Loss: per target token of the reference, in the masked training forward under the same policy, which no output of
its own leads astray; for policies that only count. Pronouns: of the sentences whose source has one of `--asks` ("it",
whose gender the sentence before decides), how many of `--pronouns` stand in output and reference alike, as F1. Terms:
term_consistency.py, if `--train` names text from which the aligner can learn.

    python benchmarks/context.py output/mine test.en test.de --context 1 2 --policy wait-3 --against output/alone \
        --train train.en train.de
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy
import torch

from term_consistency import spread
from term_consistency import table as table_of_terms
from transformers_simul import (
    AdaptivePolicy,
    AutoSimulModel,
    SimulMaskDataCollator,
    SimulProcessor,
    join_documents,
    policy_from_name,
)
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import Pair, read_pairs
from transformers_simul.evaluation import quality
from transformers_simul.evaluation.documents import translate_documents
from transformers_simul.evaluation.quality import paired_difference

THE_OTHER = "0, the other"


class Counts:
    """What the forwards of a model do, counted before each.

    Args:
        model: whose forwards get a step of the cache.
    """

    def __init__(self, model: Any):
        self.forwards = self.tokens = self.keys = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        step = kwargs.get("past_key_values")
        if step is None:  # a training forward
            return
        self.forwards += 1
        self.tokens += sum(step.counts)
        held = step.keys.pair_ids.sum(-1).tolist()
        self.keys += sum(count * keys for count, keys in zip(step.counts, held, strict=True))

    def taken(self) -> tuple[int, int, int]:
        """Forwards, tokens and keys since the last call."""
        found = self.forwards, self.tokens, self.keys
        self.forwards = self.tokens = self.keys = 0
        return found


def pronoun_counts(texts: Sequence[str], references: Sequence[str], pronouns: Sequence[str]) -> numpy.ndarray:
    """Of each sentence, pronouns that are in both, in the output, and in the reference."""
    counts = []
    for pair in zip(texts, references, strict=True):
        found = [Counter(word for word in re.findall(r"\w+", text.lower()) if word in pronouns) for text in pair]
        counts.append([(found[0] & found[1]).total(), found[0].total(), found[1].total()])
    return numpy.array(counts)


def f1(counts: numpy.ndarray) -> Any:
    """In percent, of counts summed over their last axis but one."""
    both, written, expected = numpy.moveaxis(counts.sum(-2), -1, 0)
    return 200 * both / numpy.maximum(written + expected, 1)


def f1_difference(better: numpy.ndarray, worse: numpy.ndarray, resamples: int = 1000) -> tuple[float, float, float]:
    draws = numpy.random.default_rng(0).integers(len(better), size=(resamples, len(better)))
    low, high = numpy.percentile(f1(better[draws]) - f1(worse[draws]), [2.5, 97.5])
    return f1(better) - f1(worse), low, high


class Test:
    """What all translations are measured against.

    Args:
        pairs: source and reference of each sentence.
        asks, pronouns: words of sources, and of references, in lower case.
    """

    def __init__(self, pairs: Sequence[Pair], asks: Sequence[str], pronouns: Sequence[str]):
        self.references = [pair.target for pair in pairs]
        self.pronouns = pronouns
        sources = [re.findall(r"\w+", pair.source.lower()) for pair in pairs]
        self.asking = [index for index, words in enumerate(sources) if set(words) & set(asks)]

    def row(
        self, name: str, texts: list[str], others: Sequence[list[str] | None], loss: float | None, counts: Sequence[int]
    ) -> str:
        """A line of the table."""
        pronouns = self._pronouns(texts)
        cells, of_pronouns = [str(quality(texts, self.references, names=["BLEU"])[0])], [f"{f1(pronouns):.1f}"]
        for other in others:
            cells.append("" if other is None else spread(*paired_difference(texts, other, self.references)))
            of_pronouns.append("" if other is None else spread(*f1_difference(pronouns, self._pronouns(other))))
        forwards, tokens, keys = counts
        sentences = len(self.references)
        cost = [f"{forwards / sentences:.1f}", f"{tokens / sentences:.1f}", f"{keys / tokens:.0f}"]
        shown_loss = "" if loss is None else f"{loss:.3f}"
        return f"| {' | '.join([name, *cells, shown_loss, *of_pronouns, *cost])} |"

    def _pronouns(self, texts: list[str]) -> numpy.ndarray:
        chosen, expected = ([lines[index] for index in self.asking] for lines in (texts, self.references))
        return pronoun_counts(chosen, expected, self.pronouns)


class Translator:
    """A trained folder.

    Args:
        folder: with model and processor.
        documents: source sentences.
        batch_size: documents at a time.
    """

    def __init__(self, folder: str, documents: list[list[str]], batch_size: int):
        self.model = AutoSimulModel.from_pretrained(folder).eval()
        self.processor = SimulProcessor.from_pretrained(folder)
        self.documents, self.batch_size = documents, batch_size
        self.counts = Counts(self.model)

    def translate(self, policy: str, context: int) -> tuple[list[str], tuple[int, int, int]]:
        """Sentences, and what they took."""
        log, _ = translate_documents(
            self.model, self.processor, self.documents, policy_from_name(policy), context, self.batch_size,
            ends_sentence=lambda word: False,
        )  # fmt: skip
        return [line.prediction for document in log for line in document], self.counts.taken()

    @torch.inference_mode()
    def loss(self, policy: str, context: int, references: list[str]) -> float | None:
        """Per target token, each sentence with the references before it in view; None for a policy that looks."""
        followed = policy_from_name(policy)
        if isinstance(followed, AdaptivePolicy):
            return None
        sources = [(index, line) for index, document in enumerate(self.documents) for line in document]
        pairs = [
            {"source": source, "target": target, "document": index}
            for (index, source), target in zip(sources, references, strict=True)
        ]
        collator = SimulMaskDataCollator(self.processor, followed, peek_rows=0, context_sentences=context)
        total = count = 0.0
        for document in join_documents(pairs, most_sentences=len(pairs)):
            for example in [document] if context else document["sentences"]:
                batch = collator([example])
                labels = (batch["labels"][:, 1:] != -100).sum().item()
                total += labels * self.model(**batch).loss.item()
                count += labels
        return total / count


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs=2, metavar="FILE", help="text: source, target")
    parser.add_argument("--context", nargs="+", type=int, default=[1, 2], help="sentences before, beside 0")
    parser.add_argument("--policy", nargs="+", default=["wait-3"])
    parser.add_argument("--against", help="another folder, which translates each sentence alone")
    parser.add_argument("--asks", nargs="+", default=["it"])
    parser.add_argument("--pronouns", nargs="+", default=["er", "sie", "es", "ihn", "ihm", "ihr"])
    parser.add_argument("--train", nargs=2, metavar="FILE", help="text from which the aligner of terms learns")
    parser.add_argument("--train-samples", type=int, default=30_000)
    parser.add_argument("--document", type=int, default=20, help="lines of a document (20)")
    parser.add_argument("--max-samples", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=1, help="documents at a time; they share forwards (1)")
    args = parser.parse_args()
    pairs = read_pairs(args.files, "source", "target")[: args.max_samples]
    more = read_pairs(args.train, "source", "target")[: args.train_samples] if args.train else []
    documents = [
        [pair.source for pair in pairs[start : start + args.document]] for start in range(0, len(pairs), args.document)
    ]
    test = Test(pairs, args.asks, args.pronouns)
    own = Translator(args.model, documents, args.batch_size)
    other = Translator(args.against, documents, args.batch_size) if args.against else None
    print(f"{len(pairs)} sentences in documents of {args.document}; {len(test.asking)} with {', '.join(args.asks)}")
    minus = ["minus none (95%)", *(["minus the other (95%)"] if other else [])]
    heads = ["policy", "sentences in view", "BLEU (95%)", *minus, "loss", "pronouns, F1", *minus]
    heads += ["forwards a sentence", "tokens a sentence", "keys a token"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    outputs: dict[tuple[str, str], list[str]] = {}
    for policy in args.policy:
        others: list[list[str]] = []
        if other:
            texts, counts = other.translate(policy, 0)
            outputs[policy, THE_OTHER] = texts
            loss = other.loss(policy, 0, test.references)
            print(test.row(f"{policy} | {THE_OTHER}", texts, [None, None], loss, counts), flush=True)
            others = [texts]
        plain: list[str] = []
        for context in sorted({0, *args.context}):
            texts, counts = own.translate(policy, context)
            plain = plain or texts
            outputs[policy, str(context)] = texts
            loss = own.loss(policy, context, test.references)
            print(test.row(f"{policy} | {context}", texts, [plain, *others], loss, counts), flush=True)
    if more:
        baselines = {"0": "none", **({THE_OTHER: "the other"} if other else {})}
        reaches = [args.document, max(args.context)]
        print(table_of_terms(pairs, outputs, baselines, args.document, reaches, more))


if __name__ == "__main__":
    main()
