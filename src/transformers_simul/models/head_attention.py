# SPDX-License-Identifier: Apache-2.0
"""What a few attention heads look at while a step is decoded: taken aside, so that no output changes by a bit."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from .cache import CacheStep
from .masking import FlexMask

# Layer and head, counted from 0.
Head = tuple[int, int]


class HeadAttention:
    """A row's wish to know what heads look at; a forward fulfils it.

    Args:
        heads (`Sequence[Head]`): layer and head of each.

    Attributes:
        weights (`torch.Tensor` of shape `(answers, heads, source tokens)`, float32): once a forward has answered, the
            attention from each token that asked to the tokens of head and source, by their offsets; what is hidden
            from it has 0.
    """

    weights: torch.Tensor

    def __init__(self, heads: Sequence[Head]):
        self.heads = tuple((layer, head) for layer, head in heads)


class _Wish(NamedTuple):
    """One row's part in a group: its wish, its stream in the step, and the columns of the tokens that asked."""

    wish: HeadAttention
    stream: int
    columns: range


class AttentionProbe:
    """Computes the scores of the heads that rows of a step wish to know, and of no others.

    Args:
        step (`CacheStep`): of the forward.
        wishes (`Sequence[tuple[HeadAttention | None, int]]`): of each stream, and how many of its last tokens ask.
    """

    def __init__(self, step: CacheStep, wishes: Sequence[tuple[HeadAttention | None, int]]):
        self.step = step
        # Rows that wish for the same heads are served at once.
        self._groups: dict[tuple[Head, ...], list[_Wish]] = {}
        self._found: dict[tuple[Head, ...], dict[Head, torch.Tensor]] = {}
        for stream, ((wish, answers), count) in enumerate(zip(wishes, step.counts, strict=True)):
            if wish is not None:
                part = _Wish(wish, stream, range(count - answers, count))
                self._groups.setdefault(wish.heads, []).append(part)
        self._asking = {
            heads: torch.tensor(
                [(each.stream, column) for each in group for column in each.columns], device=step.tokens.rows.device
            ).unbind(1)
            for heads, group in self._groups.items()
        }

    def look(
        self,
        layer: int,
        query: torch.Tensor,
        far: torch.Tensor | None,
        key: torch.Tensor,
        mask: torch.Tensor | FlexMask,
        scale: float,
    ) -> None:
        """Compute what the wished-for heads of a layer look at.

        Args:
            layer (`int`): its index.
            query, key, mask, scale: as in [`attend`], after the step was split into streams.
            far (`torch.Tensor`, *optional*): with own-frame positions, queries as they meet source keys.
        """
        for wished, (streams, columns) in self._asking.items():
            heads = [head for at, head in wished if at == layer]
            if not heads:
                continue
            shared = query.shape[1] // key.shape[1]
            keys = key[:, [head // shared for head in heads]][streams]
            scores = torch.einsum("nhd,nhkd->nhk", query[streams, :, columns][:, heads], keys)
            in_target = self.step.keys.in_target[streams]
            if far is not None:
                distant = torch.einsum("nhd,nhkd->nhk", far[streams, :, columns][:, heads], keys)
                scores = torch.where(in_target[:, None], scores, distant)
            weights = self._weigh(scores.float() * scale, mask, streams, columns, heads)
            offsets = self.step.keys.offsets[streams].long()
            # A row stores at least as many tokens as the largest offset says, so nothing has to be asked of the device.
            by_offset = torch.zeros_like(weights)
            by_offset.scatter_add_(2, offsets[:, None].expand_as(weights), weights * ~in_target[:, None])
            found = self._found.setdefault(wished, {})
            for index, head in enumerate(heads):
                found[layer, head] = by_offset[:, index]

    def answer(self) -> None:
        """Give each row what it wished for, once all layers were looked at."""
        for heads, group in self._groups.items():
            found = torch.stack([self._found[heads][head] for head in heads], 1)
            for each, weights in zip(group, found.split([len(each.columns) for each in group]), strict=True):
                each.wish.weights = weights

    @staticmethod
    def _weigh(
        scores: torch.Tensor, mask: Any, streams: torch.Tensor, columns: torch.Tensor, heads: list[int]
    ) -> torch.Tensor:
        if isinstance(mask, FlexMask):
            indices = (
                streams[:, None, None],
                torch.tensor(heads, device=scores.device)[None, :, None],
                columns[:, None, None],
                torch.arange(scores.shape[2], device=scores.device)[None, None],
            )
            if mask.score_mod is not None:
                scores = mask.score_mod(scores, *indices)
            return F.softmax(scores.masked_fill(~mask.block_mask.mask_mod(*indices), -torch.inf), -1)
        biases = mask[streams, :, columns]
        return F.softmax(scores + (biases if biases.shape[1] == 1 else biases[:, heads]), -1, dtype=torch.float32)


__all__ = ["AttentionProbe", "Head", "HeadAttention"]
