# SPDX-License-Identifier: Apache-2.0
"""The steps from training pairs to a batch: a pair's ids, its random draws, several pairs in a row, rows in a table.

A row is what [`training_row`] makes: a dictionary of lists that are as long as the row.
"""

import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..models.processing import SimulProcessor

Row = dict[str, list]

_PADDING = {"labels": -100, "pair_ids": 0, "in_target": False, "offsets": 0, "visible_source": 1, "peeks": 0}
_CONTEXT_PADDING = {"places": -1, "context_starts": 0}
_DTYPES = {"input_ids": torch.long, "labels": torch.long, "in_target": torch.bool, "peeks": torch.int8}


def pair_ids_of(example: Mapping[str, Any], processor: SimulProcessor) -> tuple[list[list[int]], list[list[int]]]:
    """Return the ids of each source word and of each target word of an example.

    Args:
        example (`Mapping`): with the texts `source` and `target`, or `source_ids` and `target_ids` as
            [`SimulProcessor.encode_pair`] makes them.
        processor (`SimulProcessor`): encodes texts.

    Raises:
        ValueError: for an example without these columns, or a pair that cannot be encoded.

    Example:

    ```python
    >>> from transformers_simul.training.rows import pair_ids_of
    >>> source, target = pair_ids_of({"source": "a dog", "target": "two children"}, processor)
    >>> len(source), processor.text(target)
    (2, 'two children')

    ```
    """
    if "source_ids" in example and "target_ids" in example:
        return example["source_ids"], example["target_ids"]
    if "source" in example and "target" in example:
        pair = processor.encode_pair(example["source"], example["target"])
        return pair["source_ids"], pair["target_ids"]
    raise ValueError(
        "SimulMaskDataCollator needs the columns source and target, or source_ids and target_ids, got "
        f"{sorted(example)}: the Trainer drops columns that forward() does not name, so pass "
        "TrainingArguments(remove_unused_columns=False), and rename the dataset's columns if they differ."
    )


def example_draw(seed: int, epoch: int, source: list[list[int]], target: list[list[int]]) -> random.Random:
    """Return the random numbers of an example in an epoch: the same wherever it stands in the data, and in a resumed
    training. The ids of its words identify the example.

    Example:

    ```python
    >>> from transformers_simul.training.rows import example_draw
    >>> [example_draw(0, epoch, [[5]], [[6]]).randint(1, 9) for epoch in (0, 1, 0)]
    [2, 6, 2]

    ```
    """
    return random.Random(f"{seed}:{epoch}:{zlib.crc32(repr((source, target)).encode())}")


def pack_rows(rows: Sequence[Row], max_length: int) -> list[Row]:
    """Put several pairs into one row, numbered by `pair_ids` so that no pair attends to another: the longest first,
    each into the first row that has room for it. No row may be longer than `max_length` tokens.

    Example:

    ```python
    >>> from transformers_simul.training.rows import pack_rows
    >>> rows = [{"input_ids": [7] * size, "pair_ids": [1] * size} for size in (2, 3, 1)]
    >>> [row["pair_ids"] for row in pack_rows(rows, max_length=4)]
    [[1, 1, 1, 2], [1, 1]]

    ```
    """
    packed: list[Row] = []
    for row in sorted(rows, key=lambda row: -len(row["input_ids"])):
        room = max_length - len(row["input_ids"])
        home = next((each for each in packed if len(each["input_ids"]) <= room), None)
        if home is None:
            packed.append({name: list(values) for name, values in row.items()})
            continue
        append_row(home, row)
    return packed


def append_row(row: Row, other: Row) -> None:
    """Append another row to a row, in place; its pairs are numbered on, so that no pair attends to another.

    Example:

    ```python
    >>> from transformers_simul.models.schedule import training_row
    >>> from transformers_simul.training.rows import append_row
    >>> row = training_row([], [[2]], [4], [], 0, delays=[1])
    >>> append_row(row, training_row([], [[3]], [4], [], 0, delays=[1]))
    >>> row["input_ids"], row["pair_ids"]
    ([2, 4, 0, 3, 4, 0], [1, 1, 1, 2, 2, 2])

    ```
    """
    last = max(row["pair_ids"])
    used = max(row["places"]) + 1 if "places" in row else 0
    for name, values in other.items():
        if name == "pair_ids":
            values = [last + number for number in values]
        elif name in _CONTEXT_PADDING:
            # What nobody finds stays so.
            values = [used + place if place >= 0 else place for place in values]
        row[name] += values


def join_sentences(sentences: Sequence[Row], context_sentences: int) -> Row:
    """Join the rows of consecutive sentences to one in which each sentence sees those right before it: their heads,
    sources, tails and targets, but neither their EOS nor their peek rows, which no decoder keeps.

    Sentences are pairs of the row. Within its own pair a query sees what it saw alone, at ranks that go on after the
    context. Later pairs find a token at its place, counted over all sentences; what a query sees of earlier pairs
    begins at a place, from which their ranks count. So ranks do not depend on how much came before the context.

    Args:
        sentences (`Sequence[dict[str, list]]`): rows of [`training_row`], in order; prompts that [`append_row`] put
            after one see what it sees.
        context_sentences (`int`): how many earlier sentences each sees.

    Example (two sentences of a source and a target token each; the second sees the first):

    ```python
    >>> from transformers_simul.models.schedule import training_row
    >>> from transformers_simul.training.rows import join_sentences
    >>> rows = [training_row([], [[2]], [3], [[4]], 0, delays=[1, 1]), training_row([], [[5]], [6], [[7]], 0, [1, 1])]
    >>> row = join_sentences(rows, context_sentences=1)
    >>> row["input_ids"], row["places"], row["context_starts"]
    ([2, 3, 4, 0, 5, 6, 7, 0], [0, 1, 2, -1, 3, 4, 5, -1], [0, 0, 0, 0, 0, 0, 0, 0])
    >>> row["offsets"], row["visible_source"]
    ([0, 0, 1, 2, 3, 0, 1, 2], [1, 1, 1, 1, 4, 4, 4, 4])

    ```
    """
    joined: Row = {}
    starts = [0]
    for index, sentence in enumerate(sentences):
        start, context_start = starts[-1], starts[max(0, index - context_sentences)]
        row = _after_context(sentence, start, context_start)
        starts.append(max(row["places"]) + 1)
        last = max(joined["pair_ids"]) if joined else 0
        row["pair_ids"] = [last + number for number in row["pair_ids"]]
        for name, values in row.items():
            joined.setdefault(name, []).extend(values)
    return joined


def _after_context(sentence: Row, start: int, context_start: int) -> Row:
    """The row of a sentence that begins at a place, and sees what stands before it from another on."""
    pairs, context_tokens = max(sentence["pair_ids"]), start - context_start
    own = [pair == 1 and not peek for pair, peek in zip(sentence["pair_ids"], sentence["peeks"], strict=True)]
    # In the order of the row the last is EOS.
    places = [*range(start, start + sum(own) - 1), -1]
    found = iter(places)
    return sentence | {
        # Prompts of the same sentence are numbered before it, since none of them is context of another.
        "pair_ids": [pairs + 1 - pair for pair in sentence["pair_ids"]],
        "offsets": [
            offset if after else context_tokens + offset
            for offset, after in zip(sentence["offsets"], sentence["in_target"], strict=True)
        ],
        "visible_source": [context_tokens + visible for visible in sentence["visible_source"]],
        "places": [next(found) if is_own else -1 for is_own in own],
        "context_starts": [context_start] * len(own),
    }


def pad_rows(
    rows: Sequence[Row], pad_token_id: int, padding_side: str = "right", multiple_of: int | None = None
) -> dict[str, torch.Tensor]:
    """Pad rows to one length and stack them as tensors.

    Args:
        rows (`Sequence[dict[str, list]]`): at least one.
        pad_token_id (`int`): fills `input_ids`.
        padding_side (`str`, *optional*, defaults to `"right"`): or `"left"`.
        multiple_of (`int`, *optional*): round the length up to a multiple of it.

    Returns:
        `dict[str, torch.Tensor]`: `input_ids`, `labels` and the fields of [`Schedule`] that the rows have, of shape
        `(rows, length)`.

    Example:

    ```python
    >>> from transformers_simul.models.schedule import training_row
    >>> from transformers_simul.training.rows import pad_rows
    >>> rows = [training_row([1], [[2]], [4], [[5]] * words, 0, delays=[1] * (words + 1)) for words in (1, 2)]
    >>> pad_rows(rows, pad_token_id=9)["input_ids"].tolist()
    [[1, 2, 4, 5, 0, 9], [1, 2, 4, 5, 5, 0]]

    ```
    """
    length = max(len(row["input_ids"]) for row in rows)
    if multiple_of:
        length = -(-length // multiple_of) * multiple_of
    batch = {}
    padding = _PADDING | {"input_ids": pad_token_id} | (_CONTEXT_PADDING if "places" in rows[0] else {})
    for name, value in padding.items():
        table = torch.full((len(rows), length), value, dtype=_DTYPES.get(name, torch.int32))
        for index, row in enumerate(rows):
            size = len(row[name])
            span = slice(length - size, length) if padding_side == "left" else slice(size)
            table[index, span] = torch.tensor(row[name], dtype=table.dtype)
        batch[name] = table
    return batch


__all__ = ["Row", "append_row", "example_draw", "join_sentences", "pack_rows", "pad_rows", "pair_ids_of"]
