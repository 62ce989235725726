# SPDX-License-Identifier: Apache-2.0
"""Policies that look: what training rows teach them."""

import random

import pytest
import torch

from transformers_simul import AlignedPolicy, RandomPathPolicy, WaitKPolicy
from transformers_simul.models.loss import simul_loss
from transformers_simul.models.schedule import (
    CONTINUES,
    EOS,
    READS,
    STARTS,
    TARGET_ENDS,
    WORD_ENDS,
    Peek,
    due_decisions,
    due_peeks,
)


def questions_of_a_walk(tail_tokens, lengths, delays):
    """The oracle: walk through the pair as a decoder does, one READ at a time, and note what it asks before each."""
    asked, read = [], 1
    newest = tail_tokens - 1
    for word in range(len(lengths) + 1):
        just_ended = word > 0
        while read < delays[word]:
            asked.append((newest, read, "the word ends, READ" if just_ended else "READ"))
            just_ended = False
            read += 1
        if word < len(lengths):
            newest += lengths[word]
    return asked


def test_each_read_of_a_walk_is_a_row():
    draw = random.Random(2)
    names = {TARGET_ENDS: "the word ends, READ", READS: "READ"}
    for _ in range(500):
        lengths = [draw.randint(1, 3) for _ in range(draw.randint(1, 6))]
        source, tail = draw.randint(1, 9), draw.randint(1, 3)
        delays = [*sorted(draw.randint(1, source) for _ in lengths), source]
        found = [(peek.offset, peek.visible_words, names[peek.kind]) for peek in due_decisions(tail, lengths, delays)]
        assert found == questions_of_a_walk(tail, lengths, delays)


def test_the_decisions_hold_the_plain_peek_rows_places():
    lengths, delays = [2, 1, 3], [1, 2, 2, 5]
    plain = {(peek.offset, peek.visible_words) for peek in due_peeks(1, lengths, delays)}
    rows = {(peek.offset, peek.visible_words): peek.kind for peek in due_decisions(1, lengths, delays)}
    assert plain == {place for place, kind in rows.items() if kind == TARGET_ENDS}


@pytest.mark.parametrize("kind", [WORD_ENDS, TARGET_ENDS, READS])
def test_the_loss_of_a_decision_is_that_of_eos_among_word_starts_and_eos(kind):
    kinds = torch.tensor([EOS, STARTS, STARTS, CONTINUES])
    logits = torch.tensor([0.3, -0.2, 1.1, 0.7])
    weights = [value.exp().item() for value in logits]
    probability = {
        WORD_ENDS: (weights[0] + weights[1] + weights[2]) / sum(weights),
        TARGET_ENDS: weights[0] / sum(weights),
        READS: weights[0] / (weights[0] + weights[1] + weights[2]),
    }[kind]
    # One label, predicted with certainty, and one peek row.
    hidden = torch.stack([torch.tensor([100.0, 0, 0, 0]), logits, logits])[None]
    labels, peeks = torch.tensor([[-100, 0, -100]]), torch.tensor([[0, 0, kind]])
    loss = simul_loss(hidden, torch.nn.Identity(), labels, peeks, kinds)
    assert loss.item() == pytest.approx(-torch.tensor(probability).log().item(), rel=1e-5)


def test_only_schedules_that_follow_the_text_teach_reads():
    draw = random.Random(0)
    assert AlignedPolicy().for_example({"alignment": "0-0"}, draw).teaches_reads
    assert not RandomPathPolicy().for_example({}, draw).teaches_reads
    assert not WaitKPolicy(3).teaches_reads


def test_decisions_of_a_known_case():
    assert due_decisions(1, [1], [3, 3]) == [Peek(0, 1, READS), Peek(0, 2, READS)]
    assert due_decisions(2, [1, 1], [1, 1, 2]) == [Peek(3, 1, TARGET_ENDS)]
