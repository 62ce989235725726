# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul heads`: find a model's alignment heads and store them beside it, for `alignatt` policies."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..text_files import write_text
from .flags import add_policy_flags, check_counts, check_folder, chosen_policy
from .loading import add_model, find_model

EXAMPLES = """
examples:
  transformers-simul align data/train.en data/train.de --output data/train.align
  transformers-simul heads models/simul-falcon-en-de data/train.en data/train.de --alignment data/train.align
  transformers-simul translate models/simul-falcon-en-de data/test.en --policy alignatt-2
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "heads",
        help="find the attention heads that look at what is translated next, for alignatt policies",
        description="Measure on aligned pairs how often each attention head looks at the source word that the next "
        "target word translates, and write the best heads into MODEL's generation_config.json.",
        epilog=EXAMPLES,
    )
    add_model(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="two text files, source first, or one table")
    parser.add_argument("--alignment", required=True, help="file with a line of links a pair, such as 0-0 1-2")
    parser.add_argument("--source-column", default="source", help="source column of a table (source)")
    parser.add_argument("--target-column", default="target", help="target column of a table (target)")
    parser.add_argument("--heads", type=int, default=3, help="how many to keep (3)")
    parser.add_argument("--max-samples", type=int, default=500, help="pairs to look at, the first of the files (500)")
    add_policy_flags(parser, wait_k="full")
    parser.set_defaults(run=_heads)


def _heads(args: argparse.Namespace) -> int:
    policy = chosen_policy(args)
    check_counts(args, "heads", "max_samples")
    find_model(args.model)
    folder = Path(args.model)
    if not folder.is_dir():
        raise ValueError(f"model must be a folder, whose generation_config.json is written, got {args.model!r}.")
    check_folder("model", args.model)
    from ..corpora import read_pairs
    from ..training import read_alignments

    pairs = read_pairs(args.files, args.source_column, args.target_column)
    lines = read_alignments(args.alignment, len(pairs))[: args.max_samples]
    from tqdm import tqdm

    from ..evaluation.heads import head_accuracy
    from ..training.paths import parse_alignment
    from .loading import load

    model, processor = load(args.model, args.trust_remote_code, attn_implementation="eager")
    shown = tqdm(pairs[: args.max_samples], desc="heads", unit="pair")
    found = head_accuracy(model, processor, shown, map(parse_alignment, lines), policy)
    best = found.best(args.heads)
    print(f"{found.words} aligned target words of {len(lines)} pairs, under {policy}")
    for layer, head in best:
        print(f"layer {layer}, head {head}: right for {found.correct[layer, head] / found.words:.1%}")
    print(f"median of these: right for {found.share(best):.1%}")
    model.generation_config.alignment_heads = [list(head) for head in best]
    write_text(folder / "generation_config.json", model.generation_config.to_json_string())
    print(f"written: {folder / 'generation_config.json'}", file=sys.stderr)
    return 0


__all__ = ["add_command"]
