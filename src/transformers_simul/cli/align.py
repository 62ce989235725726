# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul align`: word alignments of a corpus, for training under `AlignedPolicy`."""

import argparse
import sys
from typing import Any

from .flags import check_output

EXAMPLES = """
examples:
  transformers-simul align train.en train.de --output train.align
  transformers-simul align pairs.jsonl --source-column en --target-column de --model fast_align
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "align",
        help="align the words of a corpus, for training a policy that waits for what a word translates",
        description="Learn from a corpus which source word each target word translates, and write the links of each "
        "pair on a line of its own, in Pharaoh's format: 0-0 1-2.",
        epilog=EXAMPLES,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="two text files, source first, or one table")
    parser.add_argument("--source-column", default="source", help="source column of a table (source)")
    parser.add_argument("--target-column", default="target", help="target column of a table (target)")
    parser.add_argument("--model", default="eflomal", help="aligner: eflomal, fast_align or hmm (eflomal)")
    parser.add_argument("--output", help="file to write (standard output)")
    parser.set_defaults(run=_align)


def _align(args: argparse.Namespace) -> int:
    if args.output:
        check_output("output", args.output)
    from ..corpora import read_pairs
    from ..models.text import split_words
    from ..text_files import write_text
    from ..training.alignment import align_words

    pairs = read_pairs(args.files, args.source_column, args.target_column)
    print(f"aligning {len(pairs)} pairs with {args.model}", file=sys.stderr, flush=True)
    sources, targets = ([split_words(text) for text in side] for side in zip(*pairs, strict=True))
    lines = align_words(sources, targets, args.model)
    text = "".join(f"{line}\n" for line in lines)
    if args.output:
        write_text(args.output, text)
        print(f"written: {args.output}", file=sys.stderr)
    else:
        print(text, end="")
    return 0


__all__ = ["add_command"]
