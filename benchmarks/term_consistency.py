# SPDX-License-Identifier: Apache-2.0
"""How often translations of documents keep to a term: whether a source word that a document repeats is translated as it
was the last time, endings aside.

A term is a source word of at least four letters that stands in at most a tenth of the documents, where the aligner
links it to a word of the reference of as many letters. Of its repeats a share is kept: translated as the last time. A
translation that writes the same word everywhere keeps many, so another share counts only words that a reference has for
the term too, anywhere in the test set. The references' own line shows how much can be asked for.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy

from glossary import bare
from transformers_simul.corpora import Pair
from transformers_simul.training.alignment import align_words

_LETTERS = 4
_REFERENCES = "references"

# Of each sentence: its source words, and what each is translated by.
Renderings = list[dict[str, set[str]]]


def plain(word: str) -> str:
    """In lower case, without accents: "Häuser" and "Haus" begin alike."""
    return "".join(sign for sign in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(sign))


def alike(first: str, second: str) -> bool:
    """Whether two words are the same, but for up to three letters at their ends."""
    stem = max(_LETTERS, len(first) - 3, len(second) - 3)
    return first[:stem] == second[:stem]


def has_letters(word: str) -> bool:
    return sum(map(str.isalpha, word)) >= _LETTERS


def renderings(pairs: Sequence[Pair], links: Sequence[str]) -> Renderings:
    """What links say, of words that have letters enough."""
    found: Renderings = []
    for pair, line in zip(pairs, links, strict=True):
        source, target = [[plain(word) for word in bare(text)] for text in pair]
        words: dict[str, set[str]] = {word: set() for word in source if has_letters(word)}
        for link in line.split():
            here, there = map(int, link.split("-"))
            if source[here] in words and has_letters(target[there]):
                words[source[here]].add(target[there])
        found.append(words)
    return found


def align_outputs(
    sources: Sequence[str], outputs: Mapping[tuple[str, str], Sequence[str]], more: Sequence[Pair]
) -> dict[tuple[str, str], Renderings]:
    """Renderings of each output, by one aligner that learns from all of them and from more text."""
    pairs = {name: [Pair(*pair) for pair in zip(sources, texts, strict=True)] for name, texts in outputs.items()}
    # A sentence without a translation has no links.
    known = list(dict.fromkeys(pair for each in (*pairs.values(), more) for pair in each if pair.target.strip()))
    both = zip(*[(pair.source.split(), pair.target.split()) for pair in known], strict=True)
    links = dict(zip(known, align_words(*both), strict=True))
    return {name: renderings(each, [links.get(pair, "") for pair in each]) for name, each in pairs.items()}


class Repeats:
    """Where a document repeats a term.

    Args:
        references: what words are translated by in the references.
        document: sentences of a document.
        reach: sentences after the term's last one within which a repeat counts.
    """

    def __init__(self, references: Renderings, document: int, reach: int):
        self.documents = [number // document for number in range(len(references))]
        self.known: dict[str, set[str]] = defaultdict(set)
        places: dict[str, list[int]] = defaultdict(list)
        for number, words in enumerate(references):
            for word, found in words.items():
                self.known[word] |= found
                places[word].append(number)
        most = max(1, len(set(self.documents)) // 10)
        self.places = [
            (word, before, number)
            for word, numbers in places.items()
            if len({self.documents[number] for number in numbers}) <= most
            for before, number in pairwise(number for number in numbers if references[number][word])
            if self.documents[before] == self.documents[number] and number - before <= reach
        ]

    def counts(self, found: Renderings) -> numpy.ndarray:
        """Of each document: repeats, those translated as the last time, and of these those that a reference has."""
        counts = numpy.zeros((max(self.documents) + 1, 3), dtype=int)
        for word, before, number in self.places:
            last, now = found[before].get(word, set()), found[number].get(word, set())
            kept = {new for new in now if any(alike(new, old) for old in last)}
            is_right = any(alike(new, right) for new in kept for right in self.known[word])
            counts[self.documents[number]] += 1, bool(kept), is_right
        return counts


def shares(counts: numpy.ndarray) -> numpy.ndarray:
    """Both, in percent, of counts summed over their last axis but one."""
    repeats, *kept = numpy.moveaxis(counts.sum(-2), -1, 0)
    return 100 * numpy.array(kept) / numpy.maximum(repeats, 1)


def spread(difference: float, low: float, high: float) -> str:
    return f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"


def share_differences(better: numpy.ndarray, worse: numpy.ndarray, resamples: int = 1000) -> list[str]:
    """Of each share: one's minus the other's, and its 95% interval by resampling documents."""
    draws = numpy.random.default_rng(0).integers(len(better), size=(resamples, len(better)))
    low, high = numpy.percentile(shares(better[draws]) - shares(worse[draws]), [2.5, 97.5], axis=1)
    return [spread(*each) for each in zip(shares(better) - shares(worse), low, high, strict=True)]


def table(
    pairs: Sequence[Pair],
    outputs: Mapping[tuple[str, str], Sequence[str]],
    baselines: Mapping[str, str],
    document: int,
    reaches: Sequence[int],
    more: Sequence[Pair],
) -> str:
    """Lines of each output, for repeats within each reach.

    Args:
        pairs: source and reference of each sentence.
        outputs: translations by policy and name.
        baselines: names of outputs with which those after them are compared, and what the head of the table calls them.
        document, reaches: as in [`Repeats`].
        more: text from which the aligner learns too.
    """
    sources, references = zip(*pairs, strict=True)
    found = align_outputs(sources, {(_REFERENCES, ""): references, **outputs}, more)
    minus = [f"minus {each} (95%)" for each in baselines.values()]
    heads = ["policy", "sentences in view", "kept, %", *minus, "kept and right, %", *minus]
    lines = []
    for reach in reaches:
        repeats = Repeats(found[_REFERENCES, ""], document, reach)
        terms = [*dict.fromkeys(word for word, *_ in repeats.places)]
        count = f"{len(repeats.places)} repeats at most {reach} sentences after the last, of {len(terms)} terms"
        lines += ["", f"{count}, such as {', '.join(terms[:5])}", ""]
        lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        counts: dict[tuple[str, str], numpy.ndarray] = {}
        for (policy, name), each in found.items():
            own = repeats.counts(each)
            compared = [counts.get((policy, other)) for other in baselines]
            differences = [["", ""] if other is None else share_differences(own, other) for other in compared]
            cells = [policy, name]
            for number, share in enumerate(shares(own)):
                cells += [f"{share:.1f}", *(each[number] for each in differences)]
            lines.append(f"| {' | '.join(cells)} |")
            counts[policy, name] = own
    return "\n".join(lines)
