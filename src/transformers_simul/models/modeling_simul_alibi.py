# SPDX-License-Identifier: Apache-2.0
"""Families whose attention is written into their own code, which ours replaces: Falcon, Bloom, MPT. Other layers stay
theirs."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from .attention import AttentionContext, attend
from .cache import CACHE_NAME, given_cache
from .masking import Alibi, FlexMask, Pattern, additive_mask, block_mask, flex_bias
from .modeling_simul import take_schedule
from .positions import check_context
from .schedule import Schedule


def attend_with_cache(
    layer: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: tuple[Any, AttentionContext, str],
    cache: Cache | None,
    scale: float,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Store keys and values, then attend.

    Args:
        layer (`nn.Module`): the family's attention.
        query, key, value (`torch.Tensor` of shape `(batch, heads, length, head_dim)`): of this forward.
        attention_mask (`tuple`): what [`SimulAlibiModel`] hands to its layers: mask, context and backend.
        cache (`Cache`, *optional*): holds what came before.
        scale (`float`): factor of the scores.
        dropout (`float`): dropout of the weights, in training.

    Returns:
        As [`attend`].
    """
    mask, context, backend = attention_mask
    if cache is not None:
        key, value = cache.update(key, value, layer.layer_idx)
    dropout = dropout if layer.training else 0.0
    return attend(query, key, value, mask, backend, scale, dropout, context, layer.layer_idx)  # type: ignore[arg-type]


class SimulAlibiModel:
    """Mixin in front of a family's model without head. Without a schedule, everything earlier is visible."""

    _auto_class = "AutoModel"
    _supports_sdpa = _supports_flex_attn = True
    _supports_flash_attn = False
    # Names of the family's embedding, blocks and last norm.
    parts: tuple[str, str, str]
    # Name of the argument by which its blocks take ALiBi.
    bias_argument = "alibi"

    def __init__(self, config: Any):
        config.check_simul()
        super().__init__(config)  # type: ignore[call-arg]

    def alibi(self) -> tuple[torch.Tensor, float]:
        """Return the heads' slopes, float32 of shape `(heads,)`, and the number by which the bias is divided."""
        raise NotImplementedError

    def embed(self, inputs_embeds: torch.Tensor) -> torch.Tensor:
        """Return the hidden states of embeddings."""
        return inputs_embeds

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        schedule: Schedule | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions | tuple[Any, ...]:
        """Do as the family's forward, with the [`Schedule`] of the tokens; without one, all earlier tokens are
        visible."""
        schedule = take_schedule(schedule, kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("input_ids or inputs_embeds must be given, and not both.")
        config: Any = self.config
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return_dict = config.return_dict if return_dict is None else return_dict
        if inputs_embeds is None:
            inputs_embeds = getattr(self, self.parts[0])(input_ids)
        hidden_states = self.embed(inputs_embeds)
        cache = given_cache(past_key_values, cache)
        if schedule is None and cache is None and (config.use_cache if use_cache is None else use_cache):
            # With gradient checkpointing, a second forward would fill it again.
            cache = None if self.gradient_checkpointing and self.training else DynamicCache(config=config)
        options = self._block_options(schedule, hidden_states, attention_mask, cache, output_attentions)

        all_hidden_states, all_attentions = [], []
        for block in self._blocks():
            all_hidden_states.append(hidden_states)
            hidden_states, attention = block(
                hidden_states, layer_past=cache, output_attentions=output_attentions, **options
            )
            all_attentions.append(attention)
        hidden_states = getattr(self, self.parts[2])(hidden_states)
        all_hidden_states.append(hidden_states)

        output = BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden_states,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions) if output_attentions else None,
            **{CACHE_NAME: cache},
        )
        return output if return_dict else output.to_tuple()

    def _block_options(
        self,
        schedule: Schedule | None,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cache: Cache | None,
        output_attentions: bool,
    ) -> dict[str, Any]:
        """Return what all blocks are given beside their input and the cache."""
        config: Any = self.config
        backend = config._attn_implementation
        if output_attentions and backend == "flex_attention":
            raise ValueError("output_attentions must be False with attn_implementation='flex_attention'; use 'eager'.")
        pattern = _causal(hidden_states, attention_mask, cache) if schedule is None else Pattern.of(schedule, cache)
        mask = self._mask(pattern, hidden_states.dtype, decoding=cache is not None)
        attention = (mask, self.context(pattern), "eager" if output_attentions else backend)
        return {self.bias_argument: None, "attention_mask": attention} | self.position_options(pattern, hidden_states)

    def position_options(self, pattern: Pattern, hidden_states: torch.Tensor) -> dict[str, Any]:
        """Return further arguments of the blocks."""
        return {}

    @property
    def attention_modules(self) -> list[nn.Module]:
        """The attention of each layer."""
        return [block.self_attention for block in self._blocks()]

    def windows(self) -> None:
        """Return None: no layer has a sliding window."""

    def _blocks(self) -> Iterable[Any]:
        blocks: nn.ModuleList = getattr(self, self.parts[1])
        return blocks

    def context(self, pattern: Pattern) -> AttentionContext:
        """Return what attention needs beside masks."""
        return AttentionContext(pattern.step)

    def _mask(self, pattern: Pattern, dtype: torch.dtype, decoding: bool) -> torch.Tensor | FlexMask:
        """Build mask and bias of all layers once."""
        config: Any = self.config
        if pattern.queries.context_starts is not None:
            check_context(config)
        alibi = None
        if config.has_alibi and config.positions != "none":
            slopes, divisor = self.alibi()
            # While decoding, there is only what has been read.
            alibi = Alibi(slopes, config.alibi_rounding, divisor, config.positions == "plain" and not decoding)
        if config._attn_implementation == "flex_attention":
            return FlexMask(block_mask(pattern), None if alibi is None else flex_bias(pattern, alibi))
        return additive_mask(pattern, dtype, alibi=alibi)


def _causal(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, cache: Cache | None) -> Pattern:
    """Make the pattern of a plain causal model, in which everything earlier is visible."""
    batch, length, _ = hidden_states.shape
    total = length + (cache.get_seq_length() if cache is not None else 0)
    if attention_mask is None:
        attention_mask = torch.ones(batch, total, device=hidden_states.device, dtype=torch.int32)
    if attention_mask.ndim != 2 or attention_mask.shape[1] != total:
        raise ValueError(f"attention_mask must have shape ({batch}, {total}), got {tuple(attention_mask.shape)}.")
    keys = Schedule.causal(attention_mask)
    slots = torch.arange(total - length, total, device=hidden_states.device).expand(batch, length)
    return Pattern(keys.last(length), keys, slots)


__all__ = ["SimulAlibiModel", "attend_with_cache"]
