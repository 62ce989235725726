# SPDX-License-Identifier: Apache-2.0
"""What one row makes of the model's answers: whether a word ends, and which token comes next."""

from collections.abc import Callable, Sequence

import torch

from .choosing import Answer
from .glossary_row import BoundGlossary
from .row import Prompt, Reading
from .word_rule import Expected, WordRule


class RowChooser:
    """Chooses for one row: greedily, or with a generator by sampling.

    Args:
        prompt (`Prompt`): gives the rule for words.
        reading (`Reading`): head and source.
        processors (`Sequence[Callable]`): logits processors.
        generator (`torch.Generator`, *optional*): samples with it.
        glossary (`BoundGlossary`, *optional*): terms to prefer once they were read.
        eos_threshold (`float`, *optional*): EOS is the likeliest token only above it, see [`SimulGenerationConfig`].

    Attributes:
        target (`list[int]`): ids that were written; while a policy drafts, with the draft so far.
    """

    def __init__(
        self,
        prompt: Prompt,
        reading: Reading,
        processors: Sequence[Callable[..., torch.Tensor]],
        generator: torch.Generator | None,
        glossary: BoundGlossary | None,
        eos_threshold: float | None,
    ):
        self.head, self.tail, self.rule = prompt.head, prompt.tail, prompt.rule.with_threshold(eos_threshold)
        self.reading, self.processors, self.generator = reading, processors, generator
        self.glossary = None if glossary is None else glossary.row()
        self.target: list[int] = []

    @property
    def rule_alone(self) -> WordRule | None:
        """The rule for words, if the row decides by it alone: the step then chooses for all such rows at once."""
        chooses = self.processors or self.generator is not None or self.glossary is not None
        return None if chooses else self.rule

    @property
    def next_start(self) -> Expected:
        """How the next word may start."""
        return "start" if self.target else self.rule.first

    def word_ends(self, answer: Answer) -> bool:
        """Whether the word ends with the newest token: if word starts and EOS have more than half of the probability,
        or, sampling, by a draw with that probability.

        Args:
            answer (`Answer`): to the provisional row.
        """
        if answer.choice is not None:
            return answer.choice.word_ends
        ends = self.scores(answer.logits, "any").softmax(-1)[self.rule.ends_word].sum()
        if self.generator is None:
            return bool(ends > 0.5)
        return bool(torch.rand((), generator=self.generator, device=ends.device) < ends)

    def choose(self, answer: Answer, expected: Expected) -> int:
        """The token that is written next.

        Args:
            answer (`Answer`): to the newest token.
            expected (`Expected`): what may follow.
        """
        if self.generator is None:
            return self.likeliest(answer, expected)
        scores = self.scores(answer.logits, expected)
        return int(torch.multinomial(scores.softmax(-1), 1, generator=self.generator))

    def likeliest(self, answer: Answer, expected: Expected) -> int:
        """The likeliest token, which greedy decoding and drafts take.

        Args:
            answer, expected: as in [`RowChooser.choose`].
        """
        if answer.choice is not None:
            return answer.choice.token(expected)
        return self.rule.likeliest(self.scores(answer.logits, expected))

    def scores(self, logits: torch.Tensor, expected: Expected, prefers_terms: bool = True) -> torch.Tensor:
        """Logits after the rule for words, the glossary and the logits processors.

        Args:
            logits (`torch.Tensor` of shape `(vocabulary,)`): the model's.
            expected (`Expected`): what may follow.
            prefers_terms (`bool`, *optional*): whether the glossary counts.
        """
        scores = self.rule.bar(logits[None], expected)
        if self.glossary is not None and prefers_terms:
            scores = self.glossary.prefer(scores, expected, self.reading, self.target)
        ids = self.shown_ids(logits.device) if self.processors else None
        for processor in self.processors:
            scores = processor(ids, scores)
        if self.processors and torch.isnan(scores).any():
            raise ValueError(f"logits processors must give no NaN, but did after {len(self.target)} target tokens.")
        return scores[0]

    def shown_ids(self, device: torch.device) -> torch.Tensor:
        """What logits processors and stopping criteria may see, `(1, length)`: nothing of the unread source."""
        return torch.tensor([self.reading.ids[: self.reading.visible] + self.tail + self.target], device=device)


__all__ = ["RowChooser"]
