# SPDX-License-Identifier: Apache-2.0
"""Text cut into pieces at random: the units and sentences that are read are those of the whole text."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from helpers import make_tokenizer
from transformers_simul import SimulProcessor, SourceStream
from transformers_simul.streaming.sentences import SentenceReader

from .trial import Case, Trial

# White space that separates nothing; all other white space separates words.
NO_BREAK = "\u00a0\u2007\u202f"
ATOMS = [
    *"aabcdé.!?…:-<>|{}", "ab", "dog", "x.y", "3.5", "…", "日", "本", "ё", "e\u0301", "👩\u200d👧", "\u200b", "\ufeff",
    "«", "»", "。", "<|endoftext|>", "<|pad|>", *NO_BREAK, *" " * 12, *"\n\t\r\u3000\u2028\u2029\u0085\x0b\x0c\x1c",
]  # fmt: skip


def rule(text: str) -> bool:
    """The caller's own, plainer than ours."""
    return text.endswith((".", "!", "。")) and any(char.isalnum() for char in text)


class Oracle:
    """The same as plain loops, character by character; nothing of the package's text code."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.tokenizer.encode_special_tokens = True
        self.known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.known[text]

    def words(self, events: list[str | None], unit: str) -> tuple[list[str], set[int]]:
        """Units, and after how many the caller (None) ended sentences; characters with their spaces."""
        units: list[str] = []
        said: set[int] = set()
        current, gap = "", False
        for event in events:
            if event is None:
                if current:
                    units.append(current)
                    current = ""
                said.add(len(units))
                continue
            for char in event:
                if char.isspace() and char not in NO_BREAK:
                    if current:
                        units.append(current)
                    current, gap = "", bool(units)
                elif unit == "char":
                    units += [" ", char] if gap else [char]
                    gap = False
                else:
                    current += char
        return units + [current] * bool(current), said

    def sentences(self, events: list[str | None], unit: str, most: int | None) -> list[list[list[int]]]:
        """Ids of each unit of each sentence."""
        words, said = self.words(events, unit)
        done: list[list[list[int]]] = [[]]
        since_space = ""
        for number, word in enumerate(words, start=1):
            ids = self.ids(word if unit == "char" else f" {word}")
            if unit == "char":
                since_space += word
                asked = since_space if char_may_end(word) else ""
                since_space = "" if word == " " else since_space
            else:
                asked = word
            for index, unit_ids in enumerate([[token] for token in ids] if unit == "token" else [ids]):
                done[-1].append(unit_ids)
                is_last = unit != "token" or index == len(ids) - 1
                if len(done[-1]) == most or (is_last and (number in said or rule(asked.removesuffix(" ")))):
                    done.append([])
                    since_space = ""
        return [sentence for sentence in done if sentence]


def char_may_end(char: str) -> bool:
    """Whether no further character can change what the word says: "3." may become "3.5"."""
    return char == " " or not (char.isascii() or char.isalnum() or char.isspace() or char == "…")


def pieces_of(text: str, draw: random.Random, ends: float) -> list[str | None]:
    """Random cuts, empty pieces, and None where the caller ends a sentence."""
    events: list[str | None] = []
    start = 0
    while start < len(text):
        size = draw.choice((0, 1, 1, 2, 3, 5, 9, 40))
        events.append(text[start : start + size])
        start += size
        if draw.random() < ends:
            events.append(None)
    return events


class Drain:
    """Reads as a decoder does: begins a sentence, looks ahead, polls."""

    def __init__(self, reader: Any, is_cut: bool, draw: random.Random):
        self.reader, self.is_cut, self.draw = reader, is_cut, draw
        self.sentences: list[list[list[int]]] = []
        self.inside = self.over = False

    def step(self) -> bool:
        """Whether something was read."""
        if not self.inside:
            begun = self.reader.begin()
            if begun is None:
                return False
            if begun is False:
                self.over = True
                return False
            self.inside = True
            self.sentences.append([])
        if self.draw.random() < 0.3:
            self.reader.peek(self.draw.randrange(4))
        ready, ids = self.reader.poll()
        if ids is not None:
            self.sentences[-1].append(ids)
        elif ready:
            self.inside = False
            # Without sentences the end of one is the end of all.
            self.over = not self.is_cut
        return ready


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    tokenizer = make_tokenizer()
    oracle = Oracle(tokenizer)
    processors = {
        unit: SimulProcessor(tokenizer, template="{source} => {target}", unit=unit)
        for unit in ("word", "char", "token")
    }

    def case(draw: random.Random) -> None:
        unit = draw.choice(("word", "word", "char", "token"))
        text = "".join(draw.choices(ATOMS, k=draw.randrange(30)))
        is_cut = draw.random() < 0.6
        most = draw.choice((None, None, 1, 3, 6)) if is_cut else None
        events = pieces_of(text, draw, draw.choice((0.0, 0.2)) if is_cut else 0.0)
        stream = SourceStream(unit=unit)
        bound = stream.bind(processors[unit])
        drain = Drain(SentenceReader(bound, most, rule) if is_cut else bound, is_cut, draw)
        for event in events:
            if event is None:
                stream.end_sentence()
            else:
                stream.put(event)
            while draw.random() < 0.5 and drain.step():
                pass
        stream.end()
        while not drain.over:
            drain.step()
        expected = oracle.sentences(events, unit, most)
        if not is_cut:
            expected = [[ids for sentence in expected for ids in sentence]]
            if expected == [[]]:
                expected = []
            known = processors[unit].encode(text) if expected else []
            assert known == [ids for sentence in expected for ids in sentence], (unit, text, known, expected)
        assert drain.sentences == expected, (unit, most, events, drain.sentences, expected)

    yield case


TRIAL = Trial(
    "sources",
    "the units and sentences that are read of a cut text are those of the whole text, ids included",
    prepare,
    {"smallest": 200, "small": 5_000, "full": 1_000_000},
    {"smallest": 60, "small": 15, "full": 900},
)
