# SPDX-License-Identifier: Apache-2.0
"""Gather what benchmarks/multi30k.sh left behind into docs/results/multi30k.md and its pictures.

Usage: benchmarks/multi30k_tables.py OUTPUT_FOLDER
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers_simul.text_files import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs" / "results"


def main(output: Path) -> None:
    parts = [
        "# The paper's systems on Multi30k",
        "",
        "Flickr 2016 test set, 1,000 sentences nobody trained on. Commands: `benchmarks/multi30k.sh DATA OUTPUT`, then",
        "`benchmarks/multi30k_tables.py OUTPUT`. What the systems are: [baselines](../baselines.md). What the tables",
        "say of the paper's claims: [findings](findings.md).",
    ]
    for folder in sorted((output / "systems").iterdir()):
        manifest = read_json(folder / "manifest.json")
        base = read_json(output / folder.name / "base" / "training.json")
        tuned = manifest["trainings"]["simulmask"]["training"]
        parts += [
            "",
            f"## {folder.name}",
            "",
            "A Falcon of 4 layers, width 256 and a vocabulary of 5,000, trained from scratch on full sentences for",
            f"{base['training']['max_steps']:,} steps of {base['training']['per_device_train_batch_size']} of "
            f"{manifest['pairs']['train']:,} pairs; then {tuned['max_steps']} steps of "
            f"{tuned['per_device_train_batch_size']} pairs for each system, k drawn",
            f"from {', '.join(manifest['arguments']['training_k'])} where it follows a policy. float32, one core.",
            "",
            *comparison(folder, folder.name),
        ]
    write_text(DOCS / "multi30k.md", "\n".join(parts) + "\n")
    print(f"written: {DOCS / 'multi30k.md'}")


def comparison(folder: Path, name: str) -> list[str]:
    """The report of examples/run_experiment.py as lines of a page; its pictures and CSV are copied beside the page."""
    report = (folder / "results.md").read_text(encoding="utf-8")
    parts = [report.split("\n\nLatency:\n")[0].split("\n", 2)[2].strip()]
    for picture, title in (("bleu", "BLEU over LAAL"), ("chrf++", "chrF++ over LAAL"), ("flops", "FLOPs")):
        copy = f"{name}-{picture.replace('++', 'pp')}.png"
        shutil.copyfile(folder / f"{picture}.png", DOCS / copy)
        parts += ["", f"![{name}: {title}]({copy})"]
    shutil.copyfile(folder / "results.csv", DOCS / f"{name}.csv")
    return [*parts, "", f"Every line with its signature: [{name}.csv]({name}.csv)."]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
