# SPDX-License-Identifier: Apache-2.0
"""Gather what benchmarks/news.sh left behind into docs/results/news.md and its pictures. Parts that have not been run
are left out.

Usage: benchmarks/news_tables.py OUTPUT_FOLDER
"""

import shutil
import sys
from pathlib import Path

from multi30k_tables import DOCS, comparison, read_json
from transformers_simul.text_files import write_text


def main(output: Path) -> None:
    parts = [
        "# The paper's systems on news",
        "",
        "Sentences of 20 words, in the order of their documents: WMT's test sets of 2018 (German) and 2014",
        "(French), which nobody trained on. Commands: `benchmarks/news.sh de|fr DATA OUTPUT`, then",
        "`benchmarks/news_tables.py OUTPUT`. What the systems are: [baselines](../baselines.md). What the tables say",
        "of the paper's claims: [findings](findings.md).",
    ]
    for folder in sorted(output.glob("en-*")):
        parts += ["", f"## {folder.name}", "", *language(folder)]
    write_text(DOCS / "news.md", "\n".join(parts) + "\n")
    print(f"written: {DOCS / 'news.md'}")


def language(folder: Path) -> list[str]:
    name, experiment = folder.name, folder / "systems" / folder.name
    parts = [set_up(folder, experiment), "", *comparison(experiment, f"news-{name}")]
    for file, title in (
        ("by_length.md", "By source length"),
        ("by_corpus.md", "The same models on other corpora"),
        ("alibi-by-length.md", "ALiBi by length"),
    ):
        if (folder / file).is_file():
            parts += ["", f"### {title}", "", deeper((folder / file).read_text(encoding="utf-8").strip())]
    picture = folder / "alibi-by-length.png"
    if picture.is_file():
        copy = f"news-{name}-alibi.png"
        shutil.copyfile(picture, DOCS / copy)
        parts += ["", training_of_lengths(folder / "lengths" / name), "", f"![loss by length]({copy})"]
    return parts


def set_up(folder: Path, experiment: Path) -> str:
    base, manifest = read_json(folder / "base" / "training.json"), read_json(experiment / "manifest.json")
    shape = read_json(folder / "base" / "config.json")
    start = base["model"]["model_name_or_path"]
    training, tuned = base["training"], manifest["trainings"]["simulmask"]["training"]
    return (
        f"The base is a Falcon of {shape['num_hidden_layers']} layers and width {shape['hidden_size']}, "
        f"{f'begun from {start} and ' if start else ''}trained on full sources of "
        f"{base['about']['pairs']:,} rows (Tatoeba, Multi30k, and news as 1, 2 and 4 consecutive sentences) for "
        f"{training['max_steps']:,} steps of {rows(training)}. Then each system was fine-tuned for "
        f"{tuned['max_steps']} steps of {rows(tuned)} of {manifest['pairs']['train']:,} news pairs, k drawn from "
        f"{', '.join(manifest['arguments']['training_k'])} where it follows a policy. bfloat16, one core."
    )


def training_of_lengths(experiment: Path) -> str:
    tuned = read_json(experiment / "manifest.json")["trainings"]["simulmask-k3"]["training"]
    return (
        f"These models were fine-tuned from the same base at k = 3 for {tuned['max_steps']} steps of {rows(tuned)} "
        "rows of 1 to 4 consecutive sentences; longer rows are longer than any that they were trained on. The base has "
        "ALiBi."
    )


def rows(training: dict) -> int:
    return training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]


def deeper(text: str) -> str:
    """Headings of a part, below its own."""
    return "\n".join(f"##{line}" if line.startswith("## ") else line for line in text.splitlines())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
