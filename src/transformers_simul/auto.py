# SPDX-License-Identifier: Apache-2.0
"""Our classes in Transformers' Auto classes, and checkpoints of any family in our classes."""

import os
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig

from .models.decoding_weights import check_kind, set_decoding_weights
from .models.families import family_class
from .models.linear import keep_plain_4bit


def simul_class(model_type: str) -> Any:
    """Return [`family_class`], registered with the Auto classes.

    Raises:
        ValueError: for a family that has no class here.
    """
    model_class = family_class(model_type)
    config_class = model_class.config_class
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, model_class.layers_class, exist_ok=True)
    AutoModelForCausalLM.register(config_class, model_class, exist_ok=True)
    return model_class


class AutoSimulModel:
    """Loads a checkpoint of any family that has a class here, stock or ours, as a model for simultaneous translation.

    `AutoModelForCausalLM` loads folders that were saved by a model of ours; this class also takes stock checkpoints.
    """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        config: Any = None,
        decoding_weights: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load the model with the checkpoint's weights.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): a folder, or a name on the Hub.
            config (`PreTrainedConfig`, `str` or `os.PathLike`, *optional*): a configuration of the stock family or
                ours, or where one is stored, instead of the checkpoint's own.
            decoding_weights (`str`, *optional*): `"int8"`, `"bfloat16"` or `"float16"`: round the weights to decode
                faster on a CPU; `"float32"`: reorder them for oneDNN, see [`set_decoding_weights`].
            **kwargs: further arguments of the stock `from_pretrained`, and settings of [`SimulConfig`] such as
                `positions`.

        Raises:
            ValueError: for a family that has no class here, settings that do not fit it, weights that are damaged or
                incomplete, or `decoding_weights` that this model or CPU does not take.

        Example:

        ```python
        >>> import tempfile
        >>> from transformers_simul import AutoSimulModel
        >>> folder = tempfile.mkdtemp()
        >>> model.save_pretrained(folder)
        >>> type(AutoSimulModel.from_pretrained(folder)).__name__
        'SimulFalconForCausalLM'

        ```
        """
        name = pretrained_model_name_or_path
        if decoding_weights is not None:
            # Before gigabytes are read.
            check_kind(decoding_weights)
        config, rest = simul_config(name if config is None else config, **kwargs)
        shows_info = rest.pop("output_loading_info", False)
        model_class = simul_class(config.model_type)
        try:
            model, info = model_class.from_pretrained(name, config=config, output_loading_info=True, **rest)
        except SafetensorError as error:
            raise ValueError(f"weights of {str(name)!r} must be whole safetensors files: {error}.") from error
        if missing := sorted(info["missing_keys"]):
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise ValueError(f"weights of {str(name)!r} must be complete, but {len(missing)} are missing: {some}.")
        keep_plain_4bit(model)
        if decoding_weights is not None:
            set_decoding_weights(model, decoding_weights)
        return (model, info) if shows_info else model

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Any:
        """Make a new model with random weights.

        Args:
            config (`PreTrainedConfig`): configuration of the stock family or ours.
            **kwargs: further arguments of the stock `from_config`, such as `dtype`, and settings of [`SimulConfig`].

        Raises:
            ValueError: for a family that has no class here, or settings that do not fit it.

        Example:

        ```python
        >>> from transformers import LlamaConfig
        >>> from transformers_simul import AutoSimulModel
        >>> sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
        >>> new = AutoSimulModel.from_config(LlamaConfig(vocab_size=50, **sizes), positions="group")
        >>> type(new).__name__, new.config.positions
        ('SimulLlamaForCausalLM', 'group')

        ```
        """
        ours, rest = simul_config(config, **kwargs)
        return simul_class(ours.model_type)._from_config(ours, **rest)


def simul_config(config: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Return our configuration of a checkpoint, stock or ours, without running any of its code.

    Args:
        config (`PreTrainedConfig`, `str` or `os.PathLike`): a configuration, the folder that holds one, or its name on
            the Hub.
        **kwargs: settings.

    Returns:
        The configuration, and the settings that it does not know.

    Raises:
        ValueError: for a family that has no class here, or settings that do not fit it.
    """
    if isinstance(config, (str, os.PathLike)):
        names = ("revision", "token", "cache_dir", "local_files_only", "subfolder", "force_download")
        loading = {key: kwargs[key] for key in names if key in kwargs}
        stored, _ = PreTrainedConfig.get_config_dict(config, **loading)
    else:
        stored = config.to_dict()
        # Not a part of what is stored.
        if config._attn_implementation is not None:
            kwargs = {"attn_implementation": config._attn_implementation} | kwargs
    config_class = simul_class(stored.get("model_type", "")).config_class
    # Under our name from the start: Transformers warns of every other change of type.
    ours = stored | {"model_type": config_class.model_type}
    made, rest = config_class.from_dict(ours, return_unused_kwargs=True, **kwargs)
    made.check_simul()
    return made, rest


__all__ = ["AutoSimulModel", "simul_class", "simul_config"]
