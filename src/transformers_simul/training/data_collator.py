# SPDX-License-Identifier: Apache-2.0
"""SimulMaskDataCollator turns training pairs into batches that carry their read/write schedule."""

import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..models.audio_units import source_features
from ..models.policies import Policy, check_count
from ..models.processing import SimulProcessor
from ..models.schedule import due_decisions, due_peeks, early_decisions, training_row
from .callbacks import EpochCallback
from .rows import Row, append_row, example_draw, join_sentences, pack_rows, pad_rows, pair_ids_of


class SimulMaskDataCollator(EpochCallback):
    """Pairs in, batches with labels and schedule out (arXiv 2405.10443, section 4).

    An example has either `source` and `target` texts or the `source_ids` and `target_ids` that
    [`SimulProcessor.encode_pair`] makes; if a model learns several languages, also `source_lang` or `target_lang`. Or
    it has `sentences`, a list of such examples that follow each other in a document ([`join_documents`]). Use
    it with the stock `Trainer` and `TrainingArguments(remove_unused_columns=False)`, since `forward` names none of
    these columns. If the policy draws per epoch, pass the collator as a callback too, so that it knows the epoch:
    `Trainer(..., data_collator=collator, callbacks=[collator])`.

    Args:
        processor (`SimulProcessor`): tokenizer and template.
        policy (`Policy`): yields the schedule of each pair; a [`MixturePolicy`] draws from (seed, epoch, example).
        peek_rows (`float`, *optional*, defaults to 1.0): share of the peek rows to keep; 0 is the paper's plain form.
        max_length (`int`, *optional*): longest row in tokens, peek rows included.
        too_long (`str`, *optional*): what to do with a longer pair: `"raise"`, or `"drop"` and count it in `dropped`;
            [`drop_long_pairs`] leaves them out before a training begins.
        packing (`bool`, *optional*): put several pairs into one row, without attention across; needs `max_length`.
        padding_side (`str`, *optional*): `"right"` or `"left"`.
        pad_to_multiple_of (`int`, *optional*): round the batch's length up to a multiple.
        seed (`int`, *optional*): seed of random policies and of the choice of peek rows.
        context_sentences (`int`, *optional*): how many sentences before its own each sentence sees, with their
            translations. The `sentences` of an example then share a row; where `max_length` ends it, the next begins
            without context. 0 gives each a row of its own.

    Raises:
        ValueError: for arguments out of range, examples without the columns, over-long pairs, a random policy whose
            epoch was never set, or, with `context_sentences`, for a baseline whose rows have no schedule.

    Example:

    ```python
    >>> from transformers_simul import SimulMaskDataCollator, WaitKPolicy
    >>> collator = SimulMaskDataCollator(processor, WaitKPolicy(1))
    >>> batch = collator([{"source": "A dog", "target": "Ein Hund"}])
    >>> sorted(batch)
    ['in_target', 'input_ids', 'labels', 'offsets', 'pair_ids', 'peeks', 'token_kinds', 'visible_source']

    ```
    """

    def __init__(
        self,
        processor: SimulProcessor,
        policy: Policy,
        peek_rows: float = 1.0,
        max_length: int | None = None,
        too_long: str = "raise",
        packing: bool = False,
        padding_side: str = "right",
        pad_to_multiple_of: int | None = None,
        seed: int = 0,
        context_sentences: int = 0,
    ):
        if not 0 <= peek_rows <= 1:
            raise ValueError(f"peek_rows must lie in [0, 1], got {peek_rows}.")
        if too_long not in ("raise", "drop"):
            raise ValueError(f"too_long must be 'raise' or 'drop', got {too_long!r}.")
        if padding_side not in ("left", "right"):
            raise ValueError(f"padding_side must be 'left' or 'right', got {padding_side!r}.")
        if packing and max_length is None:
            raise ValueError("max_length must be given with packing: it is the length of a packed row.")
        check_count("context_sentences", context_sentences, least=0)
        super().__init__()
        self.context_sentences = context_sentences
        self.processor, self.policy, self.peek_rows = processor, policy, float(peek_rows)
        self.max_length, self.too_long, self.packing = max_length, too_long, packing
        self.padding_side, self.pad_to_multiple_of, self.seed = padding_side, pad_to_multiple_of, seed
        # Shared memory: the worker processes of a data loader count too.
        self._dropped = torch.tensor(0).share_memory_()

    @property
    def dropped(self) -> int:
        """Number of over-long pairs left out so far, with `too_long="drop"`."""
        return int(self._dropped)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch of examples.

        Returns:
            `dict[str, torch.Tensor]`: `input_ids`, `labels`, `pair_ids`, `in_target`, `offsets`, `visible_source`,
            `peeks` of shape `(batch, length)`, and `token_kinds` of shape `(vocabulary,)`; with context also `places`
            and `context_starts`.
        """
        rows = [row for example in examples for row in self._rows_of_document(example)]
        if not rows:
            raise ValueError(
                f"max_length={self.max_length} leaves no pair of this batch of {len(examples)}: raise it, or leave "
                "long pairs out of the dataset with drop_long_pairs()."
            )
        length = self.length_of_lines(rows)
        if length is not None:
            rows = pack_rows(rows, length)
        pad_token_id = self.processor.tokenizer.pad_token_id
        pad_token_id = self.processor.eos_token_id if pad_token_id is None else pad_token_id
        batch = pad_rows(rows, pad_token_id, self.padding_side, self.pad_to_multiple_of)
        units = source_features(token for row in rows for token in row["input_ids"])
        return batch | units | {"token_kinds": self.processor.token_kinds}

    def make_rows(
        self, source: list[list[int]], target: list[list[int]], policy: Policy, draw: random.Random
    ) -> list[Row]:
        """Make the rows of one pair; the baselines make theirs in another way.

        Args:
            source, target (`list[list[int]]`): ids of each word.
            policy (`Policy`): the example's.
            draw (`random.Random`): seeded by (seed, epoch, example).

        Returns:
            `list[dict[str, list]]`: as [`training_row`] makes them.
        """
        delays, tail = policy.delays(len(source), len(target)), self.processor.tail_ids
        due = due_decisions if policy.teaches_reads else due_peeks
        peeks = due(len(tail), [len(word) for word in target], delays) if self.peek_rows else []
        if self.peek_rows < 1:
            peeks = [peek for peek in peeks if draw.random() < self.peek_rows]
        head, eos = self.processor.head_ids, self.processor.eos_token_id
        row = training_row(head, source, tail, target, eos, delays, peeks)
        if policy.teaches_reads and self.peek_rows:
            for early in early_decisions(head, source, tail, eos, delays):
                if self.peek_rows == 1 or draw.random() < self.peek_rows:
                    append_row(row, early)
        return [row]

    def length_of_lines(self, rows: Sequence[Row]) -> int | None:
        """Return how many tokens of rows may share a line of the batch, without attention across; None where each row
        has a line of its own.

        Args:
            rows (`Sequence[dict[str, list]]`): of one batch.
        """
        return self.max_length if self.packing else None

    def longest_row(self, example: Mapping[str, Any]) -> int:
        """Return the number of tokens of the longest row of one pair, whatever is drawn for it.

        Args:
            example (`Mapping`): as a batch has them, no run of `sentences`.
        """
        every = copy.copy(self._for_languages(example))
        every.peek_rows = float(self.peek_rows > 0)
        source, target = pair_ids_of(example, every.processor)
        paths = self.policy.longest_for(example)
        rows = (row for path in paths for row in every.make_rows(source, target, path, random.Random(0)))
        return max(len(row["input_ids"]) for row in rows)

    def _for_languages(self, example: Mapping[str, Any]) -> "SimulMaskDataCollator":
        """The collator of an example's languages; what makes rows, a subclass's way too, finds the processor in it."""
        processor = self.processor.with_languages(example.get("source_lang"), example.get("target_lang"))
        if processor is self.processor:
            return self
        collator = copy.copy(self)
        collator.processor = processor
        return collator

    def _rows_of_document(self, example: Mapping[str, Any]) -> list[Row]:
        """Rows of an example, which may be several sentences."""
        sentences = example.get("sentences")
        rows = [self._rows(each) for each in ([example] if sentences is None else sentences)]
        if not self.context_sentences:
            return [row for each in rows for row in each]
        joined: list[list[Row]] = []
        # Tokens that the last of them has room for; none after a sentence that was left out.
        room = 0.0
        for each in rows:
            if len(each) > 1 or not all(any(row["in_target"]) for row in each):
                raise ValueError(
                    "context_sentences needs a row with a schedule for each pair, which "
                    f"{type(self).__name__} does not make."
                )
            tokens = sum(len(row["input_ids"]) for row in each)
            if not tokens or tokens > room:
                joined.append([])
                room = float("inf") if self.max_length is None else self.max_length
            joined[-1] += each
            room = room - tokens if tokens else 0.0
        return [join_sentences(each, self.context_sentences) for each in joined if each]

    def _rows(self, example: Mapping[str, Any]) -> list[Row]:
        collator = self._for_languages(example)
        source, target = pair_ids_of(example, collator.processor)
        draw = example_draw(self.seed, self._known_epoch(), source, target)
        rows = collator.make_rows(source, target, self.policy.for_example(example, draw), draw)
        length = max(len(row["input_ids"]) for row in rows)
        if self.max_length is not None and length > self.max_length:
            if self.too_long == "raise":
                raise ValueError(
                    f"max_length is {self.max_length} tokens, but a pair of {len(source)} source and {len(target)} "
                    f"target words takes {length}: raise max_length, filter the dataset, or pass too_long='drop'."
                )
            self._dropped += 1
            return []
        return rows

    def _known_epoch(self) -> int:
        if self.epoch < 0 and self.policy.is_random:
            raise ValueError(
                f"{self.policy!r} draws anew each epoch, but the epoch was never set: pass the collator to the Trainer "
                "as a callback too, Trainer(..., data_collator=collator, callbacks=[collator]), or call set_epoch()."
            )
        return self.epoch


__all__ = ["SimulMaskDataCollator"]
