# SPDX-License-Identifier: Apache-2.0
"""The speech experiment, end to end on tones: what it writes, that it resumes, and that its delays are those of the audio."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import run_simul_speech
from helpers import random_sentence
from speech import make_speech
from speech import make_speech_processor as make_audio_processor
from speech_helpers import Loudness, stand_in_for_espeak
from transformers_simul import WaitKPolicy
from transformers_simul.evaluation import SpeechInstance, read_instances
from transformers_simul.research.speech import SpeechArguments, write_speech_report
from transformers_simul.research.speech import data as speech_data
from transformers_simul.research.speech import run as speech_run
from transformers_simul.research.speech.data import find_or_speak, make_speech_model, make_speech_processor
from transformers_simul.research.speech.decode import translate_speech
from transformers_simul.speech import transcribers, voice
from transformers_simul.speech.recogniser import SpokenWord
from transformers_simul.training import DataArguments, ModelArguments, ProgramArguments

SMALL = (
    "--vocab_size 300 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --per_device_train_batch_size 4 "
    "--encoder_size 16 --encoder_layers 1 --encoder_heads 2 --mel_bins 8 --chunk_ms 80 --context_ms 160 --unit_tokens 2 "
    "--learning_rate 1e-3 --max_steps 2 --report_to none --use_cpu --disable_tqdm 1 --save_strategy no"
).split()


class HearsTenths:
    """A word in each tenth of a second."""

    punctuates = False

    def transcribe(self, samples, before):
        return [SpokenWord(f"w{n}", n / 10, n / 10 + 0.1) for n in range(len(samples) // 1600)]


@pytest.fixture
def at_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_in_for_espeak(tmp_path, monkeypatch)
    monkeypatch.setattr(transcribers, "make_transcriber", lambda name, language: HearsTenths())
    monkeypatch.setattr(voice, "SileroVoice", Loudness)
    draw = random.Random(0)
    for name, count in (("train", 12), ("test", 3)):
        with open(f"{name}.jsonl", "w") as file:
            for _ in range(count):
                sentence = random_sentence(draw, 2, 7)
                file.write(json.dumps({"en": sentence, "de": sentence.upper()}) + "\n")
    return tmp_path


def run(monkeypatch, *flags):
    files = ["--train_file", "train.jsonl", "--test_file", "test.jsonl", "--output_dir", "out"]
    monkeypatch.setattr("sys.argv", ["run_simul_speech.py", *files, *SMALL, *map(str, flags)])
    run_simul_speech.main()


@pytest.mark.slow
def test_it_writes_one_folder_and_runs_nothing_twice(at_hand, monkeypatch, capsys):
    run(monkeypatch, "--eval_wait_k", 1, 3)
    results = (at_hand / "out" / "results.md").read_text()
    for system in ("offline", "offline-rec", "offline-norec", "SM-norec", "cascade"):
        assert f"| {system} | " in results
        for name in ("fullsource",) if system == "offline" else ("k=1", "k=3"):
            log = read_instances(at_hand / "out" / "logs" / system / name / "instances.log")
            assert len(log) == 3
            for each in log:
                assert isinstance(each, SpeechInstance)
                assert each.source_length > 100
                assert all(delay <= each.source_length + 1e-6 for delay in each.delays)
                # Computing takes time: a word is there after its audio.
                assert all(time >= delay for time, delay in zip(each.elapsed, each.delays, strict=True))
    assert "| BLEU | SM-norec - offline-rec |" in results
    assert "| chrF++ | SM-norec - offline-rec |" in results
    flops = {
        name: json.loads((at_hand / "out" / "flops" / f"{name}.json").read_text())["flops"]
        for name in ("offline", "offline-rec", "offline-norec", "SM-norec")
    }
    assert all(len(counts) == 3 and min(counts) > 0 for counts in flops.values())
    # To make everything anew whenever a chunk comes costs more than to keep it.
    assert sum(flops["offline-rec"]) > sum(flops["offline-norec"])
    assert "| k = 1 | " in results
    assert "minutes for 10,000 utterances" in results
    assert "word error rate" in results
    assert (at_hand / "out" / "bleu.png").is_file()
    records = {
        name: json.loads((at_hand / "out" / "models" / name / "training.json").read_text())
        for name in ("offline", "simulmask", "text")
    }
    assert records["offline"]["policy"] == "OfflinePolicy()"
    assert records["simulmask"]["policy"].startswith("MixturePolicy(")

    def never(*args, **kwargs):
        raise AssertionError("what was finished was run again")

    for name in ("fine_tune", "translate_speech", "translate_heard", "recognise", "sentence_flops"):
        monkeypatch.setattr(speech_run, name, never)
    run(monkeypatch, "--eval_wait_k", 1, 3)
    assert (at_hand / "out" / "results.md").read_text() == results


@pytest.mark.slow
def test_without_a_cascade_and_with_speech_that_is_there(at_hand, monkeypatch, capsys):
    data = DataArguments()
    pairs = run_simul_speech.load_pairs(DataArguments(train_file=["train.jsonl"], test_file=["test.jsonl"]))
    for split in ("train", "test"):
        find_or_speak(at_hand / "mine", split, pairs[split], data, 0.5, 0)
        (at_hand / "mine" / "data" / split / "spoken.json").unlink()
    speech = ["--speech_dir", "mine", "--output_dir", "out", "--recogniser", "none", "--eval_wait_k", 2]
    monkeypatch.setattr("sys.argv", ["run_simul_speech.py", *SMALL, *map(str, speech), "--max_predict_samples", "2"])
    run_simul_speech.main()
    out = capsys.readouterr().out
    assert "| cascade |" not in out
    assert "2 utterances; in brackets" in out
    log = read_instances(at_hand / "out" / "logs" / "SM-norec" / "k=2" / "instances.log")
    # Translated one by one, they are the same.
    model = speech_run.AutoSimulModel.from_pretrained("out/models/simulmask")
    processor = speech_run.SimulSpeechProcessor.from_pretrained("out/models/simulmask")
    utterances = find_or_speak(at_hand / "mine", "test", [], data, 0.5, 0)[:2]
    alone = translate_speech(model, processor, utterances, WaitKPolicy(2), 1, max_new_tokens=200)
    assert [(each.prediction, each.delays) for each in alone] == [(each.prediction, each.delays) for each in log]
    # Every delay is a number of whole chunks, or all of the audio.
    for each in alone:
        assert all(delay % 80 == 0 or delay == pytest.approx(each.source_length) for delay in each.delays)


@pytest.mark.slow
def test_a_text_model_an_encoder_that_transcribes_first_and_a_cascade_that_is_there(
    at_hand, model, processor, monkeypatch
):
    """The language half begins as the text model, the encoder as what learned to transcribe; nothing is trained for
    the cascade."""
    model.save_pretrained("text")
    processor.save_pretrained("text")
    flags = "--model_name_or_path text --cascade_model text --transcription_steps 3 --keep_features --frame_ms 10 --unit_tokens 4"
    learns_nothing = "--learning_rate 0 --template={source}=>{target}"
    run(monkeypatch, *flags.split(), *learns_nothing.split(), "--eval_wait_k", 1)
    models = at_hand / "out" / "models"
    assert {path.name for path in models.iterdir()} == {"hearing", "offline", "simulmask"}
    trained = speech_run.AutoSimulModel.from_pretrained(models / "simulmask")
    heard = load_file(models / "hearing" / "hearing.safetensors")
    for name, weights in heard.items():
        torch.testing.assert_close(trained.state_dict()[name], weights, rtol=0, atol=0)
    # They moved while they learned to transcribe.
    fresh = make_speech_model(
        SpeechArguments(chunk_ms=80, context_ms=160, unit_tokens=4, mel_bins=8, frame_ms=10, encoder_size=16,
                        encoder_layers=1, encoder_heads=2),
        ModelArguments(model_name_or_path="text"),
        speech_run.SimulSpeechProcessor.from_pretrained(models / "simulmask"), 42,
    ).state_dict()  # fmt: skip
    assert any(not torch.equal(fresh[name], weights) for name, weights in heard.items())
    before = model.state_dict()["transformer.word_embeddings.weight"]
    after = trained.state_dict()["language_model.transformer.word_embeddings.weight"]
    torch.testing.assert_close(after[: len(before)], before, rtol=0, atol=0)
    results = (at_hand / "out" / "results.md").read_text()
    assert "| hearing | 3 | " in results
    assert "| text | " not in results
    assert "by the likeliest token of each place, errs" in results
    assert "| cascade | k = 1 | " in results
    # What began with another encoder is not taken for what begins with this one.
    save_file({name: weights + 1 for name, weights in heard.items()}, models / "hearing" / "hearing.safetensors")
    with pytest.raises(ValueError, match="offline' holds another training: hearing"):
        run(monkeypatch, *flags.split(), *learns_nothing.split(), "--eval_wait_k", 1)


@pytest.mark.parametrize("flag", ["model_name_or_path", "cascade_model"])
def test_models_that_cannot_be_taken_are_refused_before_anything_is_spoken(at_hand, monkeypatch, flag):
    make_speech("Falcon", make_audio_processor()).save_pretrained("hears")
    with pytest.raises(ValueError, match=f"{flag} must be a model of text, got 'hears', which is one of speech"):
        run(monkeypatch, f"--{flag}", "hears")
    with pytest.raises(
        ValueError, match=f"{flag} must be a folder or a name on the Hub, but there is no folder './no'"
    ):
        run(monkeypatch, f"--{flag}", "./no")
    assert not (at_hand / "out").exists()


def test_systems_that_write_nothing_are_told_of(at_hand, tmp_path):
    """After hours of training a report is written all the same."""
    written = SpeechInstance(0, "ein Hund", [80, 160], [90, 200], 2, "ein Hund", "0.flac", 400.0)
    nothing = replace(written, prediction="", delays=[], elapsed=[], prediction_length=0)
    experiment = speech_run.SpeechExperiment(
        tmp_path, [], [], SpeechArguments(eval_wait_k=[1], recogniser="none"), DataArguments(), ModelArguments(),
        ProgramArguments("out", use_cpu=True, report_to="none"),
    )  # fmt: skip
    for name in ("offline", "simulmask"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "training.json").write_text('{"done": {"steps": 2, "seconds": 4.0}}')
    cells = [(system.name, line) for system, line, _ in experiment.cells()]
    flops = {system.name: [1, 2] for system in speech_run.SYSTEMS}
    logs = {cell: [nothing] for cell in cells}
    text = write_speech_report(experiment, logs | {("SM-norec", "k = 1"): [written]}, flops)
    assert "Nothing at all was written by: offline, full source; offline-rec, k = 1; offline-norec, k = 1." in text
    assert "| SM-norec | k = 1 | " in text
    with pytest.raises(ValueError, match="no system wrote a word"):
        write_speech_report(experiment, logs, flops)


def test_speech_that_was_spoken_otherwise_is_refused(at_hand):
    data = DataArguments()
    pairs = run_simul_speech.load_pairs(DataArguments(train_file=["train.jsonl"]))["train"][:2]
    spoken = find_or_speak(at_hand / "mine", "train", pairs, data, 0.5, 0)
    assert find_or_speak(at_hand / "mine", "train", pairs, data, 0.5, 0) == spoken
    with pytest.raises(ValueError, match="must hold 'train' of these pairs"):
        find_or_speak(at_hand / "mine", "train", pairs[:1], data, 0.5, 0)
    with pytest.raises(ValueError, match="must hold data/other/txt/other.yaml"):
        find_or_speak(at_hand / "mine", "other", [], data, 0.5, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_ms": 330}, "chunk_ms must be a multiple of 20 ms times unit_tokens"),
        ({"context_ms": 650}, "context_ms of 20 ms"),
        ({"frame_ms": 25}, "frame_ms must be even and at least 2, got 25"),
        ({"frame_ms": 40, "chunk_ms": 80}, "chunk_ms must be a multiple of 40 ms times unit_tokens"),
        ({"transcription_steps": -1}, "transcription_steps must be at least 0, got -1"),
        ({"transcription_learning_rate": -1.0}, "transcription_learning_rate must be at least 0 and finite, got -1.0"),
        ({"transcription_steps": 3, "transcription_minutes": math.nan}, "transcription_minutes must be above 0"),
        ({"transcription_minutes": 2.0}, "needs --transcription_steps, got 2.0 and 0 steps"),
        ({"noisy": 1.5}, "noisy must be between 0 and 1, got 1.5"),
        ({"context_ms": -40}, "context_ms must be at least 0, got -40"),
        ({"predict_batch_size": 0}, "predict_batch_size must be at least 1, got 0"),
        ({"cascade_model": "text", "recogniser": "none"}, "cascade_model needs a recogniser, got 'text'"),
        ({"unit_tokens": 0}, "unit_tokens must be at least 1, got 0"),
        ({"eval_wait_k": []}, "eval_wait_k must hold at least one k"),
        ({"eval_wait_k": [0]}, "k must be a whole number of at least 1, got 0"),
        ({"flops_utterances": 1}, "flops_utterances must be at least 2, for quartiles, got 1"),
        ({"training_k": ["none"]}, "k must be a whole number"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        SpeechArguments(**settings)


def test_speech_pairs_are_what_the_collators_take(at_hand, monkeypatch):
    data = DataArguments(train_file=["train.jsonl"])
    pairs = run_simul_speech.load_pairs(data)["train"][:2]
    utterances = find_or_speak(at_hand / "mine", "train", pairs, data, 0.0, 0)
    processor = make_speech_processor(SpeechArguments(mel_bins=8), ModelArguments(vocab_size=300), data, pairs)
    kept, anew = (speech_run.SpeechPairs(utterances, processor, keeps) for keeps in (True, False))
    for index, (pair, utterance) in enumerate(zip(pairs, utterances, strict=True)):
        for each in (kept[index], anew[index]):
            assert each["target_ids"] == processor.encode(pair.target, "target")
            assert len(each["source_ids"]) == math.ceil(utterance.duration_s / 0.32)
            assert processor.tokenizer.decode(each["transcript_ids"]).strip() == pair.source
    monkeypatch.setattr(speech_data, "read_audio", lambda *_: pytest.fail("what is kept was read again"))
    assert kept[0] is kept[0]
