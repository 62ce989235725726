# SPDX-License-Identifier: Apache-2.0
"""benchmarks/endings.py: EOS by half is another choice of EOS, and of nothing else."""

from pathlib import Path

import torch

from transformers_simul import WaitKPolicy
from transformers_simul.models.choosing import Answer
from transformers_simul.models.row import KnownSource
from transformers_simul.models.row_decoder import RowDecoder


def test_where_words_end_is_asked_as_ever(model, processor, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from endings import EndsByHalf

    prompt = processor.prompt.fit(model)
    eos, kinds = processor.eos_token_id, processor.token_kinds.tolist()
    start, goes_on = processor.encode("a")[0][0], kinds.index(0)
    logits = torch.full((model.config.vocab_size,), -torch.inf)
    found = {}
    for decoder in (RowDecoder, EndsByHalf):
        row = decoder(KnownSource([[start]]), WaitKPolicy(1), prompt)
        for share in (0.45, 0.55):
            logits[[eos, start, goes_on]] = torch.tensor([share, 0.15, 0.85 - share]).log()
            answer = Answer(logits.clone(), False)
            assert row.word_ends(answer)
            found[decoder, share] = row._choose(answer, "any")
    assert found == {
        (RowDecoder, 0.45): eos,
        (RowDecoder, 0.55): eos,
        (EndsByHalf, 0.45): goes_on,
        (EndsByHalf, 0.55): eos,
    }
