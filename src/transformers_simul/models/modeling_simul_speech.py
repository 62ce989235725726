# SPDX-License-Identifier: Apache-2.0
"""SimulSpeech: an audio encoder before a language model of any family, under the same read/write schedule."""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from .families import family_class
from .generation import SimulGenerationMixin
from .modeling_simul import NO_DATA_PARALLEL


def _of_language_model(name: str) -> Any:
    return property(lambda config: getattr(config.text_config, name), doc=f"The language model's `{name}`.")


class SimulSpeechConfig(PreTrainedConfig):
    """A language model's configuration, an audio encoder's, and how the one's states become the other's source.

    Args:
        text_config (`SimulConfig` or `dict`): of any family.
        audio_config (`PreTrainedConfig` or `dict`): of an audio encoder, or of a model that has one.
        audio_token_id (`int`): stands for audio in `input_ids`.
        unit_tokens (`int`, *optional*, defaults to 4): tokens of a speech unit.
        frames_per_token (`int`, *optional*, defaults to 4): frames of the encoder in each; the last
            `unit_tokens * frames_per_token` of a window are the unit's.

    Raises:
        ValueError: if a configuration is missing, or a number is below 1.
    """

    model_type = "simul_speech"
    _auto_class = "AutoConfig"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=PreTrainedConfig, optional=True),
        "audio_config": SubConfigSpec(config_class=AutoConfig, model_type="whisper", optional=True),
    }

    text_config: Any = None
    audio_config: Any = None
    audio_token_id: int | None = None
    unit_tokens: int = 4
    frames_per_token: int = 4

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_config, dict):
            self.text_config = family_class(self.text_config["model_type"]).config_class.from_dict(self.text_config)
        super().__post_init__(**kwargs)

    def check_simul(self) -> None:
        """Whether the settings are there and fit; models look, since Transformers makes empty configurations.

        Raises:
            ValueError: if they do not.
        """
        for name in ("text_config", "audio_config", "audio_token_id"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} must be given.")
        for name in ("unit_tokens", "frames_per_token"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        self.text_config.check_simul()

    # What decoding asks of a configuration is the language model's.
    vocab_size = _of_language_model("vocab_size")
    num_hidden_layers = _of_language_model("num_hidden_layers")
    num_attention_heads = _of_language_model("num_attention_heads")
    positions = _of_language_model("positions")
    has_alibi = _of_language_model("has_alibi")
    first_target_position = _of_language_model("first_target_position")
    max_position_embeddings = _of_language_model("max_position_embeddings")


class SimulSpeechForCausalLM(SimulGenerationMixin, PreTrainedModel):  # type: ignore[misc]
    """Translates speech while it is spoken: units of audio stand in the row where source words stand.

    Each unit's window of audio goes through the encoder by itself, the projector makes `unit_tokens` embeddings of the
    states of its last frames, and these take the places of the audio tokens in `input_ids`. Everything else is the
    language model's: schedule, mask, positions, cache, loss.

    Args:
        config (`SimulSpeechConfig`): of both.
        language_model (`SimulForCausalLM`, *optional*): a trained one; a new one without.
        encoder (`PreTrainedModel`, *optional*): a trained one; a new one without.

    Example:

    ```python
    >>> import torch
    >>> from transformers import WhisperConfig
    >>> from transformers_simul import SimulLlamaConfig, SimulSpeechConfig, SimulSpeechForCausalLM
    >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    >>> heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    >>> audio = WhisperConfig(d_model=16, encoder_layers=1, decoder_layers=1, max_source_positions=48, **heads)
    >>> config = SimulSpeechConfig(
    ...     text_config=SimulLlamaConfig(vocab_size=50, **sizes), audio_config=audio, audio_token_id=49
    ... )
    >>> hears = SimulSpeechForCausalLM(config).eval()
    >>> hears.embed_units(torch.zeros(2, 80, 96)).shape  # two units
    torch.Size([2, 4, 32])

    ```
    """

    config_class = SimulSpeechConfig
    base_model_prefix = ""
    _auto_class = "AutoModelForCausalLM"  # type: ignore[assignment]
    layers_class: type
    _supports_sdpa = _supports_flex_attn = True
    _supports_flash_attn = False
    supports_gradient_checkpointing = True

    def __init__(self, config: SimulSpeechConfig, language_model: Any = None, encoder: Any = None):
        config.check_simul()
        super().__init__(config)
        config.auto_map = {"AutoModel": f"{__name__.split('.')[-1]}.{type(self).__name__}"}
        text = config.text_config
        self.language_model = language_model or family_class(text.model_type)._from_config(text)
        self.encoder = encoder or _new_encoder(config.audio_config)
        width = config.frames_per_token * config.audio_config.hidden_size
        hidden = text.hidden_size
        self.projector = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def _replicate_for_data_parallel(self) -> Any:
        raise ValueError(NO_DATA_PARALLEL)

    def embed_units(self, source_features: torch.Tensor) -> torch.Tensor:
        """The embeddings of speech units, each by itself.

        Args:
            source_features (`torch.Tensor` of shape `(units, ...)`): of each unit's window.

        Returns:
            `torch.Tensor` of shape `(units, unit_tokens, hidden_size)`.

        Raises:
            ValueError: if the encoder makes too few frames of a window.
        """
        features = source_features.to(self.device, self.dtype)
        # One at a time on CPUs, where a batch's size changes how convolutions round: a unit gets the same embeddings
        # alone and beside other streams. While a model trains, where weights move anyway, a batch is faster.
        batch = 1 if features.device.type == "cpu" and not self.training else len(features)
        return torch.cat([self._embed_batch(each) for each in features.split(batch)])

    def _embed_batch(self, features: torch.Tensor) -> torch.Tensor:
        states = self.encoder(**{self.encoder.main_input_name: features}, return_dict=True).last_hidden_state
        frames = self.config.unit_tokens * self.config.frames_per_token
        if states.shape[1] < frames:
            raise ValueError(
                f"unit_tokens * frames_per_token must be at most {states.shape[1]}, the encoder's frames of a window, "
                f"got {self.config.unit_tokens} * {self.config.frames_per_token}."
            )
        return self.projector(states[:, -frames:].reshape(len(states), self.config.unit_tokens, -1))

    def embed(self, input_ids: torch.Tensor, source_features: torch.Tensor | None = None) -> torch.Tensor:
        """The embeddings of a row: of ids, and where they stand for audio, of speech units, one after the other.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`): with `unit_tokens` audio tokens for each unit.
            source_features (`torch.Tensor` of shape `(units, ...)`, *optional*): of all units, row by row.

        Returns:
            `torch.Tensor` of shape `(batch, length, hidden_size)`.

        Raises:
            ValueError: if there are more or fewer units than audio tokens call for.
        """
        embeddings = self.get_input_embeddings()(input_ids)
        is_audio = input_ids == self.config.audio_token_id
        units = 0 if source_features is None else len(source_features)
        if int(is_audio.sum()) != units * self.config.unit_tokens:
            raise ValueError(
                f"source_features must hold a unit for each {self.config.unit_tokens} audio tokens of input_ids, got "
                f"{units} units and {int(is_audio.sum())} tokens: unit_tokens and the audio token of model and "
                "processor must be the same."
            )
        if source_features is None:
            return embeddings
        audio = self.embed_units(source_features).to(embeddings.dtype)
        return embeddings.masked_scatter(is_audio[..., None], audio)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        source_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """As [`SimulForCausalLM.forward`], with the units of audio.

        Args:
            source_features (`torch.Tensor` of shape `(units, ...)`, *optional*):
                What the encoder takes of each unit, in the order of their tokens in `input_ids`.
            attention_mask, labels, logits_to_keep, **kwargs: as there; generation and Trainer look for these names.

        Raises:
            ValueError: as there, and if there are more or fewer units than audio tokens call for.
        """
        if input_ids is not None:
            inputs_embeds = self.embed(input_ids, source_features)
        return self.language_model(
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def _sample(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("policy") is None:
            raise ValueError("wait_k or a policy must be given: a model of speech reads its source by units.")
        return super()._sample(*args, **kwargs)


def _new_encoder(config: Any) -> Any:
    """A new audio encoder; of models that have a decoder too, only the encoder stays."""
    model = AutoModel.from_config(config)
    return model.get_encoder() if config.is_encoder_decoder else model


# There is no model without head: what Transformers calls one is the whole.
SimulSpeechForCausalLM.layers_class = SimulSpeechForCausalLM

__all__ = ["SimulSpeechConfig", "SimulSpeechForCausalLM"]
