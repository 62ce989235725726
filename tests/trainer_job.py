# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny model in a process of its own, which may die at a chosen moment of its writing."""

import os
import random
import shutil
import signal
from pathlib import Path

import torch
from datasets import Dataset
from transformers import Trainer, TrainerState, TrainingArguments

from helpers import make_model, make_processor, random_sentence
from transformers_simul import MixturePolicy, SimulMaskDataCollator, WaitKPolicy
from transformers_simul.training import SimulTrainer, checkpoints

# What is torn when the process dies, and which function has just written it.
TORN = {
    "model.safetensors": (Trainer, "save_model"),
    "optimizer.pt": (Trainer, "_save_optimizer_and_scheduler"),
    "scheduler.pt": (Trainer, "_save_optimizer_and_scheduler"),
    "rng_state.pth": (Trainer, "_save_rng_state"),
    "trainer_state.json": (TrainerState, "save_to_json"),
    "complete.json": (checkpoints, "write_text"),
}
# Moments between two operations: the process dies before this one.
BEFORE = {"its name": (checkpoints.os, "replace"), "removing the old one": (checkpoints.shutil, "rmtree")}


def dataset(count: int = 36) -> Dataset:
    draw = random.Random(0)
    return Dataset.from_list([{"source": random_sentence(draw), "target": random_sentence(draw)} for _ in range(count)])


def make_trainer(
    output_dir: str, kind: type[Trainer] = Trainer, eval_dataset: Dataset | None = None, **kwargs
) -> Trainer:
    processor = make_processor()
    collator = SimulMaskDataCollator(processor, MixturePolicy([WaitKPolicy(k) for k in (1, 2, 3)]), seed=7)
    options = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "learning_rate": 1e-3,
        "save_steps": 5,
        "logging_steps": 1,
        "remove_unused_columns": False,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return kind(
        model=make_model(processor, hidden_dropout=0.1, attention_dropout=0.1).train(),
        args=TrainingArguments(output_dir, **options | kwargs),
        train_dataset=dataset(),
        eval_dataset=eval_dataset,
        data_collator=collator,
        callbacks=[collator],
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(moment: str, folder: str) -> None:
    """From the second checkpoint of this run on: the first that is written stays."""

    def is_due() -> bool:
        return bool(list(Path(folder).glob("checkpoint-*"))) and trainer_saves > 1

    trainer_saves = 0
    save_checkpoint = SimulTrainer._save_checkpoint

    def counted(self, *args):
        nonlocal trainer_saves
        trainer_saves += 1
        save_checkpoint(self, *args)

    SimulTrainer._save_checkpoint = counted
    owner, name = (TORN | BEFORE)[moment]
    function = getattr(owner, name)

    def torn(*args, **kwargs):
        function(*args, **kwargs)
        written = sorted(Path(folder).rglob(f"_incomplete/**/{moment}"))
        if is_due() and written:
            os.truncate(written[-1], written[-1].stat().st_size // 2)
            die()

    def stopped(path, *args, **kwargs):
        # Only where a checkpoint is meant, written or dropped.
        if is_due() and "checkpoint-" in str(path):
            if moment == "removing the old one":
                victim = next(file for file in Path(path).rglob("*") if file.is_file()) if Path(path).exists() else None
                if victim is None:
                    return function(path, *args, **kwargs)
                victim.unlink()
            die()
        return function(path, *args, **kwargs)

    setattr(owner, name, torn if moment in TORN else stopped)


def train(folder: str, moment: str | None = None, **options) -> None:
    torch.set_num_threads(1)
    if moment:
        die_at(moment, folder)
    trainer = make_trainer(folder, SimulTrainer, save_steps=3, save_total_limit=2, **options)
    trainer.train(resume_from_checkpoint=True)
    trainer.save_model(folder)
    shutil.rmtree(Path(folder) / "_incomplete", ignore_errors=True)
