# SPDX-License-Identifier: Apache-2.0
"""Recomputation ("-rec"): whenever source arrives, keys and values of all that stands after it are made anew."""

from ...models.row import Ask
from ...models.row_decoder import RowDecoder


class RecomputingDecoder(RowDecoder):
    """Feeds tail and target again after every READ, so that each answer is that of a causal model over
    `[head | source read so far | tail | target]` (arXiv 2405.10443, section 3: causal-rec, prefix-rec).

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.research.baselines import RecomputingDecoder
    >>> inputs = processor(source="a dog runs")
    >>> ids = model.generate(**inputs, policy=WaitKPolicy(1), row_decoder=RecomputingDecoder, max_new_tokens=4)

    ```
    """

    feeds_ahead = False

    def feed_again(self) -> Ask:
        """Return what to feed: tail and target, all of which see what was read."""
        return self.in_place(self.tail + self.target)


__all__ = ["RecomputingDecoder"]
