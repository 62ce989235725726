# SPDX-License-Identifier: Apache-2.0
"""Write what the shipped model trains on: train.en, train.de, dev.en, dev.de.

Tatoeba's training pairs (CC-BY 2.0 FR), LibreOffice's help (MPL-2.0) and Home Assistant's text (Apache-2.0). No pair
has an English sentence of Tatoeba's test set or of everyday.en. A tenth of the rows are two pairs, one after the other,
so that text of several sentences is translated to its end.

  python examples/shipped_model/training_text.py TATOEBA FOLDER

TATOEBA holds train.en-de.en.gz, train.en-de.de.gz, test.en-de.en.gz; lines of .en and .de belong together.
"""

import gzip
import random
from pathlib import Path

from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import Pair, load_home_assistant, load_libreoffice, read_pairs
from transformers_simul.text_files import read_lines, write_text

EVERYDAY = Path(__file__).parent.parent / "everyday.en"


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("tatoeba", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    tatoeba = [
        Pair(*pair)
        for pair in zip(*(read_gzip(args.tatoeba / f"train.en-de.{code}.gz") for code in ("en", "de")), strict=True)
    ]
    kept_apart = {plain(line) for line in read_gzip(args.tatoeba / "test.en-de.en.gz") + read_lines(EVERYDAY)}
    draw = random.Random(0)
    pairs = sorted({pair for pair in tatoeba if plain(pair.source) not in kept_apart and all(pair)})
    draw.shuffle(pairs)
    # Other translations of a validation sentence are no training pairs.
    dev_sources = {plain(pair.source) for pair in pairs[:500]}
    dev, train = pairs[:500], [pair for pair in pairs[500:] if plain(pair.source) not in dev_sources]
    for load in (load_libreoffice, load_home_assistant):
        train += [pair for pair in load("en", "de") if plain(pair.source) not in kept_apart | dev_sources]
    some = draw.sample(train, len(train) // 5)
    for first, second in zip(some[::2], some[1::2], strict=False):
        train.append(Pair(f"{first.source} {second.source}", f"{first.target} {second.target}"))
    draw.shuffle(train)
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, chosen in {"train": train, "dev": dev}.items():
        for code, lines in zip(("en", "de"), zip(*chosen, strict=True), strict=True):
            write_text(args.folder / f"{name}.{code}", "".join(f"{line}\n" for line in lines))
        read_pairs([str(args.folder / f"{name}.{code}") for code in ("en", "de")], "en", "de")
        print(f"{name}: {len(chosen)} pairs", flush=True)


def read_gzip(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [" ".join(line.split()) for line in file]


def plain(text: str) -> str:
    """A sentence without case and punctuation: near copies are the same."""
    return " ".join("".join(sign if sign.isalnum() else " " for sign in text.lower()).split())


if __name__ == "__main__":
    main()
