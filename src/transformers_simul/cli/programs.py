# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul train` and `evaluate`: the flags of examples/run_simul_translation.py, those of the Trainer among
them."""

import argparse
from typing import Any

NAMES = ("train", "evaluate")
_ADDED = {"train": "--do_train", "evaluate": "--do_predict"}
_HELP = {
    "train": "fine-tune a checkpoint, or a small new model; --help lists all flags",
    "evaluate": "translate a test set under several policies: table, curve, logs",
}


def add_command(commands: Any) -> None:
    """Both; their flags are parsed by the program itself."""
    for name in NAMES:
        commands.add_parser(name, help=_HELP[name], add_help=False).set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import sys

    from .train import main

    sys.argv[0] = f"transformers-simul {args.command}"
    main([_ADDED[args.command], *args.others])
    return 0


__all__ = ["NAMES", "add_command"]
