# SPDX-License-Identifier: Apache-2.0
"""The table of a system: one line per policy, quality with intervals, latency, signatures below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..text_simul import split_words
from .instances import Instance
from .latency import average_lagging, length_adaptive_average_lagging
from .quality import Quality, paired_difference, quality


@dataclass(frozen=True)
class ReportLine:
    """One policy's scores.

    Attributes:
        name (`str`): what the line is called, such as `"k = 3"`.
        quality (`list[Quality]`): BLEU and chrF++.
        laal, al (`float`): mean over sentences, in source words.
        sentences, empty (`int`): how many were translated, and to how many nothing was written (no latency).
    """

    name: str
    quality: list[Quality]
    laal: float
    al: float
    sentences: int
    empty: int


def report_line(name: str, instances: Sequence[Instance], resamples: int = 1000) -> ReportLine:
    """Score the instances of one policy.

    Args:
        name (`str`): of the line.
        instances (`Sequence[Instance]`): with references.
        resamples (`int`, *optional*): of the bootstrap.

    Raises:
        ValueError: if nothing at all was written.
    """
    written = [instance for instance in instances if instance.delays]
    if not written:
        raise ValueError(f"instances of {name!r} hold no written word: nothing to score.")
    lengths = [len(split_words(instance.reference)) for instance in written]
    pairs = list(zip(written, lengths, strict=True))
    laal = [length_adaptive_average_lagging(each.delays, each.source_length, length) for each, length in pairs]
    al = [average_lagging(each.delays, each.source_length, length) for each, length in pairs]
    scores = quality([each.prediction for each in instances], [each.reference for each in instances], resamples)
    return ReportLine(
        name, scores, sum(laal) / len(laal), sum(al) / len(al), len(instances), len(instances) - len(written)
    )


def markdown_table(lines: Sequence[ReportLine]) -> str:
    """The lines as a Markdown table, and the signatures."""
    rows = ["| policy | BLEU | chrF++ | LAAL | AL |", "|---|---|---|---|---|"]
    for line in lines:
        cells = [f"{each.score:.1f} ({each.low:.1f} to {each.high:.1f})" for each in line.quality]
        rows.append(f"| {line.name} | {' | '.join(cells)} | {line.laal:.2f} | {line.al:.2f} |")
    empty = sum(line.empty for line in lines)
    notes = [
        "",
        f"{lines[0].sentences} sentences; in brackets 95% bootstrap intervals; lagging in source words"
        + (f", without {empty} empty outputs." if empty else "."),
        *(f"{each.name}: `{each.signature}`" for each in lines[0].quality),
    ]
    return "\n".join(rows + notes)


def difference_note(logs: Mapping[str, Sequence[Instance]], better: str, worse: str) -> str:
    """A sentence: BLEU of one policy minus another's, with the paired interval."""
    references = [instance.reference for instance in logs[better]]
    first, second = ([instance.prediction for instance in logs[name]] for name in (better, worse))
    difference, low, high = paired_difference(first, second, references)
    return f"BLEU at {better} minus {worse}: {difference:+.1f} (95% interval {low:+.1f} to {high:+.1f})."


__all__ = ["ReportLine", "difference_note", "markdown_table", "report_line"]
