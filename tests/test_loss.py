# SPDX-License-Identifier: Apache-2.0
"""Large vocabularies and a frozen head: logits are made in turns, and loss and gradient stay what they are at once."""

import random

import pytest
import torch

from transformers_simul.models import loss as module
from transformers_simul.models.linear import SimulLinear
from transformers_simul.models.loss import simul_loss
from transformers_simul.models.schedule import CONTINUES, EOS, READS, STARTS, TARGET_ENDS, WORD_ENDS

VOCABULARY, HIDDEN, BATCH, LENGTH = 23, 8, 3, 17


def batch(seed: int):
    """Hidden states, labels, peek rows and a table, at random; two ids of the vocabulary are no token at all."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    labels = [[draw.choice([-100, draw.randrange(VOCABULARY - 2)]) for _ in range(LENGTH)] for _ in range(BATCH)]
    peeks = [[draw.choice([0, 0, WORD_ENDS, TARGET_ENDS, READS]) for _ in range(LENGTH)] for _ in range(BATCH)]
    table = [EOS, *(draw.choice([STARTS, CONTINUES]) for _ in range(VOCABULARY - 3))]
    hidden = torch.randn(BATCH, LENGTH, HIDDEN, dtype=torch.float64, requires_grad=True)
    return hidden, torch.tensor(labels), torch.tensor(peeks), torch.tensor(table)


class Counted(SimulLinear):
    """A frozen head that notes how many logits each call makes."""

    def __init__(self):
        super().__init__(HIDDEN, VOCABULARY, bias=False)
        self.double().requires_grad_(False)
        self.made = []

    def forward(self, input):
        logits = super().forward(input)
        self.made.append(logits.numel())
        return logits


def loss_of_a_loop(hidden, weight, labels, peeks, table, smoothing, peek_weight):
    """The oracle: row by row, each a probability."""
    total, count = 0.0, 0
    for b in range(BATCH):
        for i in range(LENGTH):
            chances = (weight @ hidden[b, i]).softmax(0)
            if i + 1 < LENGTH and labels[b, i + 1] != -100:
                count += 1
                total = total - (1 - smoothing) * chances[labels[b, i + 1]].log() - smoothing * chances.log().mean()
            if peeks is None or not peeks[b, i]:
                continue
            ends = sum(chances[token] for token, kind in enumerate(table) if kind in (EOS, STARTS))
            text_ends = sum(chances[token] for token, kind in enumerate(table) if kind == EOS)
            asked = {WORD_ENDS: ends, TARGET_ENDS: text_ends, READS: text_ends / ends}[int(peeks[b, i])]
            total = total - peek_weight * asked.log()
    return total / count


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_peeks", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 5, 7, 1000])
def test_in_turns_as_in_a_plain_loop(monkeypatch, rows, with_peeks, smoothing, seed):
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * rows)
    hidden, labels, peeks, table = batch(seed)
    peeks = peeks if with_peeks else None
    head = Counted()
    losses = (
        simul_loss(hidden, head, labels, peeks, table, smoothing, 0.7),
        loss_of_a_loop(hidden, head.weight, labels, peeks, table, smoothing, 0.7),
    )
    found, expected = ((loss, *torch.autograd.grad(loss, hidden)) for loss in losses)
    # Losses are summed in float32.
    torch.testing.assert_close(found, expected, check_dtype=False, rtol=1e-5, atol=1e-6)
    assert max(head.made) <= VOCABULARY * rows


def test_no_turn_holds_more_logits_than_it_may(monkeypatch):
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 4 + 1)
    hidden, labels, peeks, table = batch(0)
    head = Counted()
    loss = simul_loss(hidden, head, labels, peeks, table)
    loss.backward()
    rows = int((labels[:, 1:] != -100).sum() + (peeks > 0).sum())
    assert max(head.made) == 4 * VOCABULARY
    assert sum(head.made) == rows * VOCABULARY, "each row is projected once"
    with torch.no_grad():
        torch.testing.assert_close(simul_loss(hidden, head, labels, peeks, table), loss.detach())
    assert max(head.made) == 4 * VOCABULARY
    assert sum(head.made) == 2 * rows * VOCABULARY


def test_a_divisor_from_the_trainer_and_a_factor_behind(monkeypatch):
    hidden, labels, peeks, table = batch(1)
    head = Counted()

    def gradient():
        loss = simul_loss(hidden, head, labels, peeks, table, num_items_in_batch=torch.tensor(11))
        return torch.autograd.grad(1024 * loss, hidden)

    expected = gradient()
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    torch.testing.assert_close(gradient(), expected, rtol=1e-5, atol=1e-5)
    assert len(head.made) > 2


def test_under_autocast_turns_round_as_little(monkeypatch):
    hidden, labels, peeks, table = batch(3)
    head = Counted().float()

    def found():
        rows = hidden.detach().float().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = simul_loss(rows, head, labels, peeks, table)
        return loss, *torch.autograd.grad(loss, rows)

    expected = found()
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    torch.testing.assert_close(found(), expected, rtol=2e-2, atol=2e-3)
    assert len(head.made) > 2


def of_a_trained_head(hidden, head):
    head.requires_grad_(True)
    return hidden, head


def of_a_head_with_a_hook(hidden, head):
    """As where weights are gathered for each call, which must be called equally often in all processes."""
    head.register_forward_pre_hook(lambda *call: None)
    return hidden, head


def of_float16(hidden, head):
    """A scaler's factor would come after the gradients."""
    return hidden.half(), head.half()


@pytest.mark.parametrize("changed", [of_a_trained_head, of_a_head_with_a_hook, of_float16])
def test_at_once_where_turns_would_cost_or_differ(monkeypatch, changed):
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    hidden, labels, peeks, table = batch(4)
    hidden, head = changed(hidden, Counted())
    simul_loss(hidden, head, labels, peeks, table).backward()
    assert len(head.made) == 1


def test_under_autocast_to_float16_at_once(monkeypatch):
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    hidden, labels, peeks, table = batch(4)
    head = Counted().float()
    with torch.autocast("cpu", dtype=torch.float16):
        simul_loss(hidden.float(), head, labels, peeks, table).backward()
    assert len(head.made) == 1


def test_no_second_derivative_is_made_up(monkeypatch):
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    hidden, labels, peeks, table = batch(5)
    loss = simul_loss(hidden, Counted(), labels, peeks, table)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(loss, hidden, create_graph=True)
