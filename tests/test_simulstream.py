# SPDX-License-Identifier: Apache-2.0
"""Our processor for simulstream, against a stand-in of its interface: what its programs call, in their order.
tests/simulstream/record.py runs it in simulstream 1.0.0 itself."""

import importlib
import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest

from helpers import make_model, make_processor
from speech import make_speech, make_speech_processor, recordings
from speech_helpers import Loudness, say
from test_listen import Speaks, blocks_of
from transformers_simul import WaitKPolicy, cli
from transformers_simul.evaluation.logs import read_log
from transformers_simul.speech import transcribers, voice
from transformers_simul.speech.agreement import LocalAgreementRecogniser
from transformers_simul.speech.listening import Listener

NAME = "transformers_simul.speech.simulstream_processor"


@dataclass
class IncrementalOutput:
    new_tokens: list[str]
    new_string: str
    deleted_tokens: list[str]
    deleted_string: str


class SpeechProcessor:
    def __init__(self, config):
        self.config = config

    @property
    def speech_chunk_size(self):
        return self.config.speech_chunk_size


made = []


def make_transcriber(name, language):
    made.append((name, language))
    return Speaks()


@pytest.fixture
def module(monkeypatch):
    """Our module, with simulstream's interface at hand."""
    package = "simulstream.server.speech_processors"
    for name in ("simulstream", "simulstream.server", package, f"{package}.incremental_output"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[package].SpeechProcessor = SpeechProcessor
    sys.modules[f"{package}.incremental_output"].IncrementalOutput = IncrementalOutput
    monkeypatch.setattr(transcribers, "make_transcriber", make_transcriber)
    monkeypatch.setattr(voice, "SileroVoice", Loudness)
    made.clear()
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME)


def processor_of(module, folder, **settings):
    config = types.SimpleNamespace(model=str(folder), speech_chunk_size=0.5, **settings)
    module.SimulstreamProcessor.load_model(config)
    return module.SimulstreamProcessor(config)


def outputs(processor, audio):
    """As its MessageProcessor calls: each chunk, then the end, then clear."""
    found = [processor.process_chunk(block) for block in blocks_of(audio, processor.speech_chunk_size)]
    found.append(processor.end_of_stream())
    processor.clear()
    return found


def test_a_model_of_text_writes_what_listen_writes(module, tmp_path):
    text = make_processor()
    model = make_model(text)
    model.save_pretrained(tmp_path)
    text.save_pretrained(tmp_path)
    processor = processor_of(module, tmp_path, policy="wait-2")
    audio = say([*range(12)], 1.0)
    expected = [
        [word.text for word in event.target if word.text]
        for event in Listener(model, text, LocalAgreementRecogniser(Speaks(), Loudness()), WaitKPolicy(2)).listen(
            blocks_of(audio)
        )
    ]
    # A stream after the other, each anew.
    for _ in range(2):
        found = outputs(processor, audio)
        assert [each.new_tokens for each in found] == expected
        assert not any(each.deleted_tokens or each.deleted_string for each in found)
        whole = "".join(each.new_string for each in found)
        assert whole == text.join([word for words in expected for word in words])
        assert processor.tokens_to_string(["ein", "Hund"]) == "ein Hund"
    assert sum(bool(words) for words in expected) > 1
    # By load_model, before the first stream: no stream waits for it.
    assert made == [("tiny.en", text.source_lang)]


def test_a_model_of_speech_writes_what_generate_writes(module, tmp_path):
    speech = make_speech_processor()
    model = make_speech("Falcon", speech)
    model.save_pretrained(tmp_path)
    speech.save_pretrained(tmp_path)
    processor = processor_of(module, tmp_path, policy="wait-2")
    for audio in recordings(3, 3):
        output = model.generate(**speech(source=audio), wait_k=2, return_dict_in_generate=True)
        found = outputs(processor, audio.numpy())
        words = [word for each in found for word in each.new_tokens]
        assert "".join(each.new_string for each in found) == speech.join(words)
        assert words == [word for word in speech.words(output.words[0]) if word]


def test_languages_and_models_that_are_none_are_refused(module, tmp_path):
    text = make_processor()
    make_model(text).save_pretrained(tmp_path)
    text.save_pretrained(tmp_path)
    processor = processor_of(module, tmp_path)
    assert processor.policy.k == 3
    processor.set_source_language(text.source_lang)
    processor.set_target_language(text.target_lang)
    assert outputs(processor, say([*range(6)], 1.0))
    for set_language in (processor.set_source_language, processor.set_target_language):
        with pytest.raises(ValueError, match="'xx'"):
            set_language("xx")
    with pytest.raises(ValueError, match="policy must be one of"):
        processor_of(module, tmp_path, policy="never")
    with pytest.raises((ValueError, OSError), match="nothing"):
        processor_of(module, tmp_path / "nothing")


def test_each_processor_speaks_its_own_languages(module, tmp_path):
    """They share what was loaded, and no more."""
    template = "{source_lang} to {target_lang}: {source} => {target}"
    text = make_processor(source_langs=["en", "cs"], target_langs=["de", "fr"], template=template, target_lang="de")
    model = make_model(text, seed=3)
    model.save_pretrained(tmp_path)
    text.save_pretrained(tmp_path)
    one, other = (processor_of(module, tmp_path, policy="wait-2") for _ in range(2))
    one.set_target_language("fr")
    one.set_source_language("cs")
    audio = say([*range(12)], 1.0)
    for processor, languages in ((one, ("cs", "fr")), (other, ("en", "de"))):
        heard = LocalAgreementRecogniser(Speaks(), Loudness())
        listener = Listener(model, text.with_languages(*languages), heard, WaitKPolicy(2))
        expected = [word.text for event in listener.listen(blocks_of(audio)) for word in event.target if word.text]
        assert [word for each in outputs(processor, audio) for word in each.new_tokens] == expected != []
    assert made == [("tiny.en", "en"), ("tiny.en", "cs")]


def test_an_end_without_audio_writes_nothing(module, tmp_path):
    text = make_processor()
    make_model(text).save_pretrained(tmp_path)
    text.save_pretrained(tmp_path)
    processor = processor_of(module, tmp_path)
    assert processor.end_of_stream() == IncrementalOutput([], "", [], "")
    processor.clear()
    assert processor.process_chunk(numpy.zeros(8000, "float32")).new_tokens == []
    processor.clear()


RECORDED = Path(__file__).parent / "simulstream"


def test_its_log_of_our_processor_scores_as_it_says(capsys):
    """The log and the figure were written by simulstream 1.0.0 itself: tests/simulstream/record.py."""
    pytest.importorskip("omnisteval")
    pytest.importorskip("mweralign")
    files = ["--segments", str(RECORDED / "talks.yaml"), "--references", str(RECORDED / "talks.de")]
    assert cli.main(["score", str(RECORDED / "metrics.jsonl"), *files, "--bootstrap", "10", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    theirs = json.loads((RECORDED / "scores.json").read_text())
    assert scores["StreamLAAL"] == pytest.approx(theirs["StreamLAAL"], abs=1e-6)
    # The recorded computing time of each word.
    assert scores["StreamLAAL_CA"] == pytest.approx(scores["StreamLAAL"] + 125)


def log_line(tokens, at_s, cost_s=0.5, **others):
    return {
        "id": 7, "total_audio_processed": at_s, "computation_time": cost_s, "generated_tokens": tokens,
        "deleted_tokens": [], **others,
    }  # fmt: skip


def test_recordings_of_its_log(tmp_path):
    path = tmp_path / "metrics.jsonl"

    def read(*lines):
        start = {"id": 7, "metadata": {"wav_name": "a/talk.wav"}}
        path.write_text("".join(json.dumps(line) + "\n" for line in [{"model_loading_time": 1.0}, start, *lines]))
        return read_log(path, recordings=True)

    (words,) = read(log_line(["ein", "Hund"], 1.0), log_line([], 2.0), log_line(["läuft"], 2.5, 0.0))
    assert (words.prediction, words.source, words.source_length) == ("ein Hund läuft", "a/talk.wav", 2500.0)
    assert words.delays == [1000.0, 1000.0, 2500.0]
    assert words.elapsed == [1500.0, 1500.0, 2500.0]
    # Pieces of words: a word is there with its last.
    (pieces,) = read(log_line(["▁ein", "▁Hu"], 1.0), log_line(["nd", "▁läuft"], 2.0))
    assert (pieces.prediction, pieces.delays) == ("ein Hund läuft", [1000.0, 2000.0, 2000.0])
    (nothing,) = read()
    assert (nothing.prediction, nothing.delays) == ("", [])
    for wrong, message in (
        (log_line(["a"], 1.0, deleted_tokens=["b"]), "line 3 of .* must not delete tokens"),
        (log_line(["a"], -1.0), "line 3 of .* must be of simulstream's log"),
        (log_line([3], 1.0), r"must be a list of texts, got \[3\]"),
        (log_line("Hund", 1.0), "must be a list of texts, got 'Hund'"),
        ({"id": 7, "metadata": {"wav_name": "again.wav"}}, "id must be of one recording, got 7 twice"),
        ({"id": 8, "generated_tokens": []}, "line 3 of .* must be of simulstream's log"),
    ):
        with pytest.raises(ValueError, match=message):
            read(wrong)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "simulstream", None)
    with pytest.raises(ImportError, match=r"needs simulstream 1.0.0: pip install simulstream"):
        importlib.import_module(NAME)
