# SPDX-License-Identifier: Apache-2.0
"""Speech under the law: units of audio stand where source words stand, and all that holds for words holds for them."""

import itertools
import json
import os
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from transformers import (
    HubertConfig,
    SeamlessM4TFeatureExtractor,
    Trainer,
    TrainingArguments,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

from speech import CHUNK, RATE, feed_audio_later, make_speech, make_speech_processor, recordings
from test_adaptive import Recorder, assert_drafts_equal_trained
from test_engine import Recorded, as_output, finish, options
from test_generation import POLICIES, TOLERANCE, JustInTime, assert_streamed_equals_trained, run
from transformers_simul import (
    AlignAttPolicy,
    AudioStream,
    AutoSimulModel,
    FixedChunkPolicy,
    HoldPolicy,
    LearnedReadPolicy,
    OfflinePolicy,
    SimulMaskDataCollator,
    SimulSpeechForCausalLM,
    SimulSpeechProcessor,
    SourceStream,
    StreamEngine,
    WaitKPolicy,
)
from transformers_simul.models.audio_units import Chunking, source_features


@pytest.fixture(scope="module")
def processor():
    return make_speech_processor()


@pytest.fixture(scope="module")
def model(processor):
    return make_speech("Falcon", processor)


def heard(model, processor, audio):
    """Embeddings of each unit of audio that is all there."""
    with torch.inference_mode():
        tokens = itertools.chain.from_iterable(processor.encode(audio))
        return model.embed_units(source_features(tokens)["source_features"])


# The law.


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: repr(policy).split(" object")[0])
@pytest.mark.parametrize("family", ["Falcon", "Llama"])
def test_streamed_logits_equal_one_masked_training_forward(processor, family, policy):
    """ALiBi and own-frame positions; every question, those included whose answer was dropped."""
    model, totals = make_speech(family, processor), {}
    for batch in (1, 3):
        sources = recordings(batch, batch)
        known = run(model, processor, sources, policy)
        live = run(model, processor, feed_audio_later(processor, sources), policy)
        late = run(model, processor, sources, policy, row_decoder=JustInTime)
        for output in (known, live, late):
            counts = assert_streamed_equals_trained(model, processor, sources, [policy] * batch, output)
            totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
            for field in ("words", "delays", "stop_reasons"):
                assert output[field] == known[field]
    assert isinstance(policy, OfflinePolicy) or (totals["multi-token words"] and totals["replacements"]), totals


@pytest.mark.parametrize(
    ("family", "positions"),
    [
        ("Llama", "group"), ("Llama", "reserved"), ("Mistral", "own_frame"), ("Qwen3", "own_frame"),
        ("Gemma3", "own_frame"), ("Falcon-rotary", "own_frame"), ("Bloom", "modified"), ("Mpt", "modified"),
    ],
)  # fmt: skip
def test_invariant_around_every_family(processor, family, positions):
    model, sources = make_speech(family, processor, positions), recordings(5, 3)
    output = run(model, processor, feed_audio_later(processor, sources), WaitKPolicy(1))
    exact = deepcopy(model).double()
    counts = assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(1)] * 3, output, exact=exact)
    assert counts["replacements"], counts


LOOKS = [LearnedReadPolicy(0.3, 1, 4), HoldPolicy(2, 1, 5), AlignAttPolicy(1, 1, 4, heads=[(1, 2), (0, 1)])]


@pytest.mark.parametrize("policy", LOOKS, ids=repr)
def test_policies_that_look_and_draft(model, processor, monkeypatch, policy):
    monkeypatch.setattr(Recorder, "rows", [])
    sources = recordings(8, 3)
    output = run(model, processor, feed_audio_later(processor, sources), policy, row_decoder=Recorder)
    assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(1)] * 3, output)
    drafted = sum(
        assert_drafts_equal_trained(model, processor, source, row)
        for row, source in zip(Recorder.rows, sources, strict=True)
    )
    assert (drafted > 0) == (policy.draft_words > 0)
    assert len(set(map(tuple, output.delays))) > 1


def units_swapped(model, monkeypatch):
    embed = model.embed_units
    monkeypatch.setattr(
        model, "embed_units", lambda features: embed(features.flip(0) if len(features) > 1 else features)
    )


def units_that_know_how_many_there_are(model, monkeypatch):
    embed = model.embed_units
    monkeypatch.setattr(
        model, "embed_units", lambda features: embed(features) + torch.linspace(-0.1, 0.1, 32) * len(features)
    )


@pytest.mark.parametrize("mutate", [units_swapped, units_that_know_how_many_there_are])
def test_mutants_fail(processor, monkeypatch, mutate):
    model, sources = make_speech("Falcon", processor), recordings(4, 4)
    mutate(model, monkeypatch)
    output = run(model, processor, feed_audio_later(processor, sources), WaitKPolicy(1), row_decoder=JustInTime)
    with pytest.raises(AssertionError):
        assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(1)] * 4, output)


# What has not been heard.


@pytest.mark.parametrize("live", [False, True], ids=["known", "live"])
def test_audio_that_has_not_been_read_changes_nothing(model, processor, live):
    changed = 0
    for source in recordings(3, 4):
        for units in range(1, len(processor.encode(source))):
            other, outputs = source.clone(), []
            other[units * CHUNK :] = 0.9 * torch.randn(len(source) - units * CHUNK)
            for audio in (source, other):
                audio = feed_audio_later(processor, [audio]) if live else [audio]
                outputs.append(run(model, processor, audio, WaitKPolicy(1), row_decoder=JustInTime if live else None))
            written = [sum(delay <= units for delay in output.delays[0]) for output in outputs]
            assert written[0] == written[1]
            assert outputs[0].words[0][: written[0]] == outputs[1].words[0][: written[0]]
            asked = sum(query.visible_words <= units for query in outputs[0].queries[0])
            one, two = (output.logits[0][:asked] for output in outputs)
            # Bit for bit; but units that are fed ahead are encoded together with those that are read, which rounds.
            assert torch.equal(one, two) if live else torch.allclose(one, two, rtol=0, atol=TOLERANCE)
            changed += outputs[0].words[0] != outputs[1].words[0]
    assert changed > 2


def test_a_units_embeddings_are_the_same_bit_for_bit_however_the_audio_goes_on(model, processor):
    source, states = torch.randn(9 * CHUNK + 100) / 8, []
    for goes_on in (source, torch.cat([source[: 5 * CHUNK], torch.randn(3 * CHUNK) / 4]), source[: 5 * CHUNK]):
        stream = processor.stream()
        reader, found = stream.bind(processor), []
        for piece in goes_on.split(777):
            stream.put(piece)
            while (polled := reader.poll())[0]:
                found.append(model.embed_units(**source_features(polled[1])))
        states.append(found)
    for one, two, three in zip(*(each[:5] for each in states), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    assert not torch.equal(states[0][5], states[1][5])


def test_units_that_come_one_by_one_equal_the_whole_under_a_chunk_mask(model, processor):
    """The oracle: Whisper's own layers over all windows in one long row, where each sees only itself."""
    audio = recordings(7, 1, most=20)[0]
    stream = processor.stream()
    stream.put(audio)
    stream.end()
    reader, one_by_one = stream.bind(processor), []
    while (unit := reader.poll()[1]) is not None:
        one_by_one.append(model.embed_units(**source_features(unit)))

    encoder, hop, rate_of_window = model.encoder, 160, CHUNK * 3
    silence = torch.zeros(2 * CHUNK), torch.zeros(-len(audio) % CHUNK)
    padded = torch.cat([silence[0], audio, silence[1]])
    rows = []
    for start in range(0, len(padded) - 2 * CHUNK, CHUNK):
        window = padded[start : start + rate_of_window]
        mel = processor.feature_extractor(
            window.numpy(), sampling_rate=RATE, padding=False, return_tensors="pt"
        ).input_features
        assert mel.shape[-1] == rate_of_window // hop
        states = torch.nn.functional.gelu(encoder.conv2(torch.nn.functional.gelu(encoder.conv1(mel))))
        rows.append(states.transpose(1, 2)[0] + encoder.embed_positions.weight)
    frames, size = torch.cat(rows)[None], len(rows[0])
    owner = torch.arange(frames.shape[1]) // size
    mask = torch.zeros(frames.shape[1], frames.shape[1]).masked_fill(owner[:, None] != owner, float("-inf"))
    for layer in encoder.layers:
        frames = layer(frames, mask[None, None])
    last = encoder.layer_norm(frames)[0].view(len(rows), size, -1)[:, -4:]
    expected = model.projector(last.reshape(len(rows), 2, -1))
    assert len(one_by_one) == len(rows)
    assert (torch.cat(one_by_one) - expected).abs().max() <= TOLERANCE
    assert (heard(model, processor, audio) - expected).abs().max() <= TOLERANCE


def test_left_context_is_bounded(model, processor):
    audio = torch.randn(6 * CHUNK) / 8
    other = audio.clone()
    other[:CHUNK] = 0.5
    same = [
        torch.allclose(one, two, atol=1e-6)
        for one, two in zip(heard(model, processor, audio), heard(model, processor, other), strict=True)
    ]
    # Two chunks of context after the one that changed.
    assert same == [False, False, False, True, True, True]


ENCODERS = {
    "Wav2Vec2": (
        Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, mask_time_prob=0.0,
        ),
        Wav2Vec2FeatureExtractor(),
    ),
    "Hubert": (
        HubertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, mask_time_prob=0.0,
        ),
        Wav2Vec2FeatureExtractor(),
    ),
    "Wav2Vec2Bert": (
        Wav2Vec2BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            feature_projection_input_dim=160, mask_time_prob=0.0, conv_depthwise_kernel_size=3,
        ),
        SeamlessM4TFeatureExtractor(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODERS)
def test_invariant_with_other_encoders(name):
    audio, extractor = ENCODERS[name]
    own = make_speech_processor()
    processor = SimulSpeechProcessor(
        own.tokenizer, extractor, target_lang="de", template=own.template, chunk_ms=80, context_ms=160, unit_tokens=2
    )
    model, sources = make_speech("Llama", processor, audio=audio), recordings(2, 2)
    output = run(model, processor, feed_audio_later(processor, sources), WaitKPolicy(1))
    assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(1)] * 2, output)
    together = heard(model, processor, sources[1])
    assert together.std() > 0.01
    # To the bit: what a unit becomes does not depend on how many are encoded with it.
    with torch.inference_mode():
        units = source_features(itertools.chain.from_iterable(processor.encode(sources[1])))["source_features"]
        alone = torch.cat([model.embed_units(unit[None]) for unit in units])
    assert len(alone) > 1
    assert torch.equal(alone, together)


# Alone, in a batch, in the engine.


@pytest.mark.parametrize("sampling", [False, True])
def test_a_stream_gets_the_same_ids_alone_in_a_batch_and_in_the_engine(model, processor, monkeypatch, sampling):
    monkeypatch.setattr(Recorded, "made", [])
    sources, policies = recordings(11, 6), [WaitKPolicy(1 + index % 3) for index in range(6)]

    def draws(*rows):
        seeds = [torch.Generator().manual_seed(row) for row in rows]
        return {"do_sample": True, "temperature": 0.8, "top_k": 50, "generators": seeds} if sampling else {}

    together = run(model, processor, sources, policies, **draws(*range(6)))
    engine = StreamEngine(model, processor, max_streams=4, max_tokens=300)
    streams, rest = [], list(enumerate(sources))
    while rest:
        while rest and engine.active_streams < 4:
            row, audio = rest.pop(0)
            stream = engine.open(policies[row], row_decoder=Recorded, **options(processor), **draws(row))
            streams.append(stream)
            for piece in audio.split(3000):
                stream.source.put(piece)
                engine.step()
            if not stream.stop_reason:
                stream.source.end()
        engine.step()
    finish(engine)
    order = [next(row for row in Recorded.made if row.source.stream is stream.source) for stream in streams]
    assert_streamed_equals_trained(model, processor, sources, policies, as_output(order))
    for row, (source, stream) in enumerate(zip(sources, streams, strict=True)):
        alone = run(model, processor, [source], policies[row], **draws(row))
        assert alone.words[0] == together.words[row] == order[row].words
        assert alone.delays[0] == together.delays[row] == [word.delay for word in stream.words]


def test_the_engine_refuses_to_cut_audio_into_sentences(model, processor):
    engine = StreamEngine(model, processor, max_streams=1)
    with pytest.raises(ValueError, match="sentences must be of text, got a source of chunks of 80 ms"):
        engine.open(WaitKPolicy(1), sentences=True)
    assert engine.active_streams == 0


# Training.


def test_a_model_that_trains_encodes_all_units_at_once(processor, monkeypatch):
    model, sizes = make_speech("Llama", processor), []
    forward = model.encoder.forward

    def counted(input_features, **kwargs):
        sizes.append(len(input_features))
        return forward(input_features, **kwargs)

    monkeypatch.setattr(model.encoder, "forward", counted)
    units = processor.encode(torch.rand(5 * CHUNK) / 4)
    features = source_features(itertools.chain.from_iterable(units))["source_features"]
    embeddings = [model.train(training).embed_units(features) for training in (False, True)]
    assert sizes == [1] * 5 + [5]
    assert torch.allclose(*embeddings, rtol=0, atol=TOLERANCE)


def test_rows_and_units_of_a_batch(processor):
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1))
    sources = [torch.ones(3 * CHUNK - 1) * 0.1, torch.ones(CHUNK) * 0.2]
    batch = collator([{"source": source, "target": "a dog"} for source in sources])
    is_audio = batch["input_ids"] == processor.audio_token_id
    assert is_audio.sum(1).tolist() == [6, 2]
    assert not (is_audio & batch["in_target"]).any()
    expected = [processor.encode(source) for source in sources]
    assert torch.equal(batch["source_features"], torch.stack([unit[0].features for row in expected for unit in row]))
    head, tail = len(processor.head_ids), len(processor.tail_ids)
    words = [len(word) for word in processor.encode("a dog", "target")]
    # Two tokens for each unit: one unit for the first word, two from its last token on, three from the second's.
    expected = [2] * tail + [2] * (words[0] - 1) + [4] * words[1] + [6] * 2
    in_target = batch["in_target"][0] & (batch["peeks"][0] == 0)
    assert (batch["visible_source"][0][in_target] - head).tolist() == expected


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("family", ["Falcon", "Llama"])
def test_units_find_their_places_in_any_batch(processor, family, packing):
    """Losses of pairs that are padded or packed together are those of each alone."""
    model = make_speech(family, processor)
    pairs = [
        {"source": source, "target": target}
        for source, target in zip(recordings(6, 4), ["a", "a dog", "two children", "over"], strict=True)
    ]
    settings = {"packing": True, "max_length": 200} if packing else {}
    for policy in (WaitKPolicy(1), FixedChunkPolicy(2, 1)):
        collator = SimulMaskDataCollator(processor, policy, **settings)
        alone = SimulMaskDataCollator(processor, policy)
        with torch.no_grad():
            together = model(**collator(pairs))
            batches = [alone([pair]) for pair in pairs]
            losses = [float(model(**batch).loss) for batch in batches]
        weights = [int((batch["labels"] != -100).sum()) for batch in batches]
        peeks = [int((batch["peeks"] != 0).sum()) for batch in batches]
        counts = [weight + peek for weight, peek in zip(weights, peeks, strict=True)]
        expected = {
            sum(loss * count for loss, count in zip(losses, each, strict=True)) / sum(each)
            for each in (weights, counts)
        }
        assert any(float(together.loss) == pytest.approx(value, abs=1e-5) for value in expected)


def test_the_stock_trainer_learns_and_saves_a_whole_folder(processor, tmp_path):
    """Two sounds, two words: after some steps the model writes what it hears, from a folder that it was loaded from."""
    high, low = (torch.sin(torch.arange(2 * CHUNK) * step) / 2 for step in (0.9, 0.1))
    pairs = [{"source": high, "target": "a dog runs"}, {"source": low, "target": "two children"}] * 16
    args = TrainingArguments(
        str(tmp_path), remove_unused_columns=False, max_steps=80, per_device_train_batch_size=4, learning_rate=3e-3,
        report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", lr_scheduler_type="constant",
    )  # fmt: skip
    model = make_speech("Llama", processor)
    before = model.encoder.layers[0].fc1.weight.clone()
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1))
    trainer = Trainer(model, args, data_collator=collator, train_dataset=pairs, processing_class=processor)
    trainer.train()
    assert not torch.equal(model.encoder.layers[0].fc1.weight, before)
    trainer.save_model(str(tmp_path / "final"))
    loaded = AutoSimulModel.from_pretrained(str(tmp_path / "final")).eval()
    again = SimulSpeechProcessor.from_pretrained(tmp_path / "final")
    output = loaded.generate(**again(source=[high, low]), wait_k=1, return_dict_in_generate=True)
    assert [again.text(words) for words in output.words] == ["a dog runs", "two children"]
    assert output.delays[0] == [1, 2, 2]


# Folders.

PROGRAM = """
import json, sys
sys.modules["transformers_simul"] = None
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

folder = sys.argv[1]
try:
    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise SystemExit("it must refuse without trust_remote_code")
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
audio = torch.sin(torch.arange(8000) * 0.05) * torch.linspace(0, 1, 8000)
options = dict(wait_k=2, max_new_tokens=12, max_word_tokens=3, suppress_tokens=[0], return_dict_in_generate=True)
output = model.generate(**processor(source=audio), **options)
stream = processor.stream()
stream.put(audio)
stream.end()
live = model.generate(**processor(source=stream), **options)
assert live.words == output.words
AutoConfig.from_pretrained(folder, trust_remote_code=True)
model.save_pretrained(sys.argv[2])
processor.save_pretrained(sys.argv[2])
print(json.dumps({"words": output.words, "delays": output.delays, "model": type(model).__name__,
                  "any": type(AutoModel.from_pretrained(folder, trust_remote_code=True)).__name__}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Falcon", "Gemma3"])
def test_saved_saved_again_and_loaded_without_the_package(processor, tmp_path, family):
    model = make_speech(family, processor)
    model.save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first")
    audio = torch.sin(torch.arange(8000) * 0.05) * torch.linspace(0, 1, 8000)
    expected = model.generate(
        **processor(source=audio), wait_k=2, max_new_tokens=12, max_word_tokens=3, suppress_tokens=[0],
        return_dict_in_generate=True,
    )  # fmt: skip
    environment = os.environ | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    for folder, again in (("first", "second"), ("second", "third")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / folder), str(tmp_path / again)],
            capture_output=True, text=True, env=environment, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert (found["words"], found["delays"]) == (expected.words, expected.delays)
        assert found["model"] == found["any"] == "SimulSpeechForCausalLM"
    loaded = AutoSimulModel.from_pretrained(str(tmp_path / "third"))
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_trained_parts_become_a_model_of_speech(processor):
    whole = make_speech("Llama", processor)
    made = SimulSpeechForCausalLM(whole.config, language_model=whole.language_model, encoder=whole.encoder)
    for name in ("language_model", "encoder"):
        assert getattr(made, name) is getattr(whole, name)
    weights = {name: value.clone() for name, value in whole.state_dict().items()}
    again = SimulSpeechForCausalLM(whole.config, language_model=whole.language_model, encoder=whole.encoder)
    assert all(torch.equal(value, weights[name]) for name, value in whole.state_dict().items()), again


# Milliseconds.


def test_delays_in_milliseconds(processor):
    audio = torch.zeros(3 * CHUNK + 640)
    units = len(processor.encode(audio))
    assert units == 4
    assert processor.milliseconds([1, 3, 4], 1000 * len(audio) / RATE) == [80, 240, 280]


# Bad input.


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(0), "source must hold audio, got no sample"),
        ([], "source must be a text|source must hold audio|at least one"),
        (torch.tensor([0.1, float("nan")] * 2000), "audio must be finite numbers, but some are NaN"),
        (torch.tensor([0.1, float("inf")] * 2000), "audio must be finite numbers"),
        (torch.zeros(2, 16000), r"audio must have one channel, shape \(samples,\), got \(2, 16000\)"),
        (torch.zeros(16000, dtype=torch.int16), r"audio must be real numbers in \[-1, 1\], got torch.int16: divide"),
        ({"array": torch.zeros(44100), "sampling_rate": 44100}, "sampling_rate must be 16000, .*, got 44100: resample"),
        ("talk.wav", "audio must be real numbers, got str"),
        (None, "audio must be real numbers, got NoneType"),
    ],
    ids=str,
)
def test_bad_audio(processor, audio, message):
    with pytest.raises(ValueError, match=message):
        processor(source=audio)
    if not isinstance(audio, list):
        with pytest.raises(ValueError, match=message):
            SimulMaskDataCollator(processor, WaitKPolicy(1))([{"source": audio, "target": "a dog"}])


def test_bad_audio_leaves_a_stream_as_it_was(processor):
    stream = processor.stream(max_waiting=2)
    stream.put([0.0] * 1000)
    for audio, message in (
        (torch.full((9,), float("nan")), "finite"), (torch.zeros(2, 9), "one channel"), ("a word", "real numbers"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            stream.put(audio)
    with pytest.raises(BufferError, match="max_waiting is 2, but 3 chunks would wait unread"):
        stream.put(torch.zeros(3 * CHUNK))
    stream.put(torch.zeros(0))
    stream.put(torch.zeros(CHUNK - 1000 + 1))
    assert stream.put_units == 1
    stream.end()
    assert stream.put_units == 2
    with pytest.raises(ValueError, match=r"put of 5 samples came after end\(\)"):
        stream.put(torch.zeros(5))


def test_audio_shorter_than_a_chunk_is_a_unit(model, processor):
    output = run(model, processor, [torch.zeros(5)], WaitKPolicy(3))
    assert set(output.delays[0]) <= {1}


def test_an_empty_stream_ends(model, processor):
    with StreamEngine(model, processor, max_streams=1) as engine:
        stream = engine.open(WaitKPolicy(1))
        stream.source.end()
        assert list(stream) == []
        assert stream.stop_reason == "eos"


def test_sources_and_processors_that_do_not_belong_together(model, processor):
    for stream, found in ((SourceStream("a dog"), "'word'"), (AudioStream(chunk_ms=320), "'320 ms'")):
        with pytest.raises(ValueError, match=f"unit of the source must be the processor's '80 ms', got {found}"):
            processor(source=stream)
    with pytest.raises(ValueError, match="not both in one batch"):
        processor(source=[torch.zeros(CHUNK), processor.stream()])
    other = make_speech_processor(unit_tokens=3)
    with pytest.raises(
        ValueError, match=r"for each 2 audio tokens of input_ids, got 1 units and 3 tokens: unit_tokens"
    ):
        model.generate(**other(source=torch.zeros(CHUNK)), wait_k=1)
    with pytest.raises(ValueError, match="wait_k or a policy must be given"):
        model.generate(**processor(source=torch.zeros(CHUNK)))
    with pytest.raises(ValueError, match="source_features must hold a unit for each"):
        model(processor(source=torch.zeros(CHUNK))["input_ids"])


def test_settings_that_do_not_fit(model, processor):
    for settings, message in (
        ({"chunk_ms": 0}, "chunk_ms must be a whole number of samples"),
        ({"chunk_ms": 0.5}, "chunk_ms must be a whole number of samples at 16000 Hz, got 0.5"),
        ({"context_ms": -80}, "context_ms must be a whole number of samples"),
        ({"unit_tokens": 0}, "unit_tokens must be at least 1"),
        ({"audio_token": "dog"}, "audio_token must be a special token"),
        ({"audio_token": "<|no|>"}, "audio_token must be a special token"),
    ):
        with pytest.raises(ValueError, match=message):
            make_speech_processor(**settings)
    config = type(model.config).from_dict(model.config.to_dict() | {"frames_per_token": 7})
    wide = SimulSpeechForCausalLM(config).eval()
    with pytest.raises(ValueError, match=r"unit_tokens \* frames_per_token must be at most 12, .*, got 2 \* 7"):
        wide.generate(**processor(source=torch.zeros(CHUNK)), wait_k=1)
    config = type(model.config).from_dict(model.config.to_dict() | {"unit_tokens": 0})
    with pytest.raises(ValueError, match="unit_tokens must be at least 1, got 0"):
        SimulSpeechForCausalLM(config)
    with pytest.raises(ValueError, match="text_config must be given"):
        SimulSpeechForCausalLM(type(config)())


def test_windows_oracle():
    chunking = Chunking(RATE, 3, 4)
    samples = [float(value) for value in range(1, 9)]
    for size in range(1, 9):
        found = chunking.windows(torch.tensor(samples[:size])).tolist()
        row = [0.0] * 4 + samples[:size] + [0.0] * 3
        assert found == [row[start : start + 7] for start in range(0, size, 3)]


def test_waits_are_those_of_any_source(model, processor):
    stream = processor.stream(timeout_s=0.01)
    stream.put(torch.zeros(CHUNK))
    output = model.generate(**processor(source=stream), wait_k=3, return_dict_in_generate=True)
    assert output.stop_reasons == ["timeout"]
    stream = processor.stream()
    stream.cancel()
    output = model.generate(**processor(source=stream), wait_k=3, return_dict_in_generate=True)
    assert output.stop_reasons == ["cancelled"]
