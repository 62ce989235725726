# SPDX-License-Identifier: Apache-2.0
"""Large vocabularies: logits are made in turns, and the loss and its gradients stay what they are at once."""

import random

import pytest
import torch
from torch import nn

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
    head = SimulLinear(HIDDEN, VOCABULARY, bias=False).double()
    losses = (
        simul_loss(hidden, head, labels, peeks, table, smoothing, 0.7),
        loss_of_a_loop(hidden, head.weight, labels, peeks, table, smoothing, 0.7),
    )
    found, expected = ((loss, *torch.autograd.grad(loss, [hidden, head.weight])) for loss in losses)
    # Losses are summed in float32.
    torch.testing.assert_close(found, expected, check_dtype=False, rtol=1e-5, atol=1e-6)


def test_no_turn_holds_more_logits_than_it_may(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 4 + 1)
    hidden, labels, peeks, table = batch(0)
    head = SimulLinear(HIDDEN, VOCABULARY, bias=False).double()
    head.register_forward_hook(lambda *call: seen.append(call[-1].numel()))
    loss = simul_loss(hidden, head, labels, peeks, table)
    loss.backward()
    rows = int((labels[:, 1:] != -100).sum() + (peeks > 0).sum())
    assert max(seen) == 4 * VOCABULARY
    assert sum(seen) == rows * VOCABULARY, "each row is projected once"
    with torch.no_grad():
        torch.testing.assert_close(simul_loss(hidden, head, labels, peeks, table), loss.detach())
    assert max(seen) == 4 * VOCABULARY
    assert sum(seen) == 2 * rows * VOCABULARY


def test_a_frozen_head_and_a_scaled_loss(monkeypatch):
    """As with adapters, and with a divisor from the Trainer and a scaler's factor."""
    hidden, labels, peeks, table = batch(1)
    head = SimulLinear(HIDDEN, VOCABULARY, bias=False).double().requires_grad_(False)

    def gradient():
        loss = simul_loss(hidden, head, labels, peeks, table, num_items_in_batch=torch.tensor(11))
        return torch.autograd.grad(1024 * loss, hidden)

    expected = gradient()
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    torch.testing.assert_close(gradient(), expected, rtol=1e-5, atol=1e-5)


def test_a_head_that_shares_the_embedding_gets_both_gradients(monkeypatch):
    _, labels, peeks, table = batch(2)
    embedding = nn.Embedding(VOCABULARY, HIDDEN)
    head = SimulLinear(HIDDEN, VOCABULARY, bias=False)
    head.weight = embedding.weight
    ids = labels.clamp(min=0)

    def gradient():
        embedding.zero_grad()
        simul_loss(embedding(ids).tanh(), head, labels, peeks, table).backward()
        return embedding.weight.grad.clone()

    expected = gradient()
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    torch.testing.assert_close(gradient(), expected, rtol=1e-4, atol=1e-6)


def test_under_autocast_turns_round_as_little(monkeypatch):
    hidden, labels, peeks, table = batch(3)
    head = SimulLinear(HIDDEN, VOCABULARY, bias=False)

    def found():
        rows = hidden.detach().float().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = simul_loss(rows, head, labels, peeks, table)
        return loss, *torch.autograd.grad(loss, [rows, head.weight])

    expected = found()
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    torch.testing.assert_close(found(), expected, rtol=2e-2, atol=2e-3)


def test_a_weight_that_is_gathered_for_each_call_is_called_for_once(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", VOCABULARY * 3)
    hidden, labels, peeks, table = batch(4)
    head = SimulLinear(HIDDEN, VOCABULARY, bias=False).double()
    head.register_forward_hook(lambda *call: calls.append(call))
    # As DeepSpeed marks its own.
    head.weight.ds_id = 0
    simul_loss(hidden, head, labels, peeks, table)
    assert len(calls) == 1
