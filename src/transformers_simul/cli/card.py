# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul card`: a trained folder's model card."""

import argparse
import sys
from pathlib import Path
from typing import Any

from .longform import add_segments, chosen_scorer

EXAMPLES = """
examples:
  transformers-simul card output/train
  transformers-simul card output/train --license apache-2.0 --name my-team/simul-en-de
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "card",
        help="write a trained folder's model card, with the scores of its logs",
        description="Write FOLDER/README.md for the Hub: metadata, scores of FOLDER/logs, how to stream.",
        epilog=EXAMPLES,
    )
    parser.add_argument("folder", help="a trained folder, such as output/train")
    parser.add_argument("--name", help="name of the model on the Hub")
    parser.add_argument("--license", help="licence of the weights, as the Hub spells it: apache-2.0, gemma, ...")
    add_segments(parser)
    parser.set_defaults(run=_card)


def _card(args: argparse.Namespace) -> int:
    from ..evaluation.report import folder_lines
    from ..publishing.model_card import write_model_card

    logs = Path(args.folder) / "logs"
    path = write_model_card(
        args.folder, folder_lines(logs, scorer=chosen_scorer(args)) if logs.is_dir() else [], args.name, args.license
    )
    print(f"written: {path}", file=sys.stderr)
    return 0


__all__ = ["add_command"]
