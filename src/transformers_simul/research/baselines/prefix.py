# SPDX-License-Identifier: Apache-2.0
"""Prefix fine-tuning: each pair becomes pairs of a source prefix and a target prefix, as the policy would meet them."""

import random
from collections.abc import Sequence

from ...models.policies import Policy
from ...models.schedule import training_row
from ...training.data_collator import SimulMaskDataCollator
from ...training.rows import Row
from .turns import turns


class PrefixDataCollator(SimulMaskDataCollator):
    """Data expansion under a policy (arXiv 2405.10443, section 3: "prefix fine-tuning").

    For each number of source words that the policy will have read when it writes, one plain causal row
    `[head | source prefix | tail | target prefix | eos]`. Its loss is that of the words written at that point and of
    the EOS after them, which before the end of the source means READ: each target token is learnt once, in the
    context that decoding will give it. So a pair costs about as many rows as it has words; several short ones share a
    line of the batch, as long as its longest. There are no peek rows, whatever `peek_rows` says. Arguments, output and
    errors are those of [`SimulMaskDataCollator`].

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.research.baselines import PrefixDataCollator
    >>> collator = PrefixDataCollator(processor, WaitKPolicy(1))
    >>> batch = collator([{"source": "a dog runs", "target": "two children watch"}])
    >>> int(batch["pair_ids"].amax(1).sum())  # rows, numbered within their line
    3

    ```
    """

    def make_rows(
        self, source: list[list[int]], target: list[list[int]], policy: Policy, draw: random.Random
    ) -> list[Row]:
        processor, rows = self.processor, []
        for read, start, stop in turns(len(target), policy.delays(len(source), len(target))):
            row = training_row(
                processor.head_ids,
                source[:read],
                processor.tail_ids,
                target[:stop],
                processor.eos_token_id,
                delays=[read] * (stop + 1),
            )
            learnt = sum(map(len, target[start:stop])) + 1
            row["labels"] = [-100] * (len(row["labels"]) - learnt) + row["labels"][-learnt:]
            rows.append(row)
        return rows

    def length_of_lines(self, rows: Sequence[Row]) -> int | None:
        return super().length_of_lines(rows) or max(len(row["input_ids"]) for row in rows)


__all__ = ["PrefixDataCollator"]
