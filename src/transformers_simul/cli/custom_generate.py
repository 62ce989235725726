# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul custom-generate`: the decoding alone, for stock models."""

import argparse
import sys
from typing import Any

EXAMPLES = """
examples:
  transformers-simul custom-generate output/simul-decoding --name my-team/simul-decoding
  hf upload my-team/simul-decoding output/simul-decoding .
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "custom-generate",
        help="write a folder that lends the decoding to stock models",
        description="Write FOLDER/custom_generate, for model.generate(custom_generate=...) on models of other makers.",
        epilog=EXAMPLES,
    )
    parser.add_argument("folder", help="a new folder, which holds no model")
    parser.add_argument("--name", help="name of the folder on the Hub")
    parser.set_defaults(run=_custom_generate)


def _custom_generate(args: argparse.Namespace) -> int:
    from ..publishing.custom_generate import save_custom_generate

    print(f"written: {save_custom_generate(args.folder, args.name)}", file=sys.stderr)
    return 0


__all__ = ["add_command"]
