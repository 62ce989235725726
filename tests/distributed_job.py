# SPDX-License-Identifier: Apache-2.0
"""What test_distributed.py runs in one process and in two: a training, then a translated corpus."""

import json
import random
import sys
from pathlib import Path

from transformers import TrainingArguments

from helpers import make_model, make_processor, random_sentence
from transformers_simul import AutoSimulModel, MixturePolicy, SimulMaskDataCollator, WaitKPolicy
from transformers_simul.corpora import Pair
from transformers_simul.evaluation.decode import finished_log, translate_corpus
from transformers_simul.training import ModelArguments, encode, fine_tune, run_program
from transformers_simul.training.checkpoints import last_checkpoint
from transformers_simul.training.models import add_lora


def main(folder: str, per_device_batch: int, settings: str = "{}", use_lora: str = "") -> None:
    draw = random.Random(0)
    texts = [random_sentence(draw, 2, 9) for _ in range(40)]
    processor = make_processor()
    collator = SimulMaskDataCollator(processor, MixturePolicy([WaitKPolicy(1), WaitKPolicy(3)]))
    args = TrainingArguments(
        folder, remove_unused_columns=False, max_steps=6, per_device_train_batch_size=per_device_batch, use_cpu=True,
        # Not Adam, which makes large steps of gradients that are zero but for rounding, as those of key biases are.
        optim="sgd", learning_rate=0.3, logging_steps=1, report_to="none", disable_tqdm=True, save_steps=3, seed=1,
        **json.loads(settings),
    )  # fmt: skip
    model = make_model(processor)
    fine_tune(
        add_lora(model, ModelArguments(lora_rank=4)) if use_lora else model,
        processor,
        collator,
        encode(processor, [Pair(text, text) for text in texts]),
        None,
        args,
        {},
        max_minutes=600,
    )
    # All processes' files are in it, or it would not be whole.
    assert last_checkpoint(Path(folder), args.world_size) == (str(Path(folder) / "checkpoint-6"), [])
    model = AutoSimulModel.from_pretrained(folder).eval()
    sources = texts[:11]
    log = finished_log(
        Path(folder) / "logs" / "k=1" / "instances.log",
        "key",
        lambda: translate_corpus(model, processor, sources, sources, WaitKPolicy(1), batch_size=2),
        {},
    )
    assert [each.source for each in log] == sources


if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
