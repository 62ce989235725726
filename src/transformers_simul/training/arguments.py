# SPDX-License-Identifier: Apache-2.0
"""Flags that the programs share, for `HfArgumentParser`."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from transformers import HfArgumentParser, TrainingArguments

from ..models.modeling_simul import NO_DATA_PARALLEL
from ..models.policies import MixturePolicy, OfflinePolicy, Policy, WaitKPolicy
from ..models.processing import FALCON_TEMPLATE
from .paths import AlignedPolicy, RandomPathPolicy


@dataclass
class ModelArguments:
    """What to train: without `--model_name_or_path`, a small model from scratch and a tokenizer for its corpus."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A Falcon, Bloom, MPT, Llama, Mistral, Qwen2/3 or Gemma 3, or a trained folder."},
    )
    positions: str | None = field(
        default=None,
        metadata={"help": "How positions follow the schedule (docs/positions.md); the default depends on the family."},
    )
    target_start: int | None = field(
        default=None, metadata={"help": "First position of the target, with --positions group or reserved."}
    )
    use_lora: bool = field(default=False, metadata={"help": "Train low-rank adapters only; merged into what is saved."})
    load_in_4bit: bool = field(
        default=False, metadata={"help": "Hold the base in 4 bits (nf4) while its adapters train; needs --use_lora."}
    )
    load_in_8bit: bool = field(
        default=False, metadata={"help": "Hold the base in 8 bits while its adapters train; needs --use_lora."}
    )
    lora_rank: int = field(
        default=16, metadata={"help": "Rank of the adapters, which are on all linear layers but the last."}
    )
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the adapters, times their rank."})
    vocab_size: int = field(
        default=4000,
        metadata={"help": "Size of the byte-level BPE of a new model, or of --new_vocabulary."},
    )
    new_vocabulary: bool = field(
        default=False,
        metadata={
            "help": "Give the model of --model_name_or_path a vocabulary of --vocab_size tokens made for the training "
            "text, as for another language; what it knows of pieces that both have is kept."
        },
    )
    hidden_size: int = field(default=256, metadata={"help": "Width of a new model."})
    num_hidden_layers: int = field(default=4, metadata={"help": "Layers of a new model."})
    num_attention_heads: int = field(default=8, metadata={"help": "Attention heads of a new model."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout of hidden states, attention and adapters."})
    attention_dropout: float | None = field(
        default=None,
        metadata={
            "help": "Dropout of attention; the default is --dropout. Without it, eager attention can beat SDPA: "
            "see --attn_implementation."
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "How attention is computed while training; the default is 'sdpa'. On a CPU under --bf16 with "
            "--attention_dropout 0, 'eager' may train short rows faster than 'sdpa': try both.",
            "choices": ["eager", "sdpa", "flex_attention"],
        },
    )
    label_smoothing: float = field(
        default=0.0, metadata={"help": "Label smoothing of target tokens (--label_smoothing_factor must stay 0)."}
    )

    def __post_init__(self) -> None:
        if self.new_vocabulary and (not self.model_name_or_path or self.use_lora):
            raise ValueError(
                "new_vocabulary needs model_name_or_path, whose model it changes, and no use_lora, which would leave "
                "the new embeddings as they are."
            )


@dataclass
class DataArguments:
    """Where the sentence pairs come from. `{source_lang}` and `{target_lang}` in a name stand for the codes."""

    source_lang: str = field(default="en", metadata={"help": "Code, and the column's name in files."})
    target_lang: str = field(default="de", metadata={"help": "Code, and the column's name in files."})
    target_langs: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Several targets for one model, instead of --target_lang: codes for {target_lang} in names, or the "
            "columns of one table. The template must name {target_lang}; the first is the usual one."
        },
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "'home_assistant', 'libreoffice', 'wesnoth', or a data set on the Hub."}
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the data set on the Hub."}
    )
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Commit or tag of the data set on the Hub, so that it cannot change."}
    )
    train_file: list[str] = field(
        default_factory=list, metadata={"help": "One JSON-lines or other table, or two text files."}
    )
    train_alignment: str | None = field(
        default=None,
        metadata={
            "help": "Word alignments of the training pairs, from `transformers-simul align`, for --wait_k aligned."
        },
    )
    validation_alignment: str | None = field(default=None, metadata={"help": "As --train_alignment."})
    validation_file: list[str] = field(default_factory=list, metadata={"help": "As --train_file."})
    test_file: list[str] = field(default_factory=list, metadata={"help": "As --train_file."})
    template: str = field(default=FALCON_TEMPLATE, metadata={"help": "Prompt with {source} and {target}."})
    use_chat_template: bool = field(
        default=False,
        metadata={"help": "Rows are the tokenizer's own chat instead of --template; for instruct models."},
    )
    max_length: int = field(default=512, metadata={"help": "Longest row in tokens; longer pairs are left out."})
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"help": "Pad each batch to a multiple of so many tokens, which some hardware prefers."}
    )
    concatenate: int = field(
        default=1, metadata={"help": "Train on up to so many consecutive pairs joined to one, for long text."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only so many training pairs."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use only so many test sentences."})

    def __post_init__(self) -> None:
        for name in ("max_train_samples", "max_predict_samples"):
            if (most := getattr(self, name)) is not None and most < 1:
                raise ValueError(f"{name} must be at least 1, got {most}.")
        if len({*self.target_langs}) < len(self.target_langs):
            raise ValueError(f"target_langs must name each language once, got {self.target_langs}.")
        if self.target_langs:
            # What the model translates to unless told.
            self.target_lang = self.target_langs[0]


@dataclass
class ProgramArguments(TrainingArguments):
    """The Trainer's flags with the settings that every program here needs, and `--bf16` on CPUs that compute in it.

    Raises:
        ValueError: for `bf16` where neither a GPU nor the CPU computes in it, and for several GPUs in one process.
    """

    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Start anew: remove the checkpoints of an earlier training from --output_dir."},
    )

    def __post_init__(self) -> None:
        if not torch.accelerator.is_available():
            if self.bf16 and not self.use_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
                raise ValueError("bf16 needs a GPU or a CPU that computes in bfloat16; --use_cpu emulates it, slowly.")
            self.use_cpu, self.dataloader_pin_memory = True, False
        # The collator reads columns that forward() does not name.
        self.remove_unused_columns = False
        super().__post_init__()
        if self.n_gpu > 1:
            raise ValueError(NO_DATA_PARALLEL)


def parse_flags(kinds: Any, arguments: Sequence[str] | None = None, description: str | None = None) -> tuple[Any, ...]:
    """Parse the flags of a program into one object of each kind; a wrong flag ends the program with status 2.

    Args:
        kinds (`tuple` of dataclasses): their fields are the flags.
        arguments (`Sequence[str]`, *optional*): defaults to the command line.
        description (`str`, *optional*): description of the program, for `--help`.

    Raises:
        ValueError: for flags that contradict each other.

    Example:

    ```python
    >>> from transformers_simul.training import ModelArguments, parse_flags
    >>> parse_flags((ModelArguments,), ["--hidden-size", "64"])[0].hidden_size
    64

    ```
    """
    # There are some 200 flags: in a usage that lists them all, nobody finds the error at its end.
    usage = "%(prog)s --output_dir FOLDER [FLAG ...]; --help lists the flags"
    parser = HfArgumentParser(kinds, usage=usage, description=description)
    *parsed, others = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    if others:
        known = [f"--{each.name}" for kind in kinds for each in fields(kind)]
        near = difflib.get_close_matches(others[0].partition("=")[0].replace("-", "_").replace("__", "--", 1), known, 1)
        parser.error(f"unrecognized arguments: {' '.join(others)}{f'; did you mean {near[0]}?' if near else ''}")
    return tuple(parsed)


def training_policy(names: Sequence[str]) -> Policy:
    """Return the policy that flags name, or a mixture of several.

    Args:
        names (`Sequence[str]`): each a number for wait-k, `"full"` for the whole source, `"random-1-9"` for
            [`RandomPathPolicy`] between two lags, or `"aligned"` for [`AlignedPolicy`], whose margin may follow:
            `"aligned-1"`, or `"aligned-0-2"` to draw it; `"aligned-0-2-untaught"` follows the same paths without
            decision rows.

    Raises:
        ValueError: for another name, or numbers out of range.

    Example:

    ```python
    >>> from transformers_simul.training import training_policy
    >>> training_policy(["1", "full"])
    MixturePolicy([WaitKPolicy(k=1), OfflinePolicy()])
    >>> training_policy(["random-1-9"])
    RandomPathPolicy(least_lag=1, greatest_lag=9)

    ```
    """
    policies = [_training_policy(name) for name in names]
    return policies[0] if len(policies) == 1 else MixturePolicy(policies)


def _training_policy(name: str) -> Policy:
    path = name.removesuffix("-untaught")
    teaches = path == name
    kind, *numbers = path.split("-") if path[:1].isalpha() else ("", path)
    if kind != "aligned" and not teaches:
        kind = "?"
    if not all(number.lstrip("+-").isdigit() for number in numbers):
        kind = "?"
    match kind, [int(number) for number in numbers] if kind != "?" else []:
        case "", [k]:
            return WaitKPolicy(k)
        case "full", []:
            return OfflinePolicy()
        case "random", [least, greatest]:
            return RandomPathPolicy(least, greatest)
        case "aligned", []:
            return AlignedPolicy(teaches_reads=teaches)
        case "aligned", [margin]:
            return AlignedPolicy(margin, teaches_reads=teaches)
        case "aligned", [low, high]:
            return AlignedPolicy((low, high), teaches_reads=teaches)
    raise ValueError(
        f"k must be a whole number of at least 1, 'full', 'random-LEAST-GREATEST', 'aligned' or 'aligned-MARGIN' "
        f"(or these with '-untaught'), got {name!r}."
    )


__all__ = ["DataArguments", "ModelArguments", "ProgramArguments", "parse_flags", "training_policy"]
