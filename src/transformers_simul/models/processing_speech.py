# SPDX-License-Identifier: Apache-2.0
"""SimulSpeechProcessor: audio to speech units; the target is text, as [`SimulProcessor`] makes it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature

from .audio_units import AudioStream, AudioToken, ChunkEncoder, Chunking, chunk_name, samples_of
from .processing import SimulProcessor
from .template import FALCON_TEMPLATE


class SimulSpeechProcessor(SimulProcessor):
    """Feature extractor, tokenizer, template and chunk length: makes training rows and inputs of `generate()` from
    audio.

    A unit of source is a chunk of audio. Its features are those of the chunk and of so much audio right before it, so
    that they are the same whatever comes later. In a row it is `unit_tokens` tokens.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): as in [`SimulProcessor`], with `audio_token` as a special token.
        feature_extractor (`SequenceFeatureExtractor`): of the model's audio encoder.
        source_lang, target_lang, template, unit, eos_token: as in [`SimulProcessor`]; `unit` is the target's.
        chunk_ms (`int`, *optional*): milliseconds of a unit.
        context_ms (`int`, *optional*): milliseconds right before a unit that its features cover too.
        unit_tokens (`int`, *optional*): the model's.
        audio_token (`str`, *optional*): stands for audio in a row; the model's `audio_token_id`.

    Raises:
        ValueError: as [`SimulProcessor`]; for milliseconds that are no whole number of samples, or a tokenizer without
            the audio token.

    Example:

    ```python
    >>> import copy, torch
    >>> from transformers import WhisperFeatureExtractor
    >>> from transformers_simul import SimulSpeechProcessor
    >>> tokenizer = copy.deepcopy(tokenizer)
    >>> _ = tokenizer.add_special_tokens({"additional_special_tokens": ["<|audio|>"]})
    >>> speech = SimulSpeechProcessor(tokenizer, WhisperFeatureExtractor(), "en", "de", chunk_ms=320)
    >>> inputs = speech(source=torch.zeros(16000))
    >>> len(inputs["source"][0]), speech.milliseconds([1, 3, 4], duration_ms=1000)
    (4, [320, 960, 1000])

    ```
    """

    def __init__(
        self,
        tokenizer: Any,
        feature_extractor: Any,
        source_lang: str = "en",
        target_lang: str = "fr",
        template: str = FALCON_TEMPLATE,
        unit: str = "word",
        eos_token: str | None = None,
        chunk_ms: int = 320,
        context_ms: int = 640,
        unit_tokens: int = 4,
        audio_token: str = "<|audio|>",
        chat_template: str | None = None,
    ):
        super().__init__(
            tokenizer,
            source_lang,
            target_lang,
            template,
            unit,
            eos_token,
            chat_template,
            feature_extractor=feature_extractor,
        )
        # The source is no text, whose terms could be found.
        self._prompt = replace(self._prompt, encoder=None)
        if not isinstance(unit_tokens, int) or unit_tokens < 1:
            raise ValueError(f"unit_tokens must be at least 1, a whole number, got {unit_tokens!r}.")
        self.chunk_ms, self.context_ms, self.unit_tokens = chunk_ms, context_ms, unit_tokens
        self.audio_token = audio_token
        rate = feature_extractor.sampling_rate
        context = samples_of(rate, "context_ms", context_ms) if context_ms else 0
        self._chunking = Chunking(rate, samples_of(rate, "chunk_ms", chunk_ms), context)
        self._audio_token_id = self._special_id(audio_token)

    @property
    def audio_token_id(self) -> int:
        """The id that stands for audio in a row."""
        return self._audio_token_id

    @property
    def sampling_rate(self) -> int:
        """Samples a second of audio."""
        return self._chunking.sampling_rate

    @property
    def source_unit(self) -> str:
        return chunk_name(self.chunk_ms)

    def source_encoder(self) -> ChunkEncoder:
        return ChunkEncoder(self._chunking, self._tokens_of)

    def stream(self, **options: Any) -> AudioStream:
        return AudioStream(self.chunk_ms, self.sampling_rate, **options)

    def encode_audio(self, audio: Any) -> list[list[int]]:
        """Tokens of each unit; the last chunk is filled up with silence.

        Args:
            audio: as [`Chunking.samples`] takes it.

        Raises:
            ValueError: for audio that is wrong, or empty.
        """
        samples = self._chunking.samples(audio)
        if not len(samples):
            raise ValueError("source must hold audio, got no sample.")
        return self._tokens_of(self._chunking.windows(samples))

    def encode(self, text: Any, side: str = "source") -> list[list[int]]:
        """Tokens of each unit: of audio for the source, of text for the target."""
        return self.encode_audio(text) if side == "source" else super().encode(text, side)

    def encode_pair(self, source: Any, target: str) -> dict[str, list[list[int]]]:
        """A training pair, audio and text, as `{"source_ids", "target_ids"}`.

        Audio tokens carry what the encoder takes, so that they cannot be stored in a dataset: let the collator make
        them.
        """
        return {"source_ids": self.encode_audio(source), "target_ids": self._encode_whole(target, "target")}

    def __call__(
        self, source: Any = None, *, sampling_rate: int | None = None, return_tensors: str = "pt", **kwargs: Any
    ) -> BatchFeature:
        """Make the inputs of `generate()`.

        Args:
            source: audio as [`Chunking.samples`] takes it, or a list or tuple of several; or live sources, see
                [`SimulSpeechProcessor.stream`], one or a list.
            sampling_rate (`int`, *optional*): of the audio; without one it is taken to be right.
            return_tensors (`str`, *optional*): `"pt"`.

        Raises:
            ValueError: for audio that is wrong or empty, or for other arguments.
        """
        if kwargs:
            raise ValueError(f"source must be audio and stand alone, got {', '.join(sorted(kwargs))} beside it.")
        several = isinstance(source, (list, tuple)) and not all(isinstance(each, (int, float)) for each in source)
        sources = list(source) if several else [source]
        known = [each if hasattr(each, "bind") else self._chunking.samples(each, sampling_rate) for each in sources]
        return super().__call__(source=known, return_tensors=return_tensors)

    def milliseconds(self, delays: Iterable[int], duration_ms: float) -> list[float]:
        """Delays in milliseconds of audio: how much of it had come when each word was written.

        Args:
            delays (`Iterable[int]`): units that had been read.
            duration_ms (`float`): of the whole audio; the last unit may be shorter than the others.
        """
        return [min(delay * self.chunk_ms, duration_ms) for delay in delays]

    def _tokens_of(self, windows: torch.Tensor) -> list[list[int]]:
        made = self.feature_extractor(
            [*windows.numpy()], sampling_rate=self.sampling_rate, padding="longest", return_tensors="pt"
        )
        features = made[self.feature_extractor.model_input_names[0]]
        return [AudioToken.unit(self._audio_token_id, each, self.unit_tokens) for each in features]

    def _special_id(self, audio_token: str) -> int:
        found = self.tokenizer.get_vocab().get(audio_token)
        if found is None or found not in self._encoder.control_ids or found in (self.head_ids + self.tail_ids):
            raise ValueError(
                f"audio_token must be a special token of the tokenizer, none of the template's, got {audio_token!r}: "
                'tokenizer.add_special_tokens({"additional_special_tokens": [...]}), and '
                "model.resize_token_embeddings(len(tokenizer)) for a model that was trained without it."
            )
        return int(found)


__all__ = ["SimulSpeechProcessor"]
