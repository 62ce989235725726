# SPDX-License-Identifier: Apache-2.0
"""The schedule: five numbers per token that say who sees whom, in training and while streaming.

A row is `[head | source | tail | target | eos]`, followed by its peek rows. Positions are counted in two frames, so
that nothing about a token changes when more source arrives: head and source tokens from the start of the row, tail and
target tokens from the start of the tail.

| field | head, source | tail, target | peek |
|---|---|---|---|
| `pair_ids` | number of the pair within the row, 0 = padding | same | same |
| `in_target` | False | True | True |
| `offsets` | index from the row's start | index from the tail's start | its twin's |
| `visible_source` | own index + 1 | head and source tokens that the query sees | one READ fewer than its twin |
| `peeks` | 0 | 0 | 1: "the word ends", 2: "EOS", 3: "READ" |

Rows of several sentences, each of which sees those right before it, have two numbers more ([`join_sentences`]).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch

# What a peek row asks: whether the word ends; whether EOS follows; and, after a word that has ended, whether a READ
# follows, which EOS means to the decoder.
WORD_ENDS = 1
TARGET_ENDS = 2
READS = 3

# What a token is to the word that it is part of. The processor makes the table; loss and decoder read it.
CONTINUES, STARTS, EOS, NEVER, BLANK_START = range(5)
# Those that end the word before them.
BOUNDARIES = (STARTS, BLANK_START, EOS)


def ends_word(token_kinds: torch.Tensor) -> torch.Tensor:
    """Whether tokens end the word before them: those that start a word, and EOS.

    Args:
        token_kinds (`torch.Tensor` of any shape, int): what each token is, from the processor's table.

    Returns:
        `torch.Tensor` of the same shape, bool.

    Example:

    ```python
    >>> import torch
    >>> from transformers_simul.models.schedule import CONTINUES, EOS, STARTS, ends_word
    >>> ends_word(torch.tensor([EOS, STARTS, CONTINUES])).tolist()
    [True, True, False]

    ```
    """
    return torch.stack([token_kinds == kind for kind in BOUNDARIES]).any(0)


class Schedule(NamedTuple):
    """Who sees whom: one number of each kind per token.

    Attributes:
        pair_ids (`torch.Tensor` of shape `(batch, length)`, int): 0 for padding, n for the n-th pair of a row.
        in_target (`torch.Tensor` of shape `(batch, length)`, bool): whether the token comes after the source.
        offsets (`torch.Tensor` of shape `(batch, length)`, int): index within head+source or within tail+target.
        visible_source (`torch.Tensor` of shape `(batch, length)`, int): head and source tokens that the query sees.
        peeks (`torch.Tensor` of shape `(batch, length)`, int): 0, or the kind of peek row.
        places (`torch.Tensor` of shape `(batch, length)`, int, *optional*): where later pairs of the row find the
            token, -1 where they do not.
        context_starts (`torch.Tensor` of shape `(batch, length)`, int, *optional*): the first place of the earlier
            pairs that the query sees.
    """

    pair_ids: torch.Tensor
    in_target: torch.Tensor
    offsets: torch.Tensor
    visible_source: torch.Tensor
    peeks: torch.Tensor
    places: torch.Tensor | None = None
    context_starts: torch.Tensor | None = None

    @classmethod
    def of_fields(cls, *fields: torch.Tensor | None) -> "Schedule | None":
        """Make the schedule of a forward's arguments: five fields in order, or None for each; then the two of context,
        or None for both.

        Returns:
            `Schedule`, or None if there are no fields.

        Raises:
            ValueError: if only some fields are given.
        """
        required, context = ([field is not None for field in part] for part in (fields[:5], fields[5:]))
        if not any(required) and not any(context):
            return None
        if not all(required):
            raise ValueError(
                f"schedule must have all of its five fields, {cls._fields[:5]}, or none, got {sum(required)}."
            )
        if any(context) and not all(context):
            raise ValueError("schedule must have both places and context_starts, or neither, got one of them.")
        return cls._make(fields)

    @classmethod
    def fields_in(cls, columns: Mapping[str, Any]) -> dict[str, Any]:
        """Return those columns of a row or a batch that are fields of its schedule."""
        return {name: columns[name] for name in cls._fields if columns.get(name) is not None}

    @classmethod
    def of_row(cls, row: Mapping[str, Sequence[int]]) -> "Schedule":
        """Make the schedule of one row of [`training_row`], as a batch of one."""
        return cls(**{name: torch.tensor([values]) for name, values in cls.fields_in(row).items()})

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Schedule":
        """Apply a function to each field that is there."""
        return Schedule._make([None if field is None else function(field) for field in self])

    @classmethod
    def causal(cls, attention_mask: torch.Tensor) -> "Schedule":
        """Make the schedule of a plain causal row, in which nothing is hidden.

        Args:
            attention_mask (`torch.Tensor` of shape `(batch, length)`): 1 for tokens, 0 for padding.

        Example:

        ```python
        >>> import torch
        >>> from transformers_simul.models.schedule import Schedule
        >>> Schedule.causal(torch.tensor([[0, 1, 1]])).offsets.tolist()
        [[0, 0, 1]]

        ```
        """
        present = attention_mask.to(torch.int32)
        offsets = (present.cumsum(-1, dtype=torch.int32) - 1) * present
        nothing = torch.zeros_like(present)
        return cls(present, nothing.bool(), offsets, offsets + 1, nothing)

    def last(self, length: int) -> "Schedule":
        """Return the schedule of the last `length` columns."""
        return self.map(lambda field: field[:, -length:])


class Peek(NamedTuple):
    """One peek row: the token at `offset` of tail+target, asked when `visible_words` source words had been read.

    Attributes:
        offset (`int`): index in tail+target of the token that is asked.
        visible_words (`int`): source words that it sees.
        kind (`int`): `WORD_ENDS`, `TARGET_ENDS` or `READS`.
    """

    offset: int
    visible_words: int
    kind: int


def due_peeks(tail_tokens: int, target_lengths: Sequence[int], delays: Sequence[int]) -> list[Peek]:
    """Return the peek rows of a schedule: one for each final token that a READ follows.

    Where no READ follows, the final token's own row already asks whether the word goes on.

    Args:
        tail_tokens (`int`): number of tokens of the tail.
        target_lengths (`Sequence[int]`): number of tokens of each target word.
        delays (`Sequence[int]`): g(0) ... g(EOS) in source words, one more than there are target words.

    Example:

    ```python
    >>> from transformers_simul.models.schedule import due_peeks
    >>> due_peeks(tail_tokens=1, target_lengths=[2, 1], delays=[1, 2, 2])
    [Peek(offset=2, visible_words=1, kind=1)]

    ```
    """
    peeks, offset = [], tail_tokens - 1
    for word, length in enumerate(target_lengths):
        offset += length
        if delays[word + 1] != delays[word]:
            kind = TARGET_ENDS if word == len(target_lengths) - 1 else WORD_ENDS
            peeks.append(Peek(offset, delays[word], kind))
    return peeks


def due_decisions(tail_tokens: int, target_lengths: Sequence[int], delays: Sequence[int]) -> list[Peek]:
    """Return the peek rows of a schedule that is worth learning as a policy: those of [`due_peeks`], and one for each
    READ.

    While a decoder waits for word i, its newest token is asked again after every READ: is it time to WRITE? Before g(i)
    source words the answer is READ, which EOS before the end of the source means to the decoder; at g(i) the token's
    own row answers with the word. So each READ has a row. If a READ directly follows a word, one row has both answers,
    "the word ends" and "READ", whose losses add up to that of EOS.

    READs before the first word are not among them, since the whole tail is asked again there; see [`early_decisions`].

    Args:
        tail_tokens, target_lengths, delays: as in [`due_peeks`].

    Example (g is 2, 4 and 4: two READs after the first word):

    ```python
    >>> from transformers_simul.models.schedule import due_decisions
    >>> for peek in due_decisions(tail_tokens=1, target_lengths=[2, 1], delays=[2, 4, 4]):
    ...     print(peek)
    Peek(offset=2, visible_words=2, kind=2)
    Peek(offset=2, visible_words=3, kind=3)

    ```
    """
    peeks: list[Peek] = []
    offset = tail_tokens - 1
    for length, (now, then) in zip(target_lengths, pairwise(delays), strict=True):
        offset += length
        peeks += [Peek(offset, words, TARGET_ENDS if words == now else READS) for words in range(now, then)]
    return peeks


def early_decisions(
    head: Sequence[int], source: Sequence[Sequence[int]], tail: Sequence[int], eos_token_id: int, delays: Sequence[int]
) -> list[dict[str, list[Any]]]:
    """Return a row for each READ before the first word: a prompt with the source that has been read, whose answer is
    EOS. A decoder feeds the whole tail again after such a READ, so no token of another row can stand for it. One word
    is read before the first question.

    Args:
        head, source, tail, eos_token_id, delays: as in [`training_row`].

    Example:

    ```python
    >>> from transformers_simul.models.schedule import early_decisions
    >>> [row["input_ids"] for row in early_decisions([1], [[2], [3], [4]], [5, 6], 0, delays=[3, 3])]
    [[1, 2, 5, 6, 0], [1, 2, 3, 5, 6, 0]]

    ```
    """
    return [training_row(head, source[:words], tail, [], eos_token_id, [words]) for words in range(1, delays[0])]


def training_row(
    head: Sequence[int],
    source: Sequence[Sequence[int]],
    tail: Sequence[int],
    target: Sequence[Sequence[int]],
    eos_token_id: int,
    delays: Sequence[int],
    peeks: Sequence[Peek] = (),
) -> dict[str, list[Any]]:
    """Make one row of a training batch: ids, labels and schedule. By the law, the query that predicts a token of target
    word i sees exactly the first g(i) source words.

    Args:
        head, tail (`Sequence[int]`): ids of the prompt before and after the source; the tail has at least one.
        source, target (`Sequence[Sequence[int]]`): ids of each word.
        eos_token_id (`int`): the id that ends the target.
        delays (`Sequence[int]`): g(0) ... g(EOS), one more than there are target words.
        peeks (`Sequence[Peek]`, *optional*): rows after the EOS that only have a loss.

    Returns:
        `dict[str, list]`: `input_ids`, `labels` and the fields of [`Schedule`], each a list as long as the row.

    Raises:
        ValueError: if the delays do not fit the words.

    Example:

    ```python
    >>> from transformers_simul.models.schedule import training_row
    >>> row = training_row([1], [[2], [3]], [4], [[5, 6], [7]], 0, delays=[1, 2, 2])
    >>> row["input_ids"], row["visible_source"]
    ([1, 2, 3, 4, 5, 6, 7, 0], [1, 2, 3, 2, 2, 3, 3, 3])

    ```
    """
    _check_delays(delays, len(source), len(target))
    ends = [len(head)]
    for word in source:
        ends.append(ends[-1] + len(word))

    before = [*head, *(token for word in source for token in word)]
    after = [*tail, *(token for word in target for token in word), eos_token_id]
    visible = [ends[delays[0]]] * len(tail)
    for index, word in enumerate(target):
        visible += [ends[delays[index]]] * (len(word) - 1) + [ends[delays[index + 1]]]
    visible.append(ends[-1])

    source_tokens, target_tokens = len(before), len(after)
    return {
        "input_ids": [*before, *after, *(after[peek.offset] for peek in peeks)],
        "labels": [-100] * (source_tokens + len(tail)) + after[len(tail) :] + [-100] * len(peeks),
        "pair_ids": [1] * (source_tokens + target_tokens + len(peeks)),
        "in_target": [False] * source_tokens + [True] * (target_tokens + len(peeks)),
        "offsets": [*range(source_tokens), *range(target_tokens), *(peek.offset for peek in peeks)],
        "visible_source": [*range(1, source_tokens + 1), *visible, *(ends[peek.visible_words] for peek in peeks)],
        "peeks": [0] * (source_tokens + target_tokens) + [peek.kind for peek in peeks],
    }


def _check_delays(delays: Sequence[int], source_words: int, target_words: int) -> None:
    if len(delays) != target_words + 1:
        raise ValueError(
            f"delays must hold one number per target word and one for EOS, {target_words + 1}, got {len(delays)}."
        )
    if any(later < earlier for earlier, later in pairwise(delays)):
        raise ValueError(f"delays must not decrease, got {list(delays)}.")
    if delays[0] < 0 or delays[-1] != source_words:
        raise ValueError(f"delays must lie in 0..{source_words} and end with {source_words}, got {list(delays)}.")


__all__ = [
    "BLANK_START",
    "BOUNDARIES",
    "CONTINUES",
    "EOS",
    "NEVER",
    "READS",
    "STARTS",
    "TARGET_ENDS",
    "WORD_ENDS",
    "Peek",
    "Schedule",
    "due_decisions",
    "due_peeks",
    "early_decisions",
    "ends_word",
    "training_row",
]
