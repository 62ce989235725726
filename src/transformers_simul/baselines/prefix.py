# SPDX-License-Identifier: Apache-2.0
"""Prefix fine-tuning: each pair becomes pairs of a source prefix and a target prefix, as the policy would meet them."""

import random
from collections.abc import Sequence

from ..data_collator import SimulMaskDataCollator
from ..schedule_simul import training_row


def turns(target_words: int, delays: Sequence[int]) -> list[tuple[int, int, int]]:
    """Runs of target words that a policy writes without a READ between them.

    Args:
        target_words (`int`): words of the target.
        delays (`Sequence[int]`): g(0) ... g(EOS).

    Returns:
        `list[tuple[int, int, int]]`: `(source words read, first target word, one behind the last)`. If the target ends
        before the source does, the last run holds no word: only EOS is left to write.

    Example:

    ```python
    >>> from transformers_simul.baselines.prefix import turns
    >>> turns(3, [1, 2, 2, 2]), turns(1, [1, 2])
    ([(1, 0, 1), (2, 1, 3)], [(1, 0, 1), (2, 1, 1)])

    ```
    """
    runs: list[tuple[int, int, int]] = []
    for word in range(target_words):
        start = runs.pop()[1] if runs and runs[-1][0] == delays[word] else word
        runs.append((delays[word], start, word + 1))
    if delays[-1] != runs[-1][0]:
        runs.append((delays[-1], target_words, target_words))
    return runs


class PrefixDataCollator(SimulMaskDataCollator):
    """Data expansion under a policy (arXiv 2405.10443, section 3: "prefix fine-tuning").

    For each number of source words that the policy will have read when it writes, one plain causal row
    `[head | source prefix | tail | target prefix | eos]`. Its loss is that of the words written at that point and of
    the EOS behind them, which before the end of the source means READ: each target token is learnt once, in the
    context that decoding will give it. So a pair costs about as many rows as it has words.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.baselines import PrefixDataCollator
    >>> collator = PrefixDataCollator(processor, WaitKPolicy(1))
    >>> len(collator([{"source": "a dog runs", "target": "two children watch"}])["input_ids"])
    3

    ```
    """

    def make_rows(
        self, source: list[list[int]], target: list[list[int]], delays: list[int], draw: random.Random
    ) -> list[dict[str, list]]:
        processor, rows = self.processor, []
        for read, start, stop in turns(len(target), delays):
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


__all__ = ["PrefixDataCollator", "turns"]
