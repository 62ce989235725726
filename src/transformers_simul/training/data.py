# SPDX-License-Identifier: Apache-2.0
"""Sentence pairs of a corpus, split and encoded."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset, load_dataset

from ..corpora import CORPORA, Pair, check_corpus_name, read_pairs
from ..text_files import read_lines
from .arguments import DataArguments
from .data_collator import SimulMaskDataCollator
from .paths import parse_alignment

SPLITS = ("train", "validation", "test")


def load_pairs(args: DataArguments, needed: Iterable[str] = ()) -> dict[str, list[Pair]]:
    """Load training, validation and test pairs; every file is checked before anything is trained.

    Args:
        args (`DataArguments`): a data set's name, or files.
        needed (`Iterable[str]`): splits that must be there; the others may be empty.

    Raises:
        ValueError: if one of these has no pair, a file is wrong, or a test pair is blank on one side.
    """
    codes = (args.source_lang, args.target_lang)
    if args.dataset_name in CORPORA:
        splits = split_pairs(CORPORA[args.dataset_name](*codes))
    elif args.dataset_name:
        check_corpus_name(args.dataset_name)
        config = args.dataset_config_name and _with_languages(args.dataset_config_name, args)
        data = load_dataset(args.dataset_name, config, revision=args.dataset_revision)
        splits = {name: [Pair(*(row["translation"][code] for code in codes)) for row in data[name]] for name in data}
    else:
        files = {name: [_with_languages(file, args) for file in getattr(args, f"{name}_file")] for name in SPLITS}
        splits = {name: read_pairs(names, *codes) for name, names in files.items() if names}
    for name in needed:
        if not splits.get(name):
            raise ValueError(f"{name}_file or dataset_name must give {name} pairs: the flags given need them.")
    splits = {name: splits.get(name, []) for name in SPLITS}
    train, test = splits["train"][: args.max_train_samples], splits["test"][: args.max_predict_samples]
    # Files were checked as they were read.
    for number, pair in enumerate(test, start=1):
        if not all(text.strip() for text in pair):
            raise ValueError(f"dataset_name must give text on both sides, but test pair {number} is {tuple(pair)}.")
    return splits | {
        "train": concatenate(train, args.concatenate) if args.concatenate != 1 else train,
        "test": test,
    }


def load_languages(
    args: DataArguments, needed: Iterable[str] = ()
) -> tuple[dict[str, list[Pair]], dict[str, list[str]]]:
    """The pairs of all target languages, one language after the other, and the target language of each pair.

    Args:
        args, needed: as in [`load_pairs`]; limits of samples hold for each language.

    Raises:
        ValueError: as there.
    """
    splits: dict[str, list[Pair]] = {name: [] for name in SPLITS}
    languages: dict[str, list[str]] = {name: [] for name in SPLITS}
    for language in args.target_langs or [args.target_lang]:
        for name, pairs in load_pairs(replace(args, target_lang=language), needed).items():
            splits[name] += pairs
            languages[name] += [language] * len(pairs)
    return splits, languages


def _with_languages(name: str, args: DataArguments) -> str:
    return name.replace("{source_lang}", args.source_lang).replace("{target_lang}", args.target_lang)


def split_pairs(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Split a corpus into 600 test and 150 validation pairs, always the same ones, and training pairs."""
    drawn = list(pairs)
    random.Random(0).shuffle(drawn)
    return {"test": drawn[:600], "validation": drawn[600:750], "train": drawn[750:]}


def concatenate(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Join runs of one to `most` consecutive pairs, with equal probability, so that a model sees long rows too.

    Raises:
        ValueError: if `most` is below 1.

    Example:

    ```python
    >>> from transformers_simul.corpora import Pair
    >>> from transformers_simul.training.data import concatenate
    >>> joined = concatenate([Pair("a", "ein"), Pair("dog", "Hund"), Pair("runs", "rennt")], most=3)
    >>> " ".join(pair.source for pair in joined)
    'a dog runs'

    ```
    """
    if most < 1:
        raise ValueError(f"concatenate must be at least 1, got {most}.")
    draw, joined, start = random.Random(0), [], 0
    while start < len(pairs):
        run = pairs[start : start + draw.randint(1, most)]
        joined.append(Pair(" ".join(pair.source for pair in run), " ".join(pair.target for pair in run)))
        start += len(run)
    return joined


def read_alignments(path: str, pairs: int) -> list[str]:
    """Read the word alignments of so many pairs, one line each, as `transformers-simul align` writes them.

    Raises:
        ValueError: if there are more or fewer lines, or a line holds anything but links; with the line.
    """
    lines = read_lines(path)
    if len(lines) != pairs:
        raise ValueError(f"alignments must have a line for each of the {pairs} pairs, got {len(lines)} in {path!r}.")
    for number, line in enumerate(lines, start=1):
        try:
            parse_alignment(line)
        except ValueError as error:
            raise ValueError(f"line {number} of {path!r}: {error}") from error
    return lines


def encode(
    processor: Any,
    pairs: Iterable[Pair],
    alignments: Sequence[str] | None = None,
    target_langs: Sequence[str] | None = None,
) -> Dataset:
    """Make a data set with the columns that [`SimulMaskDataCollator`] reads, and `length` in tokens to group by.

    Args:
        processor (`SimulProcessor`): encodes the pairs.
        pairs (`Iterable[Pair]`): at least one.
        alignments (`Sequence[str]`, *optional*): the pairs' alignments in Pharaoh's format, for [`AlignedPolicy`].
        target_langs (`Sequence[str]`, *optional*): the pairs' target languages, if a model learns several.

    Raises:
        ValueError: for a pair that [`SimulProcessor.encode_pair`] refuses.
    """
    rows = []
    for pair in pairs:
        row = processor.encode_pair(*pair)
        rows.append(row | {"length": sum(map(len, row["source_ids"])) + sum(map(len, row["target_ids"]))})
    if alignments is not None:
        rows = [row | {"alignment": links} for row, links in zip(rows, alignments, strict=True)]
    if target_langs is not None:
        rows = [row | {"target_lang": language} for row, language in zip(rows, target_langs, strict=True)]
    return Dataset.from_list(rows)


def drop_long_pairs(dataset: Dataset, collator: SimulMaskDataCollator, split: str = "training") -> tuple[Dataset, int]:
    """Leave out the pairs that the collator might find too long, before a training begins: a batch of nothing else, as
    batches of similar lengths are, would end it.

    A long sentence in a run of [`join_documents`] is only counted, since the sentences after it must not see past it;
    the collator leaves it out.

    Args:
        dataset (`Dataset`): as the collator takes it.
        collator (`SimulMaskDataCollator`): with `too_long="drop"`, or without `max_length`, which leaves out nothing.
        split (`str`, *optional*): names the pairs in the error.

    Returns:
        `tuple[Dataset, int]`: what is left, and how many pairs are too long.

    Raises:
        ValueError: if no pair is left, or for a data set that is read as it comes.

    Example:

    ```python
    >>> from datasets import Dataset
    >>> from transformers_simul import SimulMaskDataCollator, WaitKPolicy
    >>> from transformers_simul.training import drop_long_pairs
    >>> pairs = Dataset.from_list([{"source": "a dog " * n, "target": "two children"} for n in (1, 90, 2)])
    >>> collator = SimulMaskDataCollator(processor, WaitKPolicy(1), max_length=60, too_long="drop")
    >>> kept, left_out = drop_long_pairs(pairs, collator)
    >>> len(kept), left_out
    (2, 1)

    ```
    """
    if collator.max_length is None or collator.too_long == "raise":
        return dataset, 0
    if not isinstance(dataset, Dataset):
        raise ValueError(
            f"dataset must be a datasets.Dataset, whose pairs can be counted, got {type(dataset).__name__}: filter it "
            "with collator.longest_row(example) <= max_length."
        )
    kept, lengths = [], []
    for index, example in enumerate(dataset):
        lengths_here = [collator.longest_row(each) for each in example.get("sentences") or [example]]
        lengths += lengths_here
        if min(lengths_here) <= collator.max_length:
            kept.append(index)
    if not kept:
        raise ValueError(
            f"max_length={collator.max_length} leaves no pair of {len(lengths):,} for {split}: the shortest takes "
            f"{min(lengths):,} tokens."
        )
    left_out = sum(length > collator.max_length for length in lengths)
    return dataset if len(kept) == len(dataset) else dataset.select(kept), left_out


__all__ = [
    "SPLITS",
    "concatenate",
    "drop_long_pairs",
    "encode",
    "load_languages",
    "load_pairs",
    "read_alignments",
    "split_pairs",
]
