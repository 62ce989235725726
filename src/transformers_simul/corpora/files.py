# SPDX-License-Identifier: Apache-2.0
"""Parallel text from files, checked before any work is done on it."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..text_files import json_rows, read_lines


class Pair(NamedTuple):
    """A source sentence and its translation."""

    source: str
    target: str


def join_sentences(sources: Mapping[Any, str], targets: Mapping[Any, str], markup: re.Pattern) -> list[Pair]:
    """Return pairs of the texts that two languages have under one key: 4 to 50 words a side, each source once.

    Args:
        sources, targets (`Mapping[Any, str]`): texts by key.
        markup (`re.Pattern`): what no sentence holds.

    Example:

    ```python
    >>> import re
    >>> from transformers_simul.corpora.files import join_sentences
    >>> texts = {"a": "Turn the light on", "b": "Too short", "c": "Set {name} to this"}
    >>> join_sentences(texts, {key: text.upper() for key, text in texts.items()}, re.compile("[{}]"))
    [Pair(source='Turn the light on', target='TURN THE LIGHT ON')]

    ```
    """
    pairs: dict[str, str] = {}
    for key, source in sources.items():
        target = targets.get(key, "")
        both = (source, target)
        if source != target and all(4 <= len(text.split()) <= 50 and not markup.search(text) for text in both):
            pairs.setdefault(source, target)
    return [Pair(*pair) for pair in pairs.items()]


def read_pairs(files: str | Sequence[str], source_column: str, target_column: str) -> list[Pair]:
    """Read sentence pairs.

    Args:
        files (`str` or `Sequence[str]`): one `.jsonl`, `.json` (lines), `.csv`, `.tsv` or `.parquet` file, or two plain
            text files with one sentence a line, source first; `.gz` is undone.
        source_column, target_column (`str`): column names; where neither is there, `source` and `target`. A column
            `translation` that holds both is understood too. Plain text files have none.

    Raises:
        ValueError: for a missing or empty file, another format, text that is not UTF-8, missing columns, an empty
            sentence, or files of different line counts; with the file and the line.

    Example:

    ```python
    >>> import pathlib, tempfile
    >>> from transformers_simul.corpora import read_pairs
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "pairs.tsv"
    >>> _ = path.write_text("en\\tde\\nA dog\\tEin Hund\\n", encoding="utf-8")
    >>> read_pairs(str(path), "en", "de")
    [Pair(source='A dog', target='Ein Hund')]

    ```
    """
    paths = [Path(file) for file in ([files] if isinstance(files, str) else files)]
    if len(paths) not in (1, 2):
        raise ValueError(f"files must be one table or two text files, got {len(paths)}.")
    for path in paths:
        if not path.is_file():
            raise ValueError(f"file {str(path)!r} does not exist.")
    pairs = _read_two(*paths) if len(paths) == 2 else _read_table(paths[0], source_column, target_column)
    if not pairs:
        raise ValueError(f"file {str(paths[0])!r} holds no sentence pair.")
    for number, pair in enumerate(pairs, start=1):
        for side, text in zip(("source", "target"), pair, strict=True):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"{side} of pair {number} in {str(paths[0])!r} must hold at least one word, got {text!r}: "
                    "remove the pair from the data."
                )
    return pairs


def _read_two(source: Path, target: Path) -> list[Pair]:
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        raise ValueError(
            f"files must have equally many lines: {str(source)!r} has {len(sources)}, {str(target)!r} {len(targets)}."
        )
    return [Pair(*pair) for pair in zip(sources, targets, strict=True)]


def _read_table(path: Path, source_column: str, target_column: str) -> list[Pair]:
    readers: dict[str, Callable[[Path], Iterator[dict]]] = {
        ".jsonl": _json_rows,
        ".json": _json_rows,
        ".csv": _csv_rows,
        ".tsv": lambda path: _csv_rows(path, delimiter="\t", quoting=csv.QUOTE_NONE),
        ".parquet": _parquet_rows,
    }
    suffix = [part for part in path.suffixes if part != ".gz"][-1:] or [""]
    if suffix[0] not in readers:
        raise ValueError(f"file {str(path)!r} must end in one of {sorted(readers)}, or be one of two text files.")
    pairs = []
    for number, row in enumerate(readers[suffix[0]](path), start=1):
        row = row["translation"] if isinstance(row.get("translation"), dict) else row
        columns = source_column, target_column
        if not row.keys() & {*columns} and row.keys() >= {*Pair._fields}:
            columns = Pair._fields
        missing = [column for column in columns if column not in row]
        if missing:
            raise ValueError(
                f"row {number} of {str(path)!r} must have column {missing[0]!r}, got {sorted(map(str, row))}."
            )
        pairs.append(Pair(*(row[column] for column in columns)))
    return pairs


def _json_rows(path: Path) -> Iterator[dict]:
    return (row for _, row in json_rows(path))


def _csv_rows(path: Path, **dialect: Any) -> Iterator[dict]:
    reader = csv.DictReader(read_lines(path, keep_ends=True), **dialect)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"file {str(path)!r} must be a table, but line {reader.line_num + 1} is not: {error}."
            ) from error
        if row is None:
            return
        yield row


def _parquet_rows(path: Path) -> Iterator[dict]:
    # Here, not above: it takes longer to import than all the other readers together.
    import pyarrow
    import pyarrow.parquet

    try:
        yield from pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"file {str(path)!r} must be a whole Parquet file: {error}.") from error


__all__ = ["Pair", "join_sentences", "read_pairs"]
