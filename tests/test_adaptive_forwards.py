# SPDX-License-Identifier: Apache-2.0
"""What looking costs in forwards, and that what is spared changes nothing: several amounts of source asked at once, and
drafts that are kept and asked again as a whole."""

import itertools

import pytest
import torch
from transformers import LogitsProcessorList

from test_adaptive import Recorder, assert_drafts_equal_trained
from test_adaptive_rows import assert_trained
from test_generation import TOLERANCE, JustInTime, feed_later, run, sentences
from transformers_simul import (
    AdaptivePolicy,
    HoldPolicy,
    LearnedReadPolicy,
    LocalAgreementPolicy,
    RelaxedAgreementPolicy,
    SimulCache,
)
from transformers_simul.models import decoding
from transformers_simul.models.row import Drafts
from transformers_simul.models.row_decoder import RowDecoder


class Waves(AdaptivePolicy):
    """Looks before each READ, and WRITEs only where a multiple of five words is read."""

    def reads_after(self, evidence):
        return evidence.progress.source_words % 5 != 0


@pytest.fixture
def asked(monkeypatch):
    """Copies and guesses of every ask."""
    found, step = [], decoding.decode_step

    def decode_step(model, cache, asks):
        found.extend((len(ask.copies), ask.guesses) for ask in asks.values())
        return step(model, cache, asks)

    monkeypatch.setattr(decoding, "decode_step", decode_step)
    return found


def long_sources(count):
    """Sources of which the model writes several words."""
    return [" ".join(sentences(seed, 3)) for seed in (45, 48, 41)[:count]]


@pytest.mark.parametrize("policy", [Waves(1, 8), LearnedReadPolicy(0.02, 1, 9)], ids=repr)
def test_reads_whose_source_waits_are_asked_in_one_forward(model, processor, policy, asked):
    sources = long_sources(3)
    known = run(model, processor, sources, policy)
    assert max(copies for copies, _ in asked) > 1
    live = run(model, processor, feed_later(sources), policy)
    del asked[:]
    late = run(model, processor, sources, policy, row_decoder=JustInTime)
    assert {copies for copies, _ in asked} == {0}
    for output in (known, live, late):
        assert_trained(model, processor, sources, output)
        assert (output.words, output.delays, output.queries) == (known.words, known.delays, known.queries)
    alone = [(run(model, processor, [source], policy), source) for source in sources]
    assert [output.words[0] for output, _ in alone] == known.words
    spared = [run(model, processor, [source], policy, row_decoder=JustInTime).forwards for source in sources]
    assert sum(spared) > sum(output.forwards for output, _ in alone)


def test_the_wrong_copy_breaks_the_invariant(model, processor, monkeypatch):
    again = RowDecoder._ask_again

    def forgets_which(self):
        answer = yield from again(self)
        self.questions._needed = max(0, self.questions._needed - 1)
        return answer

    monkeypatch.setattr(RowDecoder, "_ask_again", forgets_which)
    sources = long_sources(1)
    with pytest.raises(AssertionError):
        assert_trained(model, processor, sources, run(model, processor, sources, Waves(1, 8)))


class Anew(RowDecoder):
    """Makes every draft from nothing, and feeds what was written again."""

    def _feed_token(self, token, copies=()):
        return (yield from self.questions.ask(self.feed([token], copies)))

    def _ask_again(self):
        return (yield from self.questions.ask(self.feed_again()))


class One(RowDecoder):
    """Asks for one amount of source at a time."""

    def _copies_due(self, written, most):
        return ()


@pytest.mark.parametrize(("policy", "plain"), [(Waves(1, 8), One), (LocalAgreementPolicy(2, 1, 5), Anew)])
def test_copies_and_guesses_are_left_out_where_there_is_no_room(model, processor, policy, plain):
    source = long_sources(1)[0]
    rows = len(processor.head_ids) + sum(map(len, processor.encode(source))) + len(processor.tail_ids)
    written = []
    for spare in (1, 9, 17, 33):
        bounded, expected = (
            run(
                model, processor, [source], policy, row_decoder=decoder,
                past_key_values=SimulCache(1, max_tokens=rows + spare),
            )
            for decoder in (RowDecoder, plain)
        )  # fmt: skip
        assert (bounded.words, bounded.delays) == (expected.words, expected.delays)
        assert bounded.stop_reasons == expected.stop_reasons
        written.append(len(bounded.words[0]))
    assert written[-1] > written[0]


def few_words(processor):
    """Few words to choose from, so that drafts often agree."""
    starts = [word[0] for word in processor.encode("a dog runs")]

    def choose(ids, scores):
        kept = torch.full_like(scores, -torch.inf)
        kept[:, starts] = scores[:, starts]
        return kept

    return {"logits_processor": LogitsProcessorList([choose]), "max_new_tokens": 12}


DRAFTING = [
    HoldPolicy(1, 1, 5),
    HoldPolicy(2, 2, 6),
    LocalAgreementPolicy(2, 1, 6),
    LocalAgreementPolicy(3, 1, 4),
    RelaxedAgreementPolicy(0.5, 4, 1, 6),
]


@pytest.mark.parametrize("policy", DRAFTING, ids=repr)
@pytest.mark.parametrize("agreeing", [False, True], ids=["any words", "few words"])
def test_drafts_that_are_kept_are_those_made_anew(model, processor, policy, agreeing, monkeypatch, asked):
    """Greedy drafts, scored as a whole under more source and kept as far as they agree, token by token the same."""
    monkeypatch.setattr(Recorder, "rows", [])
    sources = long_sources(2)
    options = few_words(processor) if agreeing else {}
    kept = run(model, processor, sources, policy, row_decoder=Recorder, **options)
    assert any(guesses for _, guesses in asked)
    anew = run(model, processor, sources, policy, row_decoder=Anew, **options)
    assert (kept.words, kept.delays, kept.queries) == (anew.words, anew.delays, anew.queries)
    for a, b in zip(kept.logits, anew.logits, strict=True):
        assert (a - b).abs().max().item() <= TOLERANCE
    assert kept.forwards < anew.forwards
    assert_trained(model, processor, sources, kept)
    live = run(model, processor, feed_later(sources), policy, **options)
    assert (live.words, live.delays) == (kept.words, kept.delays)
    for source, row in zip(sources, Recorder.rows, strict=True):
        assert assert_drafts_equal_trained(model, processor, source, row) > 0


def test_guesses_that_see_less_source_break_the_invariant(model, processor, monkeypatch):
    columns = decoding._columns

    def stale(ask):
        ids, in_target, offsets, visible = columns(ask)
        guesses = range(len(visible) - ask.guesses, len(visible))
        return ids, in_target, offsets, [seen - (at in guesses) for at, seen in enumerate(visible)]

    monkeypatch.setattr(decoding, "_columns", stale)
    sources = long_sources(2)
    output = run(model, processor, sources, HoldPolicy(2, 1, 5), **few_words(processor))
    with pytest.raises(AssertionError):
        assert_trained(model, processor, sources, output)


def test_a_draft_is_as_long_at_each_look_as_one_that_is_made_there(model, processor, monkeypatch):
    """hold-n WRITEs on from one draft until n words of it are left, and then drafts on under the same source."""
    policy, sources = HoldPolicy(2, 1, 6), long_sources(2)
    first = run(model, processor, sources, policy)

    def forgets(self, source_words, least):
        self.words.clear()
        return False

    monkeypatch.setattr(Drafts, "begin", forgets)
    always = run(model, processor, sources, policy)
    assert (first.words, first.delays) == (always.words, always.delays)
    assert any(a == b for delays in first.delays for a, b in itertools.pairwise(delays) if b < 12)


@pytest.mark.parametrize("policy", DRAFTING[2:], ids=repr)
def test_drafts_are_no_longer_than_votes_need(model, processor, policy, monkeypatch):
    monkeypatch.setattr(Recorder, "rows", [])
    sources, starts = long_sources(3), [word[0] for word in processor.encode("a dog runs")]

    def prefer(ids, scores):
        """Short words, and no end."""
        return scores.index_add(1, torch.tensor(starts), torch.full((len(scores), len(starts)), 20.0))

    options = {"logits_processor": LogitsProcessorList([prefer]), "max_new_tokens": 12}
    short = run(model, processor, sources, policy, row_decoder=Recorder, **options)
    monkeypatch.setattr(LocalAgreementPolicy, "words_to_draft", lambda self, progress: 12)
    longer = run(model, processor, sources, policy, row_decoder=Recorder, **options)
    assert (short.words, short.delays) == (longer.words, longer.delays)
    asked = [len(row.drafts.asked) for row in Recorder.rows]
    assert 0 < sum(asked[:3]) < sum(asked[3:])
