# SPDX-License-Identifier: Apache-2.0
"""What the speech experiment writes: table, curves, paired intervals, rates, what it cannot tell."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ...evaluation.instances import Instance
from ...evaluation.plots import plot_curves
from ...evaluation.quality import quality
from ...evaluation.report import ReportLine, difference, report_line
from ...speech.accuracy import word_errors
from ...text_files import read_json, write_text
from .run import CASCADE, SpeechExperiment
from .transcription import transcripts

Logs = Mapping[tuple[str, str], Sequence[Instance]]
# Better, worse, at the same k: what SimulMask claims.
CLAIMS = (("SM-norec", "offline-rec"), ("SM-norec", "offline-norec"), ("offline-rec", "offline-norec"))
_LATENCY = ("LAAL", "AL", "DAL", "YAAL")
# Hours are estimated for so many.
_MANY = 10_000
LIMITS = (
    "What this cannot tell: anything about real speech. A formant synthesiser says a word nearly the same each time, "
    "at a steady rate, without hesitations; sentences come one by one, cut where they begin and end. The models have "
    "heard its voices in training, the cascade's recogniser has not, so that their comparison with it is none of "
    "methods. Models this small, trained this briefly, may rank otherwise than large ones."
)


def write_speech_report(experiment: SpeechExperiment, logs: Logs, flops: Mapping[str, Sequence[int]]) -> str:
    """Write the folder's report; returns the text of `results.md`.

    Args:
        experiment (`SpeechExperiment`): trained and translated.
        logs: of its cells, by (system, line).
        flops (`Mapping[str, Sequence[int]]`): of each utterance, by system.

    Raises:
        ValueError: if no system wrote a word.
    """
    lines: dict[str, list[ReportLine]] = {}
    silent = []
    for system, name, policy in experiment.cells():
        if not any(each.delays for each in logs[system.name, name]):
            silent.append(f"{system.name}, {name}")
            continue
        line = report_line(name, logs[system.name, name], settings=experiment.settings(system, policy))
        lines.setdefault(system.name, []).append(line)
    if not lines:
        raise ValueError("no system wrote a word: train longer (--max_steps), or on more speech.")
    pair = f"{experiment.data.source_lang}-{experiment.data.target_lang}"
    parts = [
        f"# Speech, {pair}",
        "",
        _table(lines),
        *(["", f"Nothing at all was written by: {'; '.join(silent)}."] if silent else []),
        "",
        "The first minus the second, on the same utterances at the same k, with paired 95% intervals:",
        "",
        _claims(logs, experiment.arguments.eval_wait_k),
        "",
        _costs(flops, experiment.arguments.flops_k),
        "",
        *_against_cascade(lines, logs),
        *_chance(lines, logs),
        _rates(experiment),
        "",
        LIMITS,
        "",
        *(f"{each.name}: `{each.signature}`" for each in next(iter(lines.values()))[0].quality),
        "",
        *(f"- {system}, {line.name}: `{line.signature}`" for system, each in lines.items() for line in each),
    ]
    text = "\n".join(parts) + "\n"
    write_text(experiment.folder / "results.md", text)
    for metric, name in (("BLEU", "bleu.png"), ("chrF++", "chrf++.png")):
        plot_curves(experiment.folder / name, lines, f"{pair} speech: {metric} over LAAL", metric)
    return text + f"\nwritten: {experiment.folder}/results.md, bleu.png, chrf++.png\n"


def _table(lines: Mapping[str, Sequence[ReportLine]]) -> str:
    heads = ["system", "policy", "BLEU", "chrF++", *_LATENCY, "empty"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for system, each in lines.items():
        for line in each:
            cells = [*map(str, line.quality), *(f"{line.latency[name]:.0f}" for name in _LATENCY), str(line.empty)]
            rows.append(f"| {system} | {line.name} | {' | '.join(cells)} |")
    first = next(iter(lines.values()))[0]
    note = (
        f"{first.sentences} utterances; in brackets 95% bootstrap intervals; latency in milliseconds of audio, "
        "computing aside. k counts chunks, of the cascade words."
    )
    return "\n".join([*rows, "", note])


def _claims(logs: Logs, eval_wait_k: Sequence[int]) -> str:
    names = [f"k = {k}" for k in eval_wait_k]
    rows = [f"| | | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for metric in ("BLEU", "chrF++"):
        for better, worse in CLAIMS:
            cells = [difference(logs[better, name], logs[worse, name], metric) for name in names]
            rows.append(f"| {metric} | {better} - {worse} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _costs(flops: Mapping[str, Sequence[int]], k: int) -> str:
    rows = [f"| system | GFLOPs per utterance at k = {k} (offline: all heard): median (quartiles) |", "|---|---|"]
    for name, counts in flops.items():
        low, middle, high = statistics.quantiles([count / 1e9 for count in counts], n=4, method="inclusive")
        rows.append(f"| {name} | {middle:.3f} ({low:.3f} to {high:.3f}) |")
    return "\n".join(rows)


def _against_cascade(lines: Mapping[str, Sequence[ReportLine]], logs: Logs) -> list[str]:
    """SimulMask's lines against the cascade's that lags most alike."""
    if CASCADE.name not in lines or "SM-norec" not in lines:
        return []
    rows = ["| SM-norec | LAAL, ms | cascade of the nearest LAAL | BLEU, difference |", "|---|---|---|---|"]
    for line in lines["SM-norec"]:
        lag = line.latency["LAAL"]
        near = min(lines[CASCADE.name], key=lambda other: abs(other.latency["LAAL"] - lag))
        value = difference(logs["SM-norec", line.name], logs[CASCADE.name, near.name])
        rows.append(f"| {line.name} | {lag:.0f} | {near.name}, {near.latency['LAAL']:.0f} ms | {value} |")
    return [*rows, ""]


def _chance(lines: Mapping[str, Sequence[ReportLine]], logs: Logs) -> list[str]:
    """Say what a system scores, and what it would score if it did not listen."""
    rows = ["| system | policy | BLEU | against the references of other utterances |", "|---|---|---|---|"]
    for system, each in lines.items():
        name = each[-1].name
        references = [instance.reference for instance in logs[system, name]]
        said = [instance.prediction for instance in logs[system, name]]
        shifted = references[len(references) // 2 :] + references[: len(references) // 2]
        right, wrong = (quality(said, one, names=("BLEU",))[0] for one in (references, shifted))
        rows.append(f"| {system} | {name} | {right} | {wrong} |")
    return [*rows, "", "The last column is the level of a system that speaks the language and does not listen.", ""]


def _rates(experiment: SpeechExperiment) -> str:
    """Say how long training took, and how long it would take with many utterances."""
    hours = sum(each.duration_s for each in experiment.train_set) / 3600
    rows = [
        f"Trained on {len(experiment.train_set):,} utterances, {hours:.2f} hours.",
        "",
        f"| model | steps | utterances a second | seconds | minutes for {_MANY:,} utterances, once |",
        "|---|---|---|---|---|",
    ]
    args = experiment.training
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    for name in experiment.trained_models():
        done: Any = read_json(experiment.folder / "models" / name / "training.json")["done"]
        rate = done["steps"] * batch / done["seconds"]
        minutes = _MANY / rate / 60
        rows.append(f"| {name} | {done['steps']:,} | {rate:.1f} | {done['seconds']:.0f} | {minutes:.0f} |")
    if CASCADE in experiment.systems:
        said = [" ".join(word.text for block in words for word in block) for words in experiment.heard()]
        errors = word_errors([each.source for each in experiment.test_set], said)
        rows += ["", f"The recogniser's word error rate is {100 * errors.rate:.1f}%, of {errors.words:,} words."]
    if experiment.arguments.transcription_steps:
        said = transcripts(experiment.hearing(), experiment.processor, experiment.test_set)
        errors = word_errors([each.source for each in experiment.test_set], said)
        rows += [
            "",
            f"After its steps of transcription alone the models' own encoder, by the likeliest token of each place, "
            f"errs on {100 * errors.rate:.1f}% of these words.",
        ]
    return "\n".join(rows)


__all__ = ["CLAIMS", "LIMITS", "write_speech_report"]
