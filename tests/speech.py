# SPDX-License-Identifier: Apache-2.0
"""What tests of speech need: a processor and tiny random models, audio that is noise."""

import threading

import torch
from transformers import WhisperConfig, WhisperFeatureExtractor

import transformers_simul
from families import _COMMON, FAMILIES
from helpers import TEMPLATE, make_config, make_tokenizer
from transformers_simul import SimulSpeechConfig, SimulSpeechForCausalLM, SimulSpeechProcessor

# A unit of 80 ms after 160 ms is a window of 24 frames of 10 ms, of which the encoder makes 12; the last 4 are two
# tokens.
RATE, CHUNK = 16000, 1280
AUDIO = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "num_mel_bins": 8,
    "max_source_positions": 12,
    "init_std": 0.2,
}


def make_speech_processor(**kwargs) -> SimulSpeechProcessor:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|audio|>"]})
    options = {"target_lang": "de", "template": TEMPLATE, "chunk_ms": 80, "context_ms": 160, "unit_tokens": 2}
    return SimulSpeechProcessor(tokenizer, WhisperFeatureExtractor(feature_size=8), **options | kwargs)


def make_speech(name, processor, positions=None, audio=None) -> SimulSpeechForCausalLM:
    """A tiny random model in evaluation mode; `name` is one of tests/families.py, or "Falcon" with ALiBi."""
    if name == "Falcon":
        text = make_config(processor)
    else:
        family, options, strategies = FAMILIES[name]
        text = getattr(transformers_simul, f"Simul{family}Config")(
            vocab_size=len(processor.tokenizer), positions=positions or strategies[0], **_COMMON | options
        )
    config = SimulSpeechConfig(
        text_config=text,
        audio_config=audio or WhisperConfig(**AUDIO),
        audio_token_id=processor.audio_token_id,
        unit_tokens=processor.unit_tokens,
        frames_per_token=2,
    )
    torch.manual_seed(0)
    return SimulSpeechForCausalLM(config).eval()


def recordings(seed, count, most=9):
    """Noise that changes from chunk to chunk, of whole chunks and a piece."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        chunks = int(torch.randint(1, most, (), generator=draw))
        loudness = 0.3 * torch.rand(chunks, 1, generator=draw)
        audio = (loudness * torch.randn(chunks, CHUNK, generator=draw)).clamp(-1, 1).flatten()
        found.append(audio[: len(audio) - int(torch.randint(0, CHUNK, (), generator=draw))])
    return found


def feed_audio_later(processor, sources):
    """Live streams whose audio comes in odd pieces from another thread."""
    streams = [processor.stream() for _ in sources]

    def feed():
        draw = torch.Generator().manual_seed(0)
        rest = dict(enumerate(sources))
        while rest:
            index = list(rest)[int(torch.randint(len(rest), (), generator=draw))]
            size = int(torch.randint(1, 3 * CHUNK, (), generator=draw))
            streams[index].put(rest[index][:size])
            rest[index] = rest[index][size:]
            if not len(rest[index]):
                streams[index].end()
                del rest[index]

    threading.Thread(target=feed).start()
    return streams
