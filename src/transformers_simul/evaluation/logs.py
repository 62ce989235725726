# SPDX-License-Identifier: Apache-2.0
"""Logs of other tools: OmniSTEval's and simulstream's JSON lines, read and written; and which tool wrote a log.

Both count time instead of words, so a rate says how long a source unit takes. SimulEval's `instances.log` is the
project's own format: see [`read_instances`].
"""

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from ..models.text import split_words
from ..text_files import json_rows, write_text
from .instances import Instance, SpeechInstance, read_instances
from .latency import check_rate, computation_aware, work
from .simulstream_log import read_simulstream_recordings


def read_log(
    path: str | os.PathLike,
    words_per_second: float | None = None,
    sources: Sequence[str] = (),
    references: Sequence[str] = (),
    recordings: bool = False,
) -> list[Instance]:
    """Read a log of any of the three formats, recognised by its first line.

    Args:
        path (`str` or `os.PathLike`): SimulEval's `instances.log`, OmniSTEval's `instances.*.jsonl` or simulstream's
            metrics log.
        words_per_second (`float`, *optional*): rate of the source, for the latter two: simulstream's counts seconds
            alone, so it needs one.
        sources, references (`Sequence[str]`, *optional*): one per sentence; simulstream's log holds neither.
        recordings (`bool`, *optional*): whether a log of simulstream's is of speech, which it does not say.

    Raises:
        ValueError: for an empty or unknown log; with the line. Or for a log of simulstream's without a rate.
    """
    first = next(json_rows(path), None)
    if first is None:
        raise ValueError(f"log {str(path)!r} must hold at least one line.")
    fields = first[1]
    if "emission_cu" in fields:
        return read_omnisteval(path, words_per_second or 1.0)
    if "generated_tokens" in fields or "metadata" in fields or "model_loading_time" in fields:
        if recordings:
            return [*read_simulstream_recordings(path)]
        if words_per_second is None:
            raise ValueError(f"words_per_second must be given for {str(path)!r}, simulstream's log, which has seconds.")
        return read_simulstream(path, sources, references, words_per_second)
    return read_instances(path)


def write_omnisteval(
    path: str | os.PathLike, instances: Iterable[Instance], words_per_second: float | None = None
) -> None:
    """Write OmniSTEval's lines, with delays as `emission_cu` in source units, and with a rate also `emission_ca` in
    source units; see [`computation_aware`]."""
    lines = []
    for each in instances:
        line: dict[str, Any] = {
            "index": each.index,
            "prediction": each.prediction,
            "reference": each.reference,
            "source_length": each.source_length,
            "emission_cu": each.delays,
        }
        if words_per_second is not None:
            line["emission_ca"] = computation_aware(each.delays, each.elapsed, words_per_second)
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def read_omnisteval(path: str | os.PathLike, words_per_second: float = 1.0) -> list[Instance]:
    """Read OmniSTEval's lines. Computing time is what `emission_ca` has beyond waiting, and 0 without it; the sources
    are empty.

    Args:
        path (`str` or `os.PathLike`): file of the log.
        words_per_second (`float`, *optional*): rate of the source, which turns `emission_ca` into milliseconds.

    Raises:
        ValueError: if a line lacks a field or is ready before its source; with its number. Or for a rate not above 0.
    """
    check_rate(words_per_second)
    instances = []
    for number, line in json_rows(path):
        try:
            delays = line["emission_cu"]
            aware = delays if line.get("emission_ca") is None else line["emission_ca"]
            elapsed: list[float] = []
            ready = 0.0
            for delay, time in zip(delays, aware, strict=True):
                spent = (time - max(ready, delay)) / words_per_second * 1000
                if spent < -1e-6:
                    raise ValueError(f"emission_ca must not be before emission_cu, got {time} and {delay}")
                elapsed.append((elapsed[-1] if elapsed else 0.0) + max(spent, 0.0))
                ready = time
            instances.append(
                Instance(
                    line["index"], line["prediction"], delays, elapsed, len(delays), line["reference"], "",
                    line["source_length"],
                )
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"line {number} of {str(path)!r} must be an OmniSTEval instance: {error!r}.") from error
    return instances


def write_simulstream(path: str | os.PathLike, instances: Iterable[Instance], words_per_second: float = 1000.0) -> None:
    """Write simulstream's metrics log: for each sentence its number, then one line per target word.

    Args:
        path (`str` or `os.PathLike`): file of the log.
        instances (`Iterable[Instance]`): in word units.
        words_per_second (`float`, *optional*): rate of the source; a source unit is 1 / rate seconds of "audio". Of
            speech, whose units are milliseconds, it is 1000.

    Raises:
        ValueError: for a rate that is not positive.
    """
    check_rate(words_per_second)
    lines: list[dict[str, Any]] = []
    for each in instances:
        is_speech = isinstance(each, SpeechInstance)
        lines.append({"id": each.index, "metadata": {"wav_name": each.source if is_speech else str(each.index)}})
        if is_speech:
            costs = [(time - delay) / 1000 for time, delay in zip(each.elapsed, each.delays, strict=True)]
        else:
            costs = work(each.elapsed, 1.0, len(each.delays))
        for word, delay, cost in zip(split_words(each.prediction), each.delays, costs, strict=True):
            lines.append(
                {
                    "id": each.index,
                    "total_audio_processed": delay / words_per_second,
                    "computation_time": cost,
                    "generated_tokens": [word],
                    "deleted_tokens": [],
                }
            )
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_simulstream(
    path: str | os.PathLike, sources: Sequence[str], references: Sequence[str], words_per_second: float
) -> list[Instance]:
    """Read simulstream's metrics log of text that is never revised, one token per word.

    Args:
        path (`str` or `os.PathLike`): file of the log.
        sources, references (`Sequence[str]`): one per sentence, in the log's order; the log holds neither.
        words_per_second (`float`): turns "audio" into source units.

    Raises:
        ValueError: if the counts differ, a line is wrong, a token was deleted, or the rate is not positive.
    """
    check_rate(words_per_second)
    runs: dict[Any, list[tuple[str, int, float]]] = {}
    for number, line in json_rows(path):
        try:
            if "metadata" in line:
                if line["id"] in runs:
                    raise ValueError(f"id must be of one sentence, got {line['id']!r} twice")
                runs[line["id"]] = []
            elif "generated_tokens" in line:
                delay = round(line["total_audio_processed"] * words_per_second)
                if not isinstance(line["generated_tokens"], list):
                    raise ValueError(f"generated_tokens must be a list, got {line['generated_tokens']!r}")
                for index, token in enumerate(line["generated_tokens"]):
                    cost = 0.0 if index else 1000 * line["computation_time"]
                    if not isinstance(token, str) or delay < 0 or not cost >= 0:
                        raise ValueError(
                            f"tokens must be texts, and times not negative, got {token!r}, {delay}, {cost}"
                        )
                    runs[line["id"]].append((token, delay, cost))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"line {number} of {str(path)!r} must be of simulstream's log: {error!r}.") from error
        if line.get("deleted_tokens"):
            raise ValueError(f"line {number} of {str(path)!r} must not delete tokens: revised text has no delay.")
    if not len(runs) == len(sources) == len(references):
        raise ValueError(
            f"sources and references must hold one line per sentence of the log, {len(runs)}, got {len(sources)} and "
            f"{len(references)}: simulstream's log holds neither."
        )
    instances = []
    for index, (run, source, reference) in enumerate(zip(runs.values(), sources, references, strict=True)):
        elapsed: list[float] = []
        for _, _, cost in run:
            elapsed.append((elapsed[-1] if elapsed else 0.0) + cost)
        text, delays = " ".join(token for token, _, _ in run), [delay for _, delay, _ in run]
        length = len(split_words(source))
        instances.append(Instance(index, text, delays, elapsed, len(run), reference, source, length))
    return instances


__all__ = [
    "read_log",
    "read_omnisteval",
    "read_simulstream",
    "write_omnisteval",
    "write_simulstream",
]
