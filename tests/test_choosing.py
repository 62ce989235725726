# SPDX-License-Identifier: Apache-2.0
"""What a step chooses for all rows at once is what each would choose by itself, and it asks the device once."""

import math
import random
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GenerationConfig

from helpers import make_model, make_processor, random_sentence
from test_adaptive import ADAPTIVE
from test_engine import finish
from test_generation import POLICIES, sentences
from transformers_simul import AlignAttPolicy, StreamEngine, WaitKPolicy
from transformers_simul.models.choosing import answers_of
from transformers_simul.models.configuration_generation import SimulGenerationConfig
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.models.schedule import CONTINUES, EOS, NEVER, STARTS
from transformers_simul.models.word_rule import WordRule

EXPECTED = ("any", "start", "bare", "continue")
# Each makes the host wait for the device.
TRANSFERS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__")


class ByItself(RowDecoder):
    """Chooses from its own logits, row by row, as rows do that sample."""

    rule_alone = None


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def babbling(processor):
    """A random model that writes words of several tokens, ends them, and says EOS early and late, by its own logits."""
    model, kinds = make_model(processor, tie_word_embeddings=False), processor.token_kinds
    bias = (kinds == STARTS) * 8.0 + (kinds == EOS) * 4.0
    model.lm_head.register_forward_hook(lambda module, args, logits: 3 * logits + bias)
    return model


@pytest.fixture(scope="module")
def babbler(processor):
    return babbling(processor)


def plain_choice(scores, kinds, expected, eos_threshold=None):
    """The oracle: a loop over the vocabulary, and one without EOS where that has too little of the probability: of all
    that may follow, or if a word would start instead, of what may start there."""
    allowed = {
        "any": lambda kind: kind != NEVER,
        "start": lambda kind: kind not in (NEVER, CONTINUES),
        "bare": lambda kind: kind in (CONTINUES, EOS),
        "continue": lambda kind: kind == CONTINUES,
    }[expected]
    may_follow = [token for token, kind in enumerate(kinds) if allowed(kind)]

    def likeliest(tokens):
        best = None
        for token in tokens:
            if best is None or scores[token].item() > scores[best].item():
                best = token
        return best

    def mass(tokens):
        return sum(math.exp(scores[token].item()) for token in tokens)

    best, other = likeliest(may_follow), likeliest([token for token in may_follow if kinds[token] != EOS])
    if best is None or kinds[best] != EOS or eos_threshold is None or other is None:
        return best
    rivals = may_follow if kinds[other] == CONTINUES else [each for each in may_follow if kinds[each] != CONTINUES]
    return other if mass([best]) <= eos_threshold * mass(rivals) else best


def plain_share_of_ends(scores, kinds):
    ends = goes_on = 0.0
    for score, kind in zip(scores.tolist(), kinds, strict=True):
        if kind == CONTINUES:
            goes_on += math.exp(score)
        elif kind != NEVER:
            ends += math.exp(score)
    return ends / (ends + goes_on)


@pytest.mark.parametrize("threshold", [None, 0.5, 0.7])
@pytest.mark.parametrize("ties", [False, True])
def test_all_rows_at_once_choose_what_a_loop_over_the_vocabulary_does(ties, threshold):
    draw = torch.Generator().manual_seed(int(ties))
    seen, ends = Counter(), Counter()
    for _ in range(20):
        tables = []
        for _ in range(3):
            kinds = torch.randint(5, (37,), generator=draw)
            kinds[kinds == EOS] = CONTINUES
            kinds[int(torch.randint(37, (), generator=draw))] = EOS
            tables.append(kinds)
        rules = [WordRule(kinds, eos_threshold=threshold) for kinds in tables]
        rows = [0, 1, 0, None, 2, 2, 1, 0]
        logits = torch.randn(len(rows), 37, generator=draw) * 2
        logits = logits.round() if ties else logits
        if threshold is not None:
            # Likely enough to be refused, and to be taken.
            for index, row in enumerate(rows):
                logits[index, 0 if row is None else rules[row].eos_token_id] += 3 + 2 * (index % 2)
        answers = answers_of(logits, [None if row is None else rules[row] for row in rows])
        for scores, row, answer in zip(logits, rows, answers, strict=True):
            assert torch.equal(answer.logits, scores)
            assert not answer.is_nan
            if row is None:
                assert answer.choice is None
                continue
            kinds = tables[row].tolist()
            for expected in EXPECTED:
                token = plain_choice(scores, kinds, expected, threshold)
                assert answer.choice.token(expected) == token
                assert rules[row].likeliest(rules[row].bar(scores, expected)) == token
                ends[token == rules[row].eos_token_id, token == plain_choice(scores, kinds, expected)] += 1
            assert answer.choice.word_ends == (plain_share_of_ends(scores, kinds) > 0.5)
            seen[answer.choice.word_ends] += 1
    assert min(seen.values()) > 10
    # With a threshold, EOS was written, was not the likeliest, and was the likeliest and refused.
    assert min(ends[True, True], ends[False, True]) > 10
    assert (ends[False, False] > 10) == (threshold is not None)


def test_nan_is_told_of_its_row_alone():
    rule = WordRule(torch.tensor([EOS, CONTINUES, NEVER]))
    logits = torch.zeros(3, 3)
    # Also where no token may ever be chosen.
    logits[1, 2] = torch.nan
    assert [answer.is_nan for answer in answers_of(logits, [rule, rule, None])] == [False, True, False]
    logits[1, 2], logits[2] = -torch.inf, torch.inf
    assert not any(answer.is_nan for answer in answers_of(logits, [rule, rule, rule]))


def test_a_vocabulary_of_whole_words_has_no_token_that_goes_on():
    logits = torch.tensor([[0.0, 3.0, 9.0, 2.0]])
    (answer,) = answers_of(logits, [WordRule(torch.tensor([EOS, STARTS, NEVER, STARTS]))])
    assert answer.choice.word_ends
    assert (answer.choice.any, answer.choice.start, answer.choice.bare) == (1, 1, 0)


class NoFloat64(TorchDispatchMode):
    """A device that has none, as Apple's."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        assert not (isinstance(made, torch.Tensor) and made.dtype == torch.float64), func
        return made


def test_choosing_needs_no_float64_and_numbers_of_tokens_are_exact():
    kinds = torch.full((2**20 + 2,), CONTINUES)
    kinds[0], kinds[5::2] = EOS, STARTS
    for token in (2**20 - 1, 2**20 + 1):
        logits = torch.zeros(1, len(kinds))
        logits[0, token], logits[0, token - 1] = 9.0, 10.0
        rule = WordRule(kinds)
        with NoFloat64():
            (answer,) = answers_of(logits, [rule])
        assert answer.choice == (False, token - 1, token, token - 1, token - 1)


def test_ids_are_those_that_each_row_would_choose_alone(babbler, processor):
    draw = random.Random(3)
    sources = [random_sentence(draw, 1, 9) for _ in range(12)]
    policies = [WaitKPolicy(1 + index % 4) for index in range(12)]
    inputs = {"max_new_tokens": 40, "return_dict_in_generate": True}
    at_once = babbler.generate(**processor(source=sources), policy=policies, **inputs)
    by_row = babbler.generate(**processor(source=sources), policy=policies, row_decoder=ByItself, **inputs)
    assert (at_once.words, at_once.delays) == (by_row.words, by_row.delays)
    assert at_once.forwards == by_row.forwards
    assert any(len(word) > 1 for words in at_once.words for word in words)
    assert "eos" in at_once.stop_reasons
    engine = StreamEngine(babbler, processor, max_streams=5, max_tokens=200)
    waiting = list(zip(sources, policies, strict=True))
    streams = []
    while waiting or engine.active_streams:
        while waiting and engine.active_streams < 5:
            source, policy = waiting.pop(0)
            streams.append(engine.open(policy, max_new_tokens=40))
            streams[-1].source.put(source)
            streams[-1].source.end()
        engine.step()
    for index, stream in enumerate(streams):
        alone = babbler.generate(**processor(source=sources[index]), policy=policies[index], **inputs)
        assert alone.words[0] == at_once.words[index]
        assert [word.text for word in stream.words] == processor.words(alone.words[0])


@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("policy", [*POLICIES, *ADAPTIVE], ids=lambda policy: repr(policy).split(" object")[0])
def test_every_policy_asks_the_same_and_is_told_the_same(babbler, processor, policy, threshold, monkeypatch):
    """Looks and drafts too."""
    monkeypatch.setattr(babbler.generation_config, "eos_threshold", threshold)
    inputs, options = processor(source=sentences(4, 6)), {"max_new_tokens": 30, "return_dict_in_generate": True}
    at_once, by_row = (
        babbler.generate(**inputs, policy=policy, row_decoder=decoder, **options) for decoder in (RowDecoder, ByItself)
    )
    for field in ("words", "delays", "queries", "stop_reasons"):
        assert at_once[field] == by_row[field]


@pytest.mark.parametrize("config", [GenerationConfig, SimulGenerationConfig])
def test_the_callers_configuration_says_where_eos_is_likely_enough(babbler, processor, config, monkeypatch):
    """Above the model's; of streams of one engine, each has its own."""
    source, options = "a dog runs over him", {"max_new_tokens": 20, "return_dict_in_generate": True}

    def words(threshold):
        monkeypatch.setattr(babbler.generation_config, "eos_threshold", threshold)
        return babbler.generate(**processor(source=source), wait_k=2, **options).words[0]

    def asked(own):
        return config(**options) if own is None else config(eos_threshold=own, **options)

    likeliest, unlikely = words(None), words(0.9)
    assert len(likeliest) < len(unlikely)
    for own, models, wanted in ((0.9, None, unlikely), (None, 0.9, unlikely), (0, 0.9, likeliest)):
        monkeypatch.setattr(babbler.generation_config, "eos_threshold", models)
        output = babbler.generate(**processor(source=source), wait_k=2, generation_config=asked(own))
        assert output.words[0] == wanted
    monkeypatch.setattr(babbler.generation_config, "eos_threshold", None)
    with StreamEngine(babbler, processor) as engine:
        streams = [engine.open("wait-2", generation_config=asked(own)) for own in (0.9, None)]
        for stream in streams:
            stream.source.put(source)
            stream.source.end()
        assert [[word.text for word in stream] for stream in streams] == [*map(processor.words, (unlikely, likeliest))]
        wrong = GenerationConfig(eos_threshold=2)
        with pytest.raises(ValueError, match="eos_threshold must be at least 0 and below 1, got 2"):
            engine.open("wait-2", generation_config=wrong)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: repr(policy).split(" object")[0])
def test_a_resumed_row_ends_where_it_would_have(babbler, processor, policy, threshold, monkeypatch):
    """Once a word has ended, EOS has a greater share than within it."""
    monkeypatch.setattr(babbler.generation_config, "eos_threshold", threshold)
    inputs, options = processor(source=sentences(3, 4)), {"max_new_tokens": 30, "return_dict_in_generate": True}
    whole = babbler.generate(**inputs, policy=policy, **options)
    for count in range(1, 4):
        shown = [[*zip(*row, strict=True)][:count] for row in zip(whole.words, whole.delays, strict=True)]
        resumed = babbler.generate(**inputs, policy=policy, committed=shown, **options)
        assert (resumed.words, resumed.delays) == (whole.words, whole.delays)


class Scalars(TorchDispatchMode):
    """Counts what asks the device for a number within torch's own operations."""

    def __init__(self, counts):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def counted(method, name, counts):
    def counting(*args, **kwargs):
        counts[name] += 1
        return method(*args, **kwargs)

    return counting


def transfers_per_step(engine, monkeypatch, policy, streams):
    """The most of one step, with all rows asking."""
    for index in range(streams):
        stream = engine.open(policy, max_new_tokens=8 + index % 3)
        stream.source.put("a dog runs over the green meadow .")
        stream.source.end()
    engine.step()  # Reads the prompts, and allocates.
    counts, most, answered = Counter(), Counter(), 0
    with monkeypatch.context() as patch:
        for name in TRANSFERS:
            patch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name), name, counts))
        with Scalars(counts):
            while rows := engine.step():
                answered = max(answered, rows)
                most |= counts
                counts.clear()
    assert answered == streams
    return most


@pytest.mark.parametrize("policy", [WaitKPolicy(1), WaitKPolicy(5)], ids=repr)
def test_a_step_asks_the_device_once_however_many_rows(babbler, processor, monkeypatch, policy):
    counts = [
        transfers_per_step(StreamEngine(babbler, processor, streams, 200), monkeypatch, policy, streams)
        for streams in (1, 4, 24)
    ]
    assert counts == [Counter(tolist=1)] * 3


def test_counting_transfers_finds_them(babbler, processor, monkeypatch):
    """A mutant: rows that choose by themselves."""
    monkeypatch.setattr(RowDecoder, "rule_alone", None)
    few, many = (
        transfers_per_step(StreamEngine(babbler, processor, streams, 200), monkeypatch, WaitKPolicy(2), streams)
        for streams in (2, 8)
    )
    assert few.total() < many.total()


def test_looking_at_heads_asks_nothing_of_the_device(babbler, processor, monkeypatch):
    """But what the policy itself asks of what it sees."""

    class Looks(AlignAttPolicy):
        def reads_after(self, evidence):
            assert evidence.attention is not None
            return False

    policy = Looks(1, heads=[(0, 1), (1, 2)])
    policy.for_model = lambda model: policy
    engine = StreamEngine(babbler, processor, 6, 200)
    assert transfers_per_step(engine, monkeypatch, policy, 6) == Counter(tolist=1)


def test_nan_ends_its_stream_and_no_other(processor, babbler):
    model = babbling(processor)
    poison = processor.encode("jumping")[0]
    sources = ["a dog runs over the meadow", "two jumping children watch", "two children watch him"]
    others = {token for text in (sources[0], sources[2]) for word in processor.encode(text) for token in word}
    token = next(token for token in poison if token not in others | {*processor.head_ids, *processor.tail_ids})
    with torch.no_grad():
        model.transformer.word_embeddings.weight[token] = torch.nan
    engine = StreamEngine(model, processor, 3, 200)
    streams = [engine.open(WaitKPolicy(2), max_new_tokens=20) for _ in sources]
    for stream, source in zip(streams, sources, strict=True):
        stream.source.put(source)
        stream.source.end()
    finish(engine)
    assert [stream.stop_reason == "error" for stream in streams] == [False, True, False]
    with pytest.raises(ValueError, match="logits are NaN after"):
        list(streams[1].words)
    for index in (0, 2):
        alone = babbler.generate(
            **processor(source=sources[index]), policy=WaitKPolicy(2), max_new_tokens=20, return_dict_in_generate=True
        )
        assert [word.text for word in streams[index].words] == processor.words(alone.words[0])
