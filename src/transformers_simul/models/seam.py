# SPDX-License-Identifier: Apache-2.0
"""What decoding needs of a model, whatever its family, be its class ours or a stock one that was adopted."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class DecodingConfig(Protocol):
    """Of a configuration. A model of speech answers with its language model's."""

    @property
    def vocab_size(self) -> int:
        """Entries of the logits."""

    @property
    def num_hidden_layers(self) -> int:
        """Layers, of which a policy may look at heads."""

    @property
    def num_attention_heads(self) -> int:
        """Heads of each layer."""

    @property
    def has_alibi(self) -> bool:
        """Whether positions have no bound."""

    @property
    def positions(self) -> str:
        """How they are counted, such as `"own_frame"`."""

    @property
    def first_target_position(self) -> int:
        """Of rotary models, where the target begins, or the most source with reserved positions."""

    @property
    def max_position_embeddings(self) -> int:
        """Of rotary models, how many there are."""


class DecodingModel(Protocol):
    """Of a model: its configurations, where it is, and a forward.

    The forward takes `input_ids` of shape `(1, tokens)`, the schedule's columns, the cache's step as `past_key_values`
    and `logits_to_keep`, and returns what has `logits` of shape `(1, kept, vocabulary)`.
    """

    @property
    def config(self) -> DecodingConfig:
        """Its configuration."""

    @property
    def generation_config(self) -> Any:
        """What `generate()` follows."""

    @property
    def device(self) -> "torch.device":
        """Where its inputs belong."""

    def __call__(self, input_ids: "torch.Tensor", /, **kwargs: Any) -> Any:
        """A forward."""


__all__ = ["DecodingConfig", "DecodingModel"]
