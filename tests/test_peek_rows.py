# SPDX-License-Identifier: Apache-2.0
"""What peek rows are for: a toy language in which nothing tells whether a word goes on.

Each target word is a start token that repeats the source word, and with probability 1/2 one more token. A calibrated
model says 0.5 at every provisional row. Without peek rows every row under g(i) is followed by a continuation, so the
visible count gives the answer away, and the model learns "goes on".
"""

import random

import pytest
import torch

from transformers_simul import SimulFalconConfig, SimulFalconForCausalLM, WaitKPolicy
from transformers_simul.models.schedule import CONTINUES, EOS, STARTS, WORD_ENDS, due_peeks, training_row

WORDS, SENTENCE = 6, 6
EOS_ID, TAIL_ID, CONTINUE_ID, FIRST_SOURCE = 0, 1, 2, 3
FIRST_START = FIRST_SOURCE + WORDS
VOCABULARY = FIRST_START + WORDS
KINDS = torch.full((VOCABULARY,), STARTS, dtype=torch.int8)
KINDS[EOS_ID], KINDS[CONTINUE_ID] = EOS, CONTINUES


def row(draw, ks, peeks):
    source = [draw.randrange(WORDS) for _ in range(SENTENCE)]
    target = [[FIRST_START + word] + [CONTINUE_ID] * draw.randrange(2) for word in source]
    delays = WaitKPolicy(draw.choice(ks)).delays(SENTENCE, SENTENCE)
    rows = due_peeks(1, [len(word) for word in target], delays) if peeks else []
    return training_row([], [[FIRST_SOURCE + word] for word in source], [TAIL_ID], target, EOS_ID, delays, rows)


def collate(rows):
    length = max(len(row["input_ids"]) for row in rows)
    fill = {"labels": -100, "visible_source": 1, "in_target": False}
    return {
        name: torch.tensor([row[name] + [fill.get(name, 0)] * (length - len(row[name])) for row in rows])
        for name in rows[0]
    }


def goes_on_at_provisional_rows(ks, peeks, steps=500):
    torch.manual_seed(0)
    draw = random.Random(0)
    config = SimulFalconConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, parallel_attn=False,
        multi_query=False, bias=True, alibi_rounding="exact", eos_token_id=EOS_ID, bos_token_id=EOS_ID,
    )  # fmt: skip
    model = SimulFalconForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        loss = model(**collate([row(draw, ks, peeks) for _ in range(24)]), token_kinds=KINDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    batch = collate([row(draw, ks, True) for _ in range(200)])
    asked = batch["peeks"] == WORD_ENDS
    # Only where a start token asks: there the coin is still to be tossed.
    asked &= batch["input_ids"] >= FIRST_START
    del batch["labels"]
    with torch.no_grad():
        logits = model(**batch, token_kinds=KINDS).logits
    return logits[asked].softmax(-1)[:, CONTINUE_ID].mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("ks", [[2], [1, 2, 3]], ids=["one k", "mixed k"])
def test_peek_rows_calibrate_the_question_whether_a_word_goes_on(ks):
    without, with_peeks = (goes_on_at_provisional_rows(ks, peeks) for peeks in (False, True))
    print(f"P(goes on) at provisional rows, k in {ks}: {without:.2f} without peek rows, {with_peeks:.2f} with")
    assert without > 0.62
    assert 0.4 < with_peeks < 0.6
