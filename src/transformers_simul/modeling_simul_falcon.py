# SPDX-License-Identifier: Apache-2.0
"""SimulFalcon: what differs from Falcon when attention follows a read/write schedule."""

import math
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
)
from transformers.models.falcon.modeling_falcon import (
    FALCON_ATTENTION_CLASSES,
    FalconAttention,
    FalconForCausalLM,
    FalconLinear,
    FalconModel,
    FalconPreTrainedModel,
)

from .attention_simul import attend
from .configuration_simul_falcon import SimulFalconConfig
from .generation_simul import SimulGenerationMixin
from .linear_simul import SimulLinear, decoding_linear
from .loss_simul import simul_loss
from .masking_simul import additive_mask, alibi_bias, flex_bias, flex_mask, visible, whole_source
from .schedule_simul import Schedule


class SimulFalconAttention(FalconAttention):
    """Falcon's attention under a mask that holds ALiBi too. A decoding step's tokens are split into their streams."""

    def forward(self, hidden_states, alibi, attention_mask, layer_past=None, output_attentions=False, **kwargs):
        mask, step = attention_mask
        implementation = self.config._attn_implementation
        if output_attentions and implementation == "flex_attention":
            raise ValueError("output_attentions must be False with attn_implementation='flex_attention'; use 'eager'.")
        query, key, value = self._split_heads(self.query_key_value(hidden_states))
        key, value = key.transpose(1, 2), value.transpose(1, 2)
        if layer_past is not None:
            key, value = layer_past.update(key, value, self.layer_idx)
        query = (query if step is None else step.split(query)).transpose(1, 2)
        dropout = self.attention_dropout.p if self.training else 0.0
        implementation = "eager" if output_attentions else implementation
        output, weights = attend(query, key, value, mask, implementation, self.inv_norm_factor, dropout)
        return self.dense(output if step is None else step.join(output)), weights


class SimulFalconLinear(FalconLinear):
    """Falcon's linear layer with [`decoding_linear`] in inference mode."""

    def forward(self, input):
        output = decoding_linear(input, self.weight, self.bias)
        return super().forward(input) if output is None else output


_OURS = {FalconAttention: SimulFalconAttention, FalconLinear: SimulFalconLinear}
# Falcon looks its attention up in this table, which knows no FlexAttention.
FALCON_ATTENTION_CLASSES["flex_attention"] = FalconAttention


class SimulFalconPreTrainedModel(FalconPreTrainedModel):
    config_class = SimulFalconConfig
    config: SimulFalconConfig
    _supports_flex_attn = True
    _supports_flash_attn = False


class SimulFalconModel(SimulFalconPreTrainedModel, FalconModel):
    """Falcon's layers under a read/write schedule. Parameters and their names are Falcon's."""

    def __init__(self, config: SimulFalconConfig):
        super().__init__(config)
        # Only how they compute differs, so layers stay as Falcon has made them.
        for module in self.modules():
            module.__class__ = _OURS.get(type(module), type(module))

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
        pair_ids: torch.Tensor | None = None,
        in_target: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
        visible_source: torch.Tensor | None = None,
        peeks: torch.Tensor | None = None,
        **kwargs,
    ):
        """As Falcon's, with the schedule of the rows (see [`SimulFalconForCausalLM.forward`])."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = (
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        hidden_states = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds

        given = [field for field in (pair_ids, in_target, offsets, visible_source, peeks) if field is not None]
        step: Any = None
        if given:
            if len(given) < len(Schedule._fields):
                raise ValueError(f"A schedule has five fields, {Schedule._fields}: give all of them, or none.")
            queries = Schedule(*given)
            keys, slots = queries, _indices(queries)
            if past_key_values is not None:
                step = past_key_values
                queries = Schedule(*(step.split(field) for field in queries))
                keys, slots = step.schedule, step.slots
        else:
            use_cache = self.config.use_cache if use_cache is None else use_cache
            if use_cache and past_key_values is None and not (self.gradient_checkpointing and self.training):
                past_key_values = DynamicCache(config=self.config)
            queries, keys, slots = _causal_schedule(hidden_states, attention_mask, past_key_values)
        mask = self._attention_mask(queries, keys, slots, hidden_states.dtype, decoding=past_key_values is not None)

        all_hidden_states, all_attentions = [], []
        for block in self.h:
            all_hidden_states.append(hidden_states)
            hidden_states, attention = block(
                hidden_states,
                alibi=None,
                attention_mask=(mask, step),
                layer_past=past_key_values,
                output_attentions=output_attentions,
            )
            all_attentions.append(attention)
        hidden_states = self.ln_f(hidden_states)
        all_hidden_states.append(hidden_states)

        output = BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden_states,
            past_key_values=past_key_values,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions) if output_attentions else None,
        )
        return output if return_dict else output.to_tuple()

    def _attention_mask(self, queries, keys, slots, dtype, decoding: bool):
        """Mask and bias of all layers, built once: additive for eager and SDPA, a pair of functions for flex."""
        config = self.config
        # The unmodified ALiBi is an ablation of training; a decoder only has what it has read.
        plain = config.alibi_positions == "plain" and not decoding
        shown = whole_source(queries) if plain else queries.visible_source
        has_alibi = config.alibi_positions != "none"

        if config._attn_implementation == "flex_attention":
            scale = 1 / math.sqrt(config.head_dim)
            score_mod = flex_bias(queries, keys, self.num_heads, scale, config.alibi_rounding, shown)
            (batch, length), stored = queries.offsets.shape, keys.offsets.shape[1]
            block_mask = create_block_mask(
                flex_mask(queries, keys, slots), batch, None, length, stored, device=queries.offsets.device
            )
            return block_mask, score_mod if has_alibi else None

        bias: torch.Tensor | None = None
        if has_alibi:
            # Falcon divides by the square root; a product with its inverse would differ in the last bit.
            bias = alibi_bias(queries, keys, self.num_heads, dtype, config.alibi_rounding, shown)
            bias = bias / math.sqrt(config.head_dim)
        return additive_mask(visible(queries, keys, slots), bias, dtype)


def _indices(queries: Schedule) -> torch.Tensor:
    batch, length = queries.offsets.shape
    return torch.arange(length, device=queries.offsets.device).expand(batch, length)


def _causal_schedule(hidden_states, attention_mask, cache) -> tuple[Schedule, Schedule, torch.Tensor]:
    """The schedule of stock Falcon: everything earlier is visible."""
    batch, length, _ = hidden_states.shape
    total = length + (cache.get_seq_length() if cache is not None else 0)
    if attention_mask is None:
        attention_mask = torch.ones(batch, total, device=hidden_states.device, dtype=torch.int32)
    if attention_mask.ndim != 2 or attention_mask.shape[1] != total:
        raise ValueError(f"attention_mask must have shape ({batch}, {total}), got {tuple(attention_mask.shape)}.")
    keys = Schedule.causal(attention_mask)
    slots = torch.arange(total - length, total, device=hidden_states.device).expand(batch, length)
    return keys.last(length), keys, slots


class SimulFalconForCausalLM(SimulGenerationMixin, SimulFalconPreTrainedModel, FalconForCausalLM):
    """Falcon that translates while it reads (arXiv 2405.10443).

    Loads any Falcon checkpoint with ALiBi: the weights and their names are Falcon's. Without a schedule it is plain
    causal Falcon.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul import SimulFalconConfig, SimulFalconForCausalLM
    >>> config = SimulFalconConfig(vocab_size=50, hidden_size=32, num_attention_heads=4, num_hidden_layers=1)
    >>> model = SimulFalconForCausalLM(config).eval()
    >>> model(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 3, 50])

    ```
    """

    # Saved folders carry this code; Transformers notes one Auto name for it, and the folder needs two.
    _auto_class = "AutoModelForCausalLM"  # type: ignore[assignment]

    def __init__(self, config: SimulFalconConfig):
        FalconPreTrainedModel.__init__(self, config)
        config.auto_map = {"AutoModel": "modeling_simul_falcon.SimulFalconModel"}
        self.transformer = SimulFalconModel(config)
        self.lm_head = SimulLinear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        pair_ids: torch.Tensor | None = None,
        in_target: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
        visible_source: torch.Tensor | None = None,
        peeks: torch.Tensor | None = None,
        token_kinds: torch.Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithCrossAttentions | tuple:
        """As Falcon's, with five more tensors of shape `(batch, length)` that [`SimulMaskDataCollator`] makes.

        Args:
            pair_ids, in_target, offsets, visible_source, peeks (`torch.Tensor` of shape `(batch, length)`):
                Who sees whom: see [`Schedule`]. All or none; none is plain causal attention.
            labels (`torch.LongTensor` of shape `(batch, length)`, *optional*):
                The ids to predict, -100 where nothing is to be learnt. Shifted inside, as everywhere in Transformers.
            token_kinds (`torch.Tensor` of shape `(vocabulary,)`, *optional*):
                Which tokens start a word or end the text; needed where there are peek rows.

        Returns:
            `CausalLMOutputWithCrossAttentions`: `loss` per target token, and `logits` of shape
            `(batch, length, vocabulary)`, None in training, where only labelled rows are projected.

        Raises:
            ValueError: for a schedule in training without labels, peek rows without `token_kinds`, or NaN in the loss.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        if self.training and pair_ids is not None and labels is None and torch.is_grad_enabled():
            raise ValueError(
                "labels are missing beside a schedule: TrainingArguments.label_smoothing_factor takes them away "
                "from the model; leave it at 0 and set config.label_smoothing instead."
            )
        outputs = self.transformer(
            input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            pair_ids=pair_ids,
            in_target=in_target,
            offsets=offsets,
            visible_source=visible_source,
            peeks=peeks,
        )
        hidden_states = outputs.last_hidden_state

        loss, logits = None, None
        if labels is not None:
            loss = simul_loss(
                hidden_states,
                self.lm_head,
                labels,
                peeks,
                token_kinds,
                label_smoothing=self.config.label_smoothing if self.training else 0.0,
                peek_weight=self.config.peek_weight,
                num_items_in_batch=kwargs.get("num_items_in_batch"),
            )
        if loss is None or not self.training:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden_states[:, kept])

        output = CausalLMOutputWithCrossAttentions(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return output if return_dict else output.to_tuple()


__all__ = ["SimulFalconForCausalLM", "SimulFalconModel", "SimulFalconPreTrainedModel"]
