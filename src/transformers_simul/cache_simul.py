# SPDX-License-Identifier: Apache-2.0
"""SimulCache: keys and values in arrival order, their place in the row beside them, rows of different progress."""

import torch
from transformers.cache_utils import Cache

from .schedule_simul import Schedule

_FIRST_TOKENS = 64


class SimulCache(Cache):
    """Keys and values of streams that read and write in turns.

    Under ALiBi a key carries no position, so an entry stays valid however much source arrives later: entries are
    stored as they come, source and target mixed, and their `in_target` and `offsets` are kept beside them. The newest
    entries may be overwritten (the last target token, after a READ). Slot 0 is scratch: padding of ragged steps goes
    there.

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
        self.used_tokens = [0] * batch_size
        self._capacity = 1 + (max_tokens or _FIRST_TOKENS)
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._pair_ids = torch.zeros(batch_size, self._capacity, dtype=torch.int32)
        self._in_target = torch.zeros(batch_size, self._capacity, dtype=torch.bool)
        self._offsets = torch.zeros(batch_size, self._capacity, dtype=torch.int32)
        self._slots = torch.zeros(batch_size, 0, dtype=torch.long)

    @property
    def batch_size(self) -> int:
        return len(self.used_tokens)

    @property
    def slots(self) -> torch.Tensor:
        """Where the queries of the current step are stored, shape `(batch, queries)`."""
        return self._slots

    @property
    def schedule(self) -> Schedule:
        """The place of every stored key, fields of shape `(batch, stored)`."""
        stored = 1 + max(self.used_tokens)
        offsets = self._offsets[:, :stored]
        nothing = torch.zeros_like(offsets)
        return Schedule(self._pair_ids[:, :stored], self._in_target[:, :stored], offsets, nothing, nothing)

    def place(self, queries: Schedule, drops: list[int]) -> None:
        """Choose the slots of the step's tokens; the next forward stores them there.

        Args:
            queries (`Schedule`): the step's tokens, fields of shape `(batch, queries)`, padded on the left.
            drops (`list[int]`): for each row, how many of its newest entries the step's tokens overwrite; the step
                holds at least as many.
        """
        rows = []
        for row, count in enumerate((queries.pair_ids > 0).sum(-1).tolist()):
            kept = self.used_tokens[row] - drops[row]
            if kept < 0 or drops[row] > count:
                raise ValueError(
                    f"drops must be at most the row's {self.used_tokens[row]} tokens and the step's {count}, "
                    f"got {drops[row]}."
                )
            self.used_tokens[row] = kept + count
            rows.append([0] * (queries.offsets.shape[1] - count) + list(range(kept + 1, kept + count + 1)))
        self._reserve(1 + max(self.used_tokens))

        device = queries.offsets.device
        self._slots = torch.tensor(rows, dtype=torch.long, device=device)
        self._pair_ids = self._pair_ids.to(device).scatter_(1, self._slots, queries.pair_ids.to(torch.int32))
        self._in_target = self._in_target.to(device).scatter_(1, self._slots, queries.in_target)
        self._offsets = self._offsets.to(device).scatter_(1, self._slots, queries.offsets.to(torch.int32))
        self._pair_ids[:, 0] = 0

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs):
        """Store one layer's keys and values of the step and return all that is stored.

        Args:
            key_states, value_states (`torch.Tensor` of shape `(batch, kv_heads, queries, head_dim)`).
            layer_idx (`int`): the layer.

        Returns:
            Two tensors of shape `(batch, kv_heads, stored, head_dim)`, views of the storage.
        """
        if layer_idx == len(self._keys):
            batch, heads, _, size = key_states.shape
            self._keys.append(key_states.new_zeros(batch, heads, self._capacity, size))
            self._values.append(value_states.new_zeros(batch, heads, self._capacity, size))
        rows = torch.arange(self.batch_size, device=self._slots.device)[:, None]
        stored = 1 + max(self.used_tokens)
        for storage, states in ((self._keys, key_states), (self._values, value_states)):
            storage[layer_idx][rows, :, self._slots] = states.transpose(1, 2)
        return self._keys[layer_idx][:, :, :stored], self._values[layer_idx][:, :, :stored]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest stream (scratch and padding are not counted)."""
        return max(self.used_tokens)

    @property
    def is_compileable(self) -> bool:
        return False

    def _reserve(self, capacity: int) -> None:
        if capacity <= self._capacity:
            return
        if self.max_tokens is not None:
            raise ValueError(f"max_tokens of the cache is {self.max_tokens}, but a stream needs {capacity - 1}.")
        grown = max(capacity, 2 * self._capacity)
        grow = grown - self._capacity
        self._keys = [torch.nn.functional.pad(keys, (0, 0, 0, grow)) for keys in self._keys]
        self._values = [torch.nn.functional.pad(values, (0, 0, 0, grow)) for values in self._values]
        self._pair_ids, self._in_target, self._offsets = (
            torch.nn.functional.pad(field, (0, grow)) for field in (self._pair_ids, self._in_target, self._offsets)
        )
        self._capacity = grown


__all__ = ["SimulCache"]
