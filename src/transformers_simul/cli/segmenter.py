# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul segmenter`: learn where sentences end in text without punctuation."""

import argparse
import sys
from typing import Any

from .flags import check_output

EXAMPLES = """
examples:
  transformers-simul segmenter train.en --output en.safetensors
  transformers-simul translate models/simul-falcon-en-de captions.txt --segmenter en.safetensors
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "segmenter",
        help="learn where sentences end in text without punctuation",
        description="Learn from a file of sentences, one a line, where sentences end once punctuation and capitals are "
        "gone, as in what speech recognisers write.",
        epilog=EXAMPLES,
    )
    parser.add_argument("file", help="text file: a sentence on each line, as the model's training text")
    parser.add_argument("--output", required=True, help="file to write")
    parser.add_argument("--threshold", type=float, default=0.3, help="probability from which on a sentence ends (0.3)")
    parser.add_argument("--passes", type=int, default=2, help="over the text (2)")
    parser.set_defaults(run=_segmenter)


def _segmenter(args: argparse.Namespace) -> int:
    check_output("output", args.output)
    from ..streaming.segmenter import Segmenter
    from ..text_files import read_lines

    Segmenter.train(read_lines(args.file), args.passes, args.threshold).save(args.output)
    print(f"written: {args.output}", file=sys.stderr)
    return 0


__all__ = ["add_command"]
