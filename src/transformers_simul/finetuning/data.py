# SPDX-License-Identifier: Apache-2.0
"""Sentence pairs of a corpus, split and encoded."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset, load_dataset

from ..corpora import Pair, load_home_assistant, read_pairs
from .arguments import DataArguments

SPLITS = ("train", "validation", "test")


def load_pairs(args: DataArguments, needed: Iterable[str] = ()) -> dict[str, list[Pair]]:
    """Training, validation and test pairs; every file is checked before anything is trained.

    Args:
        args (`DataArguments`): a data set's name, or files.
        needed (`Iterable[str]`): splits that must be there; the others may be empty.

    Raises:
        ValueError: if one of these has no pair, or a file is wrong.
    """
    codes = (args.source_lang, args.target_lang)
    if args.dataset_name == "home_assistant":
        splits = split_pairs(load_home_assistant(*codes))
    elif args.dataset_name:
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
    return splits | {
        "train": splits["train"][: args.max_train_samples],
        "test": splits["test"][: args.max_predict_samples],
    }


def _with_languages(name: str, args: DataArguments) -> str:
    return name.replace("{source_lang}", args.source_lang).replace("{target_lang}", args.target_lang)


def split_pairs(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """600 test and 150 validation pairs of a corpus without splits, drawn once and for all; the rest trains."""
    drawn = list(pairs)
    random.Random(0).shuffle(drawn)
    return {"test": drawn[:600], "validation": drawn[600:750], "train": drawn[750:]}


def encode(processor: Any, pairs: Iterable[Pair]) -> Dataset:
    """A data set with the columns that [`SimulMaskDataCollator`] reads, and `length` in tokens to group by."""
    rows = []
    for pair in pairs:
        row = processor.encode_pair(*pair)
        rows.append(row | {"length": sum(map(len, row["source_ids"])) + sum(map(len, row["target_ids"]))})
    return Dataset.from_list(rows)


__all__ = ["SPLITS", "encode", "load_pairs", "split_pairs"]
