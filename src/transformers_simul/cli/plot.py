# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul plot`: quality over latency, a curve per folder of logs."""

import argparse
import sys
from pathlib import Path
from typing import Any

from .flags import check_output
from .longform import add_segments, chosen_scorer

EXAMPLES = """
examples:
  transformers-simul plot output/train/logs
  transformers-simul plot ours=output/train/logs theirs=output/other/logs --metric chrF++ --output curves.svg
  transformers-simul plot talks/logs --segments tst-COMMON.yaml --references tst-COMMON.de
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "plot",
        help="draw quality over latency from logs",
        description="Draw quality over LAAL: a curve per folder, a point per log in it (k=3/instances.log).",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "folders", nargs="+", metavar="[NAME=]FOLDER", help="folder of logs, and its name in the legend"
    )
    parser.add_argument("--metric", default="BLEU", help="quality: BLEU, chrF, chrF++ or TER (BLEU)")
    parser.add_argument("--title", default="", help="title above the picture")
    parser.add_argument("--output", default="curves.png", help="PNG or SVG file (curves.png)")
    add_segments(parser)
    parser.set_defaults(run=_plot)


def _plot(args: argparse.Namespace) -> int:
    check_output("output", args.output)
    from ..evaluation.plots import plot_curves
    from ..evaluation.report import by_kind, folder_lines

    scorer = chosen_scorer(args)
    curves: dict[str, Any] = {}
    for given in args.folders:
        # A folder of its own may have "=" in its name.
        name, _, folder = ("", "", given) if "=" not in given or Path(given).is_dir() else given.partition("=")
        label = name or Path(folder).resolve().name
        if any(label == known.partition(",")[0] for known in curves):
            raise ValueError(f"every curve must have a name of its own, got {label!r} twice: use NAME=FOLDER.")
        kinds = by_kind(folder_lines(Path(folder), args.metric, scorer))
        curves |= {label if len(kinds) == 1 else f"{label}, {kind}": lines for kind, lines in kinds.items()}
    plot_curves(args.output, curves, args.title, args.metric)
    print(f"written: {args.output}", file=sys.stderr)
    return 0


__all__ = ["add_command"]
