# SPDX-License-Identifier: Apache-2.0
"""A tokenizer made for the text of a training, and a trained model that learns to write with it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from ..corpora import Pair
from ..models.text import BYTE_PIECE, split_words, token_bytes

# What a generation configuration may hold about tokens by their numbers, which mean others afterwards.
_BY_NUMBER = (
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
    "sequence_bias",
    "forced_bos_token_id",
    "forced_eos_token_id",
)


def train_tokenizer(pairs: Iterable[Pair], vocab_size: int, control: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE for both languages of the pairs, with at most `vocab_size` tokens, two special ones
    included.

    Args:
        pairs (`Iterable[Pair]`): the text.
        vocab_size (`int`): most tokens; there are never less than the 256 bytes and the special ones.
        control (`Sequence[str]`, *optional*): further special tokens, such as a template's `<bos>`.

    Returns:
        `PreTrainedTokenizerFast`: with `<|endoftext|>` as its EOS and `<|pad|>` for padding.

    Example:

    ```python
    >>> from transformers_simul.corpora import Pair
    >>> from transformers_simul.training import train_tokenizer
    >>> new = train_tokenizer([Pair("a dog runs", "un chien court")] * 2, vocab_size=300)
    >>> new.tokenize(" chien")
    ['Ġchien']

    ```
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*dict.fromkeys(["<|endoftext|>", "<|pad|>", *control])],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Every word follows a space, as in the rows.
    tokenizer.train_from_iterator((f" {' '.join(split_words(text))}" for pair in pairs for text in pair), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")


def move_to_vocabulary(model: Any, former: Any, tokenizer: Any, former_eos_token_id: int | None = None) -> None:
    """Give a trained model the vocabulary of another tokenizer, in place, so that it can go on learning with it.

    A token's embedding, and its row of the output head, become the mean of those of the tokens in which the former
    tokenizer writes the same text: a piece that both have keeps what it has learnt (fast vocabulary transfer, Gee et
    al. 2022, EMNLP industry track). A piece of a character is written in the former tokens of its bytes. BOS, EOS and
    padding get the row of their role, other special tokens that of their name; what nothing is known of gets the mean
    of all rows. Settings of the generation configuration that name tokens by their numbers are removed.

    Args:
        model (`PreTrainedModel`): of any family of text, with weights that can be trained.
        former (`PreTrainedTokenizerBase`): the one that the model was trained with.
        tokenizer (`PreTrainedTokenizerBase`): the one that it gets.
        former_eos_token_id (`int`, *optional*): what ended a target until now; the former tokenizer's EOS unless told.

    Raises:
        ValueError: for a model that hears, or whose embeddings cannot be trained, for a tokenizer without EOS, or one
            whose vocabulary marks neither bytes nor word starts in a known way.

    Example:

    ```python
    >>> import copy
    >>> from transformers_simul.corpora import Pair
    >>> from transformers_simul.training import move_to_vocabulary, train_tokenizer
    >>> other = train_tokenizer([Pair("a dog runs", "un chien court")], vocab_size=280)
    >>> moved = copy.deepcopy(model)
    >>> move_to_vocabulary(moved, processor.tokenizer, other)
    >>> moved.config.vocab_size == len(other)
    True

    ```
    """
    if hasattr(model.config, "audio_config"):
        raise ValueError("model must be one of text, got one of speech: move its language model before.")
    former_eos = former.eos_token_id if former_eos_token_id is None else former_eos_token_id
    for name, token in (("former", former_eos), ("tokenizer", tokenizer.eos_token_id)):
        if token is None:
            raise ValueError(f"{name} must have an eos_token: it ends the target.")
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    before = {"embeddings": _weight(embeddings), "head": _weight(head)}
    is_tied = before["head"] is before["embeddings"]
    known = len(before["embeddings"])
    written = [[token for token in tokens if token < known] for tokens in _former_tokens(former, former_eos, tokenizer)]
    after = {name: _means(weight, written) for name, weight in before.items()}
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings.weight = nn.Parameter(after["embeddings"], before["embeddings"].requires_grad)
    embeddings.num_embeddings = head.out_features = len(tokenizer)
    head.weight = embeddings.weight if is_tied else nn.Parameter(after["head"], before["head"].requires_grad)
    # Resizing puts a stock layer in the place of a head; and the row of a former padding token would not learn.
    model.set_output_embeddings(head)
    embeddings.padding_idx = None if tokenizer.pad_token_id == tokenizer.eos_token_id else tokenizer.pad_token_id
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    for name in _BY_NUMBER:
        setattr(model.generation_config, name, None)


def _weight(module: nn.Module) -> torch.Tensor:
    weight = dict(module.named_parameters()).get("weight")
    if weight is None or not weight.is_floating_point() or not len(weight):
        raise ValueError(
            "model must have embeddings that can be trained, on one device, to get another vocabulary: neither "
            "quantised, nor with decoding_weights, nor in shares among processes."
        )
    return weight


def _means(weight: torch.Tensor, written: list[list[int]]) -> torch.Tensor:
    """The mean row of each list of tokens, and of all tokens for an empty one."""
    rows = weight.detach().float()
    starts = torch.tensor([0, *map(len, written)]).cumsum(0)[:-1]
    tokens = torch.tensor([token for tokens in written for token in tokens])
    means = F.embedding_bag(tokens.to(rows.device), rows, starts.to(rows.device), mode="mean")
    means[[number for number, tokens in enumerate(written) if not tokens]] = rows.mean(0)
    return means.to(weight.dtype)


def _former_tokens(former: Any, former_eos: int, tokenizer: Any) -> Iterator[list[int]]:
    """For each token of the new tokenizer the former tokens that write the same."""
    former_bytes = token_bytes(former)
    # Numbers may have holes, and lie beyond the count of tokens.
    by_name = {name: token for name, token in former.get_vocab().items() if token < len(former_bytes)}
    # Of a letter and the byte that it is, the letter is what the former tokenizer writes.
    pieces = sorted(by_name.items(), key=lambda piece: BYTE_PIECE.fullmatch(piece[0]) is None)
    by_bytes = {former_bytes[token]: token for _, token in pieces if former_bytes[token]}
    former_pad = former_eos if former.pad_token_id is None else former.pad_token_id
    former_bos = former_eos if former.bos_token_id is None else former.bos_token_id
    roles = {
        tokenizer.bos_token_id: former_bos,
        tokenizer.pad_token_id: former_pad,
        tokenizer.eos_token_id: former_eos,
    }
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    for token, (name, text) in enumerate(zip(names, token_bytes(tokenizer), strict=True)):
        same = by_name.get(name)
        if token in roles:
            yield [roles[token]]
        elif same is not None and text in (None, former_bytes[same]):
            yield [same]
        elif not text:
            yield []
        elif text in by_bytes:
            yield [by_bytes[text]]
        else:
            yield _write(former, text, by_bytes)


def _write(former: Any, text: bytes, by_bytes: dict[bytes, int]) -> list[int]:
    try:
        line, row = (former.encode(part, add_special_tokens=False) for part in ("\n", f"\n{text.decode()}"))
    except UnicodeDecodeError:
        return _write_bytes(text, by_bytes)
    # Behind a line's end, where no tokenizer puts a space of its own.
    return row[len(line) :] if row[: len(line)] == line else _write_bytes(text, by_bytes)


def _write_bytes(text: bytes, by_bytes: dict[bytes, int]) -> list[int]:
    """The longest former token that comes next, again and again; a byte that has none is left out."""
    tokens, start = [], 0
    while start < len(text):
        ends = range(len(text), start, -1)
        stop = next((end for end in ends if text[start:end] in by_bytes), start + 1)
        if text[start:stop] in by_bytes:
            tokens.append(by_bytes[text[start:stop]])
        start = stop
    return tokens


__all__ = ["move_to_vocabulary", "train_tokenizer"]
