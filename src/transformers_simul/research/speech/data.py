# SPDX-License-Identifier: Apache-2.0
"""Speech of the experiment: found, or spoken once; as a dataset; as models and processors hear it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, set_seed

from ...corpora import Pair
from ...models.modeling_simul_speech import SimulSpeechConfig, SimulSpeechForCausalLM
from ...models.processing_speech import SimulSpeechProcessor
from ...speech.audio import RATE, read_audio
from ...speech.dataset import Utterance, read_utterances
from ...speech.synthesis import synthesise
from ...text_files import read_json, write_text
from ...training import DataArguments, ModelArguments, make_config, make_model, make_processor, train_tokenizer
from .arguments import SpeechArguments

AUDIO_TOKEN = "<|audio|>"


def find_or_speak(
    folder: Path,
    split: str,
    pairs: Sequence[Pair],
    data: DataArguments,
    noisy: float,
    seed: int,
    voices: Sequence[str] = (),
) -> list[Utterance]:
    """The utterances of a split, spoken by espeak-ng if they are not there.

    Args:
        folder (`Path`): laid out as MuST-C's.
        split (`str`): of it.
        pairs (`Sequence[Pair]`): what to speak; may be empty if the split is there.
        data (`DataArguments`): for the languages.
        noisy (`float`): share of recordings with noise.
        seed (`int`): of voices and noise.
        voices (`Sequence[str]`, *optional*): espeak-ng's; many without.

    Raises:
        ValueError: if the split is not there and there is no pair; or if it was spoken from other pairs.
    """
    languages = (data.source_lang, data.target_lang)
    made = {"pairs": hashlib.sha256(repr([*map(tuple, pairs)]).encode()).hexdigest(), "noisy": noisy, "seed": seed}
    made |= {"voices": [*voices]} if voices else {}
    note = folder / "data" / split / "spoken.json"
    if not (folder / "data" / split).exists() and pairs:
        print(f"speaking {len(pairs):,} sentences: {split}", flush=True)
        synthesise(pairs, folder, split, *languages, seed=seed, noisy=noisy, voices=voices)
        write_text(note, json.dumps(made) + "\n")
    if note.is_file() and pairs and read_json(note) != made:
        raise ValueError(
            f"speech_dir {str(folder)!r} must hold {split!r} of these pairs, voices, noise and seed, but it was "
            "spoken of others: name another folder."
        )
    return read_utterances(folder, split, *languages)


class SpeechPairs(torch.utils.data.Dataset):
    """Utterances as examples of [`SimulMaskDataCollator`] and [`TranscriptCollator`]; audio is read when it is asked
    for.

    Args:
        utterances (`Sequence[Utterance]`): of a split.
        processor (`SimulSpeechProcessor`): makes units of audio, and tokens of text.
        keeps (`bool`, *optional*): each example is made once and stays in memory.
    """

    def __init__(self, utterances: Sequence[Utterance], processor: SimulSpeechProcessor, keeps: bool = False):
        self.utterances, self.processor = utterances, processor
        self._kept: dict[int, dict[str, Any]] | None = {} if keeps else None

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        each = self.utterances[index]
        example: dict[str, Any] = self.processor.encode_pair(utterance_audio(each), each.target)
        example["transcript_ids"] = transcript_ids(self.processor, each.source)
        if self._kept is not None:
            self._kept[index] = example
        return example


def transcript_ids(processor: SimulSpeechProcessor, text: str) -> list[int]:
    """Tokens of what is said, as a model of text has them in its source.

    Args:
        processor (`SimulSpeechProcessor`): whose own source is audio.
        text (`str`): what is said.
    """
    return [token for word in processor.encode(text, "target") for token in word]


def utterance_audio(utterance: Utterance) -> torch.Tensor:
    """The samples of an utterance, float32 at 16 kHz, `(samples,)`.

    Args:
        utterance (`Utterance`): of a split.
    """
    return torch.from_numpy(read_audio(utterance.audio, utterance.offset_s, utterance.duration_s))


def make_speech_processor(
    arguments: SpeechArguments, model: ModelArguments, data: DataArguments, pairs: Sequence[Pair]
) -> SimulSpeechProcessor:
    """A processor with the tokenizer of `model_name_or_path`, or with a new one: for the targets, and for the sources
    too if they are transcribed.

    Args:
        arguments, model, data: the flags.
        pairs (`Sequence[Pair]`): what a new tokenizer is trained on.
    """
    if model.model_name_or_path:
        tokenizer = make_processor(model, data, pairs).tokenizer
    else:
        spoken = pairs if arguments.transcription_steps else (Pair(pair.target, pair.target) for pair in pairs)
        tokenizer = train_tokenizer(spoken, model.vocab_size)
    tokenizer.add_special_tokens({"additional_special_tokens": [AUDIO_TOKEN]})
    return SimulSpeechProcessor(
        tokenizer,
        # The encoder makes a frame of every two of its features.
        WhisperFeatureExtractor(feature_size=arguments.mel_bins, hop_length=arguments.frame_ms * RATE // 2000),
        data.source_lang,
        data.target_lang,
        template=data.template,
        chunk_ms=arguments.chunk_ms,
        context_ms=arguments.context_ms,
        unit_tokens=arguments.unit_tokens,
        audio_token=AUDIO_TOKEN,
    )


def make_speech_model(
    arguments: SpeechArguments, model: ModelArguments, processor: SimulSpeechProcessor, seed: int
) -> SimulSpeechForCausalLM:
    """An encoder of Whisper's architecture, new, before the model of `model_name_or_path`, or before a new Falcon with
    ALiBi.

    Args:
        arguments, model: the flags.
        processor (`SimulSpeechProcessor`): of the model.
        seed (`int`): of its weights.
    """
    set_seed(seed)
    encoder = WhisperConfig(
        num_mel_bins=arguments.mel_bins,
        d_model=arguments.encoder_size,
        encoder_layers=arguments.encoder_layers,
        encoder_attention_heads=arguments.encoder_heads,
        encoder_ffn_dim=4 * arguments.encoder_size,
        max_source_positions=(arguments.chunk_ms + arguments.context_ms) // arguments.frame_ms,
        dropout=model.dropout,
        # Whisper's decoder, which its configuration also describes, is not made.
        decoder_layers=1,
        decoder_attention_heads=1,
    )
    language_model = None
    if model.model_name_or_path:
        language_model = make_model(model, processor)
        language_model.resize_token_embeddings(len(processor.tokenizer))
    config = SimulSpeechConfig(
        text_config=language_model.config if language_model else make_config(model, processor.tokenizer),
        audio_config=encoder,
        audio_token_id=processor.audio_token_id,
        unit_tokens=arguments.unit_tokens,
        frames_per_token=arguments.chunk_ms // arguments.frame_ms // arguments.unit_tokens,
    )
    return SimulSpeechForCausalLM(config, language_model=language_model)


__all__ = [
    "SpeechPairs",
    "find_or_speak",
    "make_speech_model",
    "make_speech_processor",
    "transcript_ids",
    "utterance_audio",
]
