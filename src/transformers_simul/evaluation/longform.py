# SPDX-License-Identifier: Apache-2.0
"""Long recordings: what was written is cut again where the reference's segments are, and each segment is scored.

LongYAAL by SoftSegmenter (Polák et al. 2025, arXiv 2509.17349), which is OmniSTEval's; StreamLAAL (Papi et al. 2024) by
mWERSegmenter, as simulstream has it. Both need `transformers_simul[longform]`.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..models.text import split_words
from .instances import Instance, SpeechInstance
from .latency import yet_another_average_lagging
from .quality import quality
from .report import ReportLine, data_digest


class Segment(NamedTuple):
    """A segment of the reference with what belongs to it.

    Attributes:
        prediction, reference (`str`): its texts.
        delays, elapsed (`list[float]`): of each word of the prediction, in milliseconds from the segment's start; they
            may be below 0.
        duration (`float`): its milliseconds.
        recording_end (`float`): when the recording ends, in milliseconds from the segment's start.
    """

    prediction: str
    reference: str
    delays: list[float]
    elapsed: list[float]
    duration: float
    recording_end: float


# Which segment each word of a recording belongs to, from the references of its segments and the words.
Segmenter = Callable[[Sequence[str], Sequence[str]], Sequence[int]]


def longform_line(
    name: str,
    instances: Sequence[Instance],
    segments: Sequence[Mapping[str, Any]],
    references: Sequence[str],
    resamples: int = 1000,
    metrics: Sequence[str] = ("BLEU", "chrF++"),
    tokenize: str | None = None,
    lang: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> ReportLine:
    """Score recordings segment by segment. Quality is that of SoftSegmenter's segments.

    Args:
        name (`str`): of the line.
        instances (`Sequence[Instance]`): a log of speech, a line for each recording.
        segments (`Sequence[Mapping[str, Any]]`): of all recordings, as [`read_segments`] gives them.
        references (`Sequence[str]`): a translation for each segment.
        resamples, metrics, tokenize, settings: as in [`report_line`].
        lang (`str`, *optional*): code for Moses' tokeniser, which SoftSegmenter then aligns by; words without.

    Raises:
        ValueError: if the log is none of speech, recordings and segments do not fit, or a package is missing.
    """
    recordings = _recordings(instances, segments, references)
    soft = [each for recording in recordings for each in resegment(*recording, soft_segmenter(lang))]
    hard = [each for recording in recordings for each in resegment(*recording, mwer_segmenter)]
    predictions = [each.prediction for each in soft]
    scores = quality(predictions, list(references), resamples, names=metrics, tokenize=tokenize)
    latency = {}
    for suffix, of in (("", "delays"), ("_CA", "elapsed")):
        long = [_long_yaal(each, getattr(each, of)) for each in soft]
        latency[f"LongYAAL{suffix}"] = _mean([value for value in long if value is not None])
        latency[f"StreamLAAL{suffix}"] = _mean([_laal(each, getattr(each, of)) for each in hard if each.delays])
    parts = {
        "unit": "word", "segmenters": f"soft({lang or 'words'}), mwer", **(settings or {}), "source": "ms",
        "data": data_digest([*references]),
    }  # fmt: skip
    return ReportLine(
        name,
        scores,
        latency,
        len(soft),
        sum(not each.delays for each in soft),
        sum(_laal(each, each.delays) < 0 for each in hard if each.delays),
        "|".join(f"{key}:{value}" for key, value in parts.items()),
        "ms",
    )


def _recordings(
    instances: Sequence[Instance], segments: Sequence[Mapping[str, Any]], references: Sequence[str]
) -> list[tuple[Instance, list[Mapping[str, Any]], list[str]]]:
    """Return each recording with its segments and their references."""
    if len(segments) != len(references):
        raise ValueError(f"references must hold one line per segment, {len(segments)}, got {len(references)}.")
    by_name = {Path(each.source).stem: each for each in instances if isinstance(each, SpeechInstance)}
    if len(by_name) < len(instances):
        raise ValueError(
            "instances must be of speech, each with a recording of its own, got "
            f"{len(by_name)} recordings for {len(instances)} instances."
        )
    groups = [
        (stem, [*group])
        for stem, group in groupby(zip(segments, references, strict=True), key=lambda pair: Path(pair[0]["wav"]).stem)
    ]
    if sorted(stem for stem, _ in groups) != sorted(by_name):
        missing = sorted({stem for stem, _ in groups} ^ set(by_name))[:3]
        raise ValueError(f"log and segments must be of the same recordings, each in one run; not in both: {missing}.")
    return [(by_name[stem], [pair[0] for pair in group], [pair[1] for pair in group]) for stem, group in groups]


def resegment(
    instance: Instance, segments: Sequence[Mapping[str, Any]], references: Sequence[str], segmenter: Segmenter
) -> list[Segment]:
    """Cut what was written for a recording where its segments are.

    Args:
        instance (`Instance`): the recording's.
        segments (`Sequence[Mapping[str, Any]]`): its segments, in order.
        references (`Sequence[str]`): a translation for each.
        segmenter: [`soft_segmenter`] or [`mwer_segmenter`].

    Raises:
        ValueError: if the delays do not count words.
    """
    words = instance.prediction.split()
    if len(words) != len(instance.delays):
        raise ValueError(f"delays of {instance.source!r} must count words, {len(words)}, got {len(instance.delays)}.")
    places = segmenter(references, words) if words else []
    end = max(1000 * (each["offset"] + each["duration"]) for each in segments)
    cut = []
    for number, (segment, reference) in enumerate(zip(segments, references, strict=True)):
        start, mine = 1000 * segment["offset"], [index for index, place in enumerate(places) if place == number]
        cut.append(
            Segment(
                " ".join(words[index] for index in mine),
                reference,
                [instance.delays[index] - start for index in mine],
                [instance.elapsed[index] - start for index in mine],
                1000 * segment["duration"],
                end - start,
            )
        )
    return cut


def soft_segmenter(lang: str | None = None) -> Segmenter:
    """SoftSegmenter of OmniSTEval: words go to the segment whose words look most alike.

    Args:
        lang (`str`, *optional*): code for Moses' tokeniser.

    Raises:
        ValueError: if the package omnisteval is missing.
    """
    try:
        from omnisteval.alignment import Word, align_sequences, process_alignment
        from omnisteval.tokenization import tokenize_words
    except ImportError as error:
        raise _missing("omnisteval") from error

    def segment(references: Sequence[str], words: Sequence[str]) -> list[int]:
        known = [Word(word, seq_id=index) for index, text in enumerate(references) for word in text.lower().split()]
        # Where a word came from is told by what it carries through.
        said = [Word(word, emission_cu=float(index)) for index, word in enumerate(words)]
        (ref,), (hyp,) = tokenize_words([known], lang), tokenize_words([said], lang)
        places = [-1] * len(words)
        for word in process_alignment(*align_sequences(ref, hyp, False), False):
            if word.main:
                places[int(word.emission_cu)] = word.seq_id
        return places

    return segment


def mwer_segmenter(references: Sequence[str], words: Sequence[str]) -> list[int]:
    """mWERSegmenter (Matusov et al. 2005; Post and Hoang 2025): the cut with the fewest word errors.

    Args:
        references (`Sequence[str]`): of the segments.
        words (`Sequence[str]`): of the recording.

    Raises:
        ValueError: if the package mweralign is missing.
    """
    try:
        from mweralign import mweralign
    except ImportError as error:
        raise _missing("mweralign") from error
    with _silent_stderr():
        lines = mweralign.align_texts("\n".join(references), " ".join(words)).split("\n")
    ends = [0, *accumulate(len(line.split()) for line in lines)]
    return [number for number, (begin, end) in enumerate(pairwise(ends)) for _ in range(end - begin)]


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Silence mweralign, which prints its progress from C++, past Python's own standard error."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _missing(package: str) -> ValueError:
    return ValueError(f"long recordings are cut by {package}: pip install 'transformers_simul[longform]'.")


def _long_yaal(segment: Segment, times: Sequence[float]) -> float | None:
    # OmniSTEval counts an empty reference as one word, and does not score empty predictions.
    length = len(segment.reference.split(" "))
    return yet_another_average_lagging(times, segment.duration, length, segment.recording_end)


def _laal(segment: Segment, times: Sequence[float]) -> float:
    """LAAL by its formula; times within a recording may be below 0 and may fall."""
    if times[0] > segment.duration:
        return times[0]
    pace = segment.duration / max(len(times), len(split_words(segment.reference)))
    last = next((index for index, time in enumerate(times) if time >= segment.duration), len(times) - 1)
    return sum(time - index * pace for index, time in enumerate(times[: last + 1])) / (last + 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


__all__ = ["Segment", "longform_line", "mwer_segmenter", "resegment", "soft_segmenter"]
