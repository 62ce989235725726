# SPDX-License-Identifier: Apache-2.0
"""What a comparison writes: table (Markdown and CSV), curves, FLOPs, times, the paper's claims, a manifest."""

import csv
import io
import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from ...evaluation.instances import Instance
from ...evaluation.plots import plot_boxes, plot_curves
from ...evaluation.report import ReportLine, by_kind, difference, report_line
from ...text_files import write_text
from ...training import training_seconds
from .run import Experiment

Logs = Mapping[tuple[str, str], Sequence[Instance]]

# Better, worse: what the paper says, and what it leaves open.
CLAIMS = (
    ("SM-norec-mod", "causal-rec"),
    ("SM-norec-mod", "prefix-rec"),
    ("SM-norec-mod", "converse-norec"),
    ("SM-norec-mod", "SM-norec"),
    ("SM-norec-mod+peek", "SM-norec-mod"),
    ("SM-norec-mod", "SM-no-alibi"),
    ("SM-norec-mod", "SM-published-rows"),
    ("SM-own-frame", "SM-own-frame-rec"),
    ("SM-own-frame", "causal-rec"),
    ("SM-own-frame", "causal-norec"),
    ("SM-own-frame", "converse-norec"),
    ("SM-own-frame", "SM-group"),
    ("SM-own-frame", "SM-reserved"),
)


def write_report(experiment: Experiment, logs: Logs, flops: Mapping[str, Sequence[int]], flags: Sequence[str]) -> str:
    """Write the folder's report; returns the text of `results.md`.

    Args:
        experiment (`Experiment`): trained and translated.
        logs: of its cells, by (system, line).
        flops (`Mapping[str, Sequence[int]]`): of each sentence, by system.
        flags (`Sequence[str]`): the command's, for the manifest.
    """
    lines: dict[str, list[ReportLine]] = {}
    for system, name, policy, _ in experiment.cells():
        settings = experiment.settings(system, policy)
        lines.setdefault(system.name, []).append(report_line(name, logs[system.name, name], settings=settings))
    folder = experiment.folder
    pair = f"{experiment.data.source_lang}-{experiment.data.target_lang}"
    names = [*(f"k = {k}" for k in experiment.arguments.eval_wait_k), *experiment.arguments.eval_policy]
    parts = [
        f"# {pair}",
        "",
        _table(lines),
        "",
        "BLEU of the first minus the second, on the same sentences under the same policy, with paired 95% intervals:",
        "",
        _claims(logs, names),
        "",
        _costs(experiment, flops),
        "",
        *_signatures(lines),
    ]
    text = "\n".join(parts) + "\n"
    write_text(folder / "results.md", text)
    write_text(folder / "results.csv", _csv(lines))
    for metric, name in (("BLEU", "bleu.png"), ("chrF++", "chrf++.png")):
        plot_curves(folder / name, _curves(lines), f"{pair}: {metric} over LAAL", metric)
    plot_boxes(
        folder / "flops.png",
        {name: [count / 1e9 for count in counts] for name, counts in flops.items()},
        "GFLOPs per sentence",
        f"{pair}: inference at k = {experiment.arguments.flops_k} (causal-offline: full source)",
    )
    write_text(folder / "manifest.json", json.dumps(_manifest(experiment, lines, flags), indent=2, default=str) + "\n")
    return text + f"\nwritten: {folder}/results.md, results.csv, bleu.png, chrf++.png, flops.png, manifest.json\n"


def _table(lines: Mapping[str, Sequence[ReportLine]]) -> str:
    rows = ["| system | policy | BLEU | chrF++ | LAAL | AL | AP | DAL | ATD |", "|---|---|---|---|---|---|---|---|---|"]
    for system, each in lines.items():
        for line in each:
            cells = [str(score) for score in line.quality]
            cells += [f"{line.latency[name]:.2f}" for name in ("LAAL", "AL", "AP", "DAL", "ATD")]
            rows.append(f"| {system} | {line.name} | {' | '.join(cells)} |")
    first = next(iter(lines.values()))[0]
    note = f"{first.sentences} sentences; in brackets 95% bootstrap intervals; latency in source words (AP: a share)."
    return "\n".join([*rows, "", note])


def _curves(lines: Mapping[str, Sequence[ReportLine]]) -> dict[str, list[ReportLine]]:
    """A curve for each system and kind of policy."""
    curves = {}
    for system, each in lines.items():
        for kind, points in by_kind(each).items():
            curves[system if kind == "wait-k" else f"{system}, {kind}"] = points
    return curves


def _claims(logs: Logs, names: Sequence[str]) -> str:
    rows = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for better, worse in CLAIMS:
        if (better, names[0]) not in logs or (worse, names[0]) not in logs:
            continue
        cells = [difference(logs[better, name], logs[worse, name]) for name in names]
        rows.append(f"| {better} - {worse} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _costs(experiment: Experiment, flops: Mapping[str, Sequence[int]]) -> str:
    rows = [
        f"| system | fine-tuning, s | GFLOPs per sentence at k = {experiment.arguments.flops_k}: median (quartiles) |",
        "|---|---|---|",
    ]
    k = experiment.arguments.flops_k
    for system in experiment.arguments.chosen_systems():
        seconds = training_seconds(experiment.model_folder(system.training, k))
        low, middle, high = statistics.quantiles([count / 1e9 for count in flops[system.name]], n=4, method="inclusive")
        rows.append(f"| {system.name} | {seconds:.0f} | {middle:.3f} ({low:.3f} to {high:.3f}) |")
    note = "Seconds are those of this run, on whatever else the machine did; systems of one row's model share them."
    return "\n".join([*rows, "", note])


def _signatures(lines: Mapping[str, Sequence[ReportLine]]) -> list[str]:
    every = [(system, line) for system, each in lines.items() for line in each]
    quality = [f"{score.name}: `{score.signature}`" for score in every[0][1].quality]
    return [*quality, "", "Latency:", "", *(f"- {system}, {line.name}: `{line.signature}`" for system, line in every)]


def _csv(lines: Mapping[str, Sequence[ReportLine]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    first = next(iter(lines.values()))[0]
    scores = [f"{each.name}{suffix}" for each in first.quality for suffix in ("", "_low", "_high")]
    writer.writerow(["system", "policy", *scores, *first.latency, "sentences", "empty", "signature"])
    for system, each in lines.items():
        for line in each:
            values = [value for score in line.quality for value in (score.score, score.low, score.high)]
            writer.writerow(
                [system, line.name, *values, *line.latency.values(), line.sentences, line.empty, line.signature]
            )
    return file.getvalue()


def _manifest(
    experiment: Experiment, lines: Mapping[str, Sequence[ReportLine]], flags: Sequence[str]
) -> dict[str, Any]:
    """Return all that it takes to run the experiment again, and on what it ran."""
    trainings = {path.parent.name: path for path in sorted((experiment.folder / "models").glob("*/training.json"))}
    return {
        "command": ["examples/run_experiment.py", *flags],
        "arguments": asdict(experiment.arguments),
        "data": asdict(experiment.data),
        "model": asdict(experiment.model),
        "pairs": {name: len(pairs) for name, pairs in experiment.pairs.items()},
        "trainings": {name: json.loads(path.read_text(encoding="utf-8")) for name, path in trainings.items()},
        "systems": {system.name: system.training.name for system in experiment.arguments.chosen_systems()},
        "signatures": {f"{system}, {line.name}": line.signature for system, each in lines.items() for line in each},
        "machine": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "device": str(experiment.training.device),
        },
    }


__all__ = ["CLAIMS", "write_report"]
