# SPDX-License-Identifier: Apache-2.0
"""The families, made known to Transformers' Auto classes, and checkpoints of any of them."""

from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig

from .models.families import family_class


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
    """Loads a checkpoint of any family that is served, stock or ours, for simultaneous translation."""

    @staticmethod
    def from_pretrained(name: str, **kwargs: Any) -> Any:
        """The model.

        Args:
            name (`str`): of a folder, or on the hub.
            **kwargs: of the stock `from_pretrained`, and settings of [`SimulConfig`] such as `positions`.

        Raises:
            ValueError: for a family that is not served.

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
        config, rest = simul_config(name, **kwargs)
        return simul_class(config.model_type).from_pretrained(name, config=config, **rest)


def simul_config(name: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    """Our configuration of a checkpoint, stock or ours, read without running any of its code.

    Args:
        name (`str`): of a folder, or on the hub.
        **kwargs: settings.

    Returns:
        The configuration, and those of `kwargs` that it has no use for.

    Raises:
        ValueError: for a family that is not served, or settings that do not fit it.
    """
    names = ("revision", "token", "cache_dir", "local_files_only", "subfolder", "force_download")
    loading = {key: kwargs[key] for key in names if key in kwargs}
    stored, _ = PreTrainedConfig.get_config_dict(name, **loading)
    config_class = simul_class(stored.get("model_type", "")).config_class
    # Under our name from the start: Transformers warns of every other change of type.
    ours = stored | {"model_type": config_class.model_type}
    config, rest = config_class.from_dict(ours, return_unused_kwargs=True, **kwargs)
    config.check_simul()
    return config, rest


__all__ = ["AutoSimulModel", "simul_class", "simul_config"]
