# SPDX-License-Identifier: Apache-2.0
"""An endless source, cut into sentences while it arrives."""

import functools
import random

import pytest

from helpers import make_processor
from transformers_simul import SourceStream
from transformers_simul.models.committed import Committed
from transformers_simul.models.streams import SourceReader
from transformers_simul.models.text import ends_sentence
from transformers_simul.streaming.sentences import SentenceReader, committed_before, committed_in, pass_over


class Counted(list):
    """Counts how many of its words were looked at."""

    looks = 0

    def __getitem__(self, index):
        found = super().__getitem__(index)
        self.looks += len(found) if isinstance(index, slice) else 1
        return found

    def __iter__(self):
        self.looks += len(self)
        return super().__iter__()


class Meanwhile(SourceReader):
    """Something happens after every look that finds nothing."""

    def __init__(self, stream, processor, coming):
        super().__init__(stream, processor)
        self.coming = coming

    def peek(self, index):
        peeked = super().peek(index)
        if not peeked[0] and self.coming:
            self.coming.pop(0)()
        return peeked


def read(sentences, processor):
    """All sentences, as texts."""
    found = []
    while (begun := sentences.begin()) is not False:
        if begun is None:
            continue
        words = []
        while (polled := sentences.poll()) != (True, None):
            words += [polled[1]] if polled[0] else []
        assert len(words) == sentences.units
        found.append(processor.text(words))
    return found


def test_a_word_that_comes_between_look_and_read_is_counted_and_may_end_its_sentence(processor):
    stream = SourceStream()
    coming = [lambda word=word: stream.put(word) for word in ["a ", "dog. ", "two ", "children. "]]
    sentences = SentenceReader(Meanwhile(stream, processor, [*coming, stream.end]))
    assert read(sentences, processor) == ["a dog.", "two children."]
    assert (sentences.words_before, sentences.units) == (2, 2)


def test_a_sentence_ended_between_look_and_read_does_not_get_the_next_words(processor):
    stream = SourceStream()

    def end_and_go_on():
        stream.end_sentence()
        stream.put("two ")

    coming = [lambda: stream.put("a dog "), end_and_go_on, stream.end]
    assert read(SentenceReader(Meanwhile(stream, processor, coming)), processor) == ["a dog", "two"]


def test_every_word_is_looked_at_once(processor):
    """A policy that reads 400 words at a time peeks through all of them, again for every token."""
    asked = []

    def rule(word):
        asked.append(word)
        return word == "."

    stream = SourceStream(("dog " * 400 + ". ") * 2)
    sentences = SentenceReader(stream.bind(processor), ends_sentence=rule)
    for _ in range(2):
        assert sentences.begin()
        for index in range(401):
            assert sentences.peek(index)[1] is not None
        assert sentences.peek(401) == (True, None)
        for _ in range(401):
            assert sentences.poll()[1] is not None
        assert sentences.poll() == (True, None)
    assert len(asked) == 802


@pytest.mark.parametrize("max_words", [None, 1, 3])
def test_any_mixture_of_ends_gives_the_sentences_of_the_plain_rule(processor, max_words):
    """Text, said ends, looks ahead and reads in any order."""
    draw = random.Random(str(max_words))
    for _ in range(200):
        stream, expected = SourceStream(), [[]]
        sentences, found, looks = SentenceReader(stream.bind(processor), max_words), [], 0
        script = [draw.choice(["dog", "runs.", None, None]) for _ in range(draw.randint(1, 12))] + ["over"]
        for word in script:
            if word is not None:
                expected[-1].append(word)
            if expected[-1] and (word is None or word.endswith(".") or len(expected[-1]) == max_words):
                expected.append([])
        ended, begun = False, None
        while not ended:
            if script and draw.random() < 0.5:
                word = script.pop(0)
                stream.end_sentence() if word is None else stream.put(f"{word} ")
                if not script:
                    stream.end()
            elif not begun:
                begun = sentences.begin()
                ended = begun is False
                found += [[]] if begun else []
            elif draw.random() < 0.5:
                sentences.peek(draw.randint(0, 4))
                looks += 1
            else:
                polled = sentences.poll()
                if polled[1] is not None:
                    found[-1].append(processor.text([polled[1]]))
                elif polled[0]:
                    begun = None
        assert found == [words for words in expected if words]


@pytest.mark.parametrize(
    "word",
    ["„Hallo.“", "»Hallo.«", "‚Hallo.‘", "«\u00a0Bonjour.\u00a0»", "Bonjour\u202f!\u00a0»", "「はい。」", "『はい！』",
     "(Yes.)", "‹Oui.›", "“Go.", "他说：“我走了。”", "はい。", "نعم؟", "हाँ।", "1990.", "Ende."],
)  # fmt: skip
def test_these_words_end_a_sentence(word):
    assert ends_sentence(word)


@pytest.mark.parametrize(
    "word",
    ["usw.", "Inc.", "dott.", "(usw.", "„bzw.", "Mme.", "bijv.", "ecc.", "núm.", "z.B.", "U.S.)", "3.", "12.", "J.",
     "«\u00a0M.", "»", "“", "", "他说：“我走了。", "「はい。", "word", "3.5", "www.a.com"],
)  # fmt: skip
def test_these_words_end_no_sentence(word):
    assert not ends_sentence(word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 3.5 at www.a.com/?x=1! Yes. No", ["It is 3.5 at www.a.com/?x=1! ", "Yes. ", "No"]),
        ("はい。いいえ？そう", ["はい。", "いいえ？", "そう"]),
        ("「はい。いいえ。」そう。", ["「はい。いいえ。」", "そう。"]),
        ("我……不知道！！好。", ["我……不知道！", "！好。"]),
        ("Er sagt „ja.“ und geht. Usw. folgt", ["Er sagt „ja.“", " und geht. ", "Usw. folgt"]),
    ],
)
def test_characters_end_a_sentence_where_no_other_can_follow(text, expected):
    """Whatever the pieces, and with the same ends live and known."""
    processor = make_processor(unit="char")
    for size in (1, 3, len(text)):
        stream = SourceStream(unit="char")
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        coming = [functools.partial(stream.put, piece) for piece in pieces]
        sentences = SentenceReader(Meanwhile(stream, processor, [*coming, stream.end]))
        assert read(sentences, processor) == expected


def test_words_of_many_sentences_are_not_searched_for_each():
    """A stranger may give many, and each sentence is passed over while other streams wait."""
    processor = make_processor()
    stream = SourceStream("dog. it runs. " * 200)
    stream.end()
    reader = SentenceReader(stream.bind(processor))
    committed = Counted(Committed([3], unit + 1) for unit in range(600))
    found = []
    while reader.begin():
        newest = finish_at_once(committed_in(reader, committed))
        here = committed_before(reader, committed) if newest is None else newest
        assert (newest is None) == (reader.words_before < 598)
        found += [delay + reader.words_before for _, delay in here]
        finish_at_once(pass_over(reader))
    assert found == [*range(1, 601)]
    assert committed.looks < 600 + 400 * 30


def finish_at_once(steps):
    """What a generator returns that waits for nothing."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for source")
