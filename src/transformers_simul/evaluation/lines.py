# SPDX-License-Identifier: Apache-2.0
"""Translate lines of one or more sentences sentence by sentence, and put them together again."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..models.policies import Policy
from ..models.streams import SourceStream
from ..streaming.sentences import SentenceReader
from .decode import translate_sentences
from .instances import Instance


class Sentence(NamedTuple):
    """A part of a line.

    Attributes:
        text (`str`): the sentence.
        units_before (`int`): units of the line before it.
    """

    text: str
    units_before: int


def split_sentences(
    processor: Any,
    line: str,
    max_words: int | None = None,
    ends_between: Callable[[Sequence[str], str], bool] | None = None,
) -> list[Sentence]:
    """Split a line into sentences where [`StreamEngine`] ends those of a live source.

    Args:
        processor (`SimulProcessor`): its units count.
        line (`str`): the text.
        max_words (`int`, *optional*): longest sentence, in units.
        ends_between (*optional*): as in [`StreamEngine.open`].

    Example:

    ```python
    >>> from transformers_simul.evaluation.lines import split_sentences
    >>> split_sentences(processor, "It runs. It stops")
    [Sentence(text='It runs.', units_before=0), Sentence(text='It stops', units_before=2)]

    ```
    """
    stream = SourceStream(line, unit=processor.unit)
    stream.end()
    units = stream.bind(processor)
    reader, sentences = SentenceReader(units, max_words, ends_between=ends_between), []
    while reader.begin():
        texts: list[str] = []
        while reader.peek(0)[1] is not None:
            texts.append(units.text(0) or "")
            reader.poll()
        text = ("" if processor.unit == "char" else " ").join(text for text in texts if text)
        # The space before a sentence of characters is a unit, but no part of the sentence.
        spaces = len(texts) - len("".join(texts).lstrip(" ")) if processor.unit == "char" else 0
        sentences.append(Sentence(text.strip(" "), reader.words_before + spaces))
    return [sentence for sentence in sentences if sentence.text]


def translate_lines(
    model: Any,
    processor: Any,
    lines: Sequence[str],
    references: Sequence[str],
    policy: Policy,
    batch_size: int = 16,
    max_sentence_words: int | None = None,
    **kwargs: Any,
) -> tuple[list[Instance], list[int]]:
    """Translate lines sentence by sentence. The sentences of all lines share batches, which changes speed, not output.

    Args:
        model, processor, policy, batch_size, **kwargs: as in [`translate_corpus`].
        lines, references (`Sequence[str]`): one of each per line.
        max_sentence_words (`int`, *optional*): where to end a sentence that has no end.

    Returns:
        An instance per line, with delays and times of the whole line; and the indices of lines in which a translation
        was cut off at its limit of tokens.

    Example:

    ```python
    >>> from transformers_simul import WaitKPolicy
    >>> from transformers_simul.evaluation.lines import translate_lines
    >>> log, cut = translate_lines(model, processor, ["a dog . a"], [""], WaitKPolicy(9), max_new_tokens=4)
    >>> log[0].source_length, set(log[0].delays) <= {3, 4}
    (4, True)

    ```
    """
    split = [split_sentences(processor, line, max_sentence_words) for line in lines]
    texts = [sentence.text for sentences in split for sentence in sentences]
    translated = iter(translate_sentences(model, processor, texts, [""] * len(texts), policy, batch_size, **kwargs))
    instances, cut = [], []
    for index, sentences in enumerate(split):
        parts = [next(translated) for _ in sentences]
        if any(stop_reason != "eos" for _, stop_reason in parts):
            cut.append(index)
        whole = [instance for instance, _ in parts]
        instances.append(_joined(processor, index, lines[index], references[index], sentences, whole))
    return instances, cut


def _joined(
    processor: Any, index: int, line: str, reference: str, sentences: Sequence[Sentence], parts: Sequence[Instance]
) -> Instance:
    delays: list[int] = []
    elapsed: list[float] = []
    for sentence, part in zip(sentences, parts, strict=True):
        # A sentence begins when the one before it has been written.
        started = elapsed[-1] if elapsed else 0.0
        delays += [sentence.units_before + delay for delay in part.delays]
        elapsed += [round(started + each, 3) for each in part.elapsed]
    written = [part.prediction for part in parts if part.prediction]
    return Instance(
        index=index,
        prediction=("" if processor.unit == "char" else " ").join(written),
        delays=delays,
        elapsed=elapsed,
        prediction_length=len(delays),
        reference=reference,
        source=line,
        source_length=sentences[-1].units_before + parts[-1].source_length if parts else 0,
    )


__all__ = ["Sentence", "split_sentences", "translate_lines"]
