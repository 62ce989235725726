# SPDX-License-Identifier: Apache-2.0
"""The systems of an experiment at equal latency: systems that are told the same k lag by different amounts.

Usage: benchmarks/by_latency.py LOGS_FOLDER [--against SM-norec-mod] [--laal 3 4 5 6 7] [--metric BLEU]

LOGS_FOLDER holds SYSTEM/k=K/instances.log, as examples/run_experiment.py leaves them. Differences are the system
`--against` minus each other one, where both reach that LAAL (source words).
"""

from collections.abc import Sequence
from pathlib import Path

from transformers_simul.cli.flags import CommandParser
from transformers_simul.evaluation import Instance, read_instances
from transformers_simul.evaluation.equal_latency import difference_at

# The logs of one curve's points, of the same sentences.
Curve = Sequence[Sequence[Instance]]

NOTE = "straight lines between points; paired 95% bootstrap intervals; none beyond the end of a curve."


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("logs", type=Path)
    parser.add_argument("--against", default="SM-norec-mod")
    parser.add_argument("--laal", nargs="+", type=float, default=[3.0, 4.0, 5.0, 6.0, 7.0])
    parser.add_argument("--metric", default="BLEU")
    parser.add_argument("--resamples", type=int, default=500)
    args = parser.parse_args()
    curves: dict[str, list[list[Instance]]] = {}
    for path in sorted(args.logs.glob("*/k=*/instances.log")):
        curves.setdefault(path.parents[1].name, []).append(read_instances(path))
    if args.against not in curves:
        parser.error(f"--against must be one of {[*curves]}, got {args.against!r}")
    ours = curves.pop(args.against)
    rows = [(f"minus {name}", ours, curve) for name, curve in curves.items()]
    print(differences(f"{args.against}, {args.metric}", rows, args.laal, args.metric, args.resamples))
    print(f"\n{len(ours[0])} sentences; {NOTE}")


def differences(
    title: str, rows: Sequence[tuple[str, Curve, Curve]], laals: Sequence[float], metric: str, resamples: int
) -> str:
    """A table of rows `(name, better, worse)`, a column for each LAAL."""
    lines = [f"| {title} at LAAL | {' | '.join(f'{laal:g}' for laal in laals)} |", "|---" * (len(laals) + 1) + "|"]
    for name, better, worse in rows:
        found = [difference_at(better, worse, laal, metric, resamples) for laal in laals]
        cells = ["none" if each is None else f"{each[0]:+.1f} ({each[1]:+.1f} to {each[2]:+.1f})" for each in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
