# SPDX-License-Identifier: Apache-2.0
"""Gather what benchmarks/multi30k.sh left behind into docs/results/multi30k.md and its pictures.

Usage: benchmarks/multi30k_tables.py OUTPUT_FOLDER
"""

import json
import shutil
import sys
from pathlib import Path

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
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        base = json.loads((output / folder.name / "base" / "training.json").read_text(encoding="utf-8"))
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
            (folder / "results.md").read_text(encoding="utf-8").split("\n\nLatency:\n")[0].split("\n", 2)[2].strip(),
        ]
        for name, title in (("bleu", "BLEU over LAAL"), ("chrf++", "chrF++ over LAAL"), ("flops", "FLOPs")):
            picture = f"{folder.name}-{name.replace('++', 'pp')}.png"
            shutil.copyfile(folder / f"{name}.png", DOCS / picture)
            parts += ["", f"![{folder.name}: {title}]({picture})"]
        shutil.copyfile(folder / "results.csv", DOCS / f"{folder.name}.csv")
        parts += ["", f"Every line with its signature: [{folder.name}.csv]({folder.name}.csv)."]
    write_text(DOCS / "multi30k.md", "\n".join(parts) + "\n")
    print(f"written: {DOCS / 'multi30k.md'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
