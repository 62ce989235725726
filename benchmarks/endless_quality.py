# SPDX-License-Identifier: Apache-2.0
"""What cutting an endless stream costs in quality: one stream of all test sentences, cut where the caller says, where
punctuation says, or in windows. BLEU over blocks of 20 sentences: a word belongs to the block whose source had been
read when it was written.

Usage: benchmarks/endless_quality.py MODEL_FOLDER [SOURCE_FILE TARGET_FILE]
"""

import bisect
import sys
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from tqdm import tqdm

import common
from transformers_simul import AutoSimulModel, SimulProcessor, StreamEngine, WaitKPolicy
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation import quality
from transformers_simul.models.text import ends_sentence

BLOCK, K, SENTENCES = 20, 3, 400
CUTS: dict[str, dict[str, Any]] = {
    "the caller's sentence ends (sentence by sentence)": {"ends_sentence": lambda word: False},
    "punctuation": {"ends_sentence": ends_sentence},
    "punctuation, window of 40 words": {"ends_sentence": ends_sentence, "max_sentence_words": 40},
    "window of 40 words": {"ends_sentence": lambda word: False, "max_sentence_words": 40},
    "window of 20 words": {"ends_sentence": lambda word: False, "max_sentence_words": 20},
    "window of 10 words": {"ends_sentence": lambda word: False, "max_sentence_words": 10},
}


def translate(engine: StreamEngine, texts: Iterable[str | None], k: int, **cut: Any) -> list[tuple[str, int]]:
    """Words and delays of the whole stream; None in the texts is a sentence end that the caller knows."""
    stream = engine.open(WaitKPolicy(k), sentences=True, **cut)
    for text in texts:
        if text is None:
            stream.source.end_sentence()
        else:
            stream.source.put(f"{text} ")
        while engine.step():
            pass
    stream.source.end()
    while engine.step():
        pass
    return [(word.text, word.delay) for word in stream.words]


class Blocks:
    """Blocks of sentences: how many words of the source the first of them have, and their translations.

    Args:
        lengths (`Sequence[int]`): source words of each sentence.
        targets (`Sequence[str]`): its translation.
    """

    def __init__(self, lengths: Sequence[int], targets: Sequence[str]):
        starts = range(0, len(targets), BLOCK)
        self.ends = list(accumulate(sum(lengths[start : start + BLOCK]) for start in starts))
        self.references = [" ".join(targets[start : start + BLOCK]) for start in starts]

    def row(self, name: str, words: Sequence[tuple[str, int]]) -> str:
        """The table's line of a stream: BLEU of its words, each in the block whose source had been read by then."""
        written: list[list[str]] = [[] for _ in self.ends]
        for text, delay in words:
            written[bisect.bisect_left(self.ends, delay)].append(text)
        score = quality([" ".join(text) for text in written], self.references, names=["BLEU"])[0]
        return f"| {name} | {score} | {len(words)} |"


def main(folder: str, *files: str) -> None:
    model = AutoSimulModel.from_pretrained(folder).eval()
    processor = SimulProcessor.from_pretrained(folder)
    pairs = (read_pairs(list(files), "source", "target") if files else common.corpus()["test"])[:SENTENCES]
    engine = StreamEngine(model, processor, max_streams=1, max_tokens=1024)
    blocks = Blocks([len(pair.source.split()) for pair in pairs], [pair.target for pair in pairs])
    print(f"k = {K}, {len(pairs)} sentences, {blocks.ends[-1]} source words")
    print("| sentences end at | BLEU (95%) | words |\n|---|---|---|")
    for name, cut in CUTS.items():
        ends = [None] if name.startswith("the caller") else []
        texts = [text for pair in pairs for text in (pair.source, *ends)]
        print(blocks.row(name, translate(engine, tqdm(texts), K, **cut)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
