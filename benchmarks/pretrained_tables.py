# SPDX-License-Identifier: Apache-2.0
"""Gather what benchmarks/pretrained.sh and few_shot.py left behind into docs/results/pretrained.md and its pictures.

Usage: benchmarks/pretrained_tables.py [TITLE EXPERIMENT_FOLDER FEW_SHOT_FOLDER]...   (as often as there are pairs)
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from transformers_simul.text_files import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs" / "results"
HEADER = """# Real pretrained weights: position strategies side by side

Commands: `benchmarks/pretrained.sh`, `benchmarks/few_shot.py`, then `benchmarks/pretrained_tables.py`. What the
strategies are: [positions](../positions.md); the other systems: [baselines](../baselines.md). Adapters of rank 16 on
all linear layers but the last, embeddings frozen, no peek rows, float32, one core. The test sentences are the first of
Multi30k's Flickr 2016 set; nobody trained on them.

| system | fine-tuned | positions | cache |
|---|---|---|---|
| causal-offline | full sentences | plain text | full source first |
| causal-rec, causal-norec | the same model, wait-k at decoding only | recomputation; own-frame | made anew; kept |
| converse-norec | turns of source and target chunks | plain text | append only |
| SM-own-frame | SimulMask | own-frame | kept |
| SM-own-frame-rec | the same model | recomputation | made anew |
| SM-group | SimulMask | group | kept |
| SM-reserved | SimulMask | reserved slots | kept |
"""


def section(title: str, folder: Path, few_shot: Path) -> list[str]:
    """One language pair of one model."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    tuned = next(iter(manifest["trainings"].values()))["training"]
    name = title.lower().replace(" ", "-").replace(",", "").replace(".", "")
    table = (folder / "results.md").read_text(encoding="utf-8").split("\n\nLatency:\n")[0].split("\n", 2)[2].strip()
    parts = [
        "",
        f"## {title}",
        "",
        f"{tuned['max_steps']} steps of {tuned['per_device_train_batch_size']} pairs "
        f"({manifest['pairs']['train']} pairs of the training set, once) for each training, k drawn from "
        f"{', '.join(manifest['arguments']['training_k'])} where it follows a policy.",
        "",
        table,
    ]
    rows = (few_shot / "results.md").read_text(encoding="utf-8").splitlines()
    parts += ["", "The same weights as they come, five examples in the prompt, full source first:", "", *rows]
    for picture, caption in (("bleu", "BLEU over LAAL"), ("flops", "FLOPs")):
        shutil.copyfile(folder / f"{picture}.png", DOCS / f"{name}-{picture}.png")
        parts += ["", f"![{title}: {caption}]({name}-{picture}.png)"]
    shutil.copyfile(folder / "results.csv", DOCS / f"{name}.csv")
    return [*parts, "", f"Every line with its signature: [{name}.csv]({name}.csv)."]


def main(arguments: Sequence[str]) -> None:
    parts = [HEADER.rstrip()]
    for index in range(0, len(arguments), 3):
        title, folder, few_shot = arguments[index : index + 3]
        parts += section(title, Path(folder), Path(few_shot))
    write_text(DOCS / "pretrained.md", "\n".join(parts) + "\n")
    print(f"written: {DOCS / 'pretrained.md'}")


if __name__ == "__main__":
    main(sys.argv[1:])
