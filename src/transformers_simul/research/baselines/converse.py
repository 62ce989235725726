# SPDX-License-Identifier: Apache-2.0
"""Conversational prompting: source and target chunks take turns in one causal row that only ever grows."""

import random
from typing import Any

from ...models.policies import Policy
from ...models.row import Ask
from ...models.row_decoder import RowDecoder
from ...training.data_collator import SimulMaskDataCollator
from ...training.rows import Row
from .turns import turns


class ConverseDataCollator(SimulMaskDataCollator):
    """Rows of turns (arXiv 2402.10552; "converse-norec" in arXiv 2405.10443, section 3).

    `[head | chunk | tail | words | eos | chunk | tail | words | eos ...]`, plain causal: a chunk is what the policy
    READs at a time, and the words those that it then WRITEs. The loss is that of words and EOS. There are no peek rows,
    whatever `peek_rows` says: where a turn's last word ends, EOS is the label. Arguments, output and errors are those
    of [`SimulMaskDataCollator`].

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.research.baselines import ConverseDataCollator
    >>> collator = ConverseDataCollator(processor, WaitKPolicy(1))
    >>> row = collator([{"source": "a dog", "target": "a dog"}])["input_ids"][0]
    >>> processor.tokenizer.decode(row)
    'Translate: a\\nTo German: a<|endoftext|> dog\\nTo German: dog<|endoftext|>'

    ```
    """

    def make_rows(
        self, source: list[list[int]], target: list[list[int]], policy: Policy, draw: random.Random
    ) -> list[Row]:
        processor = self.processor
        ids, labels = list(processor.head_ids), [-100] * len(processor.head_ids)
        read = 0
        for words, start, stop in turns(len(target), policy.delays(len(source), len(target))):
            prompt = [token for word in source[read:words] for token in word] + processor.tail_ids
            answer = [token for word in target[start:stop] for token in word] + [processor.eos_token_id]
            ids += prompt + answer
            labels += [-100] * len(prompt) + answer
            read = words
        length = len(ids)
        return [
            {
                "input_ids": ids,
                "labels": labels,
                "pair_ids": [1] * length,
                "in_target": [False] * length,
                "offsets": list(range(length)),
                "visible_source": list(range(1, length + 1)),
                "peeks": [0] * length,
            }
        ]


class ConverseDecoder(RowDecoder):
    """Decodes such turns with one cache that is only appended to: a READ ends the turn with EOS and opens the next.

    In the output, `sequences` still shows source before target; the row that was fed is the conversation.
    """

    # Nothing is hidden in a conversation: source is fed when it is read.
    feeds_ahead = False

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if self.policy.draft_words:
            raise ValueError(
                f"policy must ask for no drafts with ConverseDecoder, whose cache is only appended to, got "
                f"{self.policy}."
            )
        if self.policy.heads:
            raise ValueError(
                f"policy must look at no attention heads with ConverseDecoder, whose source stands in turns, got "
                f"{self.policy}."
            )
        self.length = self.reading.fed

    def feed(self, ids: list[int], copies: tuple[int, ...] = ()) -> Ask:
        """Return what to feed: what was read and not fed, then these."""
        return self._append(self.reading.feed()[1] + ids)

    def feed_again(self) -> Ask:
        """Return what to feed: the end of the turn, what was read, and the next turn's beginning."""
        return self._append([self.rule.eos_token_id, *self.reading.feed()[1], *self.tail])

    def _append(self, ids: list[int]) -> Ask:
        start, self.length = self.length, self.length + len(ids)
        # Frames make no difference where all is causal: the whole row counts as "head and source".
        return Ask(ids, start, [], 0, 0)


__all__ = ["ConverseDataCollator", "ConverseDecoder"]
