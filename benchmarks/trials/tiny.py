# SPDX-License-Identifier: Apache-2.0
"""Tiny models that write, the texts that they are given, and what they write when nothing else is there."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList

from families import make_family
from helpers import make_model, make_processor, random_sentence
from transformers_simul import FixedChunkPolicy, OfflinePolicy, Policy, WaitKPolicy
from transformers_simul.models.schedule import CONTINUES, EOS, STARTS

POLICIES = [WaitKPolicy(1), WaitKPolicy(3), WaitKPolicy(2, catchup=0.3), FixedChunkPolicy(2, 3), OfflinePolicy()]
# No text but that of a poisoned visitor holds this letter, whose embedding is NaN.
POISON = "Z"
MAX_NEW_TOKENS = 10


class Babble:
    """Makes a random model write words of several tokens and end them; its noise is a function of the ids it sees."""

    def __init__(self, kinds: torch.Tensor, never: int):
        self.bias = (kinds == STARTS) * 6.0 + (kinds == CONTINUES) * 3.5 + (kinds == EOS) * 7.0
        self.bias[never] = -torch.inf

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.Generator().manual_seed(int((input_ids.sum() * 31 + input_ids.shape[1]) % 10007))
        return scores + self.bias + 2.5 * torch.randn(scores.shape, generator=noise)


class Alone:
    """A model in float64, so that no rounding decides between two words, and what it writes alone."""

    def __init__(self, model: Any, processor: Any):
        self.model, self.processor = model.double().eval(), processor
        poison = processor.tokenizer.convert_tokens_to_ids(POISON)
        with torch.no_grad():
            self.model.get_input_embeddings().weight[poison] = torch.nan
        self.babble = Babble(processor.token_kinds, poison)
        self._known: dict[tuple[str, int], tuple[list[tuple[str, int]], str]] = {}

    def words(self, sentences: Sequence[str], policy: int) -> tuple[list[tuple[str, int]], str]:
        """Texts and delays of what is written to these sentences in turn, and why one was cut off, if one was."""
        written, before, reason = [], 0, "eos"
        for sentence in sentences:
            words, end = self._one(sentence, policy)
            reason = end if reason == "eos" else reason
            written += [(text, before + delay) for text, delay in words]
            before += len(sentence.split())
        return written, reason

    def _one(self, sentence: str, policy: int) -> tuple[list[tuple[str, int]], str]:
        key = (sentence, policy)
        if key not in self._known:
            output = self.model.generate(
                **self.processor(source=sentence),
                policy=POLICIES[policy],
                max_new_tokens=MAX_NEW_TOKENS,
                return_dict_in_generate=True,
                logits_processor=LogitsProcessorList([self.babble]),
            )
            texts = self.processor.words(output.words[0])
            self._known[key] = list(zip(texts, output.delays[0], strict=True)), output.stop_reasons[0]
        return self._known[key]


def models() -> list[Alone]:
    """One of each way to keep positions true."""
    processor = make_processor()
    made = [make_model(processor, tie_word_embeddings=False, num_hidden_layers=1)]
    made += [
        make_family("Llama", processor, positions, tie_word_embeddings=False, num_hidden_layers=1)
        for positions in ("own_frame", "reserved")
    ]
    return [Alone(model, processor) for model in made]


def sentence_pool(count: int) -> list[str]:
    """Few, so that what is written alone is known soon."""
    draw = random.Random(5)
    return [f"{random_sentence(draw, 1, 4)}{draw.choice(('.', '!'))}" for _ in range(count)]


class Broken(Policy):
    """A policy that raises when so many words were read."""

    def __init__(self, error: type[BaseException], after: int):
        self.error, self.after, self.has_raised = error, after, False

    def reads(self, progress):
        if progress.source_words >= self.after:
            self.has_raised = True
            raise self.error("planted")
        return True
