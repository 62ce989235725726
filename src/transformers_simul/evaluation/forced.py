# SPDX-License-Identifier: Apache-2.0
"""A decoder that writes a given target, and what its attention was: for pictures and for tests."""

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import nn

from ..models.cache import CacheStep, SimulCache
from ..models.choosing import Answer
from ..models.row_decoder import RowDecoder
from ..models.word_rule import Expected

# A token by its frame: whether it comes after the source, and its offset.
_Token = tuple[bool, int]


def forced_decoder(forced: Sequence[int]) -> type[RowDecoder]:
    """Return a row decoder that writes a given target; a policy that looks sees what the model itself would say.

    Args:
        forced (`Sequence[int]`): ids of the target, its EOS included.
    """

    class ForcedDecoder(RowDecoder):
        """Writes the target whatever the model says."""

        def word_ends(self, answer: Answer) -> bool:
            return self.rule.is_start(forced[len(self.target)])

        def choose(self, answer: Answer, expected: Expected) -> int:
            return forced[len(self.target)]

    return ForcedDecoder


class AttentionRecorder:
    """Records what each question of one stream attended to. Its hook belongs on the attention of every layer.

    Args:
        layer, head (`int`, *optional*): record only these; by default the largest weight of all.

    Attributes:
        cache (`SimulCache`): the stream's, for `generate()`.
    """

    def __init__(self, layer: int | None = None, head: int | None = None) -> None:
        self.cache = _NewestStep(batch_size=1)
        self.layer, self.head = layer, head
        # By token, forward and place in the forward, so in the order asked: the weight of each key.
        self._asked: dict[tuple[_Token, int, int], dict[_Token, float]] = {}
        self._forwards = 0

    def hook(self, module: nn.Module, args: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Record one layer; a forward hook of an attention layer that returns its weights second."""
        step, weights = self.cache.step, output[1][0]
        self._forwards += int(module.layer_idx == 0)
        if self.layer not in (None, module.layer_idx):
            return
        stored = list(zip(step.keys.in_target[0].tolist(), step.keys.offsets[0].tolist(), strict=True))
        weights = weights.amax(0) if self.head is None else weights[self.head]
        for query, slot in enumerate(step.slots[0].tolist()):
            seen = self._asked.setdefault((stored[slot], self._forwards, query), {})
            for key, weight in zip(stored, weights[query].tolist(), strict=True):
                seen[key] = max(seen.get(key, 0.0), weight)

    def table(self, row: dict[str, list], early: int = 0, tail: int = 0) -> numpy.ndarray:
        """Return the attention in the order of a row of [`training_row`], shape `(length, length)`. Peek rows take the
        questions in the order asked. A replacement that was asked for ahead and not needed comes last, and no row takes
        it.

        Args:
            row (`dict[str, list]`): from [`training_row`].
            early (`int`, *optional*): how often the whole tail was asked in vain, before the first word.
            tail (`int`, *optional*): its tokens.
        """
        tokens = list(zip(row["in_target"], row["offsets"], strict=True))
        peeks = [index for index, kind in enumerate(row["peeks"]) if kind]
        others = [index for index, kind in enumerate(row["peeks"]) if not kind]
        columns = {tokens[index]: index for index in others}
        questions: dict[_Token, list[dict[_Token, float]]] = {}
        for (token, *_), seen in self._asked.items():
            questions.setdefault(token, []).append(seen)
        for offset in range(tail):
            # A row of its own has them in training.
            del questions[True, offset][:early]
        table = numpy.zeros((len(tokens), len(tokens)))
        for index in peeks + others:
            if waiting := questions.get(tokens[index]):
                for key, weight in waiting.pop(0).items():
                    table[index, columns[key]] = weight
        return table


class _NewestStep(SimulCache):
    """Keeps the step of the newest forward."""

    step: CacheStep

    def place(self, *args: Any, **kwargs: Any) -> CacheStep:
        self.step = super().place(*args, **kwargs)
        return self.step


__all__ = ["AttentionRecorder", "forced_decoder"]
