# SPDX-License-Identifier: Apache-2.0
"""Texts times tokenizers: what goes in comes out, words add up, and text never becomes a control token."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from helpers import TEXT, make_tokenizer
from transformers_simul import SimulProcessor, SourceStream

from .sources import NO_BREAK
from .trial import Case, Trial

CONTROL = ["<|im_start|>", "<|im_end|>", "</s>", "<pad>", "<|endoftext|>", "<|pad|>", "<0x41>", "<unk>"]
ALPHABETS = [
    "abcdefghij", "ABCxyz0123456789", ".,!?…;:-–—'\"„“”»«()[]{}<>|/\\#@&%*+=~^_$", "éèàüöäßçñ", "привет", "日本語テ",
    "한국어", "العربية", "हिन्दी", "😀👩‍👩‍👧🇩🇪", "e\u0301a\u0308",
    "\u200b\u200d\ufeff\u00ad\x00\x07\x7f", NO_BREAK, "ĠĊ", "𝔘𠀀",
]  # fmt: skip
SPACES = [" "] * 8 + ["  ", "\n", "\t", "\r\n", "\u3000", "\u2028", "\u0085"]


def _metaspace(prepend: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    return _trained(tokenizer)


def _gemma_like(prepends: bool) -> PreTrainedTokenizerFast:
    """Spaces become marks in the normaliser, as in Gemma; with a mark before the text, as in Llama."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    marks = [normalizers.Prepend("▁")] if prepends else []
    tokenizer.normalizer = normalizers.Sequence([*marks, normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    return _trained(tokenizer)


def _trained(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "</s>", "<pad>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def _chat() -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


def make_processors() -> list[SimulProcessor]:
    """Every tokenizer with every unit, with a space before the target and without."""
    tokenizers = [
        make_tokenizer(), _chat(), _metaspace("first"), _metaspace("always"), _metaspace("never"), _gemma_like(False),
        _gemma_like(True),
    ]  # fmt: skip
    return [
        SimulProcessor(tokenizer, template=template, unit=unit)
        for tokenizer in tokenizers
        for unit in ("word", "char", "token")
        for template in ("{source} => {target}", "To German: {source}\nGerman:\n{target}")
    ]


def random_text(draw: random.Random) -> str:
    """Words of one alphabet each, with control tokens' names in between and within."""
    parts = []
    for _ in range(draw.randrange(1, 8)):
        word = "".join(draw.choices(draw.choice(ALPHABETS), k=draw.randrange(1, 6)))
        if draw.random() < 0.2:
            cut = draw.randrange(len(word) + 1)
            word = word[:cut] + draw.choice(CONTROL) + word[cut:]
        parts += [word, draw.choice(SPACES)]
    return "".join(parts)


def normalised(text: str) -> str:
    """Plainly: one space for each run of white space that breaks, none at the ends."""
    words, current = [], ""
    for char in f"{text} ":
        if not char.isspace() or char in NO_BREAK:
            current += char
        elif current:
            words.append(current)
            current = ""
    return " ".join(words)


def streamed(processor: Any, text: str, draw: random.Random) -> list[list[int]]:
    """Ids of the units as a live source gives them."""
    stream = SourceStream(unit=processor.unit)
    while text:
        size = draw.randint(1, 9)
        stream.put(text[:size])
        text = text[size:]
    stream.end()
    reader, units = stream.bind(processor), []
    while (ids := reader.poll()[1]) is not None:
        units.append(ids)
    return units


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    processors = make_processors()

    def case(draw: random.Random) -> None:
        processor, text = draw.choice(processors), random_text(draw)
        plain = normalised(text)
        if not plain:
            return
        where = (processor.tokenizer.eos_token, processor.unit, processor.template, text)
        pair = processor.encode_pair(text, text)
        controls = {index for index, token in processor.tokenizer.added_tokens_decoder.items() if token.special}
        controls -= {index for index in controls if processor.tokenizer.convert_ids_to_tokens(index).startswith("<0x")}
        for side in ("source_ids", "target_ids"):
            units = pair[side]
            assert not controls & {token for unit in units for token in unit}, ("a control token", side, where, units)
            back = processor.text(units)
            assert back == plain, ("text", side, where, back)
            joined = processor.join(processor.words(units))
            # A unit may be a part of a character.
            assert joined == plain or (processor.unit == "token" and "�" in joined), ("join", side, where, joined)
        assert streamed(processor, text, draw) == pair["source_ids"], ("streamed", where)
        if processor.unit == "word":
            assert processor.words(pair["source_ids"]) == plain.split(" "), where
        elif processor.unit == "char":
            assert processor.words(pair["source_ids"]) == list(plain), where

    yield case


TRIAL = Trial(
    "texts",
    "any text comes back unchanged from seven tokenizers in three units, live as known, and is never a control token",
    prepare,
    {"smallest": 100, "small": 1_000, "full": 50_000},
    {"smallest": 60, "small": 10, "full": 180},
)
