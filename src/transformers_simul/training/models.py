# SPDX-License-Identifier: Apache-2.0
"""The model and processor that a program fine-tunes: those of a checkpoint, or small new ones made for the corpus."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoTokenizer, BitsAndBytesConfig, ProcessorMixin, set_seed
from transformers.utils import PROCESSOR_NAME

from ..auto import AutoSimulModel, simul_config
from ..corpora import Pair
from ..models.linear import keep_plain_4bit
from ..models.modeling_simul_falcon import SimulFalconConfig, SimulFalconForCausalLM
from ..models.processing import SimulProcessor
from ..models.template import language_names, split_template
from ..models.text import control_tokens
from .arguments import DataArguments, ModelArguments
from .vocabulary import move_to_vocabulary, train_tokenizer


def make_processor(args: ModelArguments, data_args: DataArguments, pairs: Sequence[Pair]) -> SimulProcessor:
    """Make a processor with the checkpoint's tokenizer, or with one trained on the pairs for a new model or vocabulary.

    Raises:
        ValueError: for a checkpoint of another architecture, one whose tokenizer brings code, a template that cannot be
            split, a missing chat template, or `use_chat_template` with a new vocabulary, or a template that names a
            token whose role it changes.
    """
    if args.model_name_or_path:
        simul_config(args.model_name_or_path)
    if args.new_vocabulary and data_args.use_chat_template:
        raise ValueError(
            "use_chat_template must not be given with new_vocabulary, whose tokenizer has no chat: give template."
        )
    if args.model_name_or_path:
        tokenizer = _checkpoint_tokenizer(args.model_name_or_path)
        if args.new_vocabulary:
            tokenizer = train_tokenizer(pairs, args.vocab_size, _kept_tokens(data_args, tokenizer))
    else:
        tokenizer = train_tokenizer(pairs, args.vocab_size)
    if data_args.use_chat_template:
        return SimulProcessor.from_chat_template(
            tokenizer, data_args.source_lang, data_args.target_lang, target_langs=data_args.target_langs or None
        )
    return SimulProcessor(
        tokenizer,
        source_lang=data_args.source_lang,
        target_lang=data_args.target_lang,
        template=data_args.template,
        target_langs=data_args.target_langs or None,
    )


def _checkpoint_tokenizer(name: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except ValueError as error:
        # Transformers' message names an argument that this program does not have.
        if "trust_remote_code=True" not in str(error):
            raise
        raise ValueError(
            f"model_name_or_path must have a tokenizer without code of its own, which training never runs, got "
            f"{name!r}."
        ) from error


def _own_eos(name: str, tokenizer: Any) -> int | None:
    """What ends a target where a processor of ours says so, as for a chat; other models have processors too."""
    settings, _ = ProcessorMixin.get_processor_dict(name)
    eos_token = settings.get("eos_token")
    if settings.get("processor_class") != SimulProcessor.__name__ or eos_token is None:
        return None
    token = tokenizer.get_vocab().get(eos_token)
    if token is None:
        raise ValueError(f"eos_token in {name}/{PROCESSOR_NAME} must be a token of its tokenizer, got {eos_token!r}.")
    return int(token)


def _kept_tokens(data_args: DataArguments, former: Any) -> list[str]:
    """The tokens of a former tokenizer that are no text, or were added, and that a prompt names."""
    prompts = [
        split_template(data_args.template, language_names(data_args.source_lang, target_lang))[:2]
        for target_lang in data_args.target_langs or [data_args.target_lang]
    ]
    added = [token.content for token in former.added_tokens_decoder.values()]
    kept = [name for name in {*control_tokens(former).values(), *added} if any(name in "\0".join(p) for p in prompts)]
    for name, role in (("<|endoftext|>", former.eos_token), ("<|pad|>", former.pad_token)):
        if name in kept and name != role:
            raise ValueError(
                f"template must not name {name!r} with new_vocabulary, which gives it another role, got "
                f"{data_args.template!r}."
            )
    return sorted(kept)


def make_config(args: ModelArguments, tokenizer: Any, positions: str | None = None) -> Any:
    """Make the configuration of the checkpoint or of a new model with the flags' settings. It is checked before
    anything is trained.

    Args:
        args (`ModelArguments`): names the checkpoint, or the size of a new model.
        tokenizer: gives a new model its vocabulary.
        positions (`str`, *optional*): instead of the flag's.

    Raises:
        ValueError: for a checkpoint of another architecture, or settings that do not fit it.
    """
    settings: dict[str, Any] = {"positions": positions or args.positions, "target_start": args.target_start}
    settings = {name: value for name, value in settings.items() if value is not None}
    attention_dropout = args.dropout if args.attention_dropout is None else args.attention_dropout
    if (args.load_in_4bit or args.load_in_8bit) and not args.use_lora:
        raise ValueError("load_in_4bit and load_in_8bit need use_lora: a quantised base cannot be trained itself.")
    if not args.model_name_or_path:
        if args.use_lora:
            raise ValueError("use_lora needs model_name_or_path: adapters change a trained model.")
        config = SimulFalconConfig(
            vocab_size=len(tokenizer),
            hidden_size=args.hidden_size,
            num_hidden_layers=args.num_hidden_layers,
            num_attention_heads=args.num_attention_heads,
            multi_query=False,
            parallel_attn=False,
            bias=True,
            alibi_rounding="exact",
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            hidden_dropout=args.dropout,
            attention_dropout=attention_dropout,
            label_smoothing=args.label_smoothing,
            **settings,
        )
        config.check_simul()
        return config
    config, _ = simul_config(str(args.model_name_or_path), label_smoothing=args.label_smoothing, **settings)
    # Under adapters the frozen layers stay as they are; the adapters have dropout of their own.
    if not args.use_lora:
        known = {field.name for field in dataclasses.fields(config)}
        for name, value in {"hidden_dropout": args.dropout, "attention_dropout": attention_dropout}.items():
            if name in known:
                setattr(config, name, value)
    return config


def make_model(
    args: ModelArguments, processor: SimulProcessor, positions: str | None = None, seed: int | None = None
) -> Any:
    """Load the checkpoint's model or make a new one; with `use_lora` inside a `peft.PeftModel`.

    Args:
        args (`ModelArguments`): names the checkpoint, or the size of a new model.
        processor (`SimulProcessor`): gives a new model, or one with `new_vocabulary`, its vocabulary.
        positions (`str`, *optional*): instead of the flag's.
        seed (`int`, *optional*): seed of new weights, and of all that is drawn after them.

    Raises:
        ValueError: as [`make_config`] and [`move_to_vocabulary`], or if `peft` or `bitsandbytes` is needed and not
            installed.
    """
    if seed is not None:
        set_seed(seed)
    config = make_config(args, processor.tokenizer, positions)
    options: dict[str, Any] = {"attn_implementation": args.attn_implementation} if args.attn_implementation else {}
    if not args.model_name_or_path:
        return SimulFalconForCausalLM._from_config(config, **options)
    if args.load_in_4bit or args.load_in_8bit:
        options["quantization_config"] = quantization(args)
    model = AutoSimulModel.from_pretrained(args.model_name_or_path, config=config, **options)
    if args.new_vocabulary:
        former = _checkpoint_tokenizer(args.model_name_or_path)
        move_to_vocabulary(model, former, processor.tokenizer, _own_eos(args.model_name_or_path, former))
    return add_lora(model, args) if args.use_lora else model


def quantization(args: ModelArguments) -> BitsAndBytesConfig:
    """Return how `bitsandbytes` holds a frozen base (Dettmers et al. 2023, QLoRA); on a GPU it computes in bfloat16.

    Raises:
        ValueError: if the package is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "load_in_4bit and load_in_8bit need bitsandbytes: pip install 'transformers_simul[quantisation]'."
        )
    return BitsAndBytesConfig(
        load_in_4bit=args.load_in_4bit,
        load_in_8bit=args.load_in_8bit,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
    )


def add_lora(model: Any, args: ModelArguments) -> Any:
    """Add low-rank adapters (Hu et al. 2022) to all linear layers but the last; only these train.

    Raises:
        ValueError: if `peft` is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    except ImportError as error:
        raise ValueError("use_lora needs peft: pip install 'transformers_simul[lora]'.") from error
    if args.load_in_4bit or args.load_in_8bit:
        keep_plain_4bit(model, trains=True)
        # The Trainer turns checkpointing on where it is asked to.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(
        model,
        LoraConfig(
            r=args.lora_rank,
            lora_alpha=args.lora_alpha,
            lora_dropout=args.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


__all__ = ["add_lora", "make_config", "make_model", "make_processor", "quantization"]
