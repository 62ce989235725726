# SPDX-License-Identifier: Apache-2.0
"""SimulCache stores keys and values in order of arrival, with their place in the row, for rows of different progress.
CacheStep says where the tokens of one forward are stored."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .schedule import Schedule

if TYPE_CHECKING:
    from .head_attention import AttentionProbe

_FIRST_TOKENS = 64
# What Transformers calls a cache among arguments and in outputs: before 5.24 `past_key_values`. Ours take both.
CACHE_NAME = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"


def given_cache(past_key_values: Cache | None, cache: Cache | None) -> Cache | None:
    """Return the one of two arguments that is given, or None.

    Raises:
        ValueError: if both are.
    """
    if past_key_values is not None and cache is not None:
        raise ValueError("cache must not stand beside past_key_values, its former name: give one or the other.")
    return past_key_values if cache is None else cache


class StepTokens(NamedTuple):
    """Where the tokens of one forward belong, one number of each kind per token.

    Attributes:
        rows (`torch.Tensor` of shape `(tokens,)`, int): the row of the cache.
        slots (`torch.Tensor` of shape `(tokens,)`, int): the slot of that row which stores the token.
        columns (`torch.Tensor` of shape `(tokens,)`, int): index in the padded table that [`CacheStep.split`] makes.
    """

    rows: torch.Tensor
    slots: torch.Tensor
    columns: torch.Tensor


class CacheStep(Cache):
    """One forward's view of a [`SimulCache`], made by [`SimulCache.place`]; the model gets it as its cache.

    The forward's tokens belong to some rows of the cache, to each as many as it has. They are concatenated without
    padding. For attention they are `split` into streams, and the result is `join`ed again.

    Args:
        cache (`SimulCache`): stores keys and values.
        rows (`torch.Tensor` of shape `(streams,)`, *optional*): the rows that take part; None if all do.
        counts (`list[int]`): number of tokens of each.
        tokens (`StepTokens`): where they belong.
        keys (`Schedule`): the place of every stored key of these rows, fields of shape `(streams, stored)`.
    """

    def __init__(
        self, cache: "SimulCache", rows: torch.Tensor | None, counts: list[int], tokens: StepTokens, keys: Schedule
    ):
        super().__init__(layers=[])
        self.cache, self.rows, self.counts, self.tokens, self.keys = cache, rows, counts, tokens, keys
        # Where a policy looks at attention heads.
        self.probe: AttentionProbe | None = None

    def split(self, tokens: torch.Tensor) -> torch.Tensor:
        """Split the step's tokens by stream: `(1, tokens, ...)` to `(streams, longest, ...)`, with zeros after the
        shorter ones."""
        streams, longest = len(self.counts), max(self.counts)
        if streams * longest == tokens.shape[1]:
            return tokens.view(streams, longest, *tokens.shape[2:])
        rows = tokens.new_zeros(streams * longest, *tokens.shape[2:])
        rows[self.tokens.columns] = tokens[0]
        return rows.view(streams, longest, *tokens.shape[2:])

    def join(self, rows: torch.Tensor) -> torch.Tensor:
        """Undo `split`."""
        tokens = rows.flatten(0, 1)
        columns = self.tokens.columns
        return (tokens if len(columns) == len(tokens) else tokens[columns])[None]

    @property
    def slots(self) -> torch.Tensor:
        """Where the step's tokens are stored, shape `(streams, longest)`."""
        return self.split(self.tokens.slots[None])

    def update(  # type: ignore[override]
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one layer's keys and values of the step, and return all that its streams have stored.

        Args:
            key_states, value_states (`torch.Tensor` of shape `(1, kv_heads, tokens, head_dim)`): the step's keys and
                values.
            layer_idx (`int`): index of the layer.

        Returns:
            Two tensors of shape `(streams, kv_heads, stored, head_dim)`.
        """
        stored = self.keys.offsets.shape[1]
        found: list[torch.Tensor] = []
        for table, states in zip(
            self.cache.layer(layer_idx, key_states, value_states), (key_states, value_states), strict=True
        ):
            table[self.tokens.rows, :, self.tokens.slots] = states[0].transpose(0, 1)
            table = table.narrow(2, 0, stored)
            found.append(table if self.rows is None else table.index_select(0, self.rows))
        keys, values = found
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens of the longest stream."""
        return self.cache.get_seq_length()

    @property
    def is_compileable(self) -> bool:
        return False


class SimulCache(Cache):
    """Keys and values of streams that read and write in turns.

    A stored key contains no position that could change, so an entry stays valid however much source arrives later.
    Entries are stored as they come, source and target mixed, and their `in_target` and `offsets` are kept beside them.
    A row may forget entries (the last target token, after a READ); the next tokens take their slots.

    The cache only stores. Before each forward, `place` chooses slots for its tokens, and the model gets what `place`
    returns.

    Args:
        batch_size (`int`): number of streams.
        max_tokens (`int`, *optional*): allocate once, for so many tokens per stream, and refuse more. By default the
            cache doubles when it is full.

    Raises:
        ValueError: if a size is below 1, or when a stream outgrows `max_tokens`.

    Example:

    ```python
    >>> from transformers_simul import SimulCache
    >>> cache = SimulCache(batch_size=2, max_tokens=256)
    >>> cache.get_seq_length()
    0

    ```
    """

    def __init__(self, batch_size: int, max_tokens: int | None = None):
        super().__init__(layers=[])
        for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        self.max_tokens = max_tokens
        self._capacity = max_tokens or _FIRST_TOKENS
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        # For each slot: whether it is taken, `in_target` and `offsets`.
        self._entries = torch.zeros(3, batch_size, self._capacity, dtype=torch.int32)
        # For each row: its slots in order of arrival, those it gave back, and how many it ever took.
        self._taken: list[list[int]] = [[] for _ in range(batch_size)]
        self._free: list[list[int]] = [[] for _ in range(batch_size)]
        self._touched = [0] * batch_size
        # Rows whose first tokens have left, so that what stands in their slots is no prompt.
        self._moved: set[int] = set()

    @property
    def batch_size(self) -> int:
        """How many streams it has rows for."""
        return len(self._taken)

    def used_tokens(self, row: int) -> int:
        """Return how many tokens a stream holds."""
        return len(self._taken[row])

    def place(
        self, rows: Sequence[int], counts: Sequence[int], forgets: Sequence[Sequence[int]], queries: Schedule
    ) -> CacheStep:
        """Choose the slots of a step's tokens; the forward that gets the result stores them there.

        Args:
            rows (`Sequence[int]`): the streams that take part, in ascending order.
            counts (`Sequence[int]`): number of tokens of each.
            forgets (`Sequence[Sequence[int]]`): entries that each gives up first, counted from its newest, 0.
            queries (`Schedule`): schedule of the tokens, fields of shape `(1, sum(counts))`.

        Raises:
            ValueError: if rows do not ascend, or a stream outgrows `max_tokens` or forgets what it does not have.
        """
        if any(later <= earlier for earlier, later in pairwise(rows)):
            raise ValueError(f"rows must ascend, got {list(rows)}.")
        slots: list[int] = []
        columns: list[int] = []
        homes: list[int] = []
        longest = max(counts)
        for index, (row, count, forget) in enumerate(zip(rows, counts, forgets, strict=True)):
            slots += self._take(row, count, forget)
            columns += range(index * longest, index * longest + count)
            homes += [row] * count
        stored = max(self._touched[row] for row in rows)
        self._reserve(stored)

        device = queries.offsets.device
        self._entries = self._entries.to(device)
        tokens = StepTokens(*torch.tensor([homes, slots, columns], device=device))
        entries = torch.stack([queries.pair_ids[0], queries.in_target[0], queries.offsets[0]]).to(torch.int32)
        self._entries[:, tokens.rows, tokens.slots] = entries

        chosen = None if len(rows) == self.batch_size else torch.tensor(list(rows), device=device)
        held = self._entries.narrow(2, 0, stored)
        taken, in_target, offsets = held if chosen is None else held.index_select(1, chosen)
        nothing = torch.zeros_like(offsets)
        return CacheStep(
            self, chosen, list(counts), tokens, Schedule(taken, in_target.bool(), offsets, nothing, nothing)
        )

    # Decoding runs in inference mode, whose tensors may be changed nowhere else.
    @torch.inference_mode()
    def settle(self, row: int, forgets: Sequence[int], source_tokens: int, leaving: int) -> None:
        """Make all that a stream holds the context of what it reads next, as if it were source: each token stands where
        it stands in the text, and the oldest leave. Keys and values stay as they are.

        Args:
            row (`int`): the stream.
            forgets (`Sequence[int]`): entries that it gives up first, counted from its newest, 0.
            source_tokens (`int`): how many tokens stand before those that came after the source.
            leaving (`int`): how many of the oldest tokens leave; those that stay count from there.
        """
        self._take(row, 0, forgets)
        taken = self._taken[row]
        left, self._taken[row] = taken[:leaving], taken[leaving:]
        if left:
            self._wipe(row, left)
            self._free[row] += left
            self._moved.add(row)
        slots = torch.tensor(self._taken[row], device=self._entries.device, dtype=torch.long)
        _, in_target, offsets = self._entries[:, row, slots]
        self._entries[2, row, slots] = offsets + in_target * source_tokens - leaving
        self._entries[1, row, slots] = 0

    @torch.inference_mode()
    def clear(self, row: int, keep: int = 0) -> None:
        """Forget what a stream holds; its row can then serve another stream.

        Args:
            row (`int`): the stream.
            keep (`int`, *optional*): how many of the first tokens stay: a prompt that the next stream begins with too.
                If some of them were forgotten or never came, none stays.
        """
        if row in self._moved or self._taken[row][:keep] != list(range(keep)):
            keep = 0
        self._moved.discard(row)
        self._wipe(row, slice(keep, self._touched[row]))
        self._taken[row], self._free[row], self._touched[row] = list(range(keep)), [], keep

    def layer(self, layer_idx: int, *states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one layer's keys and values, each of shape `(batch_size, kv_heads, capacity, head_dim)`.

        Args:
            layer_idx (`int`): index of the layer; its tensors are made when it is first asked for.
            *states (`torch.Tensor` of shape `(1, kv_heads, tokens, head_dim)`): keys and values to come, which give
                heads, size, dtype and device.
        """
        if layer_idx == len(self._keys):
            for tables, like in zip((self._keys, self._values), states, strict=True):
                tables.append(like.new_zeros(self.batch_size, like.shape[1], self._capacity, like.shape[3]))
        return self._keys[layer_idx], self._values[layer_idx]

    def update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise an error: a forward gets what [`SimulCache.place`] returns, never the cache itself."""
        raise ValueError(f"{CACHE_NAME} must be what SimulCache.place() returns, got the SimulCache itself.")

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens of the longest stream."""
        return max(map(len, self._taken))

    @property
    def is_compileable(self) -> bool:
        return False

    def _take(self, row: int, count: int, forget: Sequence[int]) -> list[int]:
        """Return slots for `count` tokens, beginning with those that were given up."""
        taken, free = self._taken[row], self._free[row]
        if any(index >= len(taken) for index in forget):
            raise ValueError(f"forgets must lie below the {len(taken)} tokens that stream {row} holds, got {forget}.")
        for index in sorted(forget):
            # From the newest on: earlier indices shift by what is already gone.
            free.append(taken.pop(-1 - index + sum(other < index for other in forget)))
        fresh = max(0, count - len(free))
        if self.max_tokens is not None and self._touched[row] + fresh > self.max_tokens:
            raise ValueError(
                f"max_tokens of the cache is {self.max_tokens}, but stream {row} needs {self._touched[row] + fresh}."
            )
        slots = [free.pop(0) for _ in range(count - fresh)]
        if free and forget:
            self._wipe(row, free)
        slots += range(self._touched[row], self._touched[row] + fresh)
        self._touched[row] += fresh
        taken += slots
        return slots

    def _wipe(self, row: int, slots: slice | list[int]) -> None:
        """Clear slots that nobody may see any more. Zeros are needed because a mask adds a large negative number and
        gives a value weight zero, and NaN or infinity would survive both."""
        for table in (*self._keys, *self._values):
            table[row, :, slots] = 0
        self._entries[:, row, slots] = 0

    def _reserve(self, capacity: int) -> None:
        if capacity <= self._capacity:
            return
        grow = max(capacity, 2 * self._capacity) - self._capacity
        self._keys = [torch.nn.functional.pad(keys, (0, 0, 0, grow)) for keys in self._keys]
        self._values = [torch.nn.functional.pad(values, (0, 0, 0, grow)) for values in self._values]
        self._entries = torch.nn.functional.pad(self._entries, (0, grow))
        self._capacity += grow


__all__ = ["CACHE_NAME", "CacheStep", "SimulCache", "StepTokens", "given_cache"]
