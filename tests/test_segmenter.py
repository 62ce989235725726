# SPDX-License-Identifier: Apache-2.0
"""Sentence ends in text without punctuation: what is learnt, stored, and done with it in streams and files."""

import random

import pytest
import torch
from safetensors.torch import save_file

from helpers import make_model, make_processor
from transformers_simul import SourceStream, StreamEngine, WaitKPolicy
from transformers_simul.cli import main
from transformers_simul.evaluation.lines import split_sentences
from transformers_simul.speech.recogniser import SpokenWord
from transformers_simul.speech.writing import SentenceWriter
from transformers_simul.streaming.segmenter import Segmenter, plain_words
from transformers_simul.streaming.sentences import SentenceReader

SUBJECTS, VERBS, PLACES = ["it", "we", "they", "the dog"], ["runs", "stops", "sees him"], ["here", "there", "at home"]


def sentences(seed, count):
    draw = random.Random(seed)
    return [" ".join(map(draw.choice, (SUBJECTS, VERBS, PLACES))).capitalize() + "." for _ in range(count)]


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter.train(sentences(0, 300))


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def lengths(segmenter, words):
    """Words of each sentence that it finds, asked as a reader asks."""
    begun, found = [], []
    for word in words:
        if begun and segmenter(begun, word):
            found.append(len(begun))
            begun = []
        begun.append(word)
    return [*found, len(begun)]


def test_it_finds_sentences_that_it_has_not_seen(segmenter):
    unseen = [plain_words(sentence) for sentence in sentences(1, 40)]
    words = [word for sentence in unseen for word in sentence]
    assert lengths(segmenter, words) == [len(sentence) for sentence in unseen]
    # Case and signs make no difference, since nothing is learnt of them.
    assert lengths(segmenter, [f"{word.upper()}," for word in words]) == [len(sentence) for sentence in unseen]


def test_the_threshold_says_how_sure_it_must_be(segmenter):
    probability = segmenter.probability(["it", "runs", "here"], "we")
    assert 0.5 < probability < 1
    for threshold, ends in ((probability - 1e-6, True), (probability + 1e-6, False)):
        assert Segmenter(segmenter.weights, segmenter.bias, threshold)(["it", "runs", "here"], "we") is ends
    for threshold in (0, 1, -0.1):
        with pytest.raises(ValueError, match="threshold must lie between 0 and 1"):
            Segmenter(segmenter.weights, segmenter.bias, threshold)


def test_it_is_learnt_in_the_same_way_each_time_and_stored(segmenter, tmp_path):
    again = Segmenter.train(sentences(0, 300))
    assert torch.equal(again.weights, segmenter.weights)
    again.save(tmp_path / "en.safetensors")
    loaded = Segmenter.load(tmp_path / "en.safetensors")
    assert torch.equal(loaded.weights, segmenter.weights)
    assert loaded.bias == pytest.approx(segmenter.bias)
    assert loaded.threshold == segmenter.threshold


def test_what_is_no_segmenter_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"sentences must be at least two with words, got 1\."):
        Segmenter.train(["a dog", "..."])
    with pytest.raises(ValueError, match="segmenter must be a file that Segmenter.save has written"):
        Segmenter.load(tmp_path / "none")
    (tmp_path / "text").write_text("no")
    with pytest.raises(ValueError, match="segmenter must be a safetensors file"):
        Segmenter.load(tmp_path / "text")
    save_file({"weights": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="segmenter must be of the kind 'transformers_simul.segmenter.1', got"):
        Segmenter.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": torch.zeros(5)}, r"weights of a segmenter must be F32 of shape \(262144,\), got F32 of \(5,\)"),
        ({"weights": torch.zeros(2**18, 2)}, r"must be F32 of shape \(262144,\), got F32 of \(262144, 2\)"),
        ({"weights": torch.zeros(2**18, dtype=torch.int8)}, "must be F32 .* got I8"),
        ({"weights": torch.full((2**18,), torch.nan)}, "weights and bias must be finite"),
        ({"bias": torch.tensor(torch.inf)}, "weights and bias must be finite"),
        ({"bias": torch.zeros(3)}, r"bias of a segmenter must be F32 of shape \(\), got F32 of \(3,\)"),
        ({"threshold": torch.tensor(torch.nan)}, "threshold must lie between 0 and 1, got nan"),
        ({"threshold": torch.tensor(1.5)}, "threshold must lie between 0 and 1, got 1.5"),
        ({"threshold": None}, "segmenter must be a safetensors file, .* does not contain tensor threshold"),
    ],
)
def test_a_strangers_file_is_looked_at_before_it_is_used(tmp_path, changed, message):
    """Else it would break, or silently never end a sentence, in the middle of a stream."""
    parts = {"weights": torch.zeros(2**18), "bias": torch.tensor(0.0), "threshold": torch.tensor(0.3)} | changed
    kept = {name: part for name, part in parts.items() if part is not None}
    save_file(kept, tmp_path / "file", {"kind": "transformers_simul.segmenter.1"})
    with pytest.raises(ValueError, match=message):
        Segmenter.load(tmp_path / "file")


def test_wrong_numbers_show_before_the_text_is_read():
    with pytest.raises(ValueError, match=r"threshold must lie between 0 and 1, got 2\."):
        Segmenter.train(iter(lambda: pytest.fail("it was read"), None), threshold=2)
    with pytest.raises(ValueError, match=r"passes must be at least 1, got 0\."):
        Segmenter.train(iter(lambda: pytest.fail("it was read"), None), passes=0)
    with pytest.raises(ValueError, match="weights must be float32 of shape"):
        Segmenter(torch.zeros(3), 0.0)


def test_a_reader_asks_once_for_each_word_and_only_for_words_that_are_there(processor):
    asked = []

    def ends_between(words, following):
        asked.append((list(words), following))
        return following == "we"

    stream = SourceStream("it runs here we ")
    reader = SentenceReader(stream.bind(processor), ends_between=ends_between)
    assert reader.begin()
    for _ in range(3):
        # Looking ahead changes nothing.
        assert reader.peek(2)[0]
        assert reader.peek(2)[1] is not None
        assert reader.peek(3) == (True, None)
    assert [reader.poll()[1] is None for _ in range(4)] == [False, False, False, True]
    assert reader.begin()
    assert reader.poll()[1] is not None
    assert reader.poll() == (False, None)
    stream.put("stop. it ")
    assert reader.poll()[1] is not None
    # Punctuation still ends a sentence, and so do the caller and the window.
    assert reader.poll() == (True, None)
    assert asked == [
        (["it"], "runs"),
        (["it", "runs"], "here"),
        (["it", "runs", "here"], "we"),
        (["we"], "stop."),
    ]


def test_it_needs_words(processor):
    with pytest.raises(ValueError, match="ends_between needs word units, got 'char'"):
        SentenceReader(SourceStream(unit="char").bind(make_processor(unit="char")), ends_between=lambda *_: False)
    engine = StreamEngine(make_model(processor), processor, max_streams=1)
    with pytest.raises(ValueError, match="needs sentences=True"):
        engine.open(WaitKPolicy(1), ends_between=lambda *_: False)


def test_a_stream_gets_the_words_of_its_sentences_alone(segmenter, processor):
    """Whatever pieces the text comes in, and as the truth would have cut it."""
    model, texts = make_model(processor, seed=3), [" ".join(plain_words(each)) for each in sentences(2, 6)]

    def translate(pieces, **options):
        with StreamEngine(model, processor, max_streams=1) as engine:
            stream = engine.open(WaitKPolicy(2), sentences=True, max_new_tokens=12, **options)
            for piece in pieces:
                if piece is None:
                    stream.source.end_sentence()
                else:
                    stream.source.put(piece)
            stream.source.end()
            return [(word.text, word.delay) for word in stream]

    truth = translate([piece for text in texts for piece in (f"{text} ", None)])
    whole = " ".join(texts)
    assert translate([whole], ends_between=segmenter) == truth
    assert translate(whole, ends_between=segmenter) == truth
    assert translate([whole]) != truth
    assert [each.text for each in split_sentences(processor, whole, ends_between=segmenter)] == texts


def test_a_writer_ends_sentences_where_the_words_say_so(segmenter):
    texts = sentences(4, 8)
    words = [SpokenWord(word, 0.0, 0.0) for text in texts for word in plain_words(text)]
    writer = SentenceWriter(ends_between=segmenter)
    written = [each.text for word in words for each in writer.write([word])]
    written += [each.text for each in writer.write([], is_last=True)]
    assert " ".join(written) == " ".join(texts)
    # Without one, only a pause or the window ends them.
    assert sum(word.text.endswith(".") for word in SentenceWriter().write(words, is_last=True)) == 1


def test_the_command_line_learns_and_uses_one(processor, tmp_path, capsys):
    model = make_model(processor, seed=3)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "train.en").write_text("".join(f"{sentence}\n" for sentence in sentences(0, 300)))
    learnt = str(tmp_path / "en.safetensors")
    assert main(["segmenter", str(tmp_path / "train.en"), "--output", learnt]) == 0
    written = sentences(2, 3)
    plain = " ".join(" ".join(plain_words(each)) for each in written)
    outputs = []
    for name, text, flags in (
        ("plain", plain, ["--segmenter", learnt]),
        ("written", " ".join(written), []),
        ("cut", plain, []),
    ):
        # Lines stay lines.
        (tmp_path / name).write_text(f"{text}\n{text}\n")
        assert main(["translate", str(tmp_path / "model"), str(tmp_path / name), *flags]) == 0
        outputs.append(capsys.readouterr().out.splitlines())
        assert main(["translate", str(tmp_path / "model"), str(tmp_path / name), "--show-delays", *flags]) == 0
        lines = capsys.readouterr().out.split("\n\n")
        outputs.append([" ".join(word.split("\t")[2] for word in line.splitlines()) for line in lines if line])
    assert outputs[0] == outputs[1] == outputs[2] == outputs[3] != outputs[4]
    assert outputs[0][0] == outputs[0][1]
    model_folder = str(tmp_path / "model")
    assert main(["translate", model_folder, str(tmp_path / "plain"), "--segmenter", learnt, "--whole-lines"]) == 1
    assert "segmenter must not stand beside whole-lines" in capsys.readouterr().err
    assert main(["segmenter", str(tmp_path / "train.en"), "--output", learnt, "--passes", "0"]) == 1
    assert "passes must be at least 1, got 0" in capsys.readouterr().err
