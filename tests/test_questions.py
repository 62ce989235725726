# SPDX-License-Identifier: Apache-2.0
"""What a row's questions leave in the cache, by a plain book that is kept from what was fed and given up alone."""

from collections import Counter
from typing import NamedTuple

import pytest

from test_adaptive_forwards import DRAFTING, Waves, few_words, long_sources
from test_generation import feed_later, run
from transformers_simul import LearnedReadPolicy, SimulCache
from transformers_simul.models.row import RowStopped
from transformers_simul.models.row_decoder import RowDecoder


class Entry(NamedTuple):
    """A stored token: whether it is of tail+target, its place there or in head+source, its id, and what it sees."""

    in_target: bool
    place: int
    token: int
    visible: int


class Book(RowDecoder):
    """Keeps the book beside the row, and compares after every answer."""

    early = Counter()

    def run(self):
        held = [
            Entry(False, place, token, place + 1) for place, token in enumerate(self.reading.ids[: self.reading.fed])
        ]
        life = super().run()
        try:
            ask = next(life)
            while True:
                try:
                    sent = yield ask
                except RowStopped as stop:
                    # Nothing was fed.
                    ask = life.throw(stop)
                    continue
                if ask is not None:
                    held = self.entered(held, ask)
                    self.compare(held, ask)
                ask = life.send(sent)
        except StopIteration:
            pass
        if self.stop_reason == "eos":
            ids, forgets = self.stored()
            left = sorted(entry for back, entry in enumerate(held[::-1]) if back not in forgets)
            assert [entry.token for entry in left] == ids

    def entered(self, held, ask):
        assert len({*ask.forgets}) == len(ask.forgets)
        assert all(0 <= back < len(held) for back in ask.forgets)
        held = [entry for back, entry in enumerate(held[::-1]) if back not in ask.forgets][::-1]
        for place, token in enumerate(ask.source_ids, start=ask.source_offset):
            held.append(Entry(False, place, token, place + 1))
        for place, token in enumerate(ask.target_ids, start=ask.target_offset):
            held.append(Entry(True, place, token, ask.visible_source))
        newest = ask.target_offset + len(ask.target_ids) - 1
        return [*held, *(Entry(True, newest, ask.target_ids[-1], seen) for seen in ask.copies)]

    def compare(self, held, ask):
        """Head and source once; tail and target once; beside these only copies of the newest, or a draft."""
        source = [entry for entry in held if not entry.in_target]
        assert source == [Entry(False, place, token, place + 1) for place, token in enumerate(self.reading.ids)]
        text = self.tail + self.target
        end = ask.target_offset + len(ask.target_ids) - ask.guesses
        target = sorted(entry for entry in held if entry.in_target and entry.place < end)
        once = [entry for entry in target if entry.place < end - 1]
        assert [(entry.place, entry.token) for entry in once] == [*enumerate(text[: end - 1])]
        # Each sees what it saw when it was asked last.
        asked = {query.offset: self.reading.ends[query.visible_words] for query in self.queries}
        assert all(entry.visible == asked.get(entry.place, entry.visible) for entry in once)
        newest = [entry for entry in target if entry.place == end - 1]
        assert [entry.visible for entry in newest] == [ask.visible_source, *ask.copies]
        assert {entry.token for entry in newest} == {text[end - 1]}
        behind = sorted(entry for entry in held if entry.in_target and entry.place >= end)
        assert [entry.place for entry in behind] == [*range(end, end + len(behind))]
        assert not (behind and ask.copies)
        self.early.update(copies=len(ask.copies), guesses=ask.guesses)


POLICIES = [Waves(1, 8), LearnedReadPolicy(0.02, 1, 9), *DRAFTING[1:3], DRAFTING[4]]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: repr(policy).split(" object")[0])
def test_the_cache_holds_the_row_once_and_what_was_asked_ahead(model, processor, policy):
    Book.early.clear()
    source, options = long_sources(1), few_words(processor)
    known = run(model, processor, source, policy, row_decoder=Book, **options)
    live = run(model, processor, feed_later(source), policy, row_decoder=Book, **options)
    assert known.words == live.words
    shown = [*zip(known.words[0], known.delays[0], strict=True)]
    run(model, processor, source, policy, row_decoder=Book, committed=[shown[: len(shown) // 2]], **options)
    assert Book.early["guesses" if policy.draft_words else "copies"]


@pytest.mark.parametrize("policy", POLICIES[::3], ids=lambda policy: repr(policy).split(" object")[0])
def test_what_has_no_room_ahead_leaves_the_same(model, processor, policy):
    source = long_sources(1)[0]
    rows = len(processor.head_ids) + sum(map(len, processor.encode(source))) + len(processor.tail_ids)
    for spare in (1, 9, 17):
        run(
            model, processor, [source], policy, row_decoder=Book, past_key_values=SimulCache(1, max_tokens=rows + spare)
        )
