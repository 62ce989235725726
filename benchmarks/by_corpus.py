# SPDX-License-Identifier: Apache-2.0
"""The same systems on several corpora at one k: does their order hold where nobody trained? With paired intervals.

Usage: benchmarks/by_corpus.py K NAME=LOGS_FOLDER... [--against SM-norec-mod] [--metric BLEU]

Each LOGS_FOLDER holds SYSTEM/k=K/instances.log, as examples/run_experiment.py leaves them. Differences are the system
`--against` minus each other one.
"""

from by_length import cells, read_logs, systems
from transformers_simul.cli.flags import CommandParser


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("k", type=int)
    parser.add_argument("logs", nargs="+", metavar="NAME=LOGS_FOLDER")
    parser.add_argument("--against", default="SM-norec-mod")
    parser.add_argument("--metric", default="BLEU")
    args = parser.parse_args()
    corpora = {}
    for name, _, folder in (each.partition("=") for each in args.logs):
        corpora[name] = read_logs(folder, args.k)
        if args.against not in corpora[name]:
            parser.error(f"--against must be one of {[*corpora[name]]}, which {name} has, got {args.against!r}")
        if [*corpora[name]] != [*next(iter(corpora.values()))]:
            parser.error(f"every corpus must have the same systems, but {name} has {[*corpora[name]]}")
    rows = systems("corpus", next(iter(corpora.values())), args.against, args.metric)
    rows += [f"| {name} | {cells(logs, args.against, args.metric)} |" for name, logs in corpora.items()]
    print("\n".join(rows))


if __name__ == "__main__":
    main()
