# SPDX-License-Identifier: Apache-2.0
"""The table of a system: one line per policy with quality, intervals and latency, and the signatures below."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..text_files import read_json
from .instances import Instance, SpeechInstance, read_instances
from .latency import LATENCY, average_token_delay, computation_aware, work, yet_another_average_lagging
from .quality import Quality, paired_difference, quality
from .units import target_units

# Name of the line whose policy reads everything before it writes. It is drawn as a level: its lagging says nothing.
FULL_SOURCE = "full source"


@dataclass(frozen=True)
class ReportLine:
    """The scores of one policy.

    Attributes:
        name (`str`): what the line is called, such as `"k = 3"`.
        quality (`list[Quality]`): BLEU and chrF++ by default; empty without references.
        latency (`dict[str, float]`): AL, LAAL, AP, DAL and ATD, means over sentences, in source units (AP: a share);
            with a rate also `"AL_CA"` and so on. Of speech AL, LAAL, AP, DAL and YAAL in milliseconds, and the same
            with `_CA`.
        sentences, empty (`int`): how many were translated, and for how many nothing was written (these have no
            latency).
        short (`int`): for how many so little was written that their LAAL is negative.
        signature (`str`): signature of the latency: unit, reference lengths, rate, policy, dtype, device, versions,
            data.
        source_unit (`str`): what latency counts: `"source words"`, or for speech `"ms"`.
    """

    name: str
    quality: list[Quality]
    latency: dict[str, float]
    sentences: int
    empty: int
    short: int
    signature: str
    source_unit: str = "source words"

    @property
    def lagging(self) -> str:
        """The name of the latency to draw and to list first: LAAL, or of long recordings StreamLAAL."""
        return "LAAL" if "LAAL" in self.latency else "StreamLAAL"

    @property
    def remarks(self) -> list[str]:
        """Clauses about sentences that the latency leaves out or misjudges: `"1 of them empty and without latency"`."""
        remarks = [f"{self.empty} of them empty and without latency"] if self.empty else []
        ended = f"{self.short} of them ended so long before their source that their {self.lagging} is negative"
        return [*remarks, ended] if self.short else remarks


def report_line(
    name: str,
    instances: Sequence[Instance],
    resamples: int = 1000,
    metrics: Sequence[str] = ("BLEU", "chrF++"),
    unit: str = "word",
    spm_model: Any = None,
    words_per_second: float | None = None,
    tokenize: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> ReportLine:
    """Score the instances of one policy.

    Args:
        name (`str`): name of the line.
        instances (`Sequence[Instance]`): a log; quality is scored if all have references.
        resamples (`int`, *optional*): resamples of the bootstrap.
        metrics (`Sequence[str]`, *optional*): metrics of quality.
        unit, spm_model: target units of latency; see [`target_units`].
        words_per_second (`float`, *optional*): adds computation-aware latency; see [`computation_aware`].
        tokenize (`str`, *optional*): BLEU's tokeniser.
        settings (`Mapping[str, str]`, *optional*): settings of the run, for the signature; see [`run_settings`].

    Raises:
        ValueError: if nothing at all was written, if some instances have references and others none, if speech and text
            are mixed, or for a rate with speech.

    Example:

    ```python
    >>> from transformers_simul.evaluation import Instance
    >>> from transformers_simul.evaluation.report import report_line
    >>> log = [Instance(0, "ein Hund", [1, 2], [500.0, 900.0], 2, "ein Hund", "a dog", 2)]
    >>> line = report_line("k = 1", log, resamples=10, words_per_second=2)
    >>> line.latency["AL"], line.latency["AL_CA"]
    (1.0, 2.0)
    >>> line.signature
    'unit:word|reflen:word|rate:2|data:fd730e2b'

    ```
    """
    if not any(instance.delays for instance in instances):
        raise ValueError(f"instances of {name!r} hold no written word: nothing to score.")
    is_speech = _is_speech(instances)
    if is_speech and words_per_second:
        raise ValueError(f"words_per_second is for logs of text: speech has its own clock, got {words_per_second}.")
    missing = sum(not instance.reference.strip() for instance in instances)
    if 0 < missing < len(instances):
        raise ValueError(
            f"instances of {name!r} must all have references, or none, but {missing} of {len(instances)} have none."
        )
    has_references = not missing
    scores = []
    if has_references:
        predictions, references = zip(*((each.prediction, each.reference) for each in instances), strict=True)
        scores = quality(predictions, references, resamples, names=metrics, tokenize=tokenize)
    digest = data_digest([(each.source, each.reference) for each in instances])
    if settings is not None and not isinstance(settings, Mapping):
        raise ValueError(f"settings of {name!r} must be names and values, got {settings!r}.")
    latency = _sentence_latency(instances, unit, spm_model, words_per_second)
    parts = {
        "unit": unit,
        "reflen": unit if has_references else "prediction",
        "rate": f"{words_per_second:g}" if words_per_second else "",
        **(settings or {}),
        "source": "ms" if is_speech else "",
        "data": digest,
    }
    return ReportLine(
        name,
        scores,
        _means(latency),
        len(instances),
        sum(not instance.delays for instance in instances),
        sum(each["LAAL"] < 0 for each in latency),
        "|".join(f"{key}:{value}" for key, value in parts.items() if value),
        "ms" if is_speech else "source words",
    )


def data_digest(data: Any) -> str:
    """Return eight digits that tell one set of sentences from another, for signatures.

    Args:
        data: what has a `repr` that is the same in every process.
    """
    return hashlib.sha256(repr(data).encode()).hexdigest()[:8]


def _is_speech(instances: Sequence[Instance]) -> bool:
    kinds = {isinstance(each, SpeechInstance) for each in instances}
    if len(kinds) > 1:
        raise ValueError("instances must be all of speech or all of text, got both.")
    return True in kinds


def log_name(name: str) -> str:
    """The folder of a line's log: `"k=3"` of `"k = 3"`; a policy's name stays one that [`policy_from_name`] knows.

    Args:
        name (`str`): of the line.
    """
    # No file of Windows may have a colon.
    return name.replace(" ", "").replace(":", "-")


def by_kind(lines: Sequence[ReportLine]) -> dict[str, list[ReportLine]]:
    """A curve for each kind of policy: wait-k, with the full source, and those that are named otherwise.

    Args:
        lines (`Sequence[ReportLine]`): such as `"k = 3"`, `"learned:0.5"` and `"full source"`.

    Example:

    ```python
    >>> from transformers_simul.evaluation.report import ReportLine, by_kind
    >>> names = ("k = 1", "learned:0.5", "learned:0.7", "full source")
    >>> curves = by_kind([ReportLine(name, [], {}, 1, 0, 0, "") for name in names])
    >>> {kind: [line.name for line in lines] for kind, lines in curves.items()}
    {'wait-k': ['k = 1', 'full source'], 'learned': ['learned:0.5', 'learned:0.7']}

    ```
    """
    curves: dict[str, list[ReportLine]] = {}
    for line in lines:
        is_wait_k = line.name == FULL_SOURCE or line.name.startswith("k = ")
        curves.setdefault("wait-k" if is_wait_k else re.split("[-:,]", line.name)[0], []).append(line)
    return curves


def folder_lines(
    folder: Path, metric: str = "BLEU", scorer: Callable[..., ReportLine] = report_line
) -> list[ReportLine]:
    """Score every log of a folder such as `transformers-simul evaluate` writes, in the order of k, the full source
    last.

    Args:
        folder (`Path`): holds `k=3/instances.log` and the like.
        metric (`str`, *optional*): a metric besides BLEU and chrF++.
        scorer (`Callable`, *optional*): [`report_line`], or [`longform_line`] with its segments and references.

    Raises:
        ValueError: if there is no log, or one without references.
    """
    full = FULL_SOURCE.replace(" ", "")
    logs = {path.parent.name: path for path in folder.glob("*/instances.log")}
    if not logs:
        raise ValueError(f"folder must hold logs such as k=3/instances.log, got {str(folder)!r}.")
    lines = []
    for name in sorted(logs, key=lambda name: (name == full, int(name[2:]) if name[2:].isdigit() else 0, name)):
        settings = logs[name].with_name("settings.json")
        line = scorer(
            FULL_SOURCE if name == full else name.replace("k=", "k = ") if name.startswith("k=") else name,
            read_instances(logs[name]),
            metrics=list(dict.fromkeys(("BLEU", "chrF++", metric))),
            settings=read_json(settings) if settings.is_file() else None,
        )
        if not line.quality:
            raise ValueError(f"log {str(logs[name])!r} must have references: quality is scored.")
        lines.append(line)
    return lines


def _means(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """The mean of each latency over the sentences that have one; not a number if none has."""
    means = {}
    for name in scores[0] if scores else ():
        values = [value for each in scores if (value := each[name]) is not None]
        means[name] = sum(values) / len(values) if values else float("nan")
    return means


def _sentence_latency(
    instances: Sequence[Instance], unit: str, spm_model: Any, words_per_second: float | None
) -> list[dict[str, Any]]:
    """Compute the latency of each sentence for which something was written."""
    scores: list[dict[str, Any]] = []
    for instance in instances:
        if not instance.delays:
            continue
        delays, elapsed, reference = target_units(instance, unit, spm_model)
        lengths = (instance.source_length, reference or len(delays))
        try:
            if isinstance(instance, SpeechInstance):
                scores.append(_speech_latency(delays, elapsed, lengths))
            else:
                scores.append(_latency(delays, elapsed, lengths, words_per_second))
        except ValueError as error:
            raise ValueError(f"instance {instance.index}: {error}") from error
    return scores


def _latency(
    delays: list[int], elapsed: list[float], lengths: tuple[int, int], words_per_second: float | None
) -> dict[str, float]:
    scores = {name: metric(delays, *lengths) for name, metric in LATENCY.items()}
    if words_per_second is None:
        return scores
    aware = computation_aware(delays, elapsed, words_per_second)
    scores |= {f"{name}_CA": metric(aware, *lengths) for name, metric in LATENCY.items() if name != "ATD"}
    costs = work(elapsed, words_per_second, len(delays))
    return scores | {"ATD_CA": average_token_delay(delays, *lengths, work=costs)}


def _speech_latency(delays: list[int], elapsed: list[float], lengths: tuple[int, int]) -> dict[str, float | None]:
    """ATD is left out: its source units are words."""
    scores: dict[str, float | None] = {}
    for suffix, times in (("", delays), ("_CA", elapsed)):
        scores |= {name + suffix: metric(times, *lengths) for name, metric in LATENCY.items() if name != "ATD"}
        scores[f"YAAL{suffix}"] = yet_another_average_lagging(times, *lengths)
    return scores


def markdown_table(lines: Sequence[ReportLine]) -> str:
    """Write lines of the same sentences as a Markdown table, with LAAL and AL, of long recordings StreamLAAL and
    LongYAAL, and the signatures below."""
    metrics = ("LAAL", "AL") if lines[0].lagging == "LAAL" else ("StreamLAAL", "LongYAAL")
    decimals = 2 if lines[0].source_unit != "ms" else 0
    heads = [*(each.name for each in lines[0].quality), *metrics]
    rows = [f"| policy | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for line in lines:
        cells = [str(each) for each in line.quality]
        cells += [f"{line.latency[name]:.{decimals}f}" for name in metrics]
        rows.append(f"| {line.name} | {' | '.join(cells)} |")
    empty = sum(line.empty for line in lines)
    notes = [
        "",
        f"{lines[0].sentences} sentences; in brackets 95% bootstrap intervals; lagging in {lines[0].source_unit}"
        + (f", without {empty} empty outputs." if empty else "."),
        *(
            f"{line.name}: {line.short} outputs ended so long before their source that their {line.lagging} is "
            "negative."
            for line in lines
            if line.short
        ),
        *(f"{each.name}: `{each.signature}`" for each in lines[0].quality),
        f"Latency: `{lines[0].signature}`",
    ]
    return "\n".join(rows + notes)


def difference(better: Sequence[Instance], worse: Sequence[Instance], metric: str = "BLEU") -> str:
    """Return one log's score minus another's on the same sentences, such as `"+1.2 (+0.4 to +2.1)"`, with 95%
    intervals.

    Args:
        better, worse (`Sequence[Instance]`): logs of the same sentences, in the same order.
        metric (`str`, *optional*): a name from [`QUALITY`].

    Raises:
        ValueError: if the sentences differ.

    Example:

    ```python
    >>> from transformers_simul.evaluation import Instance
    >>> from transformers_simul.evaluation.report import difference
    >>> log = [Instance(0, "ein Hund", [1, 2], [5.0, 9.0], 2, "ein Hund", "a dog", 2)]
    >>> difference(log, log)
    '+0.0 (+0.0 to +0.0)'

    ```
    """
    references = [each.reference for each in better]
    if references != [each.reference for each in worse]:
        raise ValueError(f"better and worse must hold the same sentences, got {len(better)} and {len(worse)}.")
    first, second = ([each.prediction for each in log] for log in (better, worse))
    value, low, high = paired_difference(first, second, references, name=metric)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


__all__ = [
    "FULL_SOURCE",
    "ReportLine",
    "by_kind",
    "data_digest",
    "difference",
    "log_name",
    "markdown_table",
    "report_line",
]
