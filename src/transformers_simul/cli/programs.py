# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul train` and `evaluate`: the flags of examples/run_simul_translation.py, those of the Trainer among
them."""

import argparse
import sys
from typing import Any

from .flags import CommandParser
from .loading import find_checkpoint, find_model

NAMES = ("train", "evaluate")
_ADDED = {"train": "--do_train", "evaluate": "--do_predict"}
_HELP = {
    "train": "fine-tune a checkpoint, or a small new model; --help lists all flags",
    "evaluate": "translate a test set under several policies: table, curve, logs",
}
EXAMPLES = """
examples:
  transformers-simul train --model_name_or_path tiiuae/falcon-rw-1b --train_file train.jsonl --output_dir output/mine
  transformers-simul evaluate --model_name_or_path output/mine --test_file test.en test.de --output_dir output/scores
"""


def add_command(commands: Any) -> None:
    """Add both commands; the program itself parses their flags."""
    for name in NAMES:
        commands.add_parser(name, help=_HELP[name], add_help=False).set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    # Torch and the flags themselves take seconds to load.
    parser = CommandParser(prog=f"transformers-simul {args.command}", add_help=False, allow_abbrev=False)
    parser.add_argument("--model-name-or-path")
    name = parser.parse_known_args(args.others)[0].model_name_or_path
    if name and not {"-h", "--help"} & {*args.others}:
        (find_checkpoint if args.command == "train" else find_model)(name, "model_name_or_path")
    from ..training import run_program
    from .train import main

    sys.argv[0] = f"transformers-simul {args.command}"
    if {"-h", "--help"} & {*args.others}:
        print(EXAMPLES.strip() + "\n")
    run_program(lambda: main([_ADDED[args.command], *args.others]))
    return 0


__all__ = ["NAMES", "add_command"]
