# SPDX-License-Identifier: Apache-2.0
import itertools
import random
import threading

import pytest
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    SynthIDTextWatermarkingConfig,
    TextIteratorStreamer,
    TextStreamer,
)

from helpers import ForcedTarget as Forced
from helpers import make_model, random_sentence
from transformers_simul import (
    FixedChunkPolicy,
    OfflinePolicy,
    Policy,
    SimulCache,
    SimulGenerationConfig,
    SimulLogitsProcessor,
    SimulStreamer,
    SourceStream,
    WaitKPolicy,
)
from transformers_simul.models import decoding
from transformers_simul.models.audio_units import source_features
from transformers_simul.models.row import Prompt
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.models.schedule import BLANK_START, CONTINUES, EOS, STARTS, Peek, training_row
from transformers_simul.models.text import split_words
from transformers_simul.models.word_rule import WordRule

TOLERANCE = 1e-5


class LaterIsLess(Policy):
    """A user's policy: reads ever less."""

    def reads(self, progress):
        return progress.source_words**2 <= 3 * progress.target_words + 1


POLICIES = [
    WaitKPolicy(1),
    WaitKPolicy(3),
    WaitKPolicy(2, catchup=0.3),
    FixedChunkPolicy(2, 3),
    OfflinePolicy(),
    LaterIsLess(),
]


class Babble(LogitsProcessor):
    """Makes a random model write words of several tokens, end them, and say EOS early and late.

    Its noise is a function of the ids it is shown, so it is the same alone, in a batch and live."""

    def __init__(self, token_kinds):
        self.bias = (token_kinds == STARTS) * 6.0 + (token_kinds == CONTINUES) * 3.5 + (token_kinds == EOS) * 7.0

    def __call__(self, input_ids, scores):
        noise = torch.Generator().manual_seed(int((input_ids.sum() * 31 + input_ids.shape[1]) % 10007))
        return scores + self.bias + 2.5 * torch.randn(scores.shape, generator=noise)


def sentences(seed, count):
    draw = random.Random(seed)
    return [random_sentence(draw, 1, 9) for _ in range(count)]


def run(model, processor, sources, policy, **kwargs):
    options = {
        "max_new_tokens": 40,
        "return_dict_in_generate": True,
        "output_logits": True,
        "logits_processor": LogitsProcessorList([Babble(processor.token_kinds)]),
    }
    return model.generate(**processor(source=sources), policy=policy, **options | kwargs)


def masked_training_logits(model, processor, source, words, delays, queries):
    """One training forward over the finished row; the logits of every query. Provisional ones are peek rows; those that
    were asked before the first word, with a whole tail of their own, are pairs packed behind it."""
    head, tail, eos = processor.head_ids, processor.tail_ids, processor.eos_token_id
    read = queries[-1].visible_words
    last = {query.offset: index for index, query in enumerate(queries)}
    dropped = [query for index, query in enumerate(queries) if last[query.offset] != index]
    peeks = [Peek(*query, kind=1) for query in dropped if query.offset >= len(tail)]
    row = training_row(head, source[:read], tail, words, eos, [*delays, read], peeks)
    behind = row["in_target"].index(True)
    peek_rows = iter(range(len(row["peeks"]) - len(peeks), len(row["peeks"])))
    packed = []
    for number, query in enumerate(dropped, start=2):
        if query.offset < len(tail):
            shown = query.visible_words
            pair = training_row(head, source[:shown], tail, [], eos, [shown])
            row = {
                name: row[name] + values
                for name, values in (pair | {"pair_ids": [number] * len(pair["peeks"])}).items()
            }
            packed.append(len(row["peeks"]) - 2)  # an EOS that nobody looks at is last
    packed_rows = iter(packed)
    columns = {name: torch.tensor([values]) for name, values in row.items() if name != "labels"}
    columns |= source_features(row["input_ids"])
    with torch.no_grad():
        logits = model(**columns, use_cache=False).logits[0].float()
    rows = []
    for index, query in enumerate(queries):
        if last[query.offset] == index:
            rows.append(behind + query.offset)
        else:
            rows.append(next(packed_rows if query.offset < len(tail) else peek_rows))
    return logits[rows]


def assert_streamed_equals_trained(model, processor, sources, policies, output, tolerance=TOLERANCE, exact=None):
    """With `exact`, a float64 copy of the model, both the stream and the model's own masked forward are compared with
    the masked forward of the copy: two float32 kernels that err by less than the tolerance may do so in opposite
    directions."""
    counts = {"multi-token words": 0, "replacements": 0, "EOS-READs": 0}
    for row, source in enumerate(sources):
        words, delays, queries = output.words[row], output.delays[row], output.queries[row]
        encoded = processor.encode(source)
        expected = masked_training_logits(model, processor, encoded, words, delays, queries)
        if exact is not None:
            trained, expected = expected, masked_training_logits(exact, processor, encoded, words, delays, queries)
            assert (trained - expected).abs().max().item() <= tolerance
        difference = (output.logits[row] - expected).abs().max().item()
        assert difference <= tolerance
        g = policies[row].delays(len(encoded), len(words))
        counts["multi-token words"] += sum(len(word) > 1 for word in words)
        counts["replacements"] += sum(a.offset == b.offset for a, b in itertools.pairwise(queries))
        counts["EOS-READs"] += delays != g[:-1]
    return counts


def feed_later(sources):
    """Live streams whose text comes in odd pieces from another thread."""
    streams = [SourceStream() for _ in sources]

    def feed():
        draw = random.Random(0)
        texts = dict(enumerate(sources))
        while texts:
            index = draw.choice(list(texts))
            size = draw.randint(1, 7)
            streams[index].put(texts[index][:size])
            texts[index] = texts[index][size:]
            if not texts[index]:
                streams[index].end()
                del texts[index]

    threading.Thread(target=feed).start()
    return streams


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: repr(policy).split(" object")[0])
@pytest.mark.parametrize("bounded", [False, True], ids=["dynamic", "pre-allocated"])
def test_streamed_logits_equal_one_masked_training_forward(model, processor, policy, bounded):
    totals = {"multi-token words": 0, "replacements": 0, "EOS-READs": 0}
    for batch in (1, 3, 8):
        sources = sentences(batch, batch)
        cache = {"past_key_values": SimulCache(batch, max_tokens=400)} if bounded else {}
        known = run(model, processor, sources, policy, **cache)
        cache = {"past_key_values": SimulCache(batch, max_tokens=400)} if bounded else {}
        live = run(model, processor, feed_later(sources), policy, **cache)
        for output in (known, live):
            counts = assert_streamed_equals_trained(model, processor, sources, [policy] * batch, output)
            totals = {name: totals[name] + counts[name] for name in totals}
        for field in ("words", "delays", "stop_reasons"):
            assert known[field] == live[field]
    if isinstance(policy, OfflinePolicy):
        assert totals["replacements"] == 0
    else:
        assert all(totals.values()), totals


@pytest.mark.parametrize(
    "variant",
    [
        {"alibi_rounding": "exact"},
        {"positions": "none"},
        {"multi_query": True},
        {"new_decoder_architecture": True, "num_kv_heads": 2, "parallel_attn": True},
        {"parallel_attn": True},
        {"attn_implementation": "eager"},
        {"attn_implementation": "flex_attention"},
    ],
    ids=str,
)
def test_invariant_on_every_variant_of_the_model(processor, variant):
    backend = variant.get("attn_implementation", "sdpa")
    model = make_model(processor, **{k: v for k, v in variant.items() if k != "attn_implementation"})
    if backend != "sdpa":
        model = type(model)._from_config(model.config, attn_implementation=backend).eval()
    sources = sentences(5, 4)
    output = run(model, processor, sources, WaitKPolicy(2))
    counts = assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(2)] * 4, output)
    assert all(counts.values()), counts


def test_invariant_in_bfloat16_within_its_precision(processor):
    model = make_model(processor).to(torch.bfloat16)
    sources = sentences(5, 4)
    output = run(model, processor, sources, WaitKPolicy(2))
    # Eight bits of mantissa: logits of a few units differ by some hundredths.
    assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(2)] * 4, output, tolerance=0.15)


class JustInTime(RowDecoder):
    """Decodes as if no word were there before it is read."""

    feeds_ahead = False


def test_forwards(model, processor):
    """Known or waiting, one per target token and EOS-READ; just in time, one more for each READ that a word waits for,
    and as many where everything is recomputed. The same ids and logits all the same."""
    from transformers_simul.research.baselines import RecomputingDecoder

    replaced = 0
    for source in sentences(17, 8):
        outputs = {}
        for name, text, decoder in (
            ("known", source, RowDecoder),
            ("waiting", SourceStream(source), RowDecoder),
            ("just in time", SourceStream(source), JustInTime),
            ("recomputed", SourceStream(source), RecomputingDecoder),
        ):
            if not isinstance(text, str):
                text.end()
            forced = LogitsProcessorList([Forced([*processor.encode(source)[0]] * 3 + [0], processor.tail_ids)])
            outputs[name] = run(model, processor, [text], WaitKPolicy(1), logits_processor=forced, row_decoder=decoder)
        queries = outputs["known"].queries[0]
        tokens, asked = len({query.offset for query in queries}), len(queries)
        last_reads = sum(query.offset == queries[-1].offset for query in queries[:-1])
        assert outputs["just in time"].forwards == outputs["recomputed"].forwards == asked
        for name in ("known", "waiting"):
            # EOS that comes early READs one word at a time, behind the last word.
            assert tokens <= outputs[name].forwards <= tokens + last_reads
            replaced += asked - outputs[name].forwards
            assert outputs[name].words == outputs["just in time"].words
            assert outputs[name].delays == outputs["just in time"].delays
            difference = outputs[name].logits[0] - outputs["just in time"].logits[0]
            assert difference.abs().max() <= TOLERANCE
    assert replaced > 10


def broken_replacement(monkeypatch):
    place = SimulCache.place
    monkeypatch.setattr(
        SimulCache,
        "place",
        lambda self, rows, counts, forgets, queries: place(self, rows, counts, [()] * len(rows), queries),
    )


def mutate_asks(monkeypatch, mutated):
    columns = decoding._columns
    monkeypatch.setattr(decoding, "_columns", lambda ask: columns(mutated(ask)))


def broken_visibility(monkeypatch):
    mutate_asks(
        monkeypatch,
        lambda ask: ask._replace(copies=tuple(each - 1 for each in ask.copies)),
    )


def broken_live_visibility(monkeypatch):
    mutate_asks(monkeypatch, lambda ask: ask._replace(visible_source=ask.visible_source - bool(ask.forgets)))


def broken_rank(monkeypatch):
    mutate_asks(monkeypatch, lambda ask: ask._replace(target_offset=ask.target_offset + (ask.target_offset > 8)))


def wrong_row_kept(monkeypatch):
    """After asking ahead, of the two stored rows the other one is forgotten."""
    place = SimulCache.place
    other = {(0,): (1,), (1,): (0,)}
    monkeypatch.setattr(
        SimulCache,
        "place",
        lambda self, rows, counts, forgets, queries: place(
            self, rows, counts, [other.get(forget, forget) for forget in forgets], queries
        ),
    )


def tail_kept(monkeypatch):
    """After an EOS that came before the first word, only the newest token of the tail is fed again."""
    monkeypatch.setattr(RowDecoder, "feed_again", lambda self: self.in_place((self.tail + self.target)[-1:]))


@pytest.mark.parametrize(
    ("mutate", "live"),
    [
        (tail_kept, False),
        (tail_kept, True),
        (broken_replacement, False),
        (broken_replacement, True),
        (broken_visibility, False),
        (broken_live_visibility, True),
        (broken_rank, False),
        (wrong_row_kept, False),
    ],
)
def test_mutations_break_the_invariant(model, processor, monkeypatch, mutate, live):
    mutate(monkeypatch)
    sources = sentences(8, 8)
    output = run(model, processor, feed_later(sources) if live else sources, WaitKPolicy(1))
    with pytest.raises(AssertionError):
        assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(1)] * 8, output)


@pytest.mark.parametrize("sampling", [False, True])
def test_a_stream_gets_the_same_ids_alone_and_in_any_batch(model, processor, sampling):
    sources = sentences(11, 6)
    policies = [WaitKPolicy(1 + index % 3) for index in range(6)]

    def generators(rows):
        seeds = [torch.Generator().manual_seed(row) for row in rows]
        return {"do_sample": True, "temperature": 0.8, "top_k": 50, "generators": seeds} if sampling else {}

    together = run(model, processor, sources, policies, **generators(range(6)))
    for row in range(6):
        alone = run(model, processor, [sources[row]], policies[row], **generators([row]))
        assert alone.words[0] == together.words[row]
        assert alone.delays[0] == together.delays[row]
    if sampling:
        other = run(model, processor, sources, policies, **generators(range(6, 12)))
        assert other.words != together.words


def test_sampling_follows_the_factorised_distribution(processor):
    """The first word's length in tokens, sampled often, has the probability that the logits give it."""
    model = make_model(processor, seed=3)
    source, count = "a dog runs", 1500
    rule = LogitsProcessorList([FixedBias(processor.token_kinds)])
    inputs = processor(source=[source] * count)
    torch.manual_seed(0)
    output = model.generate(
        **inputs, policy=WaitKPolicy(1), do_sample=True, top_k=0, logits_processor=rule, max_new_tokens=2,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    by_first: dict[int, list] = {}
    for row in range(count):
        if output.words[row] and output.delays[row][0] == 1:
            by_first.setdefault(output.words[row][0][0], []).append(row)
    _token, rows = max(by_first.items(), key=lambda item: len(item[1]))
    scores = output.logits[rows[0]][1] + rule[0].bias
    barred = processor.token_kinds == 3
    ends = (processor.token_kinds == STARTS) | (processor.token_kinds == EOS) | (processor.token_kinds == 4)
    expected = scores.masked_fill(barred, -torch.inf).softmax(-1)[ends].sum().item()
    found = sum(len(output.words[row][0]) == 1 for row in rows) / len(rows)
    assert len(rows) > 100
    assert abs(found - expected) < 4 * (expected * (1 - expected) / len(rows)) ** 0.5


def test_a_function_of_allowed_tokens_is_told_which_row(model, processor):
    """Or rather it is refused where it would not be."""
    seen = set()

    def allowed(row, ids):
        seen.add(row)
        return list(range(len(processor.tokenizer)))

    options = {"policy": WaitKPolicy(1), "prefix_allowed_tokens_fn": allowed, "max_new_tokens": 2}
    model.generate(**processor(source=["a dog"]), **options)
    assert seen == {0}
    with pytest.raises(ValueError, match="prefix_allowed_tokens_fn must have a batch of one with a policy, got 2 rows"):
        model.generate(**processor(source=["a dog", "a"]), **options)


def test_a_repetition_penalty_knows_no_padding(model, processor):
    """Rows of a batch are padded to its longest; what a row is penalised for is what it would be alone."""
    sources = ["a dog", "two children watch him jumping remarkably high today", "a dog runs over the green meadow"]
    options = {"repetition_penalty": 2.5, "logits_processor": LogitsProcessorList([FixedBias(processor.token_kinds)])}
    together = run(model, processor, sources, WaitKPolicy(2), **options)
    alone = [run(model, processor, [source], WaitKPolicy(2), **options).words[0] for source in sources]
    assert together.words == alone
    assert run(model, processor, sources, WaitKPolicy(2), **options | {"repetition_penalty": 1.0}).words != alone


def test_the_models_configuration_holds_where_the_callers_says_nothing(processor):
    model = make_model(processor)
    inputs, policy = processor(source="a dog runs over the green meadow"), WaitKPolicy(1)
    open_ended = GenerationConfig(suppress_tokens=[0], return_dict_in_generate=True)
    model.generation_config.max_new_tokens = 3
    output = model.generate(**inputs, policy=policy, generation_config=open_ended)
    assert output.stop_reasons == ["max_new_tokens"]
    assert sum(map(len, output.words[0])) == 3
    model.generation_config.num_beams = 2
    with pytest.raises(ValueError, match="num_beams=2 is not supported"):
        model.generate(**inputs, policy=policy, generation_config=open_ended)


class FixedBias(LogitsProcessor):
    def __init__(self, token_kinds):
        self.bias = (token_kinds == STARTS) * 5.0 + (token_kinds == CONTINUES) * 2.0

    def __call__(self, input_ids, scores):
        return scores + self.bias


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_unread_source_changes_nothing_written_before(model, processor, penalty):
    """The second invariant: whatever comes after the n-th word, what was written by then is the same."""
    draw = random.Random(0)
    compared = 0
    for trial in range(40):
        source = sentences(100 + trial, 1)[0].split()
        first = run(model, processor, [" ".join(source)], WaitKPolicy(1), repetition_penalty=penalty)
        cut = draw.randint(1, len(source))
        other = source[:cut] + sentences(200 + trial, 1)[0].split()
        second = run(model, processor, [" ".join(other)], WaitKPolicy(1), repetition_penalty=penalty)
        kept = [
            [word for word, delay in zip(out.words[0], out.delays[0], strict=True) if delay <= cut]
            for out in (first, second)
        ]
        # After the cut a shorter source may end where the longer reads on; only what both wrote by then counts.
        length = min(map(len, kept))
        before = [out.delays[0][:length] for out in (first, second)]
        certain = sum(delay < cut for delay in before[0])
        assert kept[0][:certain] == kept[1][:certain]
        compared += certain
    assert compared > 10


def test_truly_live_source_word_comes_only_after_the_word_it_answers(model, processor):
    """wait-k: word k + i + 1 is put only after target word i was shown; peeking or waiting for the end dead-locks."""
    k, source = 2, ["a", "dog", "runs", "over", "the", "green", "meadow", "today"]
    stream, streamer = SourceStream(timeout_s=60), SimulStreamer(processor)
    for word in source[:k]:
        stream.put(word + " ")
    kinds = processor.token_kinds

    class NoEos(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores.masked_fill(kinds == EOS, -torch.inf) + FixedBias(kinds).bias

    def translate():
        model.generate(
            **processor(source=stream), policy=WaitKPolicy(k), streamer=streamer, max_new_tokens=60,
            max_word_tokens=3, logits_processor=LogitsProcessorList([NoEos()]),
        )  # fmt: skip

    threading.Thread(target=translate, daemon=True).start()
    rest = iter(source[k:])
    shown = []
    for word in streamer:
        shown.append(word.delay)
        following = next(rest, None)
        if following is None:
            stream.end()
        else:
            stream.put(following + " ")
    assert shown[: len(source) - k + 1] == list(range(k, len(source) + 1))


def test_offline_policy_equals_stock_greedy_search(model, processor):
    """All source read, nothing is provisional: the same ids as generate() without a policy."""
    kinds = processor.token_kinds
    sources = sentences(3, 4)
    for source in sources:
        inputs = processor(source=source)
        rule = LogitsProcessorList([FixedBias(kinds)])
        simul = model.generate(**inputs, policy=OfflinePolicy(), logits_processor=rule, max_new_tokens=15)
        # Stock search knows no word rules.
        words = SimulLogitsProcessor(kinds, model.config.vocab_size, prompt_tokens=inputs["input_ids"].shape[1])
        stock = model.generate(**inputs, logits_processor=LogitsProcessorList([words, *rule]), max_new_tokens=15)
        assert simul.tolist() == stock.tolist()


def test_caps_and_stop_reasons(model, processor):
    rule = LogitsProcessorList([FixedBias(processor.token_kinds)])
    out = run(model, processor, ["a dog runs"], WaitKPolicy(1), logits_processor=rule, max_new_tokens=7)
    assert out.stop_reasons == ["max_new_tokens"]
    assert sum(map(len, out.words[0])) == 7
    out = run(model, processor, ["a dog runs"], WaitKPolicy(1), logits_processor=rule, max_word_tokens=2)
    assert max(map(len, out.words[0])) <= 2
    # Without a limit, 20 tokens and three for each one read.
    inputs = processor(source="a dog runs")
    bound = 20 + 3 * sum(map(len, inputs["source"][0]))
    no_eos = model.generate(**inputs, policy=OfflinePolicy(), suppress_tokens=[0], return_dict_in_generate=True)
    assert sum(map(len, no_eos.words[0])) == bound
    out = run(model, processor, ["a dog runs"], WaitKPolicy(1), max_time=0.0)
    assert out.stop_reasons == ["stopping_criteria"]
    assert out.sequences.shape[0] == 1


def test_eos_without_a_word_and_source_shorter_than_k(model, processor):
    only_eos = LogitsProcessorList([OnlyEos(processor.token_kinds)])
    out = run(model, processor, ["a dog runs over"], WaitKPolicy(1), logits_processor=only_eos)
    assert out.words == [[]]
    assert out.stop_reasons == ["eos"]
    assert [query.visible_words for query in out.queries[0]] == [1, 2, 3, 4]
    for source in ("a", "a dog"):
        out = run(model, processor, [source], WaitKPolicy(7))
        assert set(out.delays[0]) <= {len(source.split())}


class OnlyEos(LogitsProcessor):
    def __init__(self, token_kinds):
        self.bias = (token_kinds == EOS) * 1e4

    def __call__(self, input_ids, scores):
        return scores + self.bias


HARD_TEXTS = [
    "It costs 3.5 dollars .",
    'The "U.S. troops" (twice)',
    "no final punctuation",
    "Bonjour\u00a0! Ça va\u202f?",
    "naïve Füße Ελλάδα",
    "flags 🇩🇪 and 👩‍👩‍👧 emoji🙂glued",
    "שלום עולם مرحبا",
    "x",
]


@pytest.mark.parametrize("text", HARD_TEXTS)
@pytest.mark.parametrize("live", [False, True], ids=["known", "live"])
def test_hard_text_is_read_and_written_unchanged(model, processor, text, live):
    """The text is both source and forced target: words, delays and stop reason are the policy's."""
    units = processor.encode(text)
    forced = [token for word in units for token in word] + [processor.eos_token_id]
    for policy in (WaitKPolicy(1), WaitKPolicy(9), FixedChunkPolicy(2, 1)):
        source = text
        if live:  # character by character; it ends in the middle of a word
            source = SourceStream()
            for char in text:
                source.put(char)
            source.end()
        streamer = SimulStreamer(processor)
        output = run(
            model, processor, [source], policy, streamer=streamer, tokenizer=processor.tokenizer,
            logits_processor=LogitsProcessorList([Forced(forced, processor.tail_ids)]), max_new_tokens=300,
        )  # fmt: skip
        assert [word.text for word in streamer] == split_words(text)
        assert processor.text(output.words[0]) == " ".join(split_words(text))
        assert output.delays[0] == policy.delays(len(units), len(units))[:-1]
        assert output.stop_reasons == ["eos"]
        assert output.sequences[0, -len(forced) :].tolist() == forced


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
def test_a_source_that_stops_coming_ends_its_row_only(model, processor, how):
    broken, whole = SourceStream("a dog runs ", timeout_s=0.3 if how == "timeout" else None), SourceStream("a dog ")
    whole.end()
    streamer = SimulStreamer(processor)
    if how == "cancelled":
        threading.Timer(0.3, broken.cancel).start()
    out = run(model, processor, [broken, whole], WaitKPolicy(4), streamer=streamer)
    assert out.stop_reasons[0] == how
    assert out.words[0] == []
    assert out.stop_reasons[1] in ("eos", "max_new_tokens")
    assert {word.row for word in streamer} == {1}


def test_streamers_get_committed_words_only(model, processor, capsys):
    streamer = SimulStreamer(processor)
    out = run(model, processor, sentences(3, 3), WaitKPolicy(1), streamer=streamer)
    for _ in range(2):  # every consumer gets all of it
        words = list(streamer)
        for row in range(3):
            mine = [word for word in words if word.row == row]
            assert [word.text for word in mine] == processor.words(out.words[row])
            assert [word.delay for word in mine] == out.delays[row]
            assert [word.elapsed_ms for word in mine] == sorted(out.elapsed_ms[row])
    out = run(model, processor, ["a dog"], WaitKPolicy(1), streamer=TextStreamer(processor.tokenizer, skip_prompt=True))
    assert "".join(processor.tokenizer.decode(word) for word in out.words[0]).strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_beams": 2}, "num_beams=2 is not supported"),
        ({"num_return_sequences": 2, "do_sample": True}, "num_return_sequences=2"),
        ({"min_new_tokens": 3}, "min_new_tokens=3"),
        ({"policy": [WaitKPolicy(1)] * 3}, "policy must hold one entry per row, 1, got 3"),
        ({"prompt": Prompt([], [5], WordRule(torch.arange(9999) + EOS))}, "another tokenizer"),
        ({"source": None}, "source and prompt must be given"),
        ({"prompt": None}, "source and prompt must be given"),
        ({"source": [[[5]], [[6]]]}, "source must hold one entry per row, 1, got 2"),
        ({"past_key_values": SimulCache(2)}, "must be empty and hold 1 rows"),
        ({"cache": SimulCache(2)}, "must be empty and hold 1 rows"),
        ({"cache": SimulCache(1), "past_key_values": SimulCache(1)}, "cache must not stand beside past_key_values"),
        ({"past_key_values": SimulCache(1, max_tokens=5)}, "max_tokens of the cache is 5"),
        ({"nonsense": 1}, "nonsense"),
        ({"exponential_decay_length_penalty": (3, 1.1)}, "exponential_decay_length_penalty=.* is not supported"),
        ({"begin_suppress_tokens": [5]}, "begin_suppress_tokens=.* is not supported"),
        ({"forced_bos_token_id": 5}, "forced_bos_token_id=5 is not supported"),
        ({"forced_eos_token_id": 0}, "forced_eos_token_id=0 is not supported"),
        ({"max_word_tokens": 0}, "max_word_tokens must be at least 1, a whole number, got 0"),
        ({"max_word_tokens": None}, "max_word_tokens must be at least 1, a whole number, got None"),
        ({"generators": torch.Generator(), "do_sample": True}, "generators must be a sequence of one torch.Generator"),
        ({"generators": [1], "do_sample": True}, "generators must be a sequence of one torch.Generator"),
        ({"watermarking_config": SynthIDTextWatermarkingConfig([1, 2], 3)}, "watermarking_config must not be SynthID"),
    ],
)
def test_what_is_not_supported_says_so(model, processor, kwargs, message):
    options = dict(processor(source="a dog runs")) | {"policy": WaitKPolicy(1)} | kwargs
    with pytest.raises(ValueError, match=message):
        model.generate(**options)


def test_a_word_rule_knows_one_eos():
    for kinds in ([STARTS, CONTINUES], [EOS, EOS]):
        with pytest.raises(ValueError, match="must mark one token as EOS"):
            WordRule(torch.tensor(kinds))


def test_nan_logits_are_an_error(processor):
    model = make_model(processor)
    with torch.no_grad():
        model.lm_head.weight[5] = torch.nan
    with pytest.raises(ValueError, match="logits are NaN"):
        model.generate(**processor(source="a dog"), policy=WaitKPolicy(1))


def test_without_a_policy_generate_is_stock(model, processor):
    inputs = processor(source=["a dog runs over", "a dog"])
    ids = model.generate(**inputs, max_new_tokens=5)
    plain = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=5)
    assert ids.tolist() == plain.tolist()


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_without_a_policy_a_simul_cache_is_refused(model, processor, name):
    """By either name that releases of Transformers have for it."""
    inputs = processor(source="a dog")
    with pytest.raises(ValueError, match="must not be a SimulCache without a policy"):
        model.generate(**inputs, **{name: SimulCache(1)})
    with pytest.raises(ValueError, match="got the SimulCache itself"):
        model(inputs["input_ids"], **{name: SimulCache(1)})


def test_sequences_hold_known_prompts_whole_and_what_was_read_of_live_ones(model, processor):
    text = "a dog runs over the green meadow"
    inputs = processor(source=text)
    known = run(model, processor, [text], WaitKPolicy(1), max_new_tokens=1)
    assert known.sequences[0].tolist() == inputs["input_ids"][0].tolist() + known.words[0][0]
    stream = SourceStream(text)
    stream.end()
    live = run(model, processor, [stream], WaitKPolicy(1), max_new_tokens=1)
    read = processor.encode(text)[: live.queries[0][-1].visible_words]
    prompt = processor.head_ids + [token for word in read for token in word] + processor.tail_ids
    assert len(prompt) < inputs["input_ids"].shape[1]
    assert live.sequences[0].tolist() == prompt + live.words[0][0]


FAILING = [
    ({"wait_k": 2}, "evaluation mode"),
    ({"wait_k": 2, "policy": WaitKPolicy(1)}, "must not stand beside a policy"),
    ({"wait_k": 0}, "k must be a whole number"),
    ({"wait_k": 2, "num_beams": 2}, "num_beams=2 is not supported"),
    ({"wait_k": 2, "nonsense": 1}, "nonsense"),
    ({"num_beams": 2}, "streamer"),
]


@pytest.mark.parametrize(("kwargs", "message"), FAILING)
def test_who_listens_to_a_call_that_fails_is_told(processor, kwargs, message):
    model = make_model(processor)
    if message == "evaluation mode":
        model.train()
    ours, stock = SimulStreamer(processor), TextIteratorStreamer(processor.tokenizer, timeout=60)
    for streamer in (ours, stock):
        with pytest.raises(ValueError, match=message):
            model.generate(**processor(source=SourceStream("a ")), streamer=streamer, **kwargs)
    with pytest.raises(ValueError, match=message):
        list(ours)
    assert list(stock) == [""]


def test_wait_k_of_a_generation_configuration(processor, tmp_path):
    """It survives saving and loading, through stock classes too; the caller's configuration comes before the model's."""
    model = make_model(processor)
    assert model.generation_config.wait_k is None
    model.save_pretrained(tmp_path)
    assert "wait_k" not in (tmp_path / "generation_config.json").read_text()
    model.generation_config.wait_k = 2
    model.save_pretrained(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).wait_k == 2
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.generation_config.wait_k == 2
    loaded.save_pretrained(tmp_path / "again")
    loaded = type(model).from_pretrained(tmp_path / "again")
    inputs, options = processor(source="a dog runs over"), {"return_dict_in_generate": True, "max_new_tokens": 12}

    def first_query(**kwargs):
        return loaded.generate(**inputs, **kwargs).queries[0][0].visible_words

    assert first_query(**options) == 2
    for config in (SimulGenerationConfig(wait_k=3, **options), GenerationConfig(wait_k=3, **options)):
        assert first_query(generation_config=config) == 3
        assert first_query(generation_config=config, wait_k=1) == 1
        given = inputs["input_ids"], config
        kwargs = {name: value for name, value in inputs.items() if name != "input_ids"}
        assert loaded.generate(*given, **kwargs).queries[0][0].visible_words == 3
    assert first_query(generation_config=GenerationConfig(**options)) == 2
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        SimulGenerationConfig(wait_k=0)


def test_a_row_that_ends_behind_a_lone_space_shows_no_empty_word(model, processor):
    """Of a runaway row the last word may be nothing but its space, which nobody can see yet."""
    space = processor.tokenizer.convert_tokens_to_ids("Ġ")
    assert processor.token_kinds[space] == BLANK_START
    first = processor.encode("dog")[0]
    output = run(
        model, processor, ["a dog runs"], OfflinePolicy(), max_new_tokens=len(first) + 1,
        logits_processor=LogitsProcessorList([Forced([*first, space, space], processor.tail_ids)]),
    )  # fmt: skip
    assert output.words[0] == [first]
    assert output.stop_reasons == ["max_new_tokens"]


@pytest.mark.parametrize("ids", ["three", [0, "1"], 1.5])
def test_a_generation_configuration_with_ids_that_are_none_is_refused(ids):
    with pytest.raises(ValueError, match="eos_token_id of the generation configuration must be a token's id"):
        SimulGenerationConfig(eos_token_id=ids)


def test_nan_of_a_logits_processor_is_an_error_and_no_end(model, processor):
    with pytest.raises(ValueError, match="logits processors must give no NaN"):
        run(
            model, processor, ["a dog runs"], WaitKPolicy(1),
            logits_processor=LogitsProcessorList([lambda ids, scores: scores * float("nan")]),
        )  # fmt: skip
