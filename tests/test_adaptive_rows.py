# SPDX-License-Identifier: Apache-2.0
"""Policies that look, where rows are harder: users' own policies, other families, sentences, what goes wrong."""

import pytest
import torch

from families import make_family
from test_adaptive import ADAPTIVE, Recorder, assert_drafts_equal_trained
from test_engine import Recorded, as_output, finish, options
from test_generation import TOLERANCE, JustInTime, feed_later, masked_training_logits, run, sentences
from transformers_simul import (
    AdaptivePolicy,
    ConfidencePolicy,
    HoldPolicy,
    LearnedReadPolicy,
    LocalAgreementPolicy,
    Policy,
    StreamEngine,
)
from transformers_simul.models import decoding


class Chunks(AdaptivePolicy):
    """Looks only where an even number of words is read; READs on where it is odd."""

    def __init__(self, threshold, *lags):
        super().__init__(*lags)
        self.threshold = threshold

    def reads(self, progress):
        reads = super().reads(progress)
        return True if reads is None and progress.source_words % 2 else reads

    def reads_after(self, evidence):
        return evidence.read_probability > self.threshold


def assert_trained(model, processor, sources, output):
    for index, source in enumerate(sources):
        expected = masked_training_logits(
            model, processor, processor.encode(source), output.words[index], output.delays[index], output.queries[index]
        )
        assert (output.logits[index] - expected).abs().max().item() <= TOLERANCE


@pytest.mark.parametrize("threshold", [0.3, 0.0, 1.0])
def test_a_look_may_be_followed_by_reads_without_a_look(model, processor, threshold):
    """The answer that was asked for ahead is the one after all of them, and is dropped where EOS READs fewer."""
    policy = Chunks(threshold, 1, 6)
    spared = 0
    for seed in range(3):
        sources = sentences(seed, 3)
        known = run(model, processor, sources, policy)
        live = run(model, processor, feed_later(sources), policy)
        late = run(model, processor, sources, policy, row_decoder=JustInTime)
        for output in (known, live, late):
            assert_trained(model, processor, sources, output)
            assert (output.words, output.delays) == (known.words, known.delays)
            assert [row[-1] for row in output.queries] == [row[-1] for row in known.queries]
        spared += late.forwards - known.forwards
    assert spared > 0 or threshold == 1.0


IN_FAMILIES = [LearnedReadPolicy(0.3, 1, 4), HoldPolicy(2, 1, 5)]


@pytest.mark.parametrize("policy", IN_FAMILIES, ids=repr)
@pytest.mark.parametrize(
    ("name", "positions"),
    [("Llama", "own_frame"), ("Llama", "group"), ("Llama", "reserved"), ("Mistral", "own_frame"), ("Mpt", "modified")],
)
def test_every_question_in_other_families_equals_training(processor, monkeypatch, name, positions, policy):
    """Drafts too; with rows long enough to outgrow the sliding window."""
    monkeypatch.setattr(Recorder, "rows", [])
    model, sources = make_family(name, processor, positions), sentences(8, 3)
    known = run(model, processor, sources, policy, row_decoder=Recorder)
    live = run(model, processor, feed_later(sources), policy, row_decoder=Recorder)
    for output in (known, live):
        assert_trained(model, processor, sources, output)
    assert (known.words, known.delays, known.stop_reasons) == (live.words, live.delays, live.stop_reasons)
    drafted = sum(
        assert_drafts_equal_trained(model, processor, source, row)
        for row, source in zip(Recorder.rows, sources * 2, strict=True)
    )
    assert (drafted > 0) == (policy.draft_words > 0)
    assert len(set(map(tuple, known.delays))) > 1


@pytest.mark.parametrize("policy", [Chunks(0.3, 1, 6), *ADAPTIVE[1:2], *ADAPTIVE[3:5]], ids=repr)
def test_sentences_of_the_engine_get_what_they_get_alone(model, processor, policy, monkeypatch):
    monkeypatch.setattr(Recorded, "made", [])
    texts = [f"{text} ." for text in sentences(31, 4)]
    engine = StreamEngine(model, processor, max_streams=1, max_tokens=300)
    stream = engine.open(policy, sentences=True, row_decoder=Recorded, **options(processor))
    for word in " ".join(texts).split():
        stream.source.put(f"{word} ")
        engine.step()
    stream.source.end()
    finish(engine)
    assert len(Recorded.made) == len(texts)
    assert_trained(model, processor, texts, as_output(Recorded.made))
    expected, before = [], 0
    for text in texts:
        alone = run(model, processor, [text], policy)
        expected += zip(processor.words(alone.words[0]), (before + delay for delay in alone.delays[0]), strict=True)
        before += len(text.split())
    assert [(word.text, word.delay) for word in stream.words] == expected


@pytest.mark.parametrize("policy", [ConfidencePolicy(0.25, None, 1, 5), LocalAgreementPolicy(2, 1, 5)], ids=repr)
def test_samples_are_the_same_alone_live_and_in_the_engine(model, processor, policy):
    sources = sentences(9, 3)
    chosen = {"do_sample": True, "temperature": 0.8, "top_k": 30, "repetition_penalty": 1.2}

    def draws(*rows):
        return [torch.Generator().manual_seed(row) for row in rows]

    together = run(model, processor, sources, policy, generators=draws(0, 1, 2), **chosen)
    live = run(model, processor, feed_later(sources), policy, generators=draws(0, 1, 2), **chosen)
    assert (live.words, live.delays) == (together.words, together.delays)
    engine = StreamEngine(model, processor, max_streams=3, max_tokens=300)
    streams = [engine.open(policy, generators=draws(row), **options(processor), **chosen) for row in range(3)]
    for row, stream in enumerate(streams):
        stream.source.put(sources[row])
        stream.source.end()
    finish(engine)
    for row, stream in enumerate(streams):
        alone = run(model, processor, [sources[row]], policy, generators=draws(row), **chosen)
        assert (alone.words[0], alone.delays[0]) == (together.words[row], together.delays[row])
        assert [word.text for word in stream.words] == processor.words(together.words[row])


def test_a_draft_whose_logits_are_nan_is_an_error(model, processor, monkeypatch):
    """All questions but those of drafts, and those that come with them, are answered with numbers."""
    step = decoding.decode_step

    def breaks(model, cache, asks):
        answers = step(model, cache, asks)
        return {row: [each._replace(is_nan=ask.is_optional) for each in answers[row]] for row, ask in asks.items()}

    monkeypatch.setattr(decoding, "decode_step", breaks)
    with pytest.raises(ValueError, match="logits are NaN"):
        run(model, processor, ["a dog runs over the meadow"], HoldPolicy(3, 1, 5))


class Forgetful(AdaptivePolicy):
    def reads_after(self, evidence):
        if evidence.entropy < 0:
            return True


class Answers(AdaptivePolicy):
    """With what is neither True nor False."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def reads_after(self, evidence):
        return self.answer


class Undecided(Policy):
    """No policy that looks, but it forgot to return."""

    def reads(self, progress):
        if progress.source_words < 0:
            return True


class Raises(AdaptivePolicy):
    def reads_after(self, evidence):
        raise KeyError("a policy of the user's")


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        (Forgetful(), ValueError, r"reads_after of Forgetful\(.*\) must give True or False, got None"),
        (Answers("no"), ValueError, r"reads_after of Answers\(.*\) must give True or False, got 'no'"),
        (Answers(float("nan")), ValueError, r"must give True or False, got nan"),
        (Undecided(), NotImplementedError, "Undecided.* gave None, which asks for a look, but it has no reads_after"),
        (Raises(), KeyError, "user's"),
    ],
    ids=["forgets to answer", "answers in words", "answers no number", "cannot look", "raises"],
)
def test_what_a_users_policy_does_wrong_ends_its_stream_alone(model, processor, policy, error, message):
    with pytest.raises(error, match=message):
        run(model, processor, ["a dog runs"], policy)
    engine = StreamEngine(model, processor, max_streams=2, max_tokens=300)
    broken, good = (engine.open(each, **options(processor)) for each in (policy, HoldPolicy(2, 1, 5)))
    for stream in (broken, good):
        stream.source.put("a dog runs")
        stream.source.end()
    finish(engine)
    with pytest.raises(error, match=message):
        list(broken)
    alone = run(model, processor, ["a dog runs"], HoldPolicy(2, 1, 5))
    assert [word.text for word in good.words] == processor.words(alone.words[0])
    assert engine.active_streams == 0


@pytest.mark.parametrize("wrong", [3, HoldPolicy, None])
def test_what_is_no_policy_is_refused_at_once(model, processor, wrong):
    given = [wrong] if wrong is None else wrong
    with pytest.raises(ValueError, match="policy must be a Policy or the name of one, got"):
        model.generate(**processor(source="a dog"), policy=given)
    with pytest.raises(ValueError, match="policy must be a Policy or the name of one, got"):
        StreamEngine(model, processor, max_streams=1).open(wrong)
