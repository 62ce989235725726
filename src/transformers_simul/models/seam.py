# SPDX-License-Identifier: Apache-2.0
"""What decoding needs of a model, whatever its family, be its class ours or a stock one that was adopted."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig


class DecodingConfig(Protocol):
    """What decoding reads of a configuration. A model of speech answers with its language model's values."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens in the vocabulary, the last dimension of the logits."""

    @property
    def num_hidden_layers(self) -> int:
        """Number of layers. A policy may look at the heads of any."""

    @property
    def num_attention_heads(self) -> int:
        """Number of heads in each layer."""

    @property
    def has_alibi(self) -> bool:
        """Whether it uses ALiBi, so that positions have no bound."""

    @property
    def positions(self) -> str:
        """How they are counted, such as `"own_frame"`."""

    @property
    def first_target_position(self) -> int:
        """Position at which the target of a rotary model begins; with reserved positions, the most source tokens."""

    @property
    def max_position_embeddings(self) -> int:
        """Number of positions of a rotary model."""


class DecodingModel(Protocol):
    """What decoding needs of a model: its configurations, its device and its forward.

    The forward takes `input_ids` of shape `(1, tokens)`, the schedule's columns, the cache's step as `past_key_values`
    and `logits_to_keep`, and returns what has `logits` of shape `(1, kept, vocabulary)`.
    """

    @property
    def config(self) -> DecodingConfig:
        """Its configuration."""

    @property
    def generation_config(self) -> "GenerationConfig":
        """The settings that `generate()` follows."""

    @property
    def device(self) -> "torch.device":
        """The device of its inputs."""

    def __call__(self, input_ids: "torch.Tensor", /, **kwargs: Any) -> Any:
        """Run a forward."""


class StreamingModel(DecodingModel, Protocol):
    """What live streams need of a model besides: `generate()`, and the stock methods that prepare it."""

    def eval(self) -> "StreamingModel":
        """Turn dropout off, and return the model itself."""

    def generate(self, **kwargs: Any) -> Any:
        """As [`SimulGenerationMixin.generate`]."""

    def _prepare_generation_config(
        self, generation_config: "GenerationConfig | None", **kwargs: Any
    ) -> tuple["GenerationConfig", dict[str, Any]]: ...

    def _prepare_special_tokens(self, generation_config: "GenerationConfig", *args: Any, **kwargs: Any) -> None: ...

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> Any: ...

    def _get_stopping_criteria(self, *args: Any, **kwargs: Any) -> Any: ...


__all__ = ["DecodingConfig", "DecodingModel", "StreamingModel"]
