# SPDX-License-Identifier: Apache-2.0
"""Speech models of Transformers by name: Whisper and others that generate text, transducers, and models with a CTC
head."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy
import torch
from transformers import AutoConfig, AutoProcessor
from transformers.models.auto import modeling_auto

from .audio import RATE
from .recogniser import SpokenWord

# Nobody says more tokens in a second. A transducer's steps are its frames too, of 20 ms or more.
_TOKENS_PER_SECOND, _STEPS_PER_SECOND = 10, 60
# Kinds of models that write what they hear. The oldest Transformers that this package takes know fewer.
_KINDS = {
    kind: (getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING"), getattr(modeling_auto, model))
    for kind, name, model in (
        ("ctc", "CTC", "AutoModelForCTC"),
        ("transducer", "RNNT", "AutoModelForRNNT"),
        ("transducer by durations", "TDT", "AutoModelForTDT"),
        ("text", "SPEECH_SEQ_2_SEQ", "AutoModelForSpeechSeq2Seq"),
    )
    if hasattr(modeling_auto, model)
}


class StockTranscriber:
    """A speech model of Transformers. A [`Transcriber`].

    Word times are the model's own where it has some: the frames of CTC and of transducers, or Whisper's alignment
    heads. Other models' words are spread over the audio by their length, so that a window that is full may lose or
    repeat a word.

    Args:
        model: of `AutoModelForSpeechSeq2Seq`, `AutoModelForCTC`, `AutoModelForRNNT` or `AutoModelForTDT`.
        processor: its feature extractor and tokenizer.
        language (`str`, *optional*): code of what is spoken, for models that ask for it.
    """

    def __init__(self, model: Any, processor: Any, language: str | None = None):
        self.model, self.processor, self.language = model.eval(), processor, language
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.kind = kind_of(model.config) or "text"
        self.has_times = bool(self.kind == "text" and getattr(model.generation_config, "alignment_heads", None))
        if self.kind != "ctc":
            # Length is bounded by the audio; Transformers would warn of a second bound at each call.
            model.generation_config.max_new_tokens = None
        # Of a vocabulary of letters, a full stop is one if the model writes any.
        full_stop = self.tokenizer.convert_tokens_to_ids(".")
        self.punctuates = full_stop is not None and full_stop != self.tokenizer.unk_token_id

    @classmethod
    def from_pretrained(cls, name: str, language: str | None = None) -> "StockTranscriber":
        """Load a model by its folder or its name on the Hub.

        Args:
            name (`str`): of the model.
            language (`str`, *optional*): code of what is spoken.

        Raises:
            ValueError: if there is none of that name, weights or processor are missing, it is no speech model that
                writes text, or it cannot do so by audio alone.
        """
        with _must(f"be a folder or a name on the Hub, got {name!r}"):
            config = AutoConfig.from_pretrained(name)
        kind = kind_of(config)
        if kind is None:
            raise ValueError(f"recogniser must be a speech model that writes text, got {name!r}: {config.model_type}.")
        has_gpu = torch.cuda.is_available()
        is_whole, hears = (
            f"be a folder or a name on the Hub with weights and a processor, got {name!r}",
            f"write text by audio alone, but {name!r} ({config.model_type}) does not",
        )
        with _must(is_whole):
            processor = AutoProcessor.from_pretrained(name)
        # Before the weights, which may be large.
        with _must(hears):
            _check_alone(kind, config, processor)
        with _must(is_whole):
            # Half of the usual checkpoints are float16, in which CPUs do not compute well.
            model = _KINDS[kind][1].from_pretrained(name, dtype="auto" if has_gpu else torch.float32)
        made = cls(model.to("cuda" if has_gpu else "cpu"), processor, language)
        # Whatever a model may want, it shows here, not in the middle of a talk.
        with _must(hears):
            made.transcribe(numpy.zeros(RATE, dtype=numpy.float32), "")
        return made

    @torch.inference_mode()
    def transcribe(self, samples: numpy.ndarray, before: str) -> list[SpokenWord]:
        """See [`Transcriber`]."""
        seconds = len(samples) / RATE
        wanted = {"return_attention_mask": True} if self.has_times else {}
        inputs = self.processor(samples, sampling_rate=RATE, return_tensors="pt", **wanted)
        inputs = inputs.to(self.model.device, self.model.dtype)
        if self.kind == "ctc":
            return self._ctc_words(self.model(**inputs).logits[0].argmax(-1).tolist(), seconds)
        if self.kind != "text":
            output = self.model.generate(**inputs, max_length=int(seconds * _STEPS_PER_SECOND) + 10)
            return self._transducer_words(output.sequences[0].tolist(), output.durations[0].tolist(), seconds)
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        options["max_length"] = min(200, int(seconds * _TOKENS_PER_SECOND) + 10)
        if self.language and getattr(self.model.generation_config, "lang_to_id", None):
            options |= {"language": self.language, "task": "transcribe"}
        if self.has_times:
            output = self.model.generate(**inputs, **options, return_token_timestamps=True)
            ends = output["token_timestamps"][0].tolist()
            return self._words(zip(output["sequences"][0].tolist(), [0.0, *ends], ends, strict=False))
        ids = self.model.generate(**inputs, **options)[0]
        return spread(self.tokenizer.decode(ids, skip_special_tokens=True).split(), seconds)

    def _ctc_words(self, ids: Sequence[int], seconds: float) -> list[SpokenWord]:
        """Make words of CTC's output: runs of one token are one token, and blanks part them."""
        blank, frame_s = self.model.config.pad_token_id, seconds / max(1, len(ids))
        runs, at = [], 0
        for token, run in itertools.groupby(ids):
            count = len([*run])
            if token != blank:
                runs.append((token, at * frame_s, (at + count) * frame_s))
            at += count
        return self._words(runs)

    def _transducer_words(self, ids: Sequence[int], durations: Sequence[int], seconds: float) -> list[SpokenWord]:
        """Make words of a transducer's output: each token comes with the frames by which it moves on."""
        ends = [*itertools.accumulate(durations)]
        frame_s = seconds / max(1, ends[-1])
        tokens = [
            (token, (end - duration) * frame_s, end * frame_s)
            for token, duration, end in zip(ids, durations, ends, strict=False)
            if token != self.model.config.blank_token_id
        ]
        return self._words(tokens)

    def _words(self, tokens: Iterable[tuple[int, float, float]]) -> list[SpokenWord]:
        """Words of tokens that have times each: when they begin and end."""
        # CTC's token between words is among the special ones.
        special = {*self.tokenizer.all_special_ids} - {getattr(self.tokenizer, "word_delimiter_token_id", None)}
        # Tokenizers of CTC would make one of two equal letters.
        options = {} if self.kind == "text" else {"group_tokens": False}
        words: list[SpokenWord] = []
        text, kept = "", []
        for token, start, end in tokens:
            if token not in special:
                kept.append(token)
                whole = self.tokenizer.decode(kept, **options)
                words, text = _grown(words, text, whole, start, end), whole
        return words


def kind_of(config: Any) -> str | None:
    """Return the kind of a speech model, which says how it writes what it hears.

    Args:
        config (`PreTrainedConfig`): of the model.

    Returns:
        `str`: `"ctc"`, `"transducer"`, `"transducer by durations"` or `"text"`; None for a model that writes no text.
    """
    return next((kind for kind, (mapping, _) in _KINDS.items() if type(config) in mapping), None)


def _check_alone(kind: str, config: Any, processor: Any) -> None:
    """Whether samples are all that a model needs."""
    if kind == "text" and not config.is_encoder_decoder:
        raise ValueError("one decoder for audio and text in a row is not supported.")
    if hasattr(processor, "apply_transcription_request"):
        raise ValueError("it must be asked in words.")
    rate = processor.feature_extractor.sampling_rate
    if rate != RATE:
        raise ValueError(f"it takes {rate} samples a second, not {RATE}.")


@contextlib.contextmanager
def _must(rule: str) -> Iterator[None]:
    """Let whatever fails say which rule of a recogniser was broken."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"recogniser must {rule}: {reason}") from error


def _grown(words: list[SpokenWord], text: str, whole: str, start_s: float, end_s: float) -> list[SpokenWord]:
    """The words of a text that has grown: the last may have, and new ones get these times."""
    texts, known = whole.split(), len(words)
    if len(texts) < known or texts[: known - 1] != [word.text for word in words[:-1]]:
        # Half a character may have become a whole one.
        return [word._replace(text=new) for word, new in zip(words, texts, strict=False)]
    if words and texts[known - 1] != words[-1].text:
        words = [*words[:-1], words[-1]._replace(text=texts[known - 1], end_s=end_s)]
    return words + [SpokenWord(new, start_s, end_s) for new in texts[known:]]


def spread(texts: Sequence[str], seconds: float) -> list[SpokenWord]:
    """Spread words without times over audio by their length.

    Args:
        texts (`Sequence[str]`): the words.
        seconds (`float`): of the audio.

    Example:

    ```python
    >>> from transformers_simul.speech.stock import spread
    >>> [(word.text, word.end_s) for word in spread(["a", "dog"], seconds=3.0)]
    [('a', 1.0), ('dog', 3.0)]

    ```
    """
    ends = [*itertools.accumulate(len(text) + 1 for text in texts)]
    times = [0.0, *(seconds * end / ends[-1] for end in ends)]
    return [SpokenWord(text, *span) for text, span in zip(texts, itertools.pairwise(times), strict=True)]


__all__ = ["StockTranscriber", "spread"]
