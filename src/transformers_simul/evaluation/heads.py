# SPDX-License-Identifier: Apache-2.0
"""Which attention heads look at what is translated next: calibration of [`AlignAttPolicy`] on aligned words."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

from ..models.policies import Policy
from ..models.schedule import Schedule, training_row

# Links of a pair: source and target words, counted from 0.
Links = Sequence[tuple[int, int]]


class HeadAccuracy(NamedTuple):
    """How often heads look at what is translated next.

    Attributes:
        correct (`torch.Tensor` of shape `(layers, heads)`, int): target words before which the head's most attended
            source word was one of those that the word is aligned with.
        words (`int`): target words that count: aligned, with one of their source words read when they were asked for.
        looked_at (`torch.Tensor` of shape `(layers, heads, words)`, int): the source word of each.
        links (`list[set[int]]`): of each, the source words that it is aligned with.
    """

    correct: torch.Tensor
    words: int
    looked_at: torch.Tensor
    links: list[set[int]]

    def best(self, count: int) -> list[tuple[int, int]]:
        """The best heads, layer and head of each; of equal ones the first.

        Args:
            count (`int`): how many, from 1 to all.

        Raises:
            ValueError: if there are not so many.
        """
        layers, heads = self.correct.shape
        if not 1 <= count <= layers * heads:
            raise ValueError(f"heads must be from 1 to the model's {layers * heads}, got {count}.")
        order = self.correct.flatten().argsort(descending=True, stable=True)[:count].tolist()
        return [divmod(index, heads) for index in order]

    def share(self, heads: Sequence[tuple[int, int]]) -> float:
        """The share of words for which the median of what these heads look at is right, as [`AlignAttPolicy`] takes it.

        Args:
            heads (`Sequence[tuple[int, int]]`): layer and head of each.
        """
        median = torch.stack([self.looked_at[head] for head in heads]).median(0).values.tolist()
        return sum(word in links for word, links in zip(median, self.links, strict=True)) / self.words


def head_accuracy(
    model: Any, processor: Any, pairs: Iterable[tuple[str, str]], alignments: Iterable[Links], policy: Policy
) -> HeadAccuracy:
    """Count how often the most attended source word of each head is aligned with the target word to come (argmax
    accuracy, as AlignAtt4LLM, arXiv 2606.03967, selects heads).

    One masked training forward a pair asks all of its words, each under the source that had been read then: the law
    makes it what streaming would have seen.

    Args:
        model: of any family, loaded with `attn_implementation="eager"`, which returns its attention.
        processor (`SimulProcessor`): saved beside it.
        pairs (`Iterable[tuple[str, str]]`): source and target sentences.
        alignments (`Iterable[Links]`): of each pair.
        policy (`Policy`): how much had been read before each word; [`OfflinePolicy`] asks under the whole source.

    Raises:
        ValueError: for another attention, a link that points outside its pair, or if no word counts.

    Example:

    ```python
    >>> from transformers_simul import OfflinePolicy
    >>> from transformers_simul.evaluation.heads import head_accuracy
    >>> eager = type(model)._from_config(model.config, attn_implementation="eager").eval()
    >>> found = head_accuracy(eager, processor, [("a dog", "ein Hund")], [[(0, 0), (1, 1)]], OfflinePolicy())
    >>> found.words, found.correct.shape == (model.config.num_hidden_layers, model.config.num_attention_heads)
    (2, True)

    ```
    """
    if not model.config._attn_implementation.endswith("eager"):
        raise ValueError(
            f"model must have attn_implementation='eager' to show its attention, got "
            f"{model.config._attn_implementation!r}."
        )
    looked_at: list[torch.Tensor] = []
    links: list[set[int]] = []
    for number, ((source, target), pairs_links) in enumerate(zip(pairs, alignments, strict=True), start=1):
        ids = processor.encode_pair(source, target)
        asked, wanted = _aligned_words(ids["source_ids"], ids["target_ids"], pairs_links, policy, number)
        if asked:
            looked_at.append(_look(model, processor, ids["source_ids"], ids["target_ids"], asked, policy))
            links += wanted
    if not looked_at:
        raise ValueError("alignments must link at least one target word with a source word that is read before it.")
    found = torch.cat(looked_at, -1)
    table = torch.zeros(found.shape[-1], int(found.max()) + 1, dtype=torch.bool)
    for index, words in enumerate(links):
        table[index, [word for word in words if word < table.shape[1]]] = True
    correct = table[torch.arange(len(links)), found].sum(-1)
    return HeadAccuracy(correct, len(links), found, links)


def _aligned_words(
    source: Sequence[Any], target: Sequence[Any], links: Links, policy: Policy, number: int
) -> tuple[list[int], list[set[int]]]:
    """Return the target words that count, and the source words that each is aligned with."""
    by_word: dict[int, set[int]] = {}
    for word, written in links:
        if word >= len(source) or written >= len(target):
            raise ValueError(
                f"alignment {number} must link words of its pair, {len(source)} of the source and {len(target)} of the "
                f"target, counted from 0, got {word}-{written}."
            )
        by_word.setdefault(written, set()).add(word)
    delays = policy.delays(len(source), len(target))
    asked = [word for word in sorted(by_word) if min(by_word[word]) < delays[word]]
    return asked, [by_word[word] for word in asked]


@torch.no_grad()
def _look(
    model: Any, processor: Any, source: list[list[int]], target: list[list[int]], asked: list[int], policy: Policy
) -> torch.Tensor:
    """The most attended source word of each head before each of these target words: `(layers, heads, asked)`."""
    head, tail = processor.head_ids, processor.tail_ids
    delays = policy.delays(len(source), len(target))
    row = training_row(head, source, tail, target, processor.eos_token_id, delays)
    columns = {"input_ids": row["input_ids"], **Schedule.fields_in(row)}
    fields = {name: torch.tensor([values], device=model.device) for name, values in columns.items()}
    attentions = model(**fields, use_cache=False, output_attentions=True).attentions
    start = row["in_target"].index(True) + len(tail) - 1
    # The token before a word predicts its first.
    queries = [start + sum(map(len, target[:word])) for word in asked]
    ends = [len(head)]
    for word in source:
        ends.append(ends[-1] + len(word))
    weights = torch.stack([each[0, :, queries, : ends[-1]] for each in attentions]).float().cpu()
    sums = weights[..., ends[0] :].split([len(word) for word in source], -1)
    return torch.stack([each.sum(-1) for each in sums], -1).argmax(-1)


__all__ = ["HeadAccuracy", "head_accuracy"]
