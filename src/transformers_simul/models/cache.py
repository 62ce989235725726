# SPDX-License-Identifier: Apache-2.0
"""SimulCache: keys and values in arrival order, their place in the row beside them, rows of different progress."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from transformers.cache_utils import Cache

from .schedule import Schedule

_FIRST_TOKENS = 64


class SimulCache(Cache):
    """Keys and values of streams that read and write in turns.

    Under ALiBi a key carries no position, so an entry stays valid however much source arrives later: entries are
    stored as they come, source and target mixed, and their `in_target` and `offsets` are kept beside them. A row may
    forget entries (the last target token, after a READ); the next tokens take their slots.

    A step holds tokens of any rows, as many of each as it has, laid one behind the other without padding; for attention
    they are `split` into rows, and what comes out is `join`ed again.

    Args:
        batch_size (`int`): streams side by side.
        max_tokens (`int`, *optional*): allocate once, for so many tokens per stream, and refuse more. Without it
            the cache doubles when it is full.

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
        # Of each slot: whether it is taken, `in_target` and `offsets`.
        self._places = torch.zeros(3, batch_size, self._capacity, dtype=torch.int32)
        # Of each row: its slots in order of arrival, those it gave back, and how many it ever took.
        self._taken: list[list[int]] = [[] for _ in range(batch_size)]
        self._free: list[list[int]] = [[] for _ in range(batch_size)]
        self._touched = [0] * batch_size
        # Of the step: its rows, how many tokens each has, and up to which slot they hold keys.
        self._step_rows = torch.zeros(0, dtype=torch.long)
        self._step_counts: list[int] = []
        self._step_slots = 0

    @property
    def batch_size(self) -> int:
        return len(self._taken)

    def used_tokens(self, row: int) -> int:
        """Tokens that a stream holds."""
        return len(self._taken[row])

    def place(
        self, rows: Sequence[int], counts: Sequence[int], forgets: Sequence[Sequence[int]], queries: Schedule
    ) -> None:
        """Choose the slots of a step's tokens; the next forward stores them there.

        Args:
            rows (`Sequence[int]`): the streams that take part, in ascending order.
            counts (`Sequence[int]`): tokens of each.
            forgets (`Sequence[Sequence[int]]`): entries that each gives up first, counted from its newest, 0.
            queries (`Schedule`): the tokens, fields of shape `(1, sum(counts))`.

        Raises:
            ValueError: if rows do not ascend, a stream outgrows `max_tokens`, or forgets what it does not have.
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
        self._step_slots = max(self._touched[row] for row in rows)
        self._reserve(self._step_slots)

        device = queries.offsets.device
        self._places = self._places.to(device)
        self._step_rows, self._step_counts = torch.tensor(list(rows), device=device), list(counts)
        self._homes, self._slots, self._columns = torch.tensor([homes, slots, columns], device=device)
        for row in rows:
            if self._free[row]:
                self._places[0, row, self._free[row]] = 0
        places = torch.stack([queries.pair_ids[0], queries.in_target[0], queries.offsets[0]]).to(torch.int32)
        self._places[:, self._homes, self._slots] = places

    def clear(self, row: int, keep: int = 0) -> None:
        """Forget what a stream holds; its row can serve another.

        Args:
            row (`int`): the stream.
            keep (`int`, *optional*): the first tokens that came stay: a prompt that the next stream begins with too. If
                some of them were forgotten, or never came, none stays.
        """
        keep = keep if self._taken[row][:keep] == list(range(keep)) else 0
        self._taken[row], self._free[row], self._touched[row] = list(range(keep)), [], keep
        self._places[:, row, keep:] = 0

    def split(self, tokens: torch.Tensor) -> torch.Tensor:
        """The step's tokens by stream: `(1, tokens, ...)` to `(streams, longest, ...)`, zeros behind the shorter."""
        streams, longest = len(self._step_counts), max(self._step_counts)
        if streams * longest == tokens.shape[1]:
            return tokens.view(streams, longest, *tokens.shape[2:])
        rows = tokens.new_zeros(streams * longest, *tokens.shape[2:])
        rows[self._columns] = tokens[0]
        return rows.view(streams, longest, *tokens.shape[2:])

    def join(self, rows: torch.Tensor) -> torch.Tensor:
        """The inverse of `split`."""
        tokens = rows.flatten(0, 1)
        return (tokens if len(self._columns) == len(tokens) else tokens[self._columns])[None]

    @property
    def slots(self) -> torch.Tensor:
        """Where the step's tokens are stored, shape `(streams, longest)`."""
        return self.split(self._slots[None])

    @property
    def schedule(self) -> Schedule:
        """The place of every stored key of the step's streams, fields of shape `(streams, stored)`."""
        taken, in_target, offsets = self._of_step(self._places, dim=1)
        nothing = torch.zeros_like(offsets)
        return Schedule(taken, in_target.bool(), offsets, nothing, nothing)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs):
        """Store one layer's keys and values of the step and return all that its streams have stored.

        Args:
            key_states, value_states (`torch.Tensor` of shape `(1, kv_heads, tokens, head_dim)`).
            layer_idx (`int`): the layer.

        Returns:
            Two tensors of shape `(streams, kv_heads, stored, head_dim)`.
        """
        if layer_idx == len(self._keys):
            _, heads, _, size = key_states.shape
            self._keys.append(key_states.new_zeros(self.batch_size, heads, self._capacity, size))
            self._values.append(value_states.new_zeros(self.batch_size, heads, self._capacity, size))
        for storage, states in ((self._keys, key_states), (self._values, value_states)):
            storage[layer_idx][self._homes, :, self._slots] = states[0].transpose(0, 1)
        return self._of_step(self._keys[layer_idx], dim=0), self._of_step(self._values[layer_idx], dim=0)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest stream."""
        return max(map(len, self._taken))

    @property
    def is_compileable(self) -> bool:
        return False

    def _take(self, row: int, count: int, forget: Sequence[int]) -> list[int]:
        """Slots for `count` tokens, given up ones first."""
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
        slots += range(self._touched[row], self._touched[row] + fresh)
        self._touched[row] += fresh
        taken += slots
        return slots

    def _of_step(self, table: torch.Tensor, dim: int) -> torch.Tensor:
        """Rows and slots that the step's attention reads; slots are two dimensions behind the rows, or one."""
        table = table.narrow(dim + (2 if table.ndim == 4 else 1), 0, self._step_slots)
        return table if len(self._step_rows) == self.batch_size else table.index_select(dim, self._step_rows)

    def _reserve(self, capacity: int) -> None:
        if capacity <= self._capacity:
            return
        grow = max(capacity, 2 * self._capacity) - self._capacity
        self._keys = [torch.nn.functional.pad(keys, (0, 0, 0, grow)) for keys in self._keys]
        self._values = [torch.nn.functional.pad(values, (0, 0, 0, grow)) for values in self._values]
        self._places = torch.nn.functional.pad(self._places, (0, grow))
        self._capacity += grow


__all__ = ["SimulCache"]
