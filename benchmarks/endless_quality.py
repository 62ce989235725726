# SPDX-License-Identifier: Apache-2.0
"""What cutting an endless stream costs in quality: one stream of all test sentences, cut where the caller says, where
punctuation says, or in windows. BLEU over blocks of 20 sentences: a word belongs to the block whose source had been
read when it was written.

Usage: benchmarks/endless_quality.py MODEL_FOLDER [SOURCE_FILE TARGET_FILE]
"""

import bisect
import sys
from itertools import accumulate

from tqdm import tqdm

import common
from transformers_simul import AutoSimulModel, SimulProcessor, StreamEngine, WaitKPolicy
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation import quality
from transformers_simul.models.text import ends_sentence

BLOCK, K, SENTENCES = 20, 3, 400
CUTS = {
    "the caller's sentence ends (sentence by sentence)": {"ends_sentence": lambda word: False},
    "punctuation": {"ends_sentence": ends_sentence},
    "punctuation, window of 40 words": {"ends_sentence": ends_sentence, "max_sentence_words": 40},
    "window of 40 words": {"ends_sentence": lambda word: False, "max_sentence_words": 40},
    "window of 20 words": {"ends_sentence": lambda word: False, "max_sentence_words": 20},
    "window of 10 words": {"ends_sentence": lambda word: False, "max_sentence_words": 10},
}


def translate(engine: StreamEngine, pairs: list, said: bool, cut: dict) -> list[tuple[str, int]]:
    """Words and delays of the whole stream; the caller says where sentences end, or not."""
    stream = engine.open(WaitKPolicy(K), sentences=True, **cut)
    for pair in tqdm(pairs):
        stream.source.put(f"{pair.source} ")
        if said:
            stream.source.end_sentence()
        while engine.step():
            pass
    stream.source.end()
    while engine.step():
        pass
    return [(word.text, word.delay) for word in stream.words]


def main(folder: str, *files: str) -> None:
    model = AutoSimulModel.from_pretrained(folder).eval()
    processor = SimulProcessor.from_pretrained(folder)
    pairs = (read_pairs(list(files), "source", "target") if files else common.corpus()["test"])[:SENTENCES]
    engine = StreamEngine(model, processor, max_streams=1, max_tokens=1024)
    blocks = [pairs[start : start + BLOCK] for start in range(0, len(pairs), BLOCK)]
    ends = list(accumulate(sum(len(pair.source.split()) for pair in block) for block in blocks))
    references = [" ".join(pair.target for pair in block) for block in blocks]
    print(f"k = {K}, {len(pairs)} sentences, {ends[-1]} source words")
    print("| sentences end at | BLEU (95%) | words |\n|---|---|---|")
    for name, cut in CUTS.items():
        texts: list[list[str]] = [[] for _ in blocks]
        words = translate(engine, pairs, name.startswith("the caller"), cut)
        for text, delay in words:
            texts[bisect.bisect_left(ends, delay)].append(text)
        score = quality([" ".join(text) for text in texts], references, names=["BLEU"])[0]
        print(f"| {name} | {score} | {len(words)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
