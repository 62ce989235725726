# SPDX-License-Identifier: Apache-2.0
"""What decoding needs of a model, whatever its family, be its class ours or a stock one that was adopted."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig


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
    def generation_config(self) -> "GenerationConfig":
        """What `generate()` follows."""

    @property
    def device(self) -> "torch.device":
        """Where its inputs belong."""

    def __call__(self, input_ids: "torch.Tensor", /, **kwargs: Any) -> Any:
        """A forward."""


class StreamingModel(DecodingModel, Protocol):
    """Of a model that live streams share: also `generate()`, and the stock methods by which it sets itself up."""

    def eval(self) -> "StreamingModel":
        """Without dropout from now on; returns itself."""

    def generate(self, **kwargs: Any) -> Any:
        """As [`SimulGenerationMixin.generate`]."""

    def _prepare_generation_config(
        self, generation_config: "GenerationConfig | None", **kwargs: Any
    ) -> tuple["GenerationConfig", dict[str, Any]]: ...

    def _prepare_special_tokens(self, generation_config: "GenerationConfig", *args: Any, **kwargs: Any) -> None: ...

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> Any: ...

    def _get_stopping_criteria(self, *args: Any, **kwargs: Any) -> Any: ...


__all__ = ["DecodingConfig", "DecodingModel", "StreamingModel"]
