# SPDX-License-Identifier: Apache-2.0
"""What a glossary does: the share of terms that are right with and without it, and BLEU, for any trained folder.

The terms come from every other sentence of the test set: words of at least four letters that are rare there and always
linked to the same single word of the reference, one with a capital or a digit that does not begin its sentence: German
nouns, names and numbers. The table shows these sentences and the others, which share the terms by chance. A term counts
where source and reference have it, and is right where the translation has it, endings aside.

    python benchmarks/glossary.py output/mine test.en test.de --train train.en train.de --max_samples 500

With `--numbers`, numbers are copied instead: on the sentences with a number that would be, a number counts where source
and reference have it, and is right where the translation has it.

    python benchmarks/glossary.py output/mine test.en test.de --numbers --max_samples 300
"""

import argparse
from collections import defaultdict
from typing import Any

from transformers_simul import AutoSimulModel, Glossary, SimulProcessor, policy_from_name
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import Pair, read_pairs
from transformers_simul.evaluation import quality
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.quality import paired_difference
from transformers_simul.models.glossary_terms import number_in, times_written
from transformers_simul.training.alignment import align_words


def bare(text: str) -> list[str]:
    """The words without the signs around them."""
    return [word.strip(".,;:!?…\"'()[]„“”‚‘’«»") for word in text.split()]


def has(words: list[str], term: str) -> bool:
    """Whether a word is the term, with any ending."""
    return any(word.lower().startswith(term.lower()) for word in words)


def draw_terms(pairs: list[Pair], links: list[str], most: int) -> dict[str, str]:
    """Source words and the one word that each is linked to."""
    found: dict[str, list[str | None]] = defaultdict(list)
    for pair, line in zip(pairs, links, strict=True):
        source, target = bare(pair.source), bare(pair.target)
        partners = [tuple(map(int, link.split("-"))) for link in line.split()]
        for index, word in enumerate(source):
            mine = [there for here, there in partners if here == index]
            is_single = len(mine) == 1 and sum(there == mine[0] for _, there in partners) == 1
            is_term = is_single and mine[0] > 0 and not target[mine[0]].islower()
            found[word].append(target[mine[0]] if is_term else None)
    terms = {
        source: targets[0]
        for source, targets in found.items()
        if len(source) >= 4 and targets[0] and len(set(targets)) == 1 and len(targets) <= most and len(targets[0]) >= 4
    }
    # One entry for a word in whatever case.
    return {source: target for source, target in terms.items() if source.islower() or source.lower() not in terms}


def occurrences(pairs: list[Pair], terms: dict[str, str]) -> list[tuple[int, str]]:
    """Sentence and target term wherever source and reference have a term."""
    keys = {source.lower(): target for source, target in terms.items()}
    return [
        (number, keys[word])
        for number, pair in enumerate(pairs)
        for word in dict.fromkeys(map(str.lower, bare(pair.source)))
        if word in keys and has(bare(pair.target), keys[word])
    ]


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs=2, metavar="FILE", help="test set: source, target")
    parser.add_argument("--train", nargs=2, metavar="FILE", help="more text, from which the aligner learns")
    parser.add_argument("--train-samples", type=int, default=30_000)
    parser.add_argument("--max-samples", type=int, default=500)
    parser.add_argument("--policies", nargs="+", default=["wait-3"])
    parser.add_argument("--strength", nargs="+", type=float, default=[6.0])
    parser.add_argument("--most", type=int, default=5, help="a rarer word of the test set is a term")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--numbers", action="store_true", help="copy numbers, and have no terms")
    args = parser.parse_args()
    model = AutoSimulModel.from_pretrained(args.model).eval()
    processor = SimulProcessor.from_pretrained(args.model)
    pairs = read_pairs(args.files, "source", "target")
    if args.numbers:
        numbers(model, processor, [pair for pair in pairs if numbers_in(pair.source)][: args.max_samples], args)
        return
    pairs = pairs[: args.max_samples]
    more = read_pairs(args.train, "source", "target")[: args.train_samples] if args.train else []
    sources, targets = zip(*[(pair.source.split(), pair.target.split()) for pair in [*pairs, *more]], strict=True)
    links = align_words(sources, targets)
    terms = draw_terms(pairs[::2], links[: len(pairs) : 2], args.most)
    print(f"{len(pairs)} sentences, {len(terms)} terms, such as {dict(list(terms.items())[:5])}")
    print(
        "| policy | sentences | strength | terms right | BLEU (95%) | minus without (95%) |\n|---|---|---|---|---|---|"
    )
    for name in args.policies:
        policy = policy_from_name(name)
        texts = {}
        for strength in (0.0, *args.strength):
            glossary = Glossary(terms, strength) if strength else None
            log = translate_corpus(
                model, processor, *zip(*pairs, strict=True), policy, args.batch_size, glossary=glossary
            )
            texts[strength] = [each.prediction for each in log]
            for start, half in enumerate(("terms' own", "others")):
                report(
                    name, half, strength, pairs[start::2], terms, *(texts[each][start::2] for each in (strength, 0.0))
                )


def numbers_in(text: str) -> list[str]:
    """Numbers that are copied; each once."""
    return list(dict.fromkeys(number for word in text.split() if (number := number_in(word))))


def numbers(model: Any, processor: Any, pairs: list[Pair], args: argparse.Namespace) -> None:
    """The table of numbers."""
    if not pairs:
        raise SystemExit("error: SOURCE must have sentences with a number that would be copied, and has none.")
    found = [(place, number) for place, pair in enumerate(pairs) for number in numbers_in(pair.source)]
    places = [
        (place, number) for place, number in found if times_written(number, pairs[place].target.casefold().split())
    ]
    references = [pair.target for pair in pairs]
    print(f"{len(pairs)} sentences with {len(found)} numbers, of which the references have {len(places)} too")
    print("| policy | strength | numbers right | BLEU (95%) | minus without (95%) |\n|---|---|---|---|---|")
    for name in args.policies:
        plain: list[str] = []
        for strength in (0.0, *args.strength):
            glossary = Glossary(strength=strength, copy_numbers=True) if strength else None
            log = translate_corpus(
                model, processor, *zip(*pairs, strict=True), policy_from_name(name), args.batch_size, glossary=glossary
            )
            texts = [each.prediction for each in log]
            plain = plain or texts
            right = [times_written(number, texts[place].casefold().split()) > 0 for place, number in places]
            print(f"| {name} | {cells(strength, right, texts, plain, references)} |")


def report(
    policy: str,
    half: str,
    strength: float,
    pairs: list[Pair],
    terms: dict[str, str],
    texts: list[str],
    plain: list[str],
) -> None:
    """A line of the table."""
    right = [has(bare(texts[number]), term) for number, term in occurrences(pairs, terms)]
    print(f"| {policy} | {half} | {cells(strength, right, texts, plain, [pair.target for pair in pairs])} |")


def cells(strength: float, right: list[bool], texts: list[str], plain: list[str], references: list[str]) -> str:
    """What both tables have of each strength."""
    share = f"{sum(right)} of {len(right)}" + (f", {100 * sum(right) / len(right):.0f}%" if right else "")
    score = quality(texts, references, names=["BLEU"])[0]
    difference, low, high = paired_difference(texts, plain, references)
    return f"{strength:g} | {share} | {score} | {difference:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
