# SPDX-License-Identifier: Apache-2.0
"""LocalAgreement over a language of tones that a few lines understand: what is said is what is committed, once, in time."""

import random

import numpy
import pytest

from speech_helpers import GAP_S, RATE, WORD_S, Loudness, ToneTranscriber, say, tone
from transformers_simul.models.text import ends_sentence
from transformers_simul.speech.agreement import LocalAgreementRecogniser, without_loops
from transformers_simul.speech.recogniser import FRAME, SpokenWord
from transformers_simul.speech.writing import SentenceWriter


def listen(recogniser, audio, draw=None, block_s=0.5):
    """Committed words with how much had been heard, the audio in blocks of any size."""
    heard, at = [], 0
    while at < len(audio):
        size = draw.randint(1, round(2 * block_s * RATE)) if draw else round(block_s * RATE)
        heard += [(word, (at + size) / RATE) for word in recogniser.hear(audio[at : at + size])]
        at += size
    return heard + [(word, len(audio) / RATE) for word in recogniser.hear(audio[:0], is_last=True)]


def texts(heard):
    return [word.text for word, _ in heard if word.text]


@pytest.mark.parametrize("seed", range(4))
def test_what_was_said_is_committed_once_whatever_the_blocks(seed):
    draw = random.Random(seed)
    sentences = [[draw.randint(0, 99) for _ in range(draw.randint(1, 30))] for _ in range(6)]
    audio = numpy.concatenate([say(each, pause_s=draw.uniform(1, 2)) for each in sentences])
    transcriber = ToneTranscriber()
    recogniser = LocalAgreementRecogniser(transcriber, Loudness(), window_s=5.0)
    heard = listen(recogniser, audio, draw)
    assert texts(heard) == [f"w{number}" for each in sentences for number in each]
    # A pause after each sentence, and nowhere else.
    assert sum(not word.text for word, _ in heard) == len(sentences)
    assert transcriber.longest_s < 5.3
    times = [time for word, _ in heard for time in word[1:]]
    assert times == sorted(times)
    for word, at in heard:
        assert word.end_s <= at


def test_words_come_while_somebody_speaks_and_repeated_words_stay():
    numbers = [5] * 4 + [*range(20)]
    recogniser = LocalAgreementRecogniser(ToneTranscriber(), Loudness())
    heard = listen(recogniser, say(numbers))
    assert texts(heard) == [f"w{number}" for number in numbers]
    waits = [at - word.end_s for word, at in heard if word.text]
    # Two steps and a block.
    assert max(waits) < 2.6
    assert numpy.median(waits) < 2


def test_hours_neither_grow_nor_drift():
    draw = random.Random(0)
    transcriber = ToneTranscriber()
    recogniser = LocalAgreementRecogniser(transcriber, Loudness(), window_s=6.0)
    # Twenty minutes without a pause, which is what would grow.
    begins, numbers, sizes = [], [], []
    heard = []
    for second in range(0, 1200, 4):
        some = [draw.randint(0, 99) for _ in range(10)]
        begins += [second + index * (WORD_S + GAP_S) for index in range(10)]
        numbers += some
        heard += recogniser.hear(say(some))
        sizes.append(sum(map(len, recogniser._frames)) + len(recogniser._said) + len(recogniser._gone))
    heard += recogniser.hear(numpy.zeros(0, "float32"), is_last=True)
    words = [word for word in heard if word.text]
    assert [word.text for word in words] == [f"w{number}" for number in numbers]
    assert max(abs(word.start_s - begin) for word, begin in zip(words, begins, strict=True)) < 0.05
    assert max(sizes) < 6.1 * RATE
    assert transcriber.longest_s < 6.1


def test_silence_noise_and_clicks_are_not_transcribed():
    transcriber = ToneTranscriber()
    recogniser = LocalAgreementRecogniser(transcriber, Loudness())
    noise = 0.01 * numpy.random.default_rng(0).standard_normal(60 * RATE).astype("float32")
    noise[5 * RATE : 5 * RATE + 100] = 0.9
    assert not listen(recogniser, noise)
    assert not listen(recogniser, numpy.zeros(RATE, "float32"))
    assert not transcriber.calls


class Loops(ToneTranscriber):
    """As Whisper in music: the same few words for ever."""

    def transcribe(self, samples, before):
        self.calls += 1
        return [SpokenWord(text, at / 20, at / 20 + 0.05) for at, text in enumerate("thank you so much".split() * 60)]


def test_loops_are_cut_off_and_memory_stays():
    recogniser = LocalAgreementRecogniser(Loops(), Loudness(), window_s=6.0)
    heard = listen(recogniser, tone(120))
    # Four times, and up to the word that makes it five.
    assert len(texts(heard)) == 4 * 4 + 3
    assert sum(map(len, recogniser._frames)) == 0


class Flickers(ToneTranscriber):
    """Never says the same twice."""

    def transcribe(self, samples, before):
        self.calls += 1
        return [SpokenWord(f"v{self.calls}n{n}", n / 2, n / 2 + 0.5) for n in range(len(samples) // 8000)]


def test_a_model_that_never_agrees_is_still_bounded():
    recogniser = LocalAgreementRecogniser(Flickers(), Loudness(), window_s=6.0)
    for _ in range(100):
        recogniser.hear(tone(1))
        assert sum(map(len, recogniser._frames)) <= 6 * RATE + FRAME
        assert len(recogniser._said) + len(recogniser._open) < 40


def test_a_slow_model_gets_large_blocks_and_skips_transcriptions():
    many, few = ToneTranscriber(), ToneTranscriber()
    audio = say([*range(20)], 1)
    assert texts(listen(LocalAgreementRecogniser(many, Loudness()), audio)) == texts(
        listen(LocalAgreementRecogniser(few, Loudness()), audio, block_s=4.0)
    )
    assert few.calls < many.calls


def test_the_context_is_what_has_left_the_window():
    transcriber = ToneTranscriber()
    listen(LocalAgreementRecogniser(transcriber, Loudness(), window_s=4.0), say([*range(40)], 2.0))
    assert transcriber.before[0] == ""
    assert any(before.startswith("w0 w1 w2") for before in transcriber.before)
    assert all(len(before.split()) <= 30 for before in transcriber.before)


def test_wrong_times_of_a_model_are_mended():
    class Wild(ToneTranscriber):
        def transcribe(self, samples, before):
            return [SpokenWord(word.text, 99.0, -5.0) for word in super().transcribe(samples, before)]

    heard = listen(LocalAgreementRecogniser(Wild(), Loudness()), say([1, 2, 3], 1.0))
    assert texts(heard) == ["w1", "w2", "w3"]
    assert all(0 <= word.start_s <= word.end_s <= 2.3 for word, _ in heard)


def test_settings():
    for name in ("step_s", "window_s", "pause_s"):
        with pytest.raises(ValueError, match=f"{name} must be above 0"):
            LocalAgreementRecogniser(ToneTranscriber(), Loudness(), **{name: 0.0})
    with pytest.raises(ValueError, match="window_s must be at least three times step_s"):
        LocalAgreementRecogniser(ToneTranscriber(), Loudness(), step_s=2.0, window_s=5.0)


def test_loops_of_words_are_told_from_speech():
    def after(text):
        return " ".join(word.text for word in without_loops([SpokenWord(each, 0.0, 0.0) for each in text.split()]))

    assert after("no no no no") == "no no no no"
    assert after("a no no no no no no b") == "a no b"
    assert after("x " + "I'm sorry. " * 5) == "x I'm sorry."
    assert after("the dog and the cat and the cow and the hen") == "the dog and the cat and the cow and the hen"


def write(writer, text, **options):
    return " ".join(
        word.text for word in writer.write([SpokenWord(each.strip("_"), 0.0, 0.0) for each in text.split()], **options)
    )


def test_text_without_punctuation_is_cut_and_cased():
    writer = SentenceWriter(max_words=4)
    assert write(writer, "AND SO") == "And"
    assert write(writer, "I I'M NOT") == "so I I'm."
    assert write(writer, "_").strip() == "Not."
    assert write(writer, "élan vital", is_last=True) == "Élan vital."
    assert write(SentenceWriter("de"), "i bin do", is_last=True) == "I bin do."
    assert write(SentenceWriter(), "now? yes. so", is_last=True) == "Now? Yes. So."
    assert SentenceWriter().write([], is_last=True) == []
    # A full stop would be that of an initial or an abbreviation, and no end.
    for text in ("so do i", "ask the dr", "on may 3"):
        assert ends_sentence(write(SentenceWriter(), text, is_last=True).split()[-1]), text
    with pytest.raises(ValueError, match="max_words must be at least 1"):
        SentenceWriter(max_words=0)
