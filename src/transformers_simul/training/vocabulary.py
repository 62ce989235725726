# SPDX-License-Identifier: Apache-2.0
"""A tokenizer made for the text of a training, and a trained model that learns to write with it."""

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..corpora import Pair
from ..models.text import split_words


def train_tokenizer(pairs: Iterable[Pair], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE for both languages of the pairs, with at most `vocab_size` tokens, two special ones
    included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Every word follows a space, as in the rows.
    tokenizer.train_from_iterator((f" {' '.join(split_words(text))}" for pair in pairs for text in pair), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")


def move_to_vocabulary(model: Any, former: Any, tokenizer: Any) -> None:
    """Give a trained model the vocabulary of another tokenizer, in place, so that it can go on learning with it.

    A token's embedding, and its row of the output head, become the mean of those of the tokens in which the former
    tokenizer writes the same text: a piece that both have keeps what it has learnt (fast vocabulary transfer, Gee et
    al. 2022, EMNLP industry track). The end of the sentence stays the end of the sentence.

    Args:
        model (`PreTrainedModel`): of any family, with plain weights.
        former (`PreTrainedTokenizerBase`): the one that the model was trained with.
        tokenizer (`PreTrainedTokenizerBase`): the one that it gets; with `eos_token`.

    Example:

    ```python
    >>> import copy
    >>> from transformers_simul.corpora import Pair
    >>> from transformers_simul.training.vocabulary import move_to_vocabulary, train_tokenizer
    >>> other = train_tokenizer([Pair("a dog runs", "un chien court")], vocab_size=280)
    >>> moved = copy.deepcopy(model)
    >>> move_to_vocabulary(moved, processor.tokenizer, other)
    >>> moved.config.vocab_size == len(other)
    True

    ```
    """
    rows = [_former_tokens(token, former, tokenizer) for token in range(len(tokenizer))]
    before = {name: module.weight.detach().clone() for name, module in _tables(model).items()}
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for name, module in _tables(model).items():
            for token, tokens in enumerate(rows):
                module.weight[token] = before[name][tokens].mean(0)
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id


def _tables(model: Any) -> dict[str, Any]:
    """The modules with a row for each token; a tied head is that of the embeddings."""
    tables = {"embeddings": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    if tables["head"].weight is tables["embeddings"].weight:
        del tables["head"]
    return tables


def _former_tokens(token: int, former: Any, tokenizer: Any) -> list[int]:
    """The former tokens that write what a token writes."""
    if token == tokenizer.eos_token_id:
        return [former.eos_token_id]
    if token == tokenizer.pad_token_id:
        return [former.eos_token_id if former.pad_token_id is None else former.pad_token_id]
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    if "\N{REPLACEMENT CHARACTER}" in text:
        # A part of a character has a token in another byte-level vocabulary, and no text of its own.
        piece = former.get_vocab().get(tokenizer.convert_ids_to_tokens(token))
        return list(range(len(former))) if piece is None else [piece]
    # Behind a line's end, where no tokenizer puts a space of its own.
    line, row = (former.encode(part, add_special_tokens=False) for part in ("\n", f"\n{text}"))
    tokens = row[len(line) :] if row[: len(line)] == line else former.encode(text, add_special_tokens=False)
    return tokens or list(range(len(former)))


__all__ = ["move_to_vocabulary", "train_tokenizer"]
