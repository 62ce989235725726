# SPDX-License-Identifier: Apache-2.0
"""The command `transformers-simul`: a file for each of its commands. Results go to stdout, progress to stderr."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from . import align, card, corpus, custom_generate, mask, page, plot, programs, score, translate

COMMANDS = (translate, programs, score, plot, mask, page, corpus, align, card, custom_generate)


class _CommandParser(argparse.ArgumentParser):
    """Whose examples stay a line each."""

    def __init__(self, **options: Any):
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter} | options)


def make_parser() -> argparse.ArgumentParser:
    """The flags of all commands."""
    parser = argparse.ArgumentParser(
        prog="transformers-simul",
        description="Simultaneous translation with large language models.",
        epilog="transformers-simul COMMAND --help shows a command's flags and examples.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser)
    for module in COMMANDS:
        module.add_command(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 1 for an input that is wrong, 2 for a wrong flag, 130 for Ctrl-C.

    `train` and `evaluate` leave with theirs (`SystemExit`), as the program that they are.

    Args:
        arguments (`Sequence[str]`, *optional*): the command line's unless told.

    Example:

    ```python
    >>> from transformers_simul.cli import main
    >>> main(["score", "/none/instances.log"])
    1

    ```
    """
    parser = make_parser()
    args, others = parser.parse_known_args(arguments)
    if others and args.command not in programs.NAMES:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    args.others = others
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


__all__ = ["main", "make_parser"]
