# SPDX-License-Identifier: Apache-2.0
"""Quality by source length: the systems of an experiment at one k, in bands of source words, with paired intervals.

Usage: benchmarks/by_length.py LOGS_FOLDER K [--against SM-norec-mod] [--bands 10 20 30] [--metric BLEU]

LOGS_FOLDER holds SYSTEM/k=K/instances.log, as examples/run_experiment.py leaves them. Differences are the system
`--against` minus each other one.
"""

from pathlib import Path

from transformers_simul.cli.flags import CommandParser
from transformers_simul.evaluation import Instance, quality, read_instances
from transformers_simul.evaluation.report import difference


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("logs", type=Path)
    parser.add_argument("k", type=int)
    parser.add_argument("--against", default="SM-norec-mod")
    parser.add_argument("--bands", type=int, nargs="+", default=[10, 20, 30], help="upper ends, in source words")
    parser.add_argument("--metric", default="BLEU")
    args = parser.parse_args()
    logs = read_logs(args.logs, args.k)
    if args.against not in logs:
        parser.error(f"--against must be one of {[*logs]}, got {args.against!r}")
    print(table(logs, args.against, args.bands, args.metric))


def read_logs(folder: str | Path, k: int) -> dict[str, list[Instance]]:
    """Each system's log at one k, by its name."""
    paths = sorted(Path(folder).glob(f"*/k={k}/instances.log"))
    return {path.parents[1].name: read_instances(path) for path in paths}


def systems(title: str, logs: dict[str, list[Instance]], against: str, metric: str) -> list[str]:
    """The first two lines of a table."""
    others = " | ".join(f"minus {name}" for name in logs if name != against)
    return [f"| {title} | sentences | {against}, {metric} | {others} |", "|---" * (2 + len(logs)) + "|"]


def cells(logs: dict[str, list[Instance]], against: str, metric: str) -> str:
    """Number of sentences, the score of `against`, and what it is ahead of each other system."""
    ours = logs[against]
    if not ours:
        return f"0 |{' |' * (len(logs) - 1)}"
    score, *_ = quality([e.prediction for e in ours], [e.reference for e in ours], names=[metric])
    gaps = [difference(ours, log, metric) for name, log in logs.items() if name != against]
    return " | ".join([str(len(ours)), str(score), *gaps])


def table(logs: dict[str, list[Instance]], against: str, bands: list[int], metric: str = "BLEU") -> str:
    """A line for each band."""
    rows = systems("source words", logs, against, metric)
    for low, high in zip([1, *(end + 1 for end in bands)], [*bands, None], strict=True):
        chosen = {name: [each for each in log if in_band(each, low, high)] for name, log in logs.items()}
        rows.append(f"| {f'{low} to {high}' if high else f'{low} and more'} | {cells(chosen, against, metric)} |")
    return "\n".join(rows)


def in_band(instance: Instance, low: int, high: int | None) -> bool:
    return low <= instance.source_length and (high is None or instance.source_length <= high)


if __name__ == "__main__":
    main()
