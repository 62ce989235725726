# SPDX-License-Identifier: Apache-2.0
"""Flags of commands that score folders of logs: whether a line of a log is a sentence, or a long recording of many."""

import argparse
import functools
from collections.abc import Callable
from typing import Any

from ..text_files import read_lines


def add_segments(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a parser.

    Args:
        parser (`argparse.ArgumentParser`): of a command.
    """
    parser.add_argument(
        "--segments", metavar="FILE", help="MuST-C's YAML: score long recordings segment by segment; needs --references"
    )
    parser.add_argument("--references", metavar="FILE", help="with --segments: a reference for each, one a line")
    parser.add_argument("--lang", help="with --segments: code for Moses' tokeniser, to align by (words)")


def chosen_scorer(args: argparse.Namespace) -> Callable[..., Any]:
    """Return what scores a log: `report_line`, or `longform_line` of these segments.

    Args:
        args (`argparse.Namespace`): with the flags.

    Raises:
        ValueError: if one flag lacks another, or a file is damaged.
    """
    if not args.segments:
        for name in ("references", "lang"):
            if getattr(args, name):
                raise ValueError(f"{name} must stand beside --segments, got {getattr(args, name)!r} alone.")
        from ..evaluation.report import report_line

        return report_line
    if not args.references:
        raise ValueError(f"segments need references, one for each, got --segments {args.segments} alone.")
    from ..evaluation.longform import longform_line
    from ..speech.dataset import read_segments

    segments, references = read_segments(args.segments), read_lines(args.references)
    return functools.partial(longform_line, segments=segments, references=references, lang=args.lang)


__all__ = ["add_segments", "chosen_scorer"]
