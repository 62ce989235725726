# SPDX-License-Identifier: Apache-2.0
"""What several test modules need: a tiny tokenizer, tiny models, random sentences."""

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LogitsProcessor, PreTrainedTokenizerFast

from transformers_simul import SimulFalconConfig, SimulFalconForCausalLM, SimulProcessor

TEMPLATE = "Translate: {source}\nTo {target_lang}: {target}"
WORDS = "a dog runs over the green meadow while two children watch him jumping remarkably high today".split()
TEXT = [
    "a dog runs over the green meadow .",
    "two children watch him jumping remarkably high today",
    "Translate: it To German: yes",
] * 3


def make_tokenizer(vocab_size: int = 300) -> PreTrainedTokenizerFast:
    """A byte-level BPE so small that most words take several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>", clean_up_tokenization_spaces=False
    )


def make_processor(**kwargs) -> SimulProcessor:
    return SimulProcessor(make_tokenizer(), **{"target_lang": "de", "template": TEMPLATE} | kwargs)


def make_config(processor: SimulProcessor | None = None, **kwargs) -> SimulFalconConfig:
    """falcon-rw-1b's layout, made tiny."""
    options = {
        "vocab_size": len(processor.tokenizer) if processor else 300,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "new_decoder_architecture": False,
        "multi_query": False,
        "parallel_attn": False,
        "bias": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "initializer_range": 0.2,
    }
    return SimulFalconConfig(**options | kwargs)


def make_model(processor: SimulProcessor | None = None, seed: int = 0, **kwargs) -> SimulFalconForCausalLM:
    import torch

    torch.manual_seed(seed)
    return SimulFalconForCausalLM(make_config(processor, **kwargs)).eval()


def random_sentence(draw: random.Random, least: int = 1, most: int = 8) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(least, most)))


def teach(model, processor, draw: random.Random, steps: int = 500):
    """Teaches a tiny model to copy a little, so that it writes words and ends them by itself."""
    import torch

    from transformers_simul import SimulMaskDataCollator, WaitKPolicy

    collator = SimulMaskDataCollator(processor, WaitKPolicy(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(steps):
        texts = [random_sentence(draw, 2, 9) for _ in range(8)]
        model(**collator([{"source": text, "target": text} for text in texts])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


class ForcedTarget(LogitsProcessor):
    """Allows only the next token of a target, its EOS included; `tail` is the prompt between source and target."""

    def __init__(self, forced: list[int], tail: list[int]):
        self.forced, self.tail = forced, tail

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        ids = input_ids[0].tolist()
        # What is shown ends with the tail and as much of the target as was written.
        written = next(
            count
            for count in range(len(self.forced))
            if ids[len(ids) - count - len(self.tail) :] == self.tail + self.forced[:count]
        )
        kept = torch.full_like(scores, -torch.inf)
        kept[:, self.forced[written]] = 0.0
        return kept
