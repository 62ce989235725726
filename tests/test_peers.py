# SPDX-License-Identifier: Apache-2.0
"""benchmarks/peers.py: CTranslate2 has the same weights, and is asked for the same tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import make_model, make_processor
from transformers_simul.corpora import Pair


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import peers

    return peers


def test_without_a_package_its_part_is_skipped_by_name(peers):
    ran = False
    with (
        pytest.raises(peers.common.SkippedPart, match="no_such_package is not installed"),
        peers.common.needs("no_such_package"),
    ):
        ran = True
    assert not ran


def test_ctranslate2_has_our_weights_and_writes_the_tokens_that_are_asked_for(peers, processor, tmp_path, monkeypatch):
    pytest.importorskip("ctranslate2")
    model = make_model(processor)
    peer = peers.Peer(model, processor, tmp_path, "float32")
    pair = Pair("a dog runs over the green meadow", "ein Hund rennt über die grüne Wiese")
    pair = peers.common.encoded(pair, processor)
    ids = peers.prompt(pair, processor)
    found = np.array(peer.generator.forward_batch([processor.tokenizer.convert_ids_to_tokens(ids)]))
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)

    written = []
    write = peer.write
    monkeypatch.setattr(peer, "write", lambda *args: (written.append(args), write(*args)))
    peer.offline([pair], processor)()
    ((whole, count),) = written
    assert (whole, count) == (ids, len(pair["forced"]))
    written.clear()
    peer.retranslate([pair], processor)()
    # Seven words to read: 3 before the first, all of them before the fifth.
    assert len(written) == 5
    assert sum(count for _, count, _ in written) == len(pair["forced"])
    assert [shown[: len(processor.head_ids)] for shown, _, _ in written] == [processor.head_ids] * 5
    assert written[-1][0] == ids + pair["forced"][: -written[-1][1]]
