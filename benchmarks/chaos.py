# SPDX-License-Identifier: Apache-2.0
"""What may go wrong, done on purpose, many times: one table of cases and failures (`docs/reliability.md`).

    python benchmarks/chaos.py --size small        # under a minute
    python benchmarks/chaos.py --size full         # about half an hour on one core
    python benchmarks/chaos.py --only sessions --seed 1234 --cases 1   # one case again

Every case is a function of its seed. Ctrl-C prints the table so far. Linux only: cases run in forked processes.
"""

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tqdm import tqdm

import trials
from transformers_simul.cli.flags import CommandParser
from trials.trial import Trial, Verdict, run_trial

# The smallest is what tests/test_chaos.py runs.
SIZES = ("smallest", "small", "full")


def main(arguments: list[str] | None = None) -> int:
    """Run the trials; returns 1 if a case failed."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--only", nargs="+", choices=trials.NAMES, help="these trials")
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the next takes the next number (0)")
    parser.add_argument("--cases", type=int, help="of each trial, instead of the size's")
    parser.add_argument("--list", action="store_true", help="say what each trial does")
    args = parser.parse_args(arguments)
    names = args.only or trials.NAMES
    if args.list:
        print("\n".join(f"{name:<10} {trials.load(name).promise}" for name in names))
        return 0
    verdicts: list[Verdict] = []
    try:
        for name in names:
            verdicts.append(_run(trials.load(name), args))
            if verdicts[-1].interrupted:
                break
    finally:
        print(table(verdicts))
        print(f"size {args.size}, seed {args.seed}" + (f", {args.cases} cases" if args.cases else ""))
    for verdict in verdicts:
        if verdict.failures:
            print(f"\n{verdict.name}: {verdict.first_problem}\n  again: {again(verdict)}")
    return int(any(verdict.failures for verdict in verdicts))


def _run(trial: Trial, args: argparse.Namespace) -> Verdict:
    cases = args.cases or trial.cases[args.size]
    with tqdm(total=cases, desc=trial.name, mininterval=0.5, disable=None, file=sys.stderr) as progress:
        return run_trial(trial, args.seed, cases, trial.limit_s[args.size], progress.update)


def table(verdicts: list[Verdict]) -> str:
    """In Markdown."""
    lines = ["| trial | cases | failures | seconds | first failing seed |", "|---|---|---|---|---|"]
    for each in verdicts:
        cut = f" of {each.asked:,}, time is up" if each.cases < each.asked and not each.interrupted else ""
        cut = f" of {each.asked:,}, interrupted" if each.interrupted else cut
        seed = "" if each.first_seed is None else each.first_seed
        lines.append(f"| {each.name} | {each.cases:,}{cut} | {each.failures:,} | {each.seconds:.0f} | {seed} |")
    return "\n".join(lines)


def again(verdict: Verdict) -> str:
    """The command that repeats a trial's first failing case."""
    return f"python benchmarks/chaos.py --only {verdict.name} --seed {verdict.first_seed} --cases 1"


if __name__ == "__main__":
    sys.exit(main())
