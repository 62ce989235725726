# SPDX-License-Identifier: Apache-2.0
"""Keep words whole: a rule about which tokens may follow, and a logits processor that applies it in stock decoding."""

import copy
from typing import Literal

import torch
from transformers.generation.logits_process import LogitsProcessor

from .schedule import BLANK_START, BOUNDARIES, CONTINUES, EOS, NEVER, ends_word

# What may come: any token of a text; a word start or EOS; a bare word's start or EOS; a continuation.
Expected = Literal["any", "start", "bare", "continue"]


class WordRule:
    """Says which tokens may follow. After a complete word, only a word start or EOS may; within a word, only a
    continuation. Tokens that are part of no word (special tokens, other white space) are never written.

    The rule keeps no state: what is expected is an argument.

    Args:
        token_kinds (`torch.Tensor` of shape `(vocabulary,)`): the processor's table, see [`token_kinds`].
        vocab_size (`int`, *optional*): size of the model's vocabulary, which may be padded beyond the tokenizer's.
        bare_first_word (`bool`, *optional*): whether the target begins without a space.
        eos_threshold (`float`, *optional*): EOS is written only where it has more than this share of the probability of
            all that may follow, or if the likeliest other token starts a word, of EOS and word starts; without it,
            where it is the likeliest token.

    Attributes:
        eos_token_id (`int`): the table's EOS.
        first (`Expected`): what the first token must be.
        ends_word (`torch.Tensor` of shape `(vocabulary,)`, bool): tokens that end the word before them.
        parts (`tuple[torch.Tensor, torch.Tensor]`, int): tokens that start a word, and those that continue one, in
            ascending order: every token that may ever follow is EOS or one of these.

    Raises:
        ValueError: if the table is larger than the vocabulary, or does not have exactly one EOS.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.word_rule import WordRule
    >>> rule = WordRule(torch.tensor([2, 1, 0]), vocab_size=4)  # EOS, a start, a continuation, no token
    >>> rule.bar(torch.zeros(4), "start").tolist()
    [0.0, 0.0, -inf, -inf]

    ```
    """

    def __init__(
        self,
        token_kinds: torch.Tensor,
        vocab_size: int | None = None,
        bare_first_word: bool = False,
        eos_threshold: float | None = None,
    ):
        vocab_size = len(token_kinds) if vocab_size is None else vocab_size
        if len(token_kinds) > vocab_size:
            raise ValueError(
                f"token_kinds has {len(token_kinds)} entries, but the model's vocabulary {vocab_size}: it belongs to "
                "another tokenizer, or call model.resize_token_embeddings()."
            )
        self.token_kinds, self.eos_threshold = token_kinds, eos_threshold
        kinds = torch.nn.functional.pad(token_kinds, (0, vocab_size - len(token_kinds)), value=NEVER)
        # Looked at for every token that is written, so it is kept where nothing has to be waited for.
        self._kinds: list[int] = kinds.tolist()
        eos = [token for token, kind in enumerate(self._kinds) if kind == EOS]
        if len(eos) != 1:
            raise ValueError(f"token_kinds must mark one token as EOS ({EOS}), got {eos}.")
        self.eos_token_id: int = eos[0]
        self.first: Expected = "bare" if bare_first_word else "start"
        self.ends_word = ends_word(kinds)
        self.parts = (self.ends_word & (kinds != EOS)).nonzero()[:, 0], (kinds == CONTINUES).nonzero()[:, 0]
        self.barred = {
            "any": kinds == NEVER,
            "start": (kinds == NEVER) | (kinds == CONTINUES),
            "bare": (kinds != CONTINUES) & (kinds != EOS),
            "continue": kinds != CONTINUES,
        }

    def fit(self, vocab_size: int, device: torch.device) -> "WordRule":
        """Return the same rule for a model with this vocabulary, on its device.

        Args:
            vocab_size (`int`): the model's.
            device (`torch.device`): the model's.

        Raises:
            ValueError: if the table is larger than the vocabulary.
        """
        return WordRule(self.token_kinds.to(device), vocab_size, self.first == "bare", self.eos_threshold)

    def with_threshold(self, eos_threshold: float | None) -> "WordRule":
        """Return the same rule with this threshold. Its tables, as large as the vocabulary, are shared."""
        rule = copy.copy(self)
        rule.eos_threshold = eos_threshold
        return rule

    def bar(self, scores: torch.Tensor, expected: Expected) -> torch.Tensor:
        """Set the scores of tokens that may not follow to minus infinity.

        Args:
            scores (`torch.Tensor` of shape `(..., vocabulary)`): scores of the next token.
            expected (`Expected`): what may follow.
        """
        return scores.masked_fill(self.barred[expected], -torch.inf)

    def likeliest(self, scores: torch.Tensor) -> int:
        """The likeliest token, EOS only above the threshold if there is one.

        Args:
            scores (`torch.Tensor` of shape `(vocabulary,)`): of the next token, minus infinity for what may not follow.
        """
        token = int(scores.argmax())
        if token == self.eos_token_id and self.eos_threshold is not None:
            others = scores.clone()
            others[token] = -torch.inf
            other = int(others.argmax())
            # Where the word ends either way, only what may follow it counts, as it does for one that is resumed after.
            rivals = scores.masked_fill(~self.ends_word, -torch.inf) if self.is_start(other) else scores
            if rivals.softmax(-1)[token] <= self.eos_threshold and others.isfinite().any():
                return other
        return token

    def may_hold(self, token: int, expected: Expected) -> bool:
        """Whether a word may have the token there; EOS is in no word.

        Args:
            token (`int`): any number.
            expected (`Expected`): what may follow what is before it.
        """
        known = 0 <= token < len(self._kinds) and token != self.eos_token_id
        return known and not bool(self.barred[expected][token])

    def is_blank(self, token: int) -> bool:
        """Whether the token is a lone space, which something visible must follow."""
        return self._kinds[token] == BLANK_START

    def is_start(self, token: int) -> bool:
        """Whether the token starts a word or is EOS, so that the word before it has ended."""
        return self._kinds[token] in BOUNDARIES


class SimulLogitsProcessor(LogitsProcessor):
    """Keeps words whole in stock decoding, as `generate(policy=...)` does by itself: the first token starts a word, a
    lone space is followed by something visible, and tokens that are part of no word are never written.

    Args:
        token_kinds, vocab_size, bare_first_word: as for [`WordRule`].
        prompt_tokens (`int`): length of the prompts, padding included; what comes after is the target.

    Raises:
        ValueError: as [`WordRule`].

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul import SimulLogitsProcessor
    >>> kinds = torch.tensor([2, 1, 0])  # EOS, a start, a continuation; the model's fourth entry is no token
    >>> rule = SimulLogitsProcessor(kinds, vocab_size=4, prompt_tokens=2)
    >>> rule(torch.tensor([[1, 2]]), torch.zeros(1, 4)).tolist()
    [[0.0, 0.0, -inf, -inf]]

    ```
    """

    def __init__(self, token_kinds: torch.Tensor, vocab_size: int, prompt_tokens: int, bare_first_word: bool = False):
        self.rule = WordRule(token_kinds, vocab_size, bare_first_word)
        self.prompt_tokens = prompt_tokens
        self._blank = torch.nn.functional.pad(token_kinds == BLANK_START, (0, vocab_size - len(token_kinds)))

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        if input_ids.shape[1] == self.prompt_tokens:
            return self.rule.bar(scores, self.rule.first)
        follows_blank = self._blank[input_ids[:, -1:]]
        barred = torch.where(follows_blank, self.rule.barred["continue"], self.rule.barred["any"])
        return scores.masked_fill(barred, -torch.inf)


__all__ = ["Expected", "SimulLogitsProcessor", "WordRule"]
