# SPDX-License-Identifier: Apache-2.0
"""Quality by source length: the systems of an experiment at one k, in bands of source words, with paired intervals.

Usage: benchmarks/by_length.py LOGS_FOLDER K [--against SM-norec-mod] [--bands 10 20 30] [--metric BLEU]

LOGS_FOLDER holds SYSTEM/k=K/instances.log, as examples/run_experiment.py leaves them. Differences are the system
`--against` minus each other one.
"""

import argparse
from pathlib import Path

from transformers_simul.evaluation import Instance, quality, read_instances
from transformers_simul.evaluation.report import difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path)
    parser.add_argument("k", type=int)
    parser.add_argument("--against", default="SM-norec-mod")
    parser.add_argument("--bands", type=int, nargs="+", default=[10, 20, 30], help="upper ends, in source words")
    parser.add_argument("--metric", default="BLEU")
    args = parser.parse_args()
    logs = {
        path.parents[1].name: read_instances(path) for path in sorted(args.logs.glob(f"*/k={args.k}/instances.log"))
    }
    if args.against not in logs:
        parser.error(f"--against must be one of {[*logs]}, got {args.against!r}")
    print(table(logs, args.against, args.bands, args.metric))


def table(logs: dict[str, list[Instance]], against: str, bands: list[int], metric: str = "BLEU") -> str:
    """A line for each band: its sentences, the score of `against`, and what it is ahead of each other system."""
    others = [name for name in logs if name != against]
    rows = [
        f"| source words | sentences | {against}, {metric} | {' | '.join(f'minus {name}' for name in others)} |",
        "|---" * (3 + len(others)) + "|",
    ]
    for low, high in zip([1, *(end + 1 for end in bands)], [*bands, None], strict=True):
        chosen = {name: [each for each in log if in_band(each, low, high)] for name, log in logs.items()}
        ours = chosen[against]
        title = f"{low} to {high}" if high else f"{low} and more"
        if not ours:
            rows.append(f"| {title} | 0 |{' |' * (1 + len(others))}")
            continue
        score, *_ = quality([e.prediction for e in ours], [e.reference for e in ours], names=[metric])
        gaps = " | ".join(difference(ours, chosen[name], metric) for name in others)
        rows.append(f"| {title} | {len(ours)} | {score} | {gaps} |")
    return "\n".join(rows)


def in_band(instance: Instance, low: int, high: int | None) -> bool:
    return low <= instance.source_length and (high is None or instance.source_length <= high)


if __name__ == "__main__":
    main()
