# SPDX-License-Identifier: Apache-2.0
import pickle
import random

import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from helpers import make_model, make_processor, random_sentence
from transformers_simul import (
    AlignedPolicy,
    FixedChunkPolicy,
    MixturePolicy,
    OfflinePolicy,
    RandomPathPolicy,
    SimulMaskDataCollator,
    WaitKPolicy,
    join_documents,
)
from transformers_simul.research.baselines import ConverseDataCollator, PrefixDataCollator, PublishedRowsDataCollator
from transformers_simul.training import ProgramArguments, drop_long_pairs

MIXTURE = MixturePolicy([WaitKPolicy(k) for k in (1, 2, 3, 4)])


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def pairs(seed=0, count=7):
    draw = random.Random(seed)
    return [{"source": random_sentence(draw), "target": random_sentence(draw)} for _ in range(count)]


def losses_and_gradients(model, batch, count):
    model.zero_grad()
    loss = model(**batch, num_items_in_batch=count).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("policy", [WaitKPolicy(1), FixedChunkPolicy(2, 1), OfflinePolicy()], ids=repr)
@pytest.mark.parametrize(
    "layout",
    [{}, {"padding_side": "left"}, {"packing": True, "max_length": 160}, {"peek_rows": 0}],
    ids=str,
)
def test_loss_and_gradients_of_a_batch_equal_those_of_its_rows_alone(processor, policy, layout):
    model = make_model(processor).train()
    collator = SimulMaskDataCollator(processor, policy, **layout)
    examples = pairs()
    batch = collator(examples)
    assert (batch["pair_ids"].max() > 1) == ("packing" in layout)
    count = int((batch["labels"] != -100).sum())
    loss, gradient = losses_and_gradients(model, batch, count)
    alone = [losses_and_gradients(model, collator([example]), count) for example in examples]
    assert loss == pytest.approx(sum(each[0] for each in alone), rel=1e-5)
    assert torch.allclose(gradient, torch.stack([each[1] for each in alone]).sum(0), atol=1e-5)


def test_labels_are_the_target_and_eos_only(processor):
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))([{"source": "a dog", "target": "two children"}])
    target = [token for word in processor.encode("two children") for token in word]
    labels = batch["labels"][0]
    assert labels[labels != -100].tolist() == [*target, processor.eos_token_id]


def test_dropped_columns_fail_with_the_remedy(processor):
    with pytest.raises(ValueError, match="remove_unused_columns=False"):
        SimulMaskDataCollator(processor, WaitKPolicy(1))([{"input_ids": [1, 2]}])


def test_over_long_pairs_raise_or_are_counted(processor):
    long = {"source": "a dog runs " * 30, "target": "two"}
    with pytest.raises(ValueError, match="max_length is 60 tokens, but a pair of 90 source and 1 target"):
        SimulMaskDataCollator(processor, WaitKPolicy(1), max_length=60)([long])
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1), max_length=120, too_long="drop")
    assert collator([long, {"source": "a", "target": "two"}])["input_ids"].shape[0] == 1
    assert collator.dropped == 1
    with pytest.raises(ValueError, match="leaves no pair of this batch of 1"):
        collator([long])


@pytest.mark.parametrize("max_length", [45, 55])
@pytest.mark.parametrize(
    ("policy", "options"),
    [
        (WaitKPolicy(3), {}),
        (WaitKPolicy(3), {"peek_rows": 0.5}),
        (MIXTURE, {}),
        (MIXTURE, {"peek_rows": 0}),
        (RandomPathPolicy(1, 5), {}),
        (MixturePolicy([OfflinePolicy(), AlignedPolicy((0, 4))]), {}),
        (AlignedPolicy((0, 4), teaches_reads=False), {}),
    ],
    ids=repr,
)
def test_long_pairs_are_left_out_whatever_is_drawn(processor, policy, options, max_length):
    examples = Dataset.from_list([pair | {"alignment": "0-0"} for pair in pairs(count=40)])
    collator = SimulMaskDataCollator(processor, policy, max_length=max_length, too_long="drop", **options)
    kept, left_out = drop_long_pairs(examples, collator)
    fitting = list(kept)
    others = [each for each in examples if each not in fitting]
    assert left_out == len(others) > 0

    def drops(examples, epoch):
        before = collator.dropped
        collator.set_epoch(epoch)
        collator(examples)
        return collator.dropped > before

    assert not any(drops(fitting, epoch) for epoch in range(10))
    # Nor are more of them left out: each would be too long sooner or later.
    for each in others:
        assert any(drops([fitting[0], each], epoch) for epoch in range(100))


@pytest.mark.parametrize("kind", [SimulMaskDataCollator, ConverseDataCollator, PrefixDataCollator])
@pytest.mark.parametrize(
    "policy",
    [
        MixturePolicy([WaitKPolicy(5), OfflinePolicy(), WaitKPolicy(7)]),
        MixturePolicy([WaitKPolicy(3), WaitKPolicy(2, catchup=0.5)]),
        RandomPathPolicy(3, 5),
        AlignedPolicy((0, 3)),
        AlignedPolicy((0, 3), teaches_reads=False),
        AlignedPolicy((0, 3), greatest_lag=2, teaches_reads=False),
        MixturePolicy([AlignedPolicy((0, 2)), RandomPathPolicy(2, 5)]),
    ],
    ids=repr,
)
def test_the_longest_row_is_the_longest_that_is_drawn(processor, policy, kind):
    draw, collator = random.Random(0), kind(processor, policy)
    for pair in pairs(count=10):
        source, target = (len(text.split()) for text in pair.values())
        example = pair | {"alignment": " ".join(f"{draw.randrange(source)}-{word}" for word in range(target))}
        lengths = set()
        for epoch in range(100):
            collator.set_epoch(epoch)
            lengths.add(int((collator([example])["pair_ids"] > 0).sum(1).max()))
        assert collator.longest_row(example) == max(lengths)


def test_a_run_is_left_out_only_if_all_its_sentences_are_too_long(processor):
    sentences = [
        {"source": "a dog " * words, "target": "two", "document": document}
        for document, words in ((1, 1), (1, 40), (2, 40), (2, 50), (3, 1))
    ]
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1), max_length=60, too_long="drop", context_sentences=1)
    kept, left_out = drop_long_pairs(join_documents(sentences), collator)
    assert [len(run) for run in kept["sentences"]] == [2, 1]
    assert left_out == 3
    collator.max_length = 5
    with pytest.raises(ValueError, match="max_length=5 leaves no pair of 5 for training: the shortest takes 21 tokens"):
        drop_long_pairs(join_documents(sentences), collator)


def test_a_stream_of_pairs_is_not_read_to_its_end(processor):
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1), max_length=60, too_long="drop")
    with pytest.raises(ValueError, match=r"dataset must be a datasets.Dataset, .* got IterableDataset: filter it with"):
        drop_long_pairs(Dataset.from_list(pairs()).to_iterable_dataset(), collator)


def test_who_is_to_be_told_of_long_pairs_keeps_them(processor):
    examples = Dataset.from_list(pairs())
    for options in ({}, {"max_length": 5}):
        assert drop_long_pairs(examples, SimulMaskDataCollator(processor, WaitKPolicy(1), **options)) == (examples, 0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"peek_rows": 1.5}, "peek_rows must lie in"),
        ({"too_long": "cut"}, "too_long must be"),
        ({"padding_side": "middle"}, "padding_side must be"),
        ({"packing": True}, "max_length must be given"),
    ],
)
def test_bad_arguments(processor, kwargs, message):
    with pytest.raises(ValueError, match=message):
        SimulMaskDataCollator(processor, WaitKPolicy(1), **kwargs)


@pytest.mark.parametrize("example", [{"source": " ", "target": "a"}, {"source": "a", "target": "\n"}])
def test_empty_sides_are_named(processor, example):
    side = "source" if not example["source"].strip() else "target"
    with pytest.raises(ValueError, match=f"{side} must hold at least one word"):
        SimulMaskDataCollator(processor, WaitKPolicy(1))([example])


def test_a_mixture_needs_the_epoch_and_draws_from_it(processor):
    collator = SimulMaskDataCollator(processor, MIXTURE)
    examples = pairs(count=20)
    with pytest.raises(ValueError, match="callbacks=\\[collator\\]"):
        collator(examples)
    drawn = []
    for epoch in (0, 1, 0):
        collator.set_epoch(epoch)
        drawn.append(collator(examples)["visible_source"].clone())
    assert drawn[0].tolist() == drawn[2].tolist()
    assert drawn[0].tolist() != drawn[1].tolist()
    # The draw belongs to the example, not to its place in the batch or the batches before.
    alone = collator([examples[7]])["visible_source"][0]
    assert drawn[2][7][: len(alone)].tolist() == alone.tolist()
    other_seed = SimulMaskDataCollator(processor, MIXTURE, seed=1)
    other_seed.set_epoch(0)
    assert other_seed(examples)["visible_source"].tolist() != drawn[0].tolist()


def test_peek_rows_can_be_subsampled(processor):
    counts = []
    for share in (0.0, 0.5, 1.0):
        batch = SimulMaskDataCollator(processor, WaitKPolicy(1), peek_rows=share)(pairs(count=60))
        counts.append(int((batch["peeks"] > 0).sum()))
    assert counts[0] == 0
    assert 0.3 * counts[2] < counts[1] < 0.7 * counts[2]


@pytest.mark.parametrize(
    "start", ["fork", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("spawn", "forkserver"))]
)
def test_persistent_workers_see_the_epoch_however_they_start(processor, start):
    collator = SimulMaskDataCollator(processor, MIXTURE)
    examples = pairs(count=8)
    loader = DataLoader(
        examples, 4, collate_fn=collator, num_workers=1, persistent_workers=True, multiprocessing_context=start
    )
    for epoch in (0, 3):
        collator.set_epoch(epoch)
        from_worker = [batch["visible_source"].tolist() for batch in loader]
        here = [collator(examples[:4])["visible_source"].tolist(), collator(examples[4:])["visible_source"].tolist()]
        assert from_worker == here


@pytest.mark.parametrize(
    "collator_class", [SimulMaskDataCollator, PrefixDataCollator, ConverseDataCollator, PublishedRowsDataCollator]
)
def test_collators_can_be_pickled(processor, collator_class):
    collator = collator_class(processor, WaitKPolicy(2))
    before = collator(pairs())  # fills whatever is remembered of words
    copied = pickle.loads(pickle.dumps(collator))
    after = copied(pairs())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_several_gpus_in_one_process_fail_at_once_with_the_remedy(processor, monkeypatch, tmp_path):
    """The stock Trainer would wrap the model in nn.DataParallel."""
    options = {"remove_unused_columns": False, "report_to": "none", "use_cpu": True, "max_steps": 1}
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1))
    trainer = Trainer(
        make_model(processor), TrainingArguments(str(tmp_path), **options), data_collator=collator,
        train_dataset=Dataset.from_list(pairs()), callbacks=[collator],
    )  # fmt: skip
    with pytest.raises(ValueError, match="cannot train this model: .* accelerate launch or torchrun"):
        trainer.model._replicate_for_data_parallel()  # what nn.DataParallel asks of its module
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match="accelerate launch or torchrun"):
        collator.on_train_begin(trainer.args, trainer.state, trainer.control)
    with pytest.raises(ValueError, match="accelerate launch or torchrun"):
        ProgramArguments(str(tmp_path), report_to="none", use_cpu=True)


def test_metadata_is_linear_in_length(processor):
    """Eight rows of 8,192 tokens: what the collator adds to ids and labels stays below 1 MB."""
    collator = SimulMaskDataCollator(processor, WaitKPolicy(3), packing=True, max_length=8192, pad_to_multiple_of=8192)
    draw = random.Random(0)
    examples = [{"source": random_sentence(draw, 30, 60), "target": random_sentence(draw, 30, 60)} for _ in range(150)]
    batch = collator(examples)
    per_row = sum(
        value[0].numel() * value.element_size() for name, value in batch.items() if name not in ("input_ids", "labels")
        and name != "token_kinds"
    )  # fmt: skip
    assert batch["input_ids"].shape[1] == 8192
    assert 8 * per_row + batch["token_kinds"].numel() < 1e6
