# SPDX-License-Identifier: Apache-2.0
"""Families with rotary positions whose attention goes through Transformers' registry: Llama, Mistral, Qwen, Gemma.

Their forward stays theirs. It takes masks and position ids that were made elsewhere, and passes further arguments down
to the attention function; ours is registered beside the stock ones.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask
from transformers.cache_utils import Cache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import AttentionContext, attend
from .cache import CACHE_NAME, given_cache
from .linear import SimulLinear
from .masking import FlexMask, Pattern, additive_mask, block_mask
from .modeling_simul import SimulForCausalLM, swap_classes, take_schedule
from .positions import check_context, check_positions, rotary_position_ids, source_distances, without_scale
from .schedule import Schedule

_BACKENDS = ("eager", "sdpa", "flex_attention")
_PREFIX = "simul_"


def _register(backend: str) -> None:
    def attention(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any,
        scaling: float,
        dropout: float = 0.0,
        simul_context: AttentionContext | None = None,
        **kwargs: Any,
    ) -> Any:
        if simul_context is None and backend != "eager":
            # No schedule: the stock kernel.
            stock = ALL_ATTENTION_FUNCTIONS[backend]
            return stock(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
        mask = query.new_zeros(()) if attention_mask is None else attention_mask
        mask = FlexMask(mask) if backend == "flex_attention" else mask
        context = AttentionContext() if simul_context is None else simul_context
        return attend(query, key, value, mask, backend, scaling, dropout, context, module.layer_idx)

    ALL_ATTENTION_FUNCTIONS.register(_PREFIX + backend, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_PREFIX + backend, ALL_MASK_ATTENTION_FUNCTIONS[backend])


for _backend in _BACKENDS:
    _register(_backend)


def check_rope(config: Any) -> None:
    """Refuse positions that change with the length of the text.

    Raises:
        ValueError: for such a `rope_type`: new keys would be rotated by other angles than stored ones.
    """
    parameters = config.rope_parameters
    for each in [parameters] if "rope_type" in parameters else parameters.values():
        if each["rope_type"] in ("dynamic", "longrope"):
            raise ValueError(f"rope_type must not depend on the length of the text, got {each['rope_type']!r}.")


def rotary_positions(config: Any, pattern: Pattern) -> torch.Tensor:
    """Return the position ids of a forward's tokens; of a decoding step's, concatenated in one row.

    Raises:
        ValueError: in training, if a token stands beyond the positions that the model knows, or sees earlier sentences.
    """
    if pattern.queries.context_starts is not None:
        check_context(config)
    settings = config.positions, config.first_target_position
    positions = rotary_position_ids(pattern.queries, *settings)
    if pattern.step is not None:
        return pattern.step.join(positions)
    check_positions(pattern.queries, *settings, config.max_position_embeddings)
    return positions


def rotary_context(model: Any, pattern: Pattern) -> AttentionContext:
    """Return what attention needs beside masks and position ids.

    Args:
        model: has `config`, and `rotations` for own-frame positions.
        pattern (`Pattern`): queries and keys.
    """
    if model.config.positions != "own_frame":
        return AttentionContext(pattern.step)
    like = torch.empty(0, dtype=model.dtype, device=pattern.slots.device)
    rotations = model.rotations(like, source_distances(pattern.queries))
    return AttentionContext(pattern.step, rotations, pattern.keys.in_target)


def windows_by_layer_type(config: Any) -> dict[str, int | None]:
    """Return the sliding window of each kind of layer that a model has, by the names that Transformers gives them.

    Raises:
        ValueError: for a kind that is neither full nor sliding.
    """
    windows = {"full_attention": None, "sliding_attention": config.sliding_window}
    unknown = set(config.layer_types) - set(windows)
    if unknown:
        raise ValueError(f"layer_types must be among {sorted(windows)}, got {sorted(unknown)}.")
    return {kind: windows[kind] for kind in set(config.layer_types)}


class RegisteredAttention:
    """Mixin: `attn_implementation` names one of our attention functions, which follow the schedule."""

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        backend = (requested_attention or "sdpa").removeprefix(_PREFIX)
        if backend not in _BACKENDS:
            raise ValueError(f"attn_implementation must be one of {_BACKENDS}, got {backend!r}.")
        return _PREFIX + backend


class SimulRotaryModel(RegisteredAttention):
    """Mixin in front of a family's model without head."""

    _auto_class = "AutoModel"
    _supports_flash_attn = False

    def __init__(self, config: Any):
        config.check_simul()
        super().__init__(config)  # type: ignore[call-arg]
        check_rope(config)
        swap_classes(self, {nn.Linear: SimulLinear})  # type: ignore[arg-type]

    @property
    def attention_modules(self) -> list[nn.Module]:
        """The attention of each layer."""
        return [layer.self_attn for layer in self.layers]

    def windows(self) -> int | dict[str, int | None] | None:
        """Return the sliding window of all layers, or of each kind of layer by the family's name for it."""
        return None

    def rotations(self, states: torch.Tensor, angles: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return, for each layer, cosine and sine of the angles by which something is rotated again.

        Args:
            states (`torch.Tensor`): gives dtype and device.
            angles (`torch.Tensor` of shape `(batch, queries)`): angles, in positions.
        """
        return [without_scale(*self.rotary_emb(states, angles))] * len(self.layers)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        schedule: Schedule | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> Any:
        """Do as the family's forward, with the [`Schedule`] of the tokens; without one, the forward is the family's
        own."""
        schedule = take_schedule(schedule, kwargs)
        cache = given_cache(past_key_values, cache)
        if schedule is not None:
            pattern = Pattern.of(schedule, cache)
            position_ids = rotary_positions(self.config, pattern)
            attention_mask = self._masks(pattern)
            # By a name that no family's own argument has.
            kwargs["simul_context"] = rotary_context(self, pattern)
            use_cache = cache is not None
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **{CACHE_NAME: cache},
            **kwargs,
        )

    def _masks(self, pattern: Pattern) -> Any:
        windows = self.windows()
        if isinstance(windows, dict):
            return {kind: self._mask(pattern, window) for kind, window in windows.items()}
        return self._mask(pattern, windows)

    def _mask(self, pattern: Pattern, window: int | None) -> torch.Tensor | BlockMask:
        if self.config._attn_implementation == _PREFIX + "flex_attention":
            return block_mask(pattern, window)
        return additive_mask(pattern, self.dtype, window)


class SimulRotaryForCausalLM(RegisteredAttention, SimulForCausalLM):
    """[`SimulForCausalLM`] for these families."""


__all__ = [
    "RegisteredAttention",
    "SimulRotaryForCausalLM",
    "SimulRotaryModel",
    "check_rope",
    "rotary_context",
    "rotary_positions",
    "windows_by_layer_type",
]
