# SPDX-License-Identifier: Apache-2.0
"""Gather what benchmarks/ablations.sh left behind into one page.

Usage: benchmarks/ablation_tables.py OUTPUT_FOLDER PAGE
"""

import csv
import json
import sys
from pathlib import Path

from transformers_simul.evaluation.instances import Instance, read_instances
from transformers_simul.evaluation.report import difference
from transformers_simul.text_files import write_text

COMMAND = "Command: `benchmarks/ablations.sh DATA OUTPUT`, behind `benchmarks/multi30k.sh DATA OUTPUT`."


def main(output: Path, page: Path) -> None:
    folder = output / "ablations"
    parts = ["# Ablations", "", COMMAND, "", *training_k(folder), "", *by_length(page), "", *rows(folder / "rows"), ""]
    parts += page_of(folder / "one-k", "Prefix pairs at one k: every model trained and decoding at k = 3")
    parts += ["", *page_of(folder / "home-assistant", "Another domain: interface text (Home Assistant, en-de)")]
    write_text(page, "\n".join(parts) + "\n")
    print(f"written: {page}")


def scores(experiment: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (experiment / "en-de" / "results.csv").open(encoding="utf-8") as file:
        return {(row["system"], row["policy"]): row for row in csv.DictReader(file)}


def steps(experiment: Path) -> tuple[int, int]:
    """Training steps of the systems, and test sentences."""
    manifest = json.loads((experiment / "en-de" / "manifest.json").read_text(encoding="utf-8"))
    trainings = [each for name, each in manifest["trainings"].items() if name != "base"]
    return trainings[0]["training"]["max_steps"], manifest["pairs"]["test"]


def training_k(folder: Path) -> list[str]:
    trained = sorted(folder.glob("train-k-*"), key=lambda path: (path.name.count("-"), int(path.name.split("-")[2])))
    tuned, sentences = steps(trained[0])
    table = [
        "## Training k against decoding k",
        "",
        f"SM-norec-mod+peek, {tuned} steps each, {sentences} sentences of Multi30k en-de; BLEU (95% interval).",
        "",
    ]
    for index, experiment in enumerate(trained):
        lines = scores(experiment)
        if not index:
            policies = [policy for _, policy in lines]
            table += [f"| trained at | {' | '.join(policies)} |", "|---" * (len(policies) + 1) + "|"]
        cells = [
            f"{float(each['BLEU']):.1f} ({float(each['BLEU_low']):.1f} to {float(each['BLEU_high']):.1f})"
            for each in lines.values()
        ]
        name = experiment.name.removeprefix("train-k-").replace("-", ", ")
        table.append(f"| {'k in ' if ',' in name else 'k = '}{name} | {' | '.join(cells)} |")
    return table


def by_length(page: Path) -> list[str]:
    table = page.with_name("alibi-by-length.md").read_text(encoding="utf-8").splitlines()
    return ["## ALiBi by length", "", "![loss by length](alibi-by-length.png)", "", *table]


def rows(experiment: Path) -> list[str]:
    tuned, sentences = steps(experiment)
    lines = scores(experiment)
    policies = [policy for system, policy in lines if system == "SM-norec-mod"]
    table = [
        "## Rows of the published code",
        "",
        f"Queries grouped by their own word against the right rows; {tuned} steps, {sentences} sentences.",
        "",
        f"| BLEU | {' | '.join(policies)} |",
        "|---" * (len(policies) + 1) + "|",
    ]
    for system in ("SM-norec-mod", "SM-published-rows"):
        cells = [f"{float(lines[system, policy]['BLEU']):.1f}" for policy in policies]
        table.append(f"| {system} | {' | '.join(cells)} |")
    systems = ("SM-norec-mod", "SM-published-rows")
    cells = [difference(*(log(experiment, system, policy) for system in systems)) for policy in policies]
    return [*table, f"| difference (95%) | {' | '.join(cells)} |"]


def log(experiment: Path, system: str, policy: str) -> list[Instance]:
    return read_instances(experiment / "en-de" / "logs" / system / policy.replace(" ", "") / "instances.log")


def page_of(experiment: Path, title: str) -> list[str]:
    """The folder's own page, without its title and signatures."""
    results = (experiment / "en-de" / "results.md").read_text(encoding="utf-8")
    tuned, _ = steps(experiment)
    # Costs are told in multi30k.md: here FLOPs were counted of two sentences only.
    body = results.split("\n\n| system | fine-tuning")[0].split("\n", 2)[2].strip()
    return [f"## {title}", "", f"{tuned} steps each.", "", body]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
