# SPDX-License-Identifier: Apache-2.0
"""Gather what benchmarks/pretrained.sh and few_shot.py left behind into docs/results/pretrained.md and its pictures.

Sections of other titles stay as they are. FEW_SHOT_FOLDER may be "-" where there is none.

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
strategies are: [positions](../positions.md); the other systems: [baselines](../baselines.md). Adapters on all linear
layers but the last, embeddings frozen. Test sentences are the first of Multi30k's Flickr 2016 set, the first of WMT's
news of 2018, or of LibreOffice's help 100 that were drawn; nobody trained on them.

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


def section(title: str, folder: Path, few_shot: str) -> str:
    """One language pair of one model, without its title."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    trainings = list(manifest["trainings"].values())
    tuned, base = trainings[0]["training"], trainings[0]["model"]
    peeks = sorted({each["peek_rows"] for each in trainings})
    name = title.lower().replace(" ", "-").replace(",", "").replace(".", "")
    table = (folder / "results.md").read_text(encoding="utf-8").split("\n\nLatency:\n")[0].split("\n", 2)[2].strip()
    parts = [
        f"{tuned['max_steps']} steps of {tuned['per_device_train_batch_size']} pairs "
        f"({manifest['pairs']['train']} pairs of the training set) for each training, adapters of rank "
        f"{base['lora_rank']}, learning rate {tuned['learning_rate']:g}, {'bfloat16' if tuned['bf16'] else 'float32'}, "
        f"share of peek rows {', '.join(map(str, peeks))}, k drawn from "
        f"{', '.join(manifest['arguments']['training_k'])} where a training follows a policy.",
        "",
        table,
    ]
    if few_shot != "-":
        rows = (Path(few_shot) / "results.md").read_text(encoding="utf-8").splitlines()
        parts += ["", "The same weights as they come, five examples in the prompt, full source first:", "", *rows]
    for picture, caption in (("bleu", "BLEU over LAAL"), ("flops", "FLOPs")):
        shutil.copyfile(folder / f"{picture}.png", DOCS / f"{name}-{picture}.png")
        parts += ["", f"![{title}: {caption}]({name}-{picture}.png)"]
    shutil.copyfile(folder / "results.csv", DOCS / f"{name}.csv")
    return "\n".join([*parts, "", f"Every line with its signature: [{name}.csv]({name}.csv)."])


def main(arguments: Sequence[str]) -> None:
    page = DOCS / "pretrained.md"
    old = page.read_text(encoding="utf-8").split("\n## ")[1:] if page.is_file() else []
    sections = {text.partition("\n")[0]: text.partition("\n")[2].strip() for text in old}
    for index in range(0, len(arguments), 3):
        title, folder, few_shot = arguments[index : index + 3]
        sections[title] = section(title, Path(folder), few_shot)
    text = "\n\n".join([HEADER.strip(), *(f"## {title}\n\n{body}" for title, body in sections.items())])
    write_text(page, text + "\n")
    print(f"written: {page}")


if __name__ == "__main__":
    main(sys.argv[1:])
