# SPDX-License-Identifier: Apache-2.0
"""The families, made known to Transformers' Auto classes, and checkpoints of any of them."""

import os
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig

from .models.families import family_class
from .models.linear import keep_plain_4bit


def simul_class(model_type: str) -> Any:
    """[`family_class`], made known to the Auto classes.

    Args:
        model_type (`str`): of a configuration, ours or a stock one.

    Raises:
        ValueError: for a family that is not served.
    """
    model_class = family_class(model_type)
    config_class = model_class.config_class
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, model_class.layers_class, exist_ok=True)
    AutoModelForCausalLM.register(config_class, model_class, exist_ok=True)
    return model_class


class AutoSimulModel:
    """Loads a checkpoint of any family that is served, stock or ours, as a model for simultaneous translation.

    `AutoModelForCausalLM` loads folders that were saved by a model of ours; this class also takes stock checkpoints.
    """

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, *, config: Any = None, **kwargs: Any
    ) -> Any:
        """The model with the checkpoint's weights.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): a folder, or a name on the Hub.
            config (`PreTrainedConfig`, `str` or `os.PathLike`, *optional*): instead of the checkpoint's own
                configuration; of the stock family or ours, or where one is stored.
            **kwargs: further arguments of the stock `from_pretrained`, and settings of [`SimulConfig`] such as
                `positions`.

        Raises:
            ValueError: for a family that is not served, settings that do not fit it, or weights that are damaged or
                not complete.

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
        return (model, info) if shows_info else model

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> Any:
        """A new model with random weights.

        Args:
            config (`PreTrainedConfig`): of a family that is served, the stock one or ours.
            **kwargs: further arguments of the stock `from_config`, such as `dtype`, and settings of [`SimulConfig`].

        Raises:
            ValueError: for a family that is not served, or settings that do not fit it.

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
    """Our configuration of a checkpoint, stock or ours, read without running any of its code.

    Args:
        config (`PreTrainedConfig`, `str` or `os.PathLike`): a configuration; or the folder that holds it, or its name
            on the Hub.
        **kwargs: settings.

    Returns:
        The configuration, and those of `kwargs` that it has no use for.

    Raises:
        ValueError: for a family that is not served, or settings that do not fit it.
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
