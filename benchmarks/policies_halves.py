# SPDX-License-Identifier: Apache-2.0
"""What the training of adaptive policies is worth, from the logs of benchmarks/policies_news.sh: every policy of every
model against the wait-k mixture under wait-k, and model against model under the same policies, at equal LAAL.

    python benchmarks/policies_halves.py OUTPUT/en-de/policies
"""

from pathlib import Path

from by_latency import NOTE, differences
from transformers_simul.cli.flags import CommandParser
from transformers_simul.evaluation import Instance, read_instances

BASELINE = "waitk"
# Model, model that differs from it in one thing, and the thing.
HALVES = (
    ("paths", "waitk", "random paths instead of wait-k's"),
    ("untaught", "waitk", "random and aligned paths beside wait-k's"),
    ("taught", "untaught", "decision rows"),
)

Curves = dict[str, list[list[Instance]]]


def curves(folder: Path) -> Curves:
    """The logs of each kind of policy."""
    found: Curves = {}
    for path in sorted(folder.glob("logs/*/instances.log")):
        found.setdefault(path.parent.name.split("-")[0], []).append(read_instances(path))
    return found


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--laal", nargs="+", type=float, default=[2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    parser.add_argument("--metric", default="BLEU")
    parser.add_argument("--resamples", type=int, default=500)
    args = parser.parse_args()
    models = {path.name: curves(path) for path in sorted(args.folder.iterdir()) if path.is_dir()}
    base = models[BASELINE]["wait"]
    against = [
        (f"{kind}, trained on {name}", logs, base)
        for name, kinds in models.items()
        for kind, logs in kinds.items()
        if (name, kind) != (BASELINE, "wait")
    ]
    halves = [
        (f"{kind}: {what} ({better} - {worse})", models[better][kind], models[worse][kind])
        for better, worse, what in HALVES
        if better in models and worse in models
        for kind in models[better]
        if kind in models[worse]
    ]
    for title, rows in (
        (f"{args.metric} minus that of the wait-k mixture under wait-k", against),
        (f"{args.metric}, model minus model under the same policies", halves),
    ):
        print(f"\n{differences(title, rows, args.laal, args.metric, args.resamples)}")
    print(f"\n{len(base[0])} sentences; {NOTE}")


if __name__ == "__main__":
    main()
