# SPDX-License-Identifier: Apache-2.0
"""The argument MODEL of a command: it is looked for before anything heavy is imported, and then loaded."""

import argparse
import functools
import re
import sys
from pathlib import Path
from typing import Any

from ..models.policies import Policy
from ..text_files import read_json

# What a trained folder holds besides its weights, and what it may hold.
_FILES = ("config.json", "processor_config.json", "tokenizer.json")
_JSON_FILES = (*_FILES, "tokenizer_config.json", "generation_config.json")
# The kinds of [`set_decoding_weights`], whose module imports torch.
KINDS = ("int8", "bfloat16", "float16", "float32")
# And what a command takes beside them: the fastest weights that round nothing, or the weights as they are stored.
DECODING_WEIGHTS = ("auto", "stored", *KINDS)
# What Transformers says when it names its own argument.
_ASKS_FOR_TRUST = "trust_remote_code=True"


def add_model(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Add the argument MODEL and its flags to a parser.

    Args:
        parser (`argparse.ArgumentParser`): of a command.
        also (`str`, *optional*): what else MODEL may be, for its help.
    """
    parser.add_argument(
        "model", help=f"a trained folder, such as models/simul-falcon-en-de, or a name on the Hub{also}"
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="allow running code that comes with MODEL")


def add_decoding_weights(parser: argparse.ArgumentParser) -> None:
    """Add `--decoding-weights` to a parser.

    Args:
        parser (`argparse.ArgumentParser`): of a command.
    """
    parser.add_argument(
        "--decoding-weights",
        choices=DECODING_WEIGHTS,
        default="auto",
        help="the weights that a CPU decodes with: reordered for oneDNN (float32), rounded, or as they are stored; "
        "auto is float16 where it rounds nothing (docs/performance.md#weights-for-decoding)",
    )


def find_model(name: str, argument: str = "model") -> None:
    """Whether there is such a trained model, as far as can be told at once.

    Args:
        name (`str`): of a folder, or on the Hub.
        argument (`str`, *optional*): what messages call it.

    Raises:
        ValueError: if it is neither, or the folder lacks a part of a trained model, or holds a damaged one.
    """
    folder = Path(name)
    if folder.is_dir():
        for file in _FILES:
            if not (folder / file).is_file():
                raise ValueError(f"{argument} must be a folder with a trained model, but {name!r} has no {file}.")
        if not any(folder.glob("*.safetensors")):
            raise ValueError(
                f"{argument} must be a folder with a trained model, but {name!r} has no *.safetensors file."
            )
        for file in _JSON_FILES:
            if (folder / file).is_file():
                read_json(folder / file)
    else:
        find_checkpoint(name, argument)


def find_checkpoint(name: str, argument: str = "model") -> None:
    """Whether there is such a checkpoint, stock or ours, as far as can be told at once.

    Args:
        name (`str`): of a folder, or on the Hub.
        argument (`str`, *optional*): what messages call it.

    Raises:
        ValueError: if it is neither, or a folder without a configuration.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"{argument} must be a folder with a model, but {name!r} has no config.json.")
        return
    if folder.exists():
        raise ValueError(f"{argument} must be a folder or a name on the Hub, got the file {name!r}.")
    # "output/missing" is a mistyped folder if there is a folder "output".
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or folder.parent.is_dir():
        raise ValueError(
            f"{argument} must be a folder or a name on the Hub, but there is no folder {name!r}.{_known(folder)}"
        )
    _find_on_hub(name, argument)


def _known(missing: Path) -> str:
    """Name the trained folders beside the missing one, and where the demo puts them."""
    places = sorted({missing.parent, Path("output")})
    found = sorted({str(config.parent) for place in places for config in place.glob("*/config.json")})
    return f" There are: {', '.join(found)}." if found else ""


@functools.cache
def _find_on_hub(name: str, argument: str) -> None:
    """Ask the Hub one question with a time limit, once in a program, where Transformers would ask many times."""
    print(f"there is no folder {name!r}: looking for it on the Hub", file=sys.stderr, flush=True)
    from huggingface_hub import HfApi, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        HfApi().model_info(name, timeout=10)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{argument} must be a folder or a name on the Hub, got {name!r}: {reason[0]}") from error


def load(
    name: str, trust_remote_code: bool = False, decoding_weights: str = "stored", **options: Any
) -> tuple[Any, Any]:
    """Load a trained model in evaluation mode, on the GPU if there is one and it gets no weights for CPUs, and its
    processor.

    Args:
        name (`str`): of a folder, or on the Hub.
        trust_remote_code (`bool`, *optional*): whether code that it brings may run.
        decoding_weights (`str`, *optional*): one of `DECODING_WEIGHTS`. A model whose weights they change for decoding
            can neither be trained nor be saved.
        **options: of [`AutoSimulModel.from_pretrained`].

    Raises:
        ValueError: if there is no such model, or it is damaged; or for another word than these.
    """
    if decoding_weights not in DECODING_WEIGHTS:
        raise ValueError(f"decoding_weights must be one of {DECODING_WEIGHTS}, got {decoding_weights!r}.")
    find_model(name)
    import torch

    from ..auto import AutoSimulModel
    from ..models.decoding_weights import float16_is_exact, set_decoding_weights
    from ..models.processing import SimulProcessor

    kind = decoding_weights if decoding_weights in KINDS else None
    try:
        # First what is small, so that what is wrong with it shows at once.
        processor = SimulProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
        model = AutoSimulModel.from_pretrained(name, decoding_weights=kind, **options).eval()
    except (ValueError, OSError) as error:
        if _ASKS_FOR_TRUST in str(error):
            raise ValueError(
                f"model {name!r} brings code for its tokenizer, which runs only with --trust-remote-code."
            ) from error
        raise
    except Exception as error:
        # For a damaged folder the libraries raise errors of every type.
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"model {name!r} cannot be loaded: {type(error).__name__}: {reason}") from error
    if kind is None and torch.cuda.is_available():
        model = model.to("cuda")
    elif decoding_weights == "auto" and float16_is_exact(model):
        set_decoding_weights(model, "float16")
    return model, processor


def usual_policy(model: Any) -> Policy:
    """Return the policy that a model's generation configuration names, as `generate()` follows it; wait-3 if it names
    none.

    Args:
        model: from [`load`].

    Raises:
        ValueError: for a name that is none.
    """
    from ..models.configuration_generation import SimulGenerationConfig
    from ..models.policy_names import policy_from_name

    return policy_from_name(SimulGenerationConfig.of(model.generation_config).usual_policy)


__all__ = [
    "DECODING_WEIGHTS",
    "KINDS",
    "add_decoding_weights",
    "add_model",
    "find_checkpoint",
    "find_model",
    "load",
    "usual_policy",
]
