# SPDX-License-Identifier: Apache-2.0
"""Calibration of alignment heads: counted as a plain loop counts, stored beside the model, and used from there."""

import copy
import json
import random

import pytest
import torch

from helpers import make_model, make_processor, random_sentence
from transformers_simul import OfflinePolicy, SimulFalconForCausalLM, WaitKPolicy
from transformers_simul.cli import main
from transformers_simul.evaluation.heads import head_accuracy
from transformers_simul.models.schedule import training_row


@pytest.fixture(scope="module")
def eager():
    processor = make_processor()
    model = make_model(processor)
    twin = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager").eval()
    twin.load_state_dict(model.state_dict())
    return twin, processor


def pairs_with_links(seed, count):
    draw, pairs, alignments = random.Random(seed), [], []
    for _ in range(count):
        source, target = random_sentence(draw, 2, 6), random_sentence(draw, 2, 6)
        pairs.append((source, target))
        links = {(draw.randrange(len(source.split())), draw.randrange(len(target.split()))) for _ in range(4)}
        alignments.append(sorted(links))
    return pairs, alignments


def count_by_hand(model, processor, pairs, alignments, policy, layer, head):
    """The oracle: for each aligned word one forward over what had been read and written before it."""
    right = words = 0
    for (source, target), links in zip(pairs, alignments, strict=True):
        encoded = processor.encode_pair(source, target)
        read, written = encoded["source_ids"], encoded["target_ids"]
        delays = policy.delays(len(read), len(written))
        for word in range(len(written)):
            aligned = [s for s, t in links if t == word]
            if not any(s < delays[word] for s in aligned):
                continue
            schedule = [*delays[:word], delays[word]]
            row = training_row(
                processor.head_ids, read[: delays[word]], processor.tail_ids, written[:word], processor.eos_token_id, schedule
            )  # fmt: skip
            with torch.no_grad():
                columns = {name: torch.tensor([values]) for name, values in row.items() if name != "labels"}
                weights = model(**columns, use_cache=False, output_attentions=True).attentions[layer][0, head, -2]
            sums, start = [], len(processor.head_ids)
            for ids in read[: delays[word]]:
                sums.append(weights[start : start + len(ids)].sum().item())
                start += len(ids)
            right += sums.index(max(sums)) in aligned
            words += 1
    return right, words


@pytest.mark.parametrize("policy", [OfflinePolicy(), WaitKPolicy(2)], ids=repr)
def test_heads_are_counted_as_a_loop_counts_them(eager, policy):
    pairs, alignments = pairs_with_links(3, 4)
    found = head_accuracy(*eager, pairs, alignments, policy)
    for layer, head in ((0, 0), (0, 3), (1, 1), (1, 2)):
        assert (int(found.correct[layer, head]), found.words) == count_by_hand(
            *eager, pairs, alignments, policy, layer, head
        )
        assert found.share([(layer, head)]) == pytest.approx(int(found.correct[layer, head]) / found.words)
    best = found.best(8)
    counts = [int(found.correct[place]) for place in best]
    assert counts == sorted(counts, reverse=True)
    assert len(set(best)) == 8
    with pytest.raises(ValueError, match="heads must be from 1 to the model's 8, got 9"):
        found.best(9)


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([(0, 0), (3, 1)], "alignment 1 must link words of its pair, 3 of the source and 2 of the target.* got 3-1"),
        ([(0, 2)], "got 0-2"),
        ([], "must link at least one target word"),
    ],
)
def test_links_that_fit_no_pair(eager, links, message):
    with pytest.raises(ValueError, match=message):
        head_accuracy(*eager, [("a dog runs", "two children")], [links], OfflinePolicy())


def test_attention_must_be_eager(eager):
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        head_accuracy(make_model(eager[1]), eager[1], [("a", "a")], [[(0, 0)]], OfflinePolicy())


def test_the_command_stores_heads_and_translation_uses_them(eager, tmp_path, capsys):
    model, processor = eager
    folder = tmp_path / "model"
    make_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    pairs, alignments = pairs_with_links(4, 6)
    for name, side in (("en", 0), ("de", 1)):
        (tmp_path / name).write_text("".join(f"{pair[side]}\n" for pair in pairs))
    (tmp_path / "links").write_text("".join(" ".join(f"{s}-{t}" for s, t in each) + "\n" for each in alignments))
    files = [str(folder), str(tmp_path / "en"), str(tmp_path / "de"), "--alignment", str(tmp_path / "links")]
    translate = ["translate", str(folder), str(tmp_path / "en"), "--policy", "alignatt-1:max=4"]
    assert main(translate) == 1
    assert "which transformers-simul heads writes" in capsys.readouterr().err
    assert main(["heads", *files, "--heads", "2", "--wait-k", "3"]) == 0
    best = head_accuracy(model, processor, pairs, alignments, WaitKPolicy(3)).best(2)
    assert "median of these" in capsys.readouterr().out
    stored = json.loads((folder / "generation_config.json").read_text())
    assert stored["alignment_heads"] == [list(head) for head in best]
    loaded = SimulFalconForCausalLM.from_pretrained(folder)
    assert loaded.generation_config.alignment_heads == stored["alignment_heads"]
    assert main(translate) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(pairs)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--heads", "0"], "heads must be at least 1, got 0"),
        (["--max-samples", "0"], "max-samples must be at least 1"),
        (["--policy", "weit-3"], "policy must be one of"),
        (["--alignment", "missing"], "missing"),
        (["--heads", "99"], "heads must be from 1 to the model's 8, got 99"),
        (["--policy", "learned"], "has no schedule to train on"),
    ],
)
def test_wrong_flags(eager, tmp_path, capsys, flags, message):
    _, processor = eager
    make_model(processor).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for name in ("en", "de"):
        (tmp_path / name).write_text("a dog runs\n")
    (tmp_path / "links").write_text("0-0 1-1\n")
    files = [str(tmp_path), str(tmp_path / "en"), str(tmp_path / "de"), "--alignment", str(tmp_path / "links")]
    before = (tmp_path / "generation_config.json").read_bytes()
    assert main(["heads", *files, *flags]) == 1
    assert message in capsys.readouterr().err
    assert (tmp_path / "generation_config.json").read_bytes() == before
