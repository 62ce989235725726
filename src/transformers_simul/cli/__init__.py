# SPDX-License-Identifier: Apache-2.0
"""The command `transformers-simul`: a file for each of its commands. Results go to stdout, progress to stderr."""

import argparse
import os
import sys
from collections.abc import Sequence

from ..text_files import one_line
from . import (
    align,
    card,
    client,
    corpus,
    custom_generate,
    heads,
    listen,
    mask,
    page,
    paths,
    plot,
    programs,
    score,
    segmenter,
    serve,
    subtitles,
    translate,
)
from .flags import CommandParser

COMMANDS = (
    translate,
    listen,
    serve,
    client,
    programs,
    score,
    subtitles,
    plot,
    mask,
    paths,
    page,
    corpus,
    align,
    heads,
    segmenter,
    card,
    custom_generate,
)
# As a shell reports a program that Ctrl-C, or a reader that went away, has ended.
_INTERRUPTED, _BROKEN_PIPE = 130, 141


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    return _make_parsers()[0]


def _make_parsers() -> tuple[argparse.ArgumentParser, dict[str, CommandParser]]:
    """The parser, and that of each command."""
    parser = argparse.ArgumentParser(
        prog="transformers-simul",
        description="Simultaneous translation with large language models.",
        epilog="transformers-simul COMMAND --help shows a command's flags and examples.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    for module in COMMANDS:
        module.add_command(commands)
    return parser, dict(commands.choices)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 1 for an input that is wrong, 2 for a wrong flag, 130 for Ctrl-C, 141
    if whoever read its output went away.

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
    parser, commands = _make_parsers()
    args, others = parser.parse_known_args(arguments)
    if others and args.command not in programs.NAMES:
        # The usage that helps is the command's.
        commands[args.command].error(f"unrecognized arguments: {' '.join(others)}")
    args.others = others
    try:
        status = args.run(args)
        # A disk that is full, or a reader that has gone, shows here and not while Python ends.
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return _BROKEN_PIPE
    # An extra that is not installed names itself.
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        _drop_output()
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    return status


def _drop_output() -> None:
    """Drop output that cannot be written any more, which Python would try to write again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["main", "make_parser"]
