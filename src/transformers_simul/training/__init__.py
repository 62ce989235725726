# SPDX-License-Identifier: Apache-2.0
"""What every training program shares: its flags, its text, its model and a training that can be resumed."""

import logging

# Before the Trainer is imported, and with it peft and bitsandbytes wherever they are installed: the latter warns, where
# the CPU has AVX-512 BF16, that it has no kernel for 4-bit inference.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

from .arguments import DataArguments, ModelArguments, ProgramArguments, parse_flags, training_policy
from .data import drop_long_pairs, encode, load_languages, load_pairs, read_alignments, split_pairs
from .fine_tuning import fine_tune, training_seconds
from .models import make_config, make_model, make_processor
from .program import check_writable, run_program
from .record import is_trained, prepare_folder, training_record
from .trainer import SimulTrainer
from .vocabulary import move_to_vocabulary, train_tokenizer

__all__ = [
    "DataArguments",
    "ModelArguments",
    "ProgramArguments",
    "SimulTrainer",
    "check_writable",
    "drop_long_pairs",
    "encode",
    "fine_tune",
    "is_trained",
    "load_languages",
    "load_pairs",
    "make_config",
    "make_model",
    "make_processor",
    "move_to_vocabulary",
    "parse_flags",
    "prepare_folder",
    "read_alignments",
    "run_program",
    "split_pairs",
    "train_tokenizer",
    "training_policy",
    "training_record",
    "training_seconds",
]
