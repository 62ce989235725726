# SPDX-License-Identifier: Apache-2.0
"""Speech models of Transformers by name: Whisper and others that generate text, and those with a CTC head."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from transformers import AutoConfig, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

from .audio import RATE
from .recogniser import SpokenWord

# Nobody says more tokens in a second.
_TOKENS_PER_SECOND = 10


class StockTranscriber:
    """A speech model of Transformers. A [`Transcriber`].

    Word times are the model's own where it has some: CTC's frames, or Whisper's alignment heads. Other models' words
    are spread over the audio by their length, so that a window that is full may lose or repeat a word.

    Args:
        model: of `AutoModelForSpeechSeq2Seq` or `AutoModelForCTC`.
        processor: its feature extractor and tokenizer.
        language (`str`, *optional*): code of what is spoken, for models that ask for it.
    """

    def __init__(self, model: Any, processor: Any, language: str | None = None):
        self.model, self.processor, self.language = model.eval(), processor, language
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.is_ctc = type(model.config) in MODEL_FOR_CTC_MAPPING
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
            ValueError: if there is none of that name, or it is no speech model that writes text.
        """
        try:
            config = AutoConfig.from_pretrained(name)
        except OSError as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"recogniser must be a folder or a name on the Hub, got {name!r}: {reason}") from error
        if type(config) in MODEL_FOR_CTC_MAPPING:
            model = AutoModelForCTC.from_pretrained(name)
        elif type(config) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING:
            model = AutoModelForSpeechSeq2Seq.from_pretrained(name)
        else:
            raise ValueError(f"recogniser must be a speech model that writes text, got {name!r}: {config.model_type}.")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), AutoProcessor.from_pretrained(name), language)

    @torch.inference_mode()
    def transcribe(self, samples: numpy.ndarray, before: str) -> list[SpokenWord]:
        """See [`Transcriber`]."""
        seconds = len(samples) / RATE
        inputs = self.processor(samples, sampling_rate=RATE, return_tensors="pt").to(self.model.device)
        if self.is_ctc:
            ids = self.model(**inputs).logits[0].argmax(-1).tolist()
            return self._ctc_words(ids, seconds)
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1}
        options["max_new_tokens"] = min(200, int(seconds * _TOKENS_PER_SECOND) + 10)
        if self.language and getattr(self.model.generation_config, "lang_to_id", None):
            options |= {"language": self.language, "task": "transcribe"}
        if getattr(self.model.generation_config, "alignment_heads", None):
            output = self.model.generate(**inputs, **options, return_token_timestamps=True)
            return self._words(output["sequences"][0].tolist(), output["token_timestamps"][0].tolist())
        ids = self.model.generate(**inputs, **options)[0]
        return spread(self.tokenizer.decode(ids, skip_special_tokens=True).split(), seconds)

    def _ctc_words(self, ids: Sequence[int], seconds: float) -> list[SpokenWord]:
        """Runs of one token are one token; blanks part them."""
        blank, frame_s = self.model.config.pad_token_id, seconds / max(1, len(ids))
        runs, at = [], 0
        for token, run in itertools.groupby(ids):
            count = len([*run])
            if token != blank:
                runs.append((token, at * frame_s, (at + count) * frame_s))
            at += count
        words: list[SpokenWord] = []
        text = ""
        for index, (_, start, end) in enumerate(runs):
            whole = self.tokenizer.decode([token for token, *_ in runs[: index + 1]], group_tokens=False)
            words, text = _grown(words, text, whole, start, end), whole
        return words

    def _words(self, ids: Sequence[int], times: Sequence[float]) -> list[SpokenWord]:
        """Words of tokens that have a time each: when they end."""
        special = {*self.tokenizer.all_special_ids}
        words: list[SpokenWord] = []
        text, kept = "", []
        for token, last, end in zip(ids, [0.0, *times], times, strict=False):
            if token not in special:
                kept.append(token)
                whole = self.tokenizer.decode(kept)
                words, text = _grown(words, text, whole, last, end), whole
        return words


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
    """Words without times, spread over audio by their length.

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
