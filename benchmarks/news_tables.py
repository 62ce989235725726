# SPDX-License-Identifier: Apache-2.0
"""Gather what benchmarks/news.sh left behind into docs/results/news.md and its pictures, with the commands of that run,
as its manifests have them. Parts that have not been run are left out, and named. A language of which OUTPUT_FOLDER has
no systems keeps its section, and so does an earlier run that was given a heading of its own, such as "en-de, before".

Usage: benchmarks/news_tables.py OUTPUT_FOLDER
"""

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from multi30k_tables import DOCS, comparison, read_json
from transformers_simul.research.baselines import SYSTEMS
from transformers_simul.text_files import write_text

TESTS = {"en-de": "WMT's test set of 2018", "en-fr": "WMT's test set of 2014"}
CORPORA = {"en-de": ["tatoeba", "multi30k", "ted", "libreoffice"], "en-fr": ["tatoeba", "multi30k", "libreoffice"]}


HEADER = """# The paper's systems on news

Sentences of 20 words, in the order of their documents, which nobody trained on. What the systems are:
[baselines](../baselines.md). What the tables say of the paper's claims: [findings](findings.md). Below
are the commands of each part; `benchmarks/news_tables.py OUTPUT` made the page of what they left."""


def main(output: Path) -> None:
    if not output.is_dir():
        sys.exit(f"error: OUTPUT_FOLDER must be a folder that benchmarks/news.sh wrote, got {output}")
    page = DOCS / "news.md"
    old = re.split(r"^## (en-.+)\n", page.read_text(encoding="utf-8"), flags=re.M)[1:] if page.is_file() else []
    sections = {name: body.split("\nNot run: en-")[0].strip() for name, body in zip(old[::2], old[1::2], strict=True)}
    for folder in output.glob("en-*"):
        if (folder / "systems" / folder.name / "manifest.json").is_file():
            sections[folder.name] = "\n".join(language(folder))
    parts = [HEADER, *(f"## {name}\n\n{sections[name]}" for name in sorted(sections))]
    if missing := [name for name in TESTS if name not in sections]:
        parts.append(f"Not run: {', '.join(missing)}.")
    write_text(page, "\n\n".join(parts) + "\n")
    print(f"written: {page}")


def language(folder: Path) -> list[str]:
    name, experiment = folder.name, folder / "systems" / folder.name
    parts = [set_up(folder, experiment), "", "```text", *commands(folder), "```", "", *not_run(folder)]
    parts += comparison(experiment, f"news-{name}")
    for file, title in (
        ("by_latency.md", "At equal latency"),
        ("ends.md", "Prefix systems that end where EOS has more than half"),
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
        parts += ["", training_of_lengths(folder), "", f"![loss by length]({copy})"]
    return parts


def set_up(folder: Path, experiment: Path) -> str:
    base, manifest = read_json(folder / "base" / "training.json"), read_json(experiment / "manifest.json")
    shape = read_json(folder / "base" / "config.json")
    start, new = base["model"]["model_name_or_path"], new_vocabulary(base)
    vocabulary = f" with a new vocabulary of {new:,} tokens" if new else ""
    training, tuned = base["training"], manifest["trainings"]["simulmask"]["training"]
    return (
        f"The base is a Falcon of {shape['num_hidden_layers']} layers and width {shape['hidden_size']}, "
        f"{f'begun from {start}{vocabulary} and ' if start else ''}trained on full sources of "
        f"{base['about']['pairs']:,} rows (Tatoeba, Multi30k, and news as 1, 2 and 4 consecutive sentences) for "
        f"{training['max_steps']:,} steps of {rows(training)}. Then each system was fine-tuned for "
        f"{tuned['max_steps']} steps of {rows(tuned)} of {manifest['pairs']['train']:,} news pairs, k drawn from "
        f"{', '.join(manifest['arguments']['training_k'])} where it follows a policy. bfloat16, on a CPU."
    )


def commands(folder: Path) -> list[str]:
    """The commands of news.sh that this run came from, one for each part, with their environment."""
    base = read_json(folder / "base" / "training.json")
    start = base["model"]["model_name_or_path"]
    told = {"START": start, "VOCABULARY": new_vocabulary(base), "BASE_STEPS": base["training"]["max_steps"]}
    lines = [command(folder, "base", told)]
    told = limits(read_json(folder / "systems" / folder.name / "manifest.json"))
    lines.append(command(folder, "systems", told))
    if (folder / "ends.md").is_file():
        lines.append(command(folder, "ends", {name: told[name] for name in ("TUNE_STEPS", "SENTENCES")}))
    elsewhere = {command(folder, "elsewhere", limits(read_json(path))) for path in manifests(folder)}
    lines += sorted(elsewhere)
    if (folder / "alibi-by-length.md").is_file():
        page = (folder / "alibi-by-length.md").read_text(encoding="utf-8")
        counts = {"SENTENCES": r"^(\d+) sentences", "TRANSLATED": r"BLEU of the first (\d+) sentences"}
        found = {name: re.findall(pattern, page)[0] for name, pattern in counts.items()}
        lines.append(command(folder, "lengths", {"LONG_STEPS": tuned_by_lengths(folder)["max_steps"], **found}))
    return lines


def new_vocabulary(base: dict[str, Any]) -> int | None:
    """The size of the vocabulary that the base's start was moved to; the record names what was asked for alone."""
    return int(base["model"]["vocab_size"]) if base["model"].get("new_vocabulary") else None


def limits(manifest: dict[str, Any]) -> dict[str, Any]:
    names = manifest["arguments"]["systems"]
    return {
        "TUNE_STEPS": manifest["trainings"]["simulmask"]["training"]["max_steps"],
        "SYSTEMS": "" if names == [system.name for system in SYSTEMS] else " ".join(names),
        "SENTENCES": manifest["data"]["max_predict_samples"],
    }


def command(folder: Path, part: str, environment: dict[str, Any]) -> str:
    told = [f"{name}={shlex.quote(str(value))}" for name, value in environment.items() if value]
    return " ".join([*told, "benchmarks/news.sh", folder.name.removeprefix("en-"), "DATA", "OUTPUT", part])


def manifests(folder: Path) -> list[Path]:
    """Of the other corpora."""
    return sorted(folder.glob(f"elsewhere/*/{folder.name}/manifest.json"))


def not_run(folder: Path) -> list[str]:
    """What news.sh would do besides, and what the run was limited to."""
    manifest = read_json(folder / "systems" / folder.name / "manifest.json")
    systems = [system.name for system in SYSTEMS if system.name not in manifest["arguments"]["systems"]]
    done = [path.parents[1].name for path in manifests(folder)]
    if read_json(folder / "base" / "training.json")["model"]["model_name_or_path"]:
        done.append("libreoffice")  # left out: what the base began from was trained on it
    missing = [*systems, *(name for name in CORPORA[folder.name] if name not in done)]
    if not (folder / "alibi-by-length.md").is_file():
        missing.append("ALiBi by length (`lengths`)")
    first = f"the first {manifest['pairs']['test']:,}" if manifest["data"]["max_predict_samples"] else "all"
    parts = [f"The tests are {first} sentences of {TESTS[folder.name]}."]
    return [*parts, *([f"Not run: {', '.join(missing)}."] if missing else []), ""]


def tuned_by_lengths(folder: Path) -> dict[str, Any]:
    return read_json(folder / "lengths" / folder.name / "models" / "simulmask-k3" / "training.json")["training"]


def training_of_lengths(folder: Path) -> str:
    tuned = tuned_by_lengths(folder)
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
