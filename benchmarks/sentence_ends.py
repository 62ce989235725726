# SPDX-License-Identifier: Apache-2.0
"""Where sentences end in text without punctuation and capitals, as recognisers give it: one stream of all test
sentences, stripped of both, cut in windows, by a segmenter that was learnt from a training text, or as the truth says.

First how well the segmenter finds ends, then BLEU over blocks of 20 sentences: a word belongs to the block whose source
had been read when it was written. "Written anew" gives sentences a capital and a full stop first, as `listen` does; its
words come one word later.

    python benchmarks/sentence_ends.py output/mine test.en test.de train.en --max_samples 400
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from endless_quality import Blocks, translate
from transformers_simul import AutoSimulModel, SimulProcessor, StreamEngine
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import read_pairs
from transformers_simul.speech.recogniser import SpokenWord
from transformers_simul.speech.writing import SentenceWriter
from transformers_simul.streaming.segmenter import Segmenter, plain_words
from transformers_simul.text_files import read_lines

LONGEST = 60
Ends = Callable[[Sequence[str], str], bool]


def ends_found(sentences: list[list[str]], ends_between: Ends) -> tuple[set[int], set[int]]:
    """Where the truth and the segmenter end sentences, in words from the start."""
    truth, found, begun = set(accumulate(map(len, sentences))), set(), list[str]()
    for place, word in enumerate(word for sentence in sentences for word in sentence):
        if begun and (len(begun) == LONGEST or ends_between(begun, word)):
            found.add(place)
            begun = []
        begun.append(word)
    return truth - {max(truth)}, found


def written_anew(
    sentences: list[list[str]], max_words: int = LONGEST, ends_between: Ends | None = None
) -> Iterator[str]:
    """Words with capitals and full stops; at true ends if neither a window nor a segmenter says where."""
    writer = SentenceWriter(max_words=max_words, ends_between=ends_between)
    pause = [SpokenWord("", 0.0, 0.0)] if ends_between is None and max_words == LONGEST else []
    for sentence in sentences:
        words = [*(SpokenWord(word, 0.0, 0.0) for word in sentence), *pause]
        yield from (word.text for word in writer.write(words) if word.text)
    yield from (word.text for word in writer.write([], is_last=True))


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs=2, metavar="FILE", help="test set: source, target")
    parser.add_argument("train", help="source side of a training text, for the segmenter")
    parser.add_argument("--train-samples", type=int)
    parser.add_argument("--max-samples", type=int, default=400)
    parser.add_argument("--k", type=int, default=3)
    args = parser.parse_args()
    model = AutoSimulModel.from_pretrained(args.model).eval()
    engine = StreamEngine(model, SimulProcessor.from_pretrained(args.model), max_streams=1, max_tokens=1024)
    segmenter = Segmenter.train(read_lines(args.train)[: args.train_samples])
    pairs = [pair for pair in read_pairs(args.files, "source", "target") if plain_words(pair.source)]
    pairs = pairs[: args.max_samples]
    sentences = [plain_words(pair.source) for pair in pairs]
    truth, found = ends_found(sentences, segmenter)
    right = len(truth & found)
    print(
        f"{len(pairs)} sentences; segmenter: {len(found)} ends, precision {right / max(1, len(found)):.2f}, "
        f"recall {right / len(truth):.2f}"
    )
    blocks = Blocks([*map(len, sentences)], [pair.target for pair in pairs])
    plain = [" ".join(sentence) for sentence in sentences]
    systems = {
        "truth": ([text for each in plain for text in (each, None)], {}),
        "truth, written anew": (written_anew(sentences), {}),
        "window of 10 words": (plain, {"max_sentence_words": 10}),
        "window of 10 words, written anew": (written_anew(sentences, max_words=10), {}),
        "segmenter": (plain, {"ends_between": segmenter, "max_sentence_words": LONGEST}),
        "segmenter, written anew": (written_anew(sentences, ends_between=segmenter), {}),
    }
    print(f"| sentences end at, k = {args.k} | BLEU (95%) | words |\n|---|---|---|")
    for name, (texts, cut) in systems.items():
        print(blocks.row(name, translate(engine, texts, args.k, **cut)), flush=True)


if __name__ == "__main__":
    main()
