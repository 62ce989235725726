# SPDX-License-Identifier: Apache-2.0
"""Gather what benchmarks/multi30k.sh left behind into docs/results/multi30k.md and its pictures.

Usage: benchmarks/multi30k_tables.py OUTPUT_FOLDER
"""

import json
import sys
from pathlib import Path

from transformers_simul.evaluation.instances import Instance, read_instances, write_text
from transformers_simul.evaluation.quality import paired_difference
from transformers_simul.evaluation.report import markdown_table, report_line
from transformers_simul.plots import plot_curves
from transformers_simul.text_simul import split_words

DOCS = Path(__file__).resolve().parents[1] / "docs" / "results"
SYSTEMS = {
    "mixed-peek": "mixed k, peek rows",
    "mixed-nopeek": "mixed k, no peek rows",
    "k3-peek": "k = 3 only, peek rows",
    "k3-nopeek": "k = 3 only, no peek rows",
}
POLICIES = {"k=1": "k = 1", "k=3": "k = 3", "k=5": "k = 5", "k=7": "k = 7", "fullsource": "full source"}


def main(output: Path) -> None:
    parts = [
        "# Multi30k: peek rows, one k and mixed k",
        "",
        "Flickr 2016 test set, 1,000 sentences nobody trained on. A Falcon of 4 layers, width 256 and a vocabulary of",
        "5,000, trained from scratch on full sentences, then fine-tuned under each policy; float32, two CPU cores.",
        "Commands: `benchmarks/multi30k.sh DATA OUTPUT`, then `benchmarks/multi30k_tables.py OUTPUT`.",
    ]
    for folder in sorted(path for path in output.iterdir() if path.is_dir()):
        logs = {name: load(folder / name) for name in SYSTEMS if (folder / name / "results.md").is_file()}
        if not logs:
            continue
        lines = {SYSTEMS[name]: [report_line(*item) for item in log.items()] for name, log in logs.items()}
        steps = [training_steps(folder / name) for name in ("base", *logs)]
        parts += ["", f"## {folder.name}", "", f"{steps[0]:,} steps of 32 pairs on full sentences, then {steps[1]:,}."]
        parts += ["", f"![BLEU over LAAL]({folder.name}.png)"]
        for name, system in lines.items():
            parts += ["", f"### {name}", "", markdown_table(system)]
        parts += ["", *differences(logs)]
        plot_curves(DOCS / f"{folder.name}.png", lines, f"Multi30k {folder.name}")
    write_text(DOCS / "multi30k.md", "\n".join(parts) + "\n")
    print(f"written: {DOCS / 'multi30k.md'}")


def load(folder: Path) -> dict[str, list[Instance]]:
    return {name: read_instances(folder / "logs" / key / "instances.log") for key, name in POLICIES.items()}


def training_steps(folder: Path) -> int:
    return json.loads((folder / "training.json").read_text(encoding="utf-8"))["training"]["max_steps"]


def differences(logs: dict[str, dict[str, list[Instance]]]) -> list[str]:
    """Paired: what peek rows change under each policy, and words written against words in the references."""
    rows = [
        "| BLEU with peek rows minus without | k = 1 | k = 3 | k = 5 | k = 7 | full source |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("mixed", "k3"):
        if not {f"{kind}-peek", f"{kind}-nopeek"} <= set(logs):
            continue
        cells = []
        for policy in POLICIES.values():
            first, second = logs[f"{kind}-peek"][policy], logs[f"{kind}-nopeek"][policy]
            difference, low, high = paired_difference(
                [each.prediction for each in first],
                [each.prediction for each in second],
                [each.reference for each in first],
            )
            cells.append(f"{difference:+.1f} ({low:+.1f} to {high:+.1f})")
        rows.append(f"| {'mixed k' if kind == 'mixed' else 'k = 3 only'} | {' | '.join(cells)} |")
    rows += [
        "",
        "| words written per reference word | k = 1 | k = 3 | k = 5 | k = 7 | full source |",
        "|---|---|---|---|---|---|",
    ]
    for name, log in logs.items():
        ratios = [
            sum(each.prediction_length for each in log[policy])
            / sum(len(split_words(each.reference)) for each in log[policy])
            for policy in POLICIES.values()
        ]
        rows.append(f"| {SYSTEMS[name]} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1]))
