# SPDX-License-Identifier: Apache-2.0
"""The training loss: cross-entropy of the target tokens, and of the question "does this word go on?" that peek rows
ask."""

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional as F

from .schedule import EOS, READS, TARGET_ENDS, ends_word


def word_end_log_probability(logits: torch.Tensor, token_kinds: torch.Tensor) -> torch.Tensor:
    """Return the log probability that the next token starts a word or ends the text.

    Args:
        logits (`torch.Tensor` of shape `(..., vocabulary)`): the model's answers.
        token_kinds (`torch.Tensor` of shape `(vocabulary,)`, int): the processor's table.

    Returns:
        `torch.Tensor` of shape `(...)`.

    Example (EOS, a word start and two continuations, all as likely):

    ```python
    >>> import torch
    >>> from transformers_simul.models.loss import word_end_log_probability
    >>> round(word_end_log_probability(torch.zeros(4), torch.tensor([2, 1, 0, 0])).exp().item(), 3)
    0.5

    ```
    """
    return logits.masked_fill(~ends_word(token_kinds), -torch.inf).logsumexp(-1) - logits.logsumexp(-1)


def simul_loss(
    hidden_states: torch.Tensor,
    lm_head: nn.Module,
    labels: torch.Tensor,
    peeks: torch.Tensor | None,
    token_kinds: torch.Tensor | None,
    label_smoothing: float = 0.0,
    peek_weight: float = 1.0,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Return the loss of a batch per target token. Only rows with a loss are projected to the vocabulary; many of
    them in turns where the head is frozen, so that the logits of all are never in memory together.

    A peek row of kind `WORD_ENDS` costs -log(probability mass of word starts and EOS), one of kind `TARGET_ENDS` -log
    P(EOS), and one of kind `READS` -log P(EOS, given that a word start or EOS follows).

    Args:
        hidden_states (`torch.Tensor` of shape `(batch, length, hidden)`): output of the last layer.
        lm_head (`nn.Module`): projection to the vocabulary.
        labels (`torch.Tensor` of shape `(batch, length)`): shifted here; -100 has no loss.
        peeks (`torch.Tensor` of shape `(batch, length)`, *optional*): the kind of peek row, 0 for none.
        token_kinds (`torch.Tensor` of shape `(vocabulary,)`, *optional*): the processor's table; needed for peek rows.
        label_smoothing (`float`): smoothing of the target tokens.
        peek_weight (`float`): weight of a peek row's loss.
        num_items_in_batch (`torch.Tensor` or `int`, *optional*): divide by this instead of the number of labels.

    Returns:
        `torch.Tensor`: a scalar in float32.

    Raises:
        ValueError: for peek rows without a table that fits the vocabulary, or if the loss is NaN.
    """
    rows = labels[:, 1:] != -100
    asked = torch.zeros_like(labels, dtype=torch.bool) if peeks is None else peeks > 0
    tokens, kinds = labels[:, 1:][rows], None if peeks is None else peeks[asked]

    def loss_of_rows(hidden: torch.Tensor, start: int) -> torch.Tensor:
        ids = tokens[start : start + len(hidden)]
        logits = lm_head(hidden).float()
        total = F.cross_entropy(logits[: len(ids)], ids, reduction="sum", label_smoothing=label_smoothing)
        if kinds is None or len(ids) == len(hidden):
            return total
        first = max(start - len(tokens), 0)
        answers = logits[len(ids) :]
        return total + peek_weight * _peek_loss(answers, kinds[first : first + len(answers)], token_kinds)

    # Those of tokens first. Both at once: where weights are gathered, all processes must ask for them equally often.
    both = torch.cat([hidden_states[:, :-1][rows], hidden_states[asked]])
    total = _in_turns(loss_of_rows, both, lm_head)
    count = rows.sum() if num_items_in_batch is None else num_items_in_batch
    loss = total / (count.to(total.device) if torch.is_tensor(count) else count)
    if torch.isnan(loss):
        raise ValueError(
            "The loss is NaN: lower the learning rate, clip gradients, or train in float32 or bfloat16, not float16. "
            "The last checkpoint is untouched."
        )
    return loss


# Where there are more logits than these, rows are taken in turns with as many.
LOGITS_AT_ONCE = 2**25


def _in_turns(
    loss_of_rows: Callable[[torch.Tensor, int], torch.Tensor], hidden: torch.Tensor, lm_head: nn.Module
) -> torch.Tensor:
    """The sum of a loss over rows, without the logits of all of them in memory together where the head is frozen, as
    with adapters. The gradient of one that is trained is as large as the logits of many rows.

    Args:
        loss_of_rows (`Callable`): takes some consecutive rows and the number of the first, returns their loss.
        hidden (`torch.Tensor` of shape `(rows, hidden)`): all rows.
        lm_head (`nn.Module`): the projection that `loss_of_rows` calls.
    """
    if torch.compiler.is_compiling() or not _is_plain_and_frozen(lm_head) or _is_float16(hidden):
        return loss_of_rows(hidden, 0)
    turn = max(LOGITS_AT_ONCE // lm_head.out_features, 1)
    if len(hidden) <= turn:
        return loss_of_rows(hidden, 0)
    if not torch.is_grad_enabled():
        return torch.stack([loss_of_rows(rows, turn * index) for index, rows in enumerate(hidden.split(turn))]).sum()
    total: torch.Tensor = _SumInTurns.apply(loss_of_rows, turn, hidden)
    return total


def _is_plain_and_frozen(lm_head: nn.Module) -> TypeGuard[nn.Linear]:
    # A hook may gather the weight from other processes, where all must call equally often, or train what is its own.
    hooks = (lm_head._forward_pre_hooks, lm_head._forward_hooks, lm_head._backward_pre_hooks, lm_head._backward_hooks)
    is_frozen = not any(each.requires_grad for each in lm_head.parameters())
    return isinstance(lm_head, nn.Linear) and is_frozen and not any(hooks)


def _is_float16(hidden: torch.Tensor) -> bool:
    """Whether gradients need a scaler's factor, which would come too late in turns."""
    device = hidden.device.type
    under_autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return hidden.dtype == torch.float16 or under_autocast


class _SumInTurns(torch.autograd.Function):
    """The sum of a loss whose gradient is made on the way: logits are gone before the next turn's are made, and none is
    made twice."""

    @staticmethod
    def forward(
        ctx: Any, loss_of_rows: Callable[[torch.Tensor, int], torch.Tensor], turn: int, hidden: torch.Tensor
    ) -> torch.Tensor:
        total, gradients = hidden.new_zeros((), dtype=torch.float32), list[torch.Tensor]()
        for start in range(0, len(hidden), turn):
            rows = hidden[start : start + turn].detach().requires_grad_()
            with torch.enable_grad():
                loss = loss_of_rows(rows, start)
            gradients += torch.autograd.grad(loss, rows)
            total += loss.detach()
        ctx.save_for_backward(torch.cat(gradients))
        return total

    @staticmethod
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The loss of so many tokens of a large vocabulary has no second derivative: call autograd.grad or "
                "backward without create_graph."
            )
        (gradient,) = ctx.saved_tensors
        return None, None, gradient * factor


def _peek_loss(logits: torch.Tensor, kinds: torch.Tensor, token_kinds: torch.Tensor | None) -> torch.Tensor:
    if token_kinds is None or token_kinds.ndim != 1 or token_kinds.shape[0] > logits.shape[-1]:
        shape = None if token_kinds is None else tuple(token_kinds.shape)
        raise ValueError(f"token_kinds must have shape (at most {logits.shape[-1]},) for peek rows, got {shape}.")
    # A vocabulary padded beyond the tokenizer has ids that are no token at all.
    table = F.pad(token_kinds, (0, logits.shape[-1] - token_kinds.shape[0]), value=-1)
    word_ends = word_end_log_probability(logits, table)
    text_ends = logits.masked_fill(table != EOS, -torch.inf).logsumexp(-1) - logits.logsumexp(-1)
    asked = torch.where(kinds == TARGET_ENDS, text_ends, word_ends)
    return -torch.where(kinds == READS, text_ends - word_ends, asked).sum()


__all__ = ["simul_loss", "word_end_log_probability"]
