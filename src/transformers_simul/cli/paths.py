# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul paths`: draw when a model READs and WRITEs one sentence under several policies."""

import argparse
from typing import Any

from .flags import check_output
from .loading import add_model, find_model

POLICIES = ("wait-1", "wait-3", "learned:0.5", "confidence:0.6")
EXAMPLES = """
examples:
  transformers-simul paths models/simul-falcon-en-de --source "Only one is possible."
  transformers-simul paths models/simul-falcon-en-de --source "..." --policy wait-3 agree-2 --output paths.svg
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "paths",
        help="draw when a sentence is read and written under several policies",
        description="Draw the read/write paths of one sentence, side by side, and print what each policy wrote when.",
        epilog=EXAMPLES,
    )
    add_model(parser)
    parser.add_argument("--source", required=True, help="source sentence")
    parser.add_argument(
        "--policy", nargs="+", default=list(POLICIES), help=f"policies by name, docs/policies.md ({' '.join(POLICIES)})"
    )
    parser.add_argument("--output", default="paths.png", help="PNG or SVG file (paths.png)")
    parser.set_defaults(run=_paths)


def _paths(args: argparse.Namespace) -> int:
    from ..models.policy_names import policy_from_name

    policies = {name: policy_from_name(name) for name in args.policy}
    check_output("output", args.output)
    find_model(args.model)
    from ..evaluation.plots import plot_paths
    from .loading import load

    model, processor = load(args.model, args.trust_remote_code)
    # What the model lacks shows before the work.
    policies = {name: policy.for_model(model) for name, policy in policies.items()}
    paths = {}
    for name, policy in policies.items():
        output = model.generate(**processor(source=args.source), policy=policy, return_dict_in_generate=True)
        words, delays = processor.words(output.words[0]), output.delays[0]
        paths[name] = (words, delays)
        print(f"{name}: {' '.join(f'{word}/{delay}' for word, delay in zip(words, delays, strict=True))}")
    plot_paths(args.output, processor.split(args.source), paths)
    print(f"word/source words read; paths written to {args.output}")
    return 0


__all__ = ["POLICIES", "add_command"]
