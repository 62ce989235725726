# SPDX-License-Identifier: Apache-2.0
"""The stock Trainer, interrupted in all ways, ends where an uninterrupted run ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import DataCollatorWithPadding

from trainer_job import dataset, make_trainer

HERE = Path(__file__).parent


def job(folder, *flags):
    return subprocess.Popen(
        [sys.executable, str(HERE / "trainer_job.py"), str(folder), *flags],
        env=os.environ | {"PYTHONPATH": str(HERE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_killed_and_resumed_training_ends_with_the_same_weights(tmp_path):
    finish(job(tmp_path / "whole"))
    for name, how in (("killed", signal.SIGKILL), ("interrupted", signal.SIGINT)):
        process = job(tmp_path / name)
        # Killed after its second checkpoint, in the middle of an epoch (9 steps) and of an interval (5).
        deadline = time.monotonic() + 300
        while not (tmp_path / name / "checkpoint-10" / "trainer_state.json").exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(how)
        process.wait(timeout=60)
        for later in (15, 20, 25, 27):  # whatever it still wrote while it died
            shutil.rmtree(tmp_path / name / f"checkpoint-{later}", ignore_errors=True)
        finish(job(tmp_path / name, "resume"))
        whole, resumed = (load_file(tmp_path / folder / "model.safetensors") for folder in ("whole", name))
        assert whole.keys() == resumed.keys()
        for key in whole:
            assert torch.equal(whole[key], resumed[key]), (name, key)


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
