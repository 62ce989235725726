# SPDX-License-Identifier: Apache-2.0
"""Trains a tiny model with the stock Trainer; run as a program so that a test can kill it."""

import random
import sys

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from helpers import make_model, make_processor, random_sentence
from transformers_simul import MixturePolicy, SimulMaskDataCollator, WaitKPolicy


def dataset(count: int = 36) -> Dataset:
    draw = random.Random(0)
    return Dataset.from_list([{"source": random_sentence(draw), "target": random_sentence(draw)} for _ in range(count)])


def make_trainer(output_dir: str, **kwargs) -> Trainer:
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
    return Trainer(
        model=make_model(processor, hidden_dropout=0.1, attention_dropout=0.1).train(),
        args=TrainingArguments(output_dir, **options | kwargs),
        train_dataset=dataset(),
        data_collator=collator,
        callbacks=[collator],
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = sys.argv[1]
    trainer = make_trainer(folder)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(folder) if len(sys.argv) > 2 else None)
    trainer.save_model(folder)
    print("trained", flush=True)
