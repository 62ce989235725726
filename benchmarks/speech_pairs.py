# SPDX-License-Identifier: Apache-2.0
"""Short sentences of common words for `examples/run_simul_speech.py`, from parallel text.

`python benchmarks/speech_pairs.py output/pairs --train_file train.en train.de --test_file test.en test.de`

Takes pairs whose source has at least 3 and at most `--most_words` words, all of them among the `--common` words that
the sources of the training pairs use most, each source once; and with training pairs none that the test has too. So a
small model hears each word often. What it learns says nothing about rare words and long sentences.
"""

import collections
import random
import re
from collections.abc import Iterable
from pathlib import Path

from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import Pair, read_pairs


def words_of(text: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation."""
    return re.findall(r"[\w']+", text.lower())


def chosen(pairs: Iterable[Pair], common: set[str], most_words: int) -> list[Pair]:
    """The short pairs of common words, each source once."""
    found: dict[str, Pair] = {}
    for pair in pairs:
        words = words_of(pair.source)
        if 3 <= len(words) <= most_words and common.issuperset(words):
            found.setdefault(" ".join(words), pair)
    return [*found.values()]


def write(folder: Path, part: str, pairs: list[Pair]) -> None:
    """The two text files of a part."""
    for side, texts in (("source", [pair.source for pair in pairs]), ("target", [pair.target for pair in pairs])):
        (folder / f"{part}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    print(f"written: {folder / part}.source and .target, {len(pairs):,} pairs")


def main() -> None:
    parser = CommandParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write")
    for part in ("train", "test"):
        parser.add_argument(f"--{part}-file", nargs=2, required=True, metavar="FILE", help="source, then target")
    parser.add_argument("--common", type=int, default=1000, help="words that may occur (1000)")
    parser.add_argument("--most-words", type=int, default=9, help="of a source (9)")
    parser.add_argument("--train", type=int, default=12000, help="training pairs at most (12000)")
    parser.add_argument("--test", type=int, default=400, help="test pairs at most (400)")
    args = parser.parse_args()
    train, test = (read_pairs(files, "source", "target") for files in (args.train_file, args.test_file))
    counts = collections.Counter(word for pair in train for word in words_of(pair.source))
    common = {word for word, _ in counts.most_common(args.common)}
    tests = chosen(test, common, args.most_words)
    said = {" ".join(words_of(pair.source)) for pair in test}
    trains = [pair for pair in chosen(train, common, args.most_words) if " ".join(words_of(pair.source)) not in said]
    print(f"short, of common words: {len(trains):,} training pairs, {len(tests):,} test pairs")
    random.Random(0).shuffle(trains)
    args.folder.mkdir(parents=True, exist_ok=True)
    write(args.folder, "train", trains[: args.train])
    write(args.folder, "test", tests[: args.test])


if __name__ == "__main__":
    main()
