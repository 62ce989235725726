# SPDX-License-Identifier: Apache-2.0
"""A trained folder's model card, from what the folder holds: configuration, processor, training record, logs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..evaluation.report import FULL_SOURCE, ReportLine, markdown_table
from ..models.template import LANGUAGES
from ..text_files import read_json, write_text
from .names import name_on_hub

_METRICS = {"BLEU": "bleu", "chrF++": "chrf"}


def write_model_card(
    folder: str | os.PathLike,
    lines: Sequence[ReportLine] = (),
    name: str | None = None,
    license: str | None = None,
    about_training: str | None = None,
    test_set: str | None = None,
) -> Path:
    """Write `README.md` into a folder that was trained: metadata, scores, how to stream, limits.

    Args:
        folder (`str` or `os.PathLike`): with a model and its processor, and `training.json` if it was trained here.
        lines (`Sequence[ReportLine]`, *optional*): scores of these weights, one a policy; see [`folder_lines`].
        name (`str`, *optional*): of the model on the hub; the folder's unless told.
        license (`str`, *optional*): of the weights, as the hub writes it; nothing is claimed without.
        about_training (`str`, *optional*): Markdown on the data, its licences and how to train the same again.
        test_set (`str`, *optional*): what `lines` were measured on; the data set of the training unless told.

    Raises:
        ValueError: if the folder holds no model with its processor, for a file of it that is wrong, or for a name that
            the Hub would not take.

    Example:

    ```python
    >>> import tempfile
    >>> from transformers_simul.publishing.model_card import write_model_card
    >>> folder = tempfile.mkdtemp()
    >>> model.save_pretrained(folder)
    >>> _ = processor.save_pretrained(folder)
    >>> print(write_model_card(folder, name="team/simul").read_text().splitlines()[1])
    language:

    ```
    """
    folder = Path(folder)
    config, processor = _fields(folder / "config.json"), _fields(folder / "processor_config.json")
    of_text = config.get("text_config", config)
    for file, fields, names in (
        ("config.json", of_text, ("model_type", "positions")),
        ("processor_config.json", processor, ("source_lang", "target_lang")),
    ):
        for each in names:
            if each not in fields:
                raise ValueError(
                    f"folder must hold a model saved with its processor, but no {each} in {folder / file}."
                )
    name = name_on_hub(name, folder)
    record = _fields(folder / "training.json")
    for each in ("about", "model", "training", "done"):
        if not isinstance(record.get(each) or {}, dict):
            raise ValueError(f"file {str(folder / 'training.json')!r} must hold names and values in {each}.")
    metadata = _metadata(name, license, processor, record, lines, test_set)
    text = f"---\n{metadata.to_yaml()}\n---\n\n{_text(name, folder, config, processor, record, lines, about_training)}"
    write_text(folder / "README.md", text)
    return folder / "README.md"


def _fields(path: Path) -> dict[str, Any]:
    """A file's names and values, none without the file."""
    fields = read_json(path) if path.is_file() else {}
    if not isinstance(fields, dict):
        raise ValueError(f"file {str(path)!r} must hold names and values, got {fields!r:.100}.")
    return fields


def _metadata(
    name: str,
    license: str | None,
    processor: dict,
    record: dict,
    lines: Sequence[ReportLine],
    test_set: str | None,
) -> ModelCardData:
    languages = [*_languages(processor, "source"), *_languages(processor, "target")]
    dataset = record.get("about", {}).get("dataset")
    tested_on = test_set or dataset or "own data"
    results = [
        EvalResult(
            task_type="translation",
            task_name=f"Simultaneous translation, {line.name}",
            dataset_type=tested_on.replace(" ", "-"),
            dataset_name=f"{tested_on} {'-'.join(languages)}",
            dataset_config=line.name,
            metric_type=kind,
            metric_name=metric,
            metric_value=round(value, 2),
        )
        for line in lines
        for metric, kind, value in [
            *((each.name, _METRICS[each.name], each.score) for each in line.quality if each.name in _METRICS),
            (
                f"{line.lagging} ({'ms' if 'chunk_ms' in processor else line.source_unit})",
                line.lagging.lower(),
                line.latency[line.lagging],
            ),
        ]
    ]
    base = _base_on_hub(record)
    return ModelCardData(
        # Codes only: the hub refuses names.
        language=[language for language in languages if 2 <= len(language) <= 3 and language.islower()],
        license=license,
        library_name="transformers",
        pipeline_tag="audio-text-to-text" if "chunk_ms" in processor else "translation",
        tags=["simultaneous-translation", "simulmask"],
        base_model=base,
        datasets=[dataset] if dataset and "/" in dataset else None,
        metrics=sorted(set(_METRICS.values())) if lines else None,
        model_name=name,
        eval_results=results or None,
        ignore_metadata_errors=False,
    )


def _languages(processor: dict, side: str) -> list[str]:
    """Return all languages that a processor knows on one side, the usual one first."""
    usual = processor[f"{side}_lang"]
    # Folders that were saved before there were several have no list.
    return [usual, *(each for each in processor.get(f"{side}_langs") or [] if each != usual)]


def _policy(folder: Path) -> tuple[str, str]:
    """A policy as a flag of `translate` and as an argument of `generate()`; empty where the folder names one that is
    not wait-k, which both follow without."""
    # Needs torch, which takes a moment.
    from ..models.configuration_generation import SimulGenerationConfig

    kind, _, k = SimulGenerationConfig(**_fields(folder / "generation_config.json")).usual_policy.partition("-")
    return (f" --wait-k {k}", f"wait_k={k}, ") if kind == "wait" and k.isdecimal() else ("", "")


def _base(record: dict[str, Any]) -> str:
    return record.get("model", {}).get("model_name_or_path") or ""


def _base_on_hub(record: dict[str, Any]) -> str | None:
    """The base's name on the Hub; None for a folder, wherever it is now: its recorded hash is that of its weights."""
    # Needs torch, which takes a moment.
    from ..evaluation.decode import weights_key

    base = _base(record)
    is_name = base and not Path(base).exists() and record["model"].get("weights") == weights_key(base)
    return base if is_name else None


def _text(
    name: str,
    folder: Path,
    config: dict,
    processor: dict,
    record: dict,
    lines: Sequence[ReportLine],
    about_training: str | None,
) -> str:
    source, target = (
        " or ".join(LANGUAGES.get(each, each) for each in _languages(processor, side)) for side in ("source", "target")
    )
    targets = _languages(processor, "target")
    sentence = _SENTENCES.get(processor["source_lang"], "...")
    flag, argument = _policy(folder)
    # For speech, the processor knows how long a unit is.
    if chunk_ms := processor.get("chunk_ms"):
        what, units, uses, usage = "speech", f"chunks of {chunk_ms} ms", "", _SPEECH_USAGE
    else:
        what, units, uses, usage = "text", "words", ", chat and text that is being typed", _USAGE
    parts = [
        f"# {name}",
        f"Translates {what} from {source} to {target} **while the source is still arriving**. It was fine-tuned under "
        f"SimulMask ([arXiv 2405.10443](https://arxiv.org/abs/2405.10443)): each target word sees only the source "
        f"{units} that the read/write policy will have read by then, so the key/value cache is kept while streaming.",
        "## Intended use",
        f"Live captions{uses}, one sentence at a time, {source} to {target}. It has no "
        "filter of its own, can be wrong with confidence, and never revises a word that it has written.",
        "## How to stream",
        usage.format(name=name, flag=flag, argument=argument, chunk_ms=processor.get("chunk_ms"), sentence=sentence),
        *([] if len(targets) == 1 else [_TARGETS.format(targets=", ".join(targets), last=targets[-1])]),
        "## How it was trained",
        *([about_training] if about_training else []),
        _training(config, record),
    ]
    if lines:
        parts += ["## Quality and latency", markdown_table(lines)]
        if (folder / "quality_latency.png").is_file():
            parts.append("![BLEU over LAAL](quality_latency.png)")
        if lines[-1].name == FULL_SOURCE:
            parts.append(f"*{FULL_SOURCE}* reads everything before it writes.")
    parts += [
        "## Limits",
        f"One sentence at a time: endless {what} must be cut at sentence ends{'' if chunk_ms else _HOW_TO_CUT}. "
        "Policies that differ much from the training's lose quality. Scores hold for what is like the test set.",
    ]
    return "\n\n".join(parts) + "\n"


_HOW_TO_CUT = " (`StreamEngine`, `sentences=True`)"

_USAGE = """With the package transformers_simul:

```bash
transformers-simul translate {name}{flag} --show-delays
```

With torch and transformers alone, running the code in this folder:

```python
from transformers import AutoModelForCausalLM, AutoProcessor

model = AutoModelForCausalLM.from_pretrained("{name}", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
output = model.generate(**processor(source="{sentence}"), {argument}return_dict_in_generate=True)
print(processor.words(output.words[0]), output.delays[0])
```"""

# What the snippet translates, by source language.
_SENTENCES = {
    "en": "I have lost my keys.",
    "de": "Ich habe meine Schlüssel verloren.",
    "fr": "J'ai perdu mes clés.",
    "it": "Ho perso le mie chiavi.",
    "nl": "Ik ben mijn sleutels kwijt.",
    "ro": "Mi-am pierdut cheile.",
}

_SPEECH_USAGE = """With torch and transformers alone, running the code in this folder:

```python
from transformers import AutoModelForCausalLM, AutoProcessor

model = AutoModelForCausalLM.from_pretrained("{name}", trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
# audio: one channel, real numbers in [-1, 1], processor.sampling_rate samples a second
output = model.generate(**processor(source=audio), {argument}return_dict_in_generate=True)
print(processor.words(output.words[0]), output.delays[0])  # delays in chunks of {chunk_ms} ms
```

Audio that is still arriving: `stream = processor.stream()`, then `stream.put(samples)` and `stream.end()` from another
thread, and `processor(source=stream)`."""


_TARGETS = """Targets: {targets}; the first unless told: `transformers-simul translate ... --target-lang {last}`,
`processor(source="...", target_lang="{last}")`, in a batch one for each row."""


_SETTINGS = """
learning_rate lr_scheduler_type warmup_steps per_device_train_batch_size gradient_accumulation_steps processes
weight_decay bf16 fp16 seed
""".split()


def _training(config: dict[str, Any], record: dict[str, Any]) -> str:
    text = config.get("text_config", config)
    rows = [("positions", text["positions"]), ("family", text["model_type"].removeprefix("simul_"))]
    rows += [("audio encoder", config["audio_config"]["model_type"])] if "audio_config" in config else []
    if base := _base_on_hub(record):
        rows.append(("base", f"[{base}](https://huggingface.co/{base})"))
    elif base := _base(record):
        rows.append(("base", f"`{base}`"))
    policy, about, settings = record.get("policy"), record.get("about", {}), record.get("training", {})
    known = {
        "data": about.get("dataset"),
        "training pairs": f"{about['pairs']:,}" if "pairs" in about else None,
        "wait-k": ", ".join(map(str, policy)) if isinstance(policy, list) else policy,
        "share of peek rows": record.get("peek_rows"),
        **{name: settings.get(name) for name in _SETTINGS},
    }
    rows += [(field.replace("_", " "), value) for field, value in known.items() if value is not None]
    table = "\n".join(["| | |", "|---|---|", *(f"| {field} | {value} |" for field, value in rows)])
    return f"{training_sentence(record['done'])}\n\n{table}" if record.get("done") else table


def training_sentence(done: Mapping[str, Any]) -> str:
    """Say what a training did, and whether that was less than it was asked to do.

    Args:
        done (`Mapping`): of a training's record: steps, epochs, seconds, and the time limit if that ended it.

    Example:

    ```python
    >>> from transformers_simul.publishing.model_card import training_sentence
    >>> done = {"steps": 395, "planned_steps": 2600, "epochs": 1.9, "seconds": 541.2, "time_limit_minutes": 9.0}
    >>> print(training_sentence(done))
    Trained 395 of 2,600 steps (15%), 1.9 epochs, in 9.0 minutes: the time limit of 9 minutes ended it early. A model
    that has seen so little of its training translates worse than a finished one. The same command with a higher
    --max_train_minutes, or without it, goes on from there.

    ```
    """
    steps, planned, seconds = done["steps"], done["planned_steps"], done["seconds"]
    time = f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
    part = f"{steps:,} of {planned:,} steps ({steps / planned:.0%})" if steps < planned else f"{steps:,} steps"
    text = f"Trained {part}, {done['epochs']:.1f} epochs, in {time}"
    left_out = ""
    if done.get("pairs_too_long"):
        left_out = f" {done['pairs_too_long']:,} pairs were too long and left out."
    elif done.get("pairs_left_out"):
        left_out = f" Pairs were too long and left out {done['pairs_left_out']:,} times."
    if done.get("time_limit_minutes") is not None:
        return (
            f"{text}: the time limit of {done['time_limit_minutes']:g} minutes ended it early. A model that has seen "
            "so little of its training translates worse than a finished one. The same command with a higher "
            f"--max_train_minutes, or without it, goes on from there.{left_out}"
        )
    early = ": it was ended early, as its arguments ask for." if steps < planned else "."
    return f"{text}{early}{left_out}"


__all__ = ["training_sentence", "write_model_card"]
