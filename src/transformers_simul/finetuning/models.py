# SPDX-License-Identifier: Apache-2.0
"""The model and processor that a program fine-tunes: a checkpoint's, or small ones made for the corpus."""

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from ..auto import SimulFalconConfig, SimulFalconForCausalLM
from ..corpora import Pair
from ..processing_simul import SimulProcessor
from ..text_simul import split_words
from .arguments import DataArguments, ModelArguments


def check_model_type(name: str) -> None:
    """Look at a checkpoint's configuration before anything is loaded.

    Args:
        name (`str`): of a folder, or on the hub.

    Raises:
        ValueError: if the checkpoint is of another architecture.
    """
    model_type = AutoConfig.from_pretrained(name).model_type
    if model_type not in ("falcon", "simul_falcon"):
        raise ValueError(f"model_name_or_path must be a Falcon with ALiBi, got a checkpoint of {model_type!r}.")


def make_processor(args: ModelArguments, data_args: DataArguments, pairs: Sequence[Pair]) -> SimulProcessor:
    """With the checkpoint's tokenizer, or one trained on the pairs.

    Args:
        args (`ModelArguments`): names the checkpoint, or the size of a new vocabulary.
        data_args (`DataArguments`): template and languages.
        pairs (`Sequence[Pair]`): of training.

    Raises:
        ValueError: for a checkpoint of another architecture, or a template that cannot be split.
    """
    if args.model_name_or_path:
        check_model_type(args.model_name_or_path)
        tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
    else:
        tokenizer = train_tokenizer(pairs, args.vocab_size)
    return SimulProcessor(
        tokenizer,
        source_lang=data_args.source_lang,
        target_lang=data_args.target_lang,
        template=data_args.template,
    )


def make_model(args: ModelArguments, processor: SimulProcessor, **config: Any) -> SimulFalconForCausalLM:
    """The checkpoint's model, or a new one.

    Args:
        args (`ModelArguments`): its size.
        processor (`SimulProcessor`): gives a new model its vocabulary.
        **config: further settings of [`SimulFalconConfig`].
    """
    config |= {
        "hidden_dropout": args.dropout,
        "attention_dropout": args.dropout,
        "label_smoothing": args.label_smoothing,
    }
    if args.model_name_or_path:
        return SimulFalconForCausalLM.from_pretrained(args.model_name_or_path, **config)
    tokenizer = processor.tokenizer
    layout: dict[str, Any] = {"multi_query": False, "parallel_attn": False, "bias": True, "alibi_rounding": "exact"}
    return SimulFalconForCausalLM(
        SimulFalconConfig(
            vocab_size=len(tokenizer),
            hidden_size=args.hidden_size,
            num_hidden_layers=args.num_hidden_layers,
            num_attention_heads=args.num_attention_heads,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **layout | config,
        )
    )


def train_tokenizer(pairs: Iterable[Pair], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE for both languages of the pairs.

    Args:
        pairs (`Iterable[Pair]`): of training.
        vocab_size (`int`): most tokens, the two special ones included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Every word stands behind a space, as in the rows.
    tokenizer.train_from_iterator((f" {' '.join(split_words(text))}" for pair in pairs for text in pair), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")


__all__ = ["check_model_type", "make_model", "make_processor", "train_tokenizer"]
