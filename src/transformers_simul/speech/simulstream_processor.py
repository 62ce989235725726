# SPDX-License-Identifier: Apache-2.0
"""A speech processor for simulstream 1.0.0, whose server and programs then do the streaming and the scoring. In an
environment with simulstream:

`simulstream_inference --speech-processor-config processor.yaml --wav-list-file talks.txt \\
  --metrics-log-file metrics.jsonl`

with a processor.yaml of

```yaml
type: transformers_simul.speech.simulstream_processor.SimulstreamProcessor
model: models/simul-falcon-en-de        # of text, heard through a recogniser; or of speech
policy: wait-3            # in source words, or in chunks of audio
recogniser: tiny.en       # of a model of text
speech_chunk_size: 0.5    # seconds
detokenizer_type: simuleval
latency_unit: word
```
"""

import functools
from types import SimpleNamespace
from typing import Any

import numpy
import torch

try:
    from simulstream.server.speech_processors import SpeechProcessor
    from simulstream.server.speech_processors.incremental_output import IncrementalOutput
except ImportError as error:
    raise ImportError(
        "transformers_simul.speech.simulstream_processor needs simulstream 1.0.0: pip install simulstream "
        "(docs/evaluation.md)."
    ) from error

from ..auto import AutoSimulModel
from ..models.policy_names import policy_from_name
from ..models.processing import SimulProcessor
from ..models.processing_speech import SimulSpeechProcessor
from ..streaming.engine import StreamEngine
from ..streaming.streamer import SimulStreamer
from ..text_files import read_json
from . import transcribers, voice
from .agreement import LocalAgreementRecogniser
from .listening import Listener
from .recogniser import Transcriber
from .writing import SentenceWriter


class SimulstreamProcessor(SpeechProcessor):
    """Drives a trained folder through simulstream, chunk of audio by chunk, with the cache kept; nothing that was
    written is deleted.

    A model of text translates sentence by sentence what a recogniser commits, so a stream may be endless. A model of
    speech ([`SimulSpeechForCausalLM`]) hears the audio itself, as one row: a stream must be a sentence or a few.

    Args:
        config (`SimpleNamespace`): `model`, `speech_chunk_size`; `policy`, by default `"wait-3"`; of models of text
            `recogniser`, by default `"tiny.en"`, and `step`, `window` and `pause` of [`LocalAgreementRecogniser`].

    Raises:
        ValueError: for a model, a policy or a recogniser that is none.
    """

    def __init__(self, config: SimpleNamespace):
        super().__init__(config)
        self.model, self.processor = _loaded(config.model)
        self.policy = policy_from_name(getattr(config, "policy", "wait-3"))
        self._stream: _Cascade | _EndToEnd | None = None
        self._is_begun = False

    @classmethod
    def load_model(cls, config: SimpleNamespace) -> None:
        """Load the folder, and the recogniser of a model of text; the processors of one program share them.

        Args:
            config (`SimpleNamespace`): as there.

        Raises:
            ValueError: as there.
        """
        _, processor = _loaded(config.model)
        if not isinstance(processor, SimulSpeechProcessor):
            _transcriber(config, processor)

    def set_source_language(self, language: str) -> None:
        """Say what is spoken.

        Args:
            language (`str`): code; one that the model knows.

        Raises:
            ValueError: for another.
        """
        self.processor = self.processor.with_languages(source_lang=language)

    def set_target_language(self, language: str) -> None:
        """Say what to translate to.

        Args:
            language (`str`): code; one that the model knows.

        Raises:
            ValueError: for another.
        """
        self.processor = self.processor.with_languages(target_lang=language)

    def process_chunk(self, waveform: numpy.ndarray) -> IncrementalOutput:
        """Hear a chunk.

        Args:
            waveform (`numpy.ndarray`): float32 at 16 kHz, `(samples,)`.

        Returns:
            `IncrementalOutput`: words that were written because of it.
        """
        return self._output(self._opened().hear(numpy.asarray(waveform, dtype=numpy.float32), False))

    def end_of_stream(self) -> IncrementalOutput:
        """Write what is left.

        Returns:
            `IncrementalOutput`: the last words.
        """
        return self._output(self._opened().hear(numpy.zeros(0, dtype=numpy.float32), True))

    def tokens_to_string(self, tokens: list[str]) -> str:
        """Join words to a text.

        Args:
            tokens (`list[str]`): words.
        """
        return self.processor.join(tokens)

    def clear(self) -> None:
        """Give up the stream; the next chunk begins another."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._is_begun = None, False

    def _opened(self) -> "_Cascade | _EndToEnd":
        if self._stream is None:
            kind = _EndToEnd if isinstance(self.processor, SimulSpeechProcessor) else _Cascade
            self._stream = kind(self)
        return self._stream

    def _output(self, words: list[str]) -> IncrementalOutput:
        # What is shown goes on after a space.
        text = self.processor.join(["", *words] if self._is_begun and words else words)
        self._is_begun = self._is_begun or bool(words)
        return IncrementalOutput(words, text, [], "")


@functools.cache
def _loaded(folder: str) -> tuple[Any, Any]:
    # A model of speech names the milliseconds of a chunk.
    is_speech = "chunk_ms" in read_json(f"{folder}/processor_config.json")
    kind = SimulSpeechProcessor if is_speech else SimulProcessor
    model = AutoSimulModel.from_pretrained(folder).eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), kind.from_pretrained(folder)


def _transcriber(config: SimpleNamespace, processor: SimulProcessor) -> Transcriber:
    return _loaded_transcriber(getattr(config, "recogniser", "tiny.en"), processor.source_lang)


@functools.cache
def _loaded_transcriber(name: str, language: str) -> Transcriber:
    return transcribers.make_transcriber(name, language)


class _Cascade:
    """A recogniser, then a model of text."""

    def __init__(self, owner: SimulstreamProcessor):
        config = owner.config
        transcriber = _transcriber(config, owner.processor)
        settings = {f"{name}_s": getattr(config, name) for name in ("step", "window", "pause") if hasattr(config, name)}
        self._listener = Listener(
            owner.model,
            owner.processor,
            LocalAgreementRecogniser(transcriber, voice.SileroVoice(), **settings),
            owner.policy,
            None if transcriber.punctuates else SentenceWriter(owner.processor.source_lang),
        )

    def hear(self, samples: numpy.ndarray, is_last: bool) -> list[str]:
        return [word.text for word in self._listener.hear(samples, is_last).target if word.text]

    def close(self) -> None:
        self._listener.close()


class _Collector(SimulStreamer):
    """Keeps words until they are asked for."""

    def __init__(self, processor: Any):
        super().__init__(processor)
        self.waiting: list[str] = []

    def put_word(self, row: int, ids: list[int], delay: int, elapsed_ms: float) -> None:
        self.waiting.append(self.word(row, ids, delay, elapsed_ms).text)


class _EndToEnd:
    """A model of speech."""

    def __init__(self, owner: SimulstreamProcessor):
        self._engine = StreamEngine(owner.model, owner.processor, max_streams=1, max_tokens=4096)
        self._collector = _Collector(owner.processor)
        self._stream = self._engine.open(owner.policy, streamer=self._collector)

    def hear(self, samples: numpy.ndarray, is_last: bool) -> list[str]:
        if len(samples) and not self._stream.stop_reason:
            source: Any = self._stream.source
            source.put(torch.from_numpy(samples.copy()))
        if is_last and not self._stream.stop_reason:
            self._stream.source.end()
        while self._engine.step():
            pass
        # What went wrong in the model or the policy.
        for _ in self._stream.words if self._stream.stop_reason else ():
            pass
        words, self._collector.waiting = [text for text in self._collector.waiting if text], []
        return words

    def close(self) -> None:
        self._stream.close()
        self._engine.close()


__all__ = ["SimulstreamProcessor"]
