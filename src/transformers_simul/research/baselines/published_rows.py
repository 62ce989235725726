# SPDX-License-Identifier: Apache-2.0
"""The mask of the paper's published code, which lets the tokens inside a word see one READ too many."""

import random

from ...models.policies import Policy
from ...models.schedule import training_row
from ...training.data_collator import SimulMaskDataCollator
from ...training.rows import Row


class PublishedRowsDataCollator(SimulMaskDataCollator):
    """SimulMask with queries grouped by their own word, for the ablation only.

    Every token of target word i sees the source of word i + 1, not only its last token, which predicts that word. For
    words of one token both are the same; inside longer words training sees source that decoding has not read yet.
    There are no peek rows, whatever `peek_rows` says. Arguments, output and errors are those of
    [`SimulMaskDataCollator`].

    Example:

    ```python
    >>> from transformers_simul import SimulMaskDataCollator, WaitKPolicy
    >>> from transformers_simul.research.baselines import PublishedRowsDataCollator
    >>> pair = {"source": "a dog runs", "target": "remarkably high"}
    >>> published, right = (
    ...     collator(processor, WaitKPolicy(1), peek_rows=0)([pair])["visible_source"].sum().item()
    ...     for collator in (PublishedRowsDataCollator, SimulMaskDataCollator)
    ... )
    >>> published > right
    True

    ```
    """

    def make_rows(
        self, source: list[list[int]], target: list[list[int]], policy: Policy, draw: random.Random
    ) -> list[Row]:
        processor, delays = self.processor, policy.delays(len(source), len(target))
        head, tail = processor.head_ids, processor.tail_ids
        row = training_row(head, source, tail, target, processor.eos_token_id, delays)
        ends = [len(head)]
        for word in source:
            ends.append(ends[-1] + len(word))
        start = ends[-1] + len(tail)
        for index, word in enumerate(target):
            row["visible_source"][start : start + len(word)] = [ends[delays[index + 1]]] * len(word)
            start += len(word)
        return [row]


__all__ = ["PublishedRowsDataCollator"]
