# SPDX-License-Identifier: Apache-2.0
"""Training that is killed, interrupted or damaged ends where an uninterrupted run ends, or says why not."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import DataCollatorWithPadding

import trainer_job
from trainer_job import dataset, make_trainer
from transformers_simul.training import SimulTrainer
from transformers_simul.training.checkpoints import MARKER, last_checkpoint


@pytest.fixture(scope="module")
def processes():
    """Children that find the slow imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["transformers_simul.training", "transformers_simul.models.modeling_simul_falcon"])
    return context


def exit_code(processes, *arguments, **options):
    process = processes.Process(target=trainer_job.train, args=tuple(map(str, arguments)), kwargs=options)
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def whole(processes, tmp_path_factory):
    """A training of 27 steps that nothing disturbs; two checkpoints, 24 and 27, are left."""
    folder = tmp_path_factory.mktemp("trained") / "whole"
    assert exit_code(processes, folder) == 0
    return folder


def assert_same_weights(one, two):
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert weights.keys() == others.keys()
    for key in weights:
        assert torch.equal(weights[key], others[key]), key


@pytest.mark.slow
def test_killed_at_the_worst_moments_training_ends_with_the_same_weights(processes, whole, tmp_path):
    """Each run writes one checkpoint and dies while it writes the second: in a file, or between two operations."""
    folder, steps = tmp_path / "killed", 0
    for moment in trainer_job.TORN | trainer_job.BEFORE:
        before = last_checkpoint(folder)[0]
        assert exit_code(processes, folder, moment) == -signal.SIGKILL, moment
        checkpoint, passed_over = last_checkpoint(folder)
        # Whatever happened, no half of a checkpoint stands under its name.
        assert not passed_over, moment
        # The first checkpoint of this run; where the old one was being removed, the second was complete.
        steps += 6 if moment == "removing the old one" else 3
        assert Path(checkpoint).name == f"checkpoint-{steps}", (moment, before)
    assert steps == 27
    assert exit_code(processes, folder) == 0
    assert_same_weights(whole, folder)
    assert not (folder / "_incomplete").exists()


def damaged(whole, folder, name, size=None):
    """A copy whose newest checkpoint has a file less, or a shorter one."""
    shutil.copytree(whole, folder)
    path = folder / "checkpoint-27" / name
    if size is None:
        path.unlink()
    else:
        os.truncate(path, size)
    return folder


FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FILES, MARKER])
def test_a_damaged_checkpoint_is_passed_over_with_the_reason(whole, tmp_path, name):
    for number, (size, reason) in enumerate([(None, "is missing|has no"), (10, "has 10 of|cannot be read")]):
        folder = damaged(whole, tmp_path / str(number), name, size)
        checkpoint, (sentence,) = last_checkpoint(folder)
        assert checkpoint == str(folder / "checkpoint-24")
        assert name in sentence
        assert any(each in sentence for each in reason.split("|")), sentence


@pytest.mark.slow
def test_a_torn_newest_checkpoint_costs_only_the_steps_since_the_one_before(processes, whole, tmp_path):
    folder = damaged(whole, tmp_path / "torn", "optimizer.pt", 100)
    assert exit_code(processes, folder) == 0
    assert_same_weights(whole, folder)
    assert last_checkpoint(folder) == (str(folder / "checkpoint-27"), [])


def test_odd_names_are_passed_over_and_never_removed(tmp_path):
    for name in ("checkpoint-best", "checkpoint-", "checkpoint-3.bak"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-12").write_text("a file")
    trainer = make_trainer(str(tmp_path), SimulTrainer, max_steps=2, save_steps=1, save_total_limit=1)
    trainer.train(resume_from_checkpoint=True)
    checkpoint, passed_over = last_checkpoint(tmp_path)
    assert checkpoint == str(tmp_path / "checkpoint-2")
    assert len(passed_over) == 4
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoint-2", "checkpoint-12", "checkpoint-best", "checkpoint-", "checkpoint-3.bak"}


def test_nothing_is_resumed_without_optimizer_or_random_state(tmp_path):
    """Neither from a checkpoint of the stock Trainer, which the user names, nor from one of weights alone."""
    make_trainer(str(tmp_path / "stock"), max_steps=1, save_steps=1).train()
    for name, fault in (
        ("rng_state.pth", "no random state"),
        ("scheduler.pt", "schedule"),
        ("optimizer.pt", "no optimizer state"),
    ):
        (tmp_path / "stock" / "checkpoint-1" / name).unlink()
        with pytest.raises(ValueError, match=f"resume_from_checkpoint cannot be .*{fault}"):
            make_trainer(str(tmp_path / "out"), SimulTrainer).train(str(tmp_path / "stock" / "checkpoint-1"))
    make_trainer(str(tmp_path / "own"), SimulTrainer, max_steps=1, save_steps=1, save_only_model=True).train()
    checkpoint, (sentence,) = last_checkpoint(tmp_path / "own")
    assert checkpoint is None
    assert "holds no optimizer state" in sentence


def test_another_number_of_processes_is_no_silent_difference(tmp_path):
    make_trainer(str(tmp_path), SimulTrainer, max_steps=1, save_steps=1).train()
    assert "rng_state_0.pth" in last_checkpoint(tmp_path, processes=2)[1][0]


def test_the_best_checkpoint_stays_and_is_loaded(tmp_path):
    trainer = make_trainer(
        str(tmp_path), SimulTrainer, max_steps=4, save_steps=1, save_total_limit=1, eval_strategy="steps", eval_steps=1,
        load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=True, eval_dataset=dataset(4),
    )  # fmt: skip
    trainer.train()
    # The worst loss counts as the best, so that it is an early one.
    losses = [each["eval_loss"] for each in trainer.state.log_history if "eval_loss" in each]
    best = tmp_path / f"checkpoint-{losses.index(max(losses)) + 1}"
    assert trainer.state.best_model_checkpoint == str(best)
    assert json.loads((best / "trainer_state.json").read_text())["best_model_checkpoint"] == str(best)
    stored, held = load_file(best / "model.safetensors"), trainer.model.state_dict()
    assert all(torch.equal(value, held[key]) for key, value in stored.items())


def test_weights_that_do_not_fit_are_refused_and_tied_ones_are_no_news(tmp_path, caplog):
    make_trainer(str(tmp_path), SimulTrainer, max_steps=1, save_steps=1).train()
    make_trainer(str(tmp_path), SimulTrainer, max_steps=2).train(resume_from_checkpoint=True)
    assert "missing keys" not in caplog.text
    other = make_trainer(str(tmp_path), SimulTrainer, max_steps=2)
    other.model.transformer.h[0].extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="must hold exactly this model's weights: missing .*extra"):
        other.train(resume_from_checkpoint=True)


def test_default_training_arguments_fail_at_once_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="remove_unused_columns=False"):
        make_trainer(str(tmp_path), remove_unused_columns=True).train()


def test_a_dataset_with_columns_that_survive_fails_at_once_too(tmp_path):
    trainer = make_trainer(str(tmp_path), remove_unused_columns=True)
    trainer.train_dataset = dataset().add_column("labels", [0] * 36)
    with pytest.raises(ValueError, match="remove_unused_columns=False"):
        trainer.train()


def test_the_trainers_label_smoothing_fails_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"config\.label_smoothing"):
        make_trainer(str(tmp_path), label_smoothing_factor=0.1).train()


def test_gradient_accumulation_gives_the_loss_of_the_large_batch(tmp_path):
    weights = []
    for options in (
        {"per_device_train_batch_size": 8},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    ):
        trainer = make_trainer(str(tmp_path / str(len(weights))), max_steps=2, save_strategy="no", optim="sgd",
                               learning_rate=0.1, **options)  # fmt: skip
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer.model.config.hidden_dropout = trainer.model.config.attention_dropout = 0.0
        for block in trainer.model.transformer.h:
            block.hidden_dropout = 0.0
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.allclose(weights[0], weights[1], atol=1e-5)


def test_another_collator_is_no_silent_fallback(tmp_path):
    trainer = make_trainer(str(tmp_path))
    trainer.data_collator = DataCollatorWithPadding(trainer.data_collator.processor.tokenizer)
    with pytest.raises(ValueError, match="encoding|input_ids"):
        trainer.train()
