# SPDX-License-Identifier: Apache-2.0
"""A training of a few steps through the command line, for the trials that interrupt it."""

import hashlib
import json
import random
from pathlib import Path

# Imported so that no training of a case needs to.
import transformers_simul.cli.train  # noqa: F401
from helpers import random_sentence
from transformers_simul.cli import main

from .trial import Outcome, in_child

STEPS = 8


class Training:
    """The same training in any folder, and the weights of one that nothing interrupted.

    Args:
        room (`Path`): for its data and the uninterrupted run.
    """

    def __init__(self, room: Path):
        draw = random.Random(0)
        self.data = room / "train.jsonl"
        pairs = [{"en": random_sentence(draw), "de": random_sentence(draw)} for _ in range(24)]
        self.data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
        outcome = in_child(lambda: self.run(room / "whole"), limit_s=120)
        assert outcome.status == 0, outcome
        self.weights = weights_of(room / "whole")

    def run(self, folder: Path) -> int:
        """In this process: with a checkpoint after every second step, in the middle of an epoch and at its end."""
        flags = {
            "train_file": self.data, "output_dir": folder, "source_lang": "en", "target_lang": "de",
            "template": "{source} => {target}", "wait_k": "1", "max_steps": STEPS, "save_steps": 2, "seed": 3,
            "per_device_train_batch_size": 4, "learning_rate": 1e-3, "hidden_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 280, "dropout": 0.1, "stream_sentences": 0, "report_to": "none",
            "use_cpu": True, "save_total_limit": 2,
        }  # fmt: skip
        return main(["train", *[text for name, value in flags.items() for text in (f"--{name}", str(value))]])

    def finish(self, folder: Path) -> Outcome:
        """The same command again, which must end with the weights of the uninterrupted run."""
        outcome = in_child(lambda: self.run(folder), limit_s=120)
        outcome.check_plain()
        assert outcome.status == 0, outcome
        assert weights_of(folder) == self.weights, ("other weights", outcome.output[-1500:])
        return outcome


def weights_of(folder: Path) -> str:
    """Of a finished training."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
