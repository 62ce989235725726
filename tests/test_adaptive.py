# SPDX-License-Identifier: Apache-2.0
"""Policies that look: what training rows teach them."""

import itertools
import math
import random
from typing import ClassVar

import pytest
import torch
from transformers import LogitsProcessorList

from test_generation import TOLERANCE, feed_later, masked_training_logits, run, sentences
from transformers_simul import (
    AdaptivePolicy,
    AlignAttPolicy,
    AlignedPolicy,
    AutoSimulModel,
    ConfidencePolicy,
    Evidence,
    FixedChunkPolicy,
    HoldPolicy,
    LearnedReadPolicy,
    LocalAgreementPolicy,
    MixturePolicy,
    OfflinePolicy,
    Progress,
    RandomPathPolicy,
    RelaxedAgreementPolicy,
    SimulCache,
    SimulMaskDataCollator,
    StreamEngine,
    WaitKPolicy,
    policy_from_name,
)
from transformers_simul.cli.train import main as train_program
from transformers_simul.models.audio_units import source_features
from transformers_simul.models.configuration_generation import SimulGenerationConfig
from transformers_simul.models.loss import simul_loss
from transformers_simul.models.questions import Questions
from transformers_simul.models.row import Drafts
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.models.schedule import (
    CONTINUES,
    EOS,
    READS,
    STARTS,
    TARGET_ENDS,
    WORD_ENDS,
    Peek,
    Schedule,
    due_decisions,
    due_peeks,
    training_row,
)
from transformers_simul.research.baselines import ConverseDecoder, RecomputingDecoder
from transformers_simul.training import training_policy


def questions_of_a_walk(tail_tokens, lengths, delays):
    """The oracle: walk through the pair as a decoder does, one READ at a time, and note what it asks before each."""
    asked, read = [], 1
    newest = tail_tokens - 1
    for word in range(len(lengths) + 1):
        just_ended = word > 0
        while read < delays[word]:
            if word:
                asked.append((newest, read, "the word ends, READ" if just_ended else "READ"))
            just_ended = False
            read += 1
        if word < len(lengths):
            newest += lengths[word]
    return asked


def test_each_read_of_a_walk_is_a_row():
    draw = random.Random(2)
    names = {TARGET_ENDS: "the word ends, READ", READS: "READ"}
    for _ in range(500):
        lengths = [draw.randint(1, 3) for _ in range(draw.randint(1, 6))]
        source, tail = draw.randint(1, 9), draw.randint(1, 3)
        delays = [*sorted(draw.randint(1, source) for _ in lengths), source]
        found = [(peek.offset, peek.visible_words, names[peek.kind]) for peek in due_decisions(tail, lengths, delays)]
        assert found == questions_of_a_walk(tail, lengths, delays)


def test_the_decisions_hold_the_plain_peek_rows_places():
    lengths, delays = [2, 1, 3], [1, 2, 2, 5]
    plain = {(peek.offset, peek.visible_words) for peek in due_peeks(1, lengths, delays)}
    rows = {(peek.offset, peek.visible_words): peek.kind for peek in due_decisions(1, lengths, delays)}
    assert plain == {place for place, kind in rows.items() if kind == TARGET_ENDS}


@pytest.mark.parametrize("kind", [WORD_ENDS, TARGET_ENDS, READS])
def test_the_loss_of_a_decision_is_that_of_eos_among_word_starts_and_eos(kind):
    kinds = torch.tensor([EOS, STARTS, STARTS, CONTINUES])
    logits = torch.tensor([0.3, -0.2, 1.1, 0.7])
    weights = [value.exp().item() for value in logits]
    probability = {
        WORD_ENDS: (weights[0] + weights[1] + weights[2]) / sum(weights),
        TARGET_ENDS: weights[0] / sum(weights),
        READS: weights[0] / (weights[0] + weights[1] + weights[2]),
    }[kind]
    # One label, predicted with certainty, and one peek row.
    hidden = torch.stack([torch.tensor([100.0, 0, 0, 0]), logits, logits])[None]
    labels, peeks = torch.tensor([[-100, 0, -100]]), torch.tensor([[0, 0, kind]])
    loss = simul_loss(hidden, torch.nn.Identity(), labels, peeks, kinds)
    assert loss.item() == pytest.approx(-torch.tensor(probability).log().item(), rel=1e-5)


def test_only_schedules_that_follow_the_text_teach_reads():
    draw = random.Random(0)
    assert AlignedPolicy().for_example({"alignment": "0-0"}, draw).teaches_reads
    assert not RandomPathPolicy().for_example({}, draw).teaches_reads
    assert not WaitKPolicy(3).teaches_reads


def test_decisions_of_a_known_case():
    assert due_decisions(1, [1, 1], [1, 3, 3]) == [Peek(1, 1, TARGET_ENDS), Peek(1, 2, READS)]
    assert due_decisions(1, [1], [3, 3]) == []
    assert due_decisions(2, [1, 1], [1, 1, 2]) == [Peek(3, 1, TARGET_ENDS)]


ADAPTIVE = [
    LearnedReadPolicy(0.3, 1, 4),
    ConfidencePolicy(0.25, least_lag=1, greatest_lag=5),
    ConfidencePolicy(0.9, delta=3.0, least_lag=2, greatest_lag=6),
    HoldPolicy(2, 1, 5),
    LocalAgreementPolicy(2, 1, 5),
    LocalAgreementPolicy(3, 1, 4),
    RelaxedAgreementPolicy(0.6, 3, 1, 5),
    AlignAttPolicy(1, 1, 5, heads=[(1, 2), (0, 1), (1, 0)]),
]


class Recorder(RowDecoder):
    """Keeps every row, so that its drafts can be looked at."""

    rows: ClassVar[list] = []

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rows.append(self)


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(Recorder, "rows", [])
    return Recorder.rows


def draft_words(row, visible_words, target):
    """The words of a training row whose last is what was drafted, and their delays and that of EOS."""
    words, used = [], 0
    for word in row.words:
        if used + len(word) >= len(target) or target[used : used + len(word)] != word:
            break
        words.append(word)
        used += len(word)
    # A draft may begin with a word that was written later: it belongs to the draft where more source was read then.
    while words and row.delays[len(words) - 1] > visible_words:
        used -= len(words.pop())
    return [*words, target[used:]], [*row.delays[: len(words)], visible_words, visible_words]


def assert_drafts_equal_trained(model, processor, source, row):
    """Each question of a draft against a training forward over the words that were written and the draft as a word."""
    head, tail, eos = processor.head_ids, processor.tail_ids, processor.eos_token_id
    encoded = processor.encode(source)
    for query, target, answer in row.drafts.asked:
        j = query.visible_words
        words, delays = draft_words(row, j, target)
        example = training_row(head, encoded[:j], tail, words, eos, delays)
        columns = {name: torch.tensor([values]) for name, values in example.items() if name != "labels"}
        columns |= source_features(example["input_ids"])
        with torch.no_grad():
            logits = model(**columns, use_cache=False).logits[0].float()
        place = example["in_target"].index(True) + query.offset
        assert (logits[place] - answer).abs().max().item() <= TOLERANCE
    return len(row.drafts.asked)


@pytest.mark.parametrize("policy", ADAPTIVE, ids=repr)
def test_every_question_of_an_adaptive_stream_equals_training(model, processor, policy, recorded):
    looks = drafted = 0
    for batch in (1, 6):
        sources = sentences(batch, batch)
        known = run(model, processor, sources, policy, row_decoder=Recorder)
        live = run(model, processor, feed_later(sources), policy, row_decoder=Recorder)
        for output in (known, live):
            for index, source in enumerate(sources):
                words, delays, queries = output.words[index], output.delays[index], output.queries[index]
                expected = masked_training_logits(model, processor, processor.encode(source), words, delays, queries)
                assert (output.logits[index] - expected).abs().max().item() <= TOLERANCE
                looks += sum(a.offset == b.offset for a, b in itertools.pairwise(queries))
                length = len(processor.encode(source))
                for written, delay in enumerate(delays):
                    # EOS before the source has ended READs on, whatever the policy says.
                    assert delay >= min(written + policy.least_lag, length)
        for row, source in zip(recorded, [*sources, *sources], strict=True):
            drafted += assert_drafts_equal_trained(model, processor, source, row)
        recorded.clear()
        for field in ("words", "delays", "stop_reasons"):
            assert known[field] == live[field]
        alone = [run(model, processor, [source], policy).words[0] for source in sources]
        assert alone == known.words
    assert looks > 10
    assert (drafted > 0) == (policy.draft_words > 0)


class Never(AdaptivePolicy):
    """READs, or WRITEs, whatever it sees."""

    def __init__(self, answer, *lags):
        super().__init__(*lags)
        self.answer = answer

    def reads_after(self, evidence):
        return self.answer


@pytest.mark.parametrize(("answer", "like"), [(True, 4), (False, 2)], ids=["never writes", "never reads"])
def test_a_policy_that_never_decides_is_wait_k_at_the_bound_of_its_lags(model, processor, answer, like):
    sources = sentences(5, 20)
    bounded = run(model, processor, sources, Never(answer, 2, 4))
    waitk = run(model, processor, sources, WaitKPolicy(like))
    compared = 0
    for index, source in enumerate(sources):
        # EOS READs on under either, and leaves wait-k, but not a policy between its lags, without a choice.
        g = WaitKPolicy(like).delays(len(source.split()), len(waitk.words[index]))[:-1]
        if waitk.delays[index] == g:
            compared += 1
            assert (bounded.words[index], bounded.delays[index]) == (waitk.words[index], g)
    assert compared > 2


def test_evidence_is_what_the_model_says():
    probabilities = torch.tensor([0.2, 0.5, 0.3, 0.0])
    evidence = Evidence(Progress(3, 1), probabilities.log(), 0, torch.tensor([0.5, 0.25, 0.25, 0.0]).log(), [], [])
    assert evidence.read_probability == pytest.approx(0.2)
    assert evidence.best_probability == pytest.approx(0.5)
    assert evidence.margin == pytest.approx(0.2)
    assert evidence.entropy == pytest.approx(-(0.2 * math.log(0.2) + 0.5 * math.log(0.5) + 0.3 * math.log(0.3)))
    assert evidence.divergence == pytest.approx(0.2 * math.log(0.4) + 0.5 * math.log(2) + 0.3 * math.log(1.2))


def test_drafts_agree_by_the_words_that_are_left():
    drafts = Drafts()
    assert not drafts.begin(3, 3)
    drafts.add([[1], [2], [3]])
    drafts.write([1])
    # No READ: what is left of the draft still holds, if it is enough.
    assert drafts.begin(3, 2)
    assert drafts.words == [[[2], [3]]]
    assert not drafts.begin(3, 3)
    assert drafts.words == []
    drafts.add([[2], [3], [4]])
    assert not drafts.begin(4, 1)
    drafts.add([[2], [9]])
    evidence = Evidence(Progress(4, 1), torch.zeros(1), 0, torch.zeros(1), drafts.words[0], drafts.words[1:])
    assert not LocalAgreementPolicy(2).reads_after(evidence)
    drafts.write([2])
    evidence = evidence._replace(draft=drafts.words[0], earlier_drafts=drafts.words[1:])
    assert LocalAgreementPolicy(2).reads_after(evidence)
    # What was written otherwise than drafted says nothing any more.
    drafts.write([7])
    assert drafts.words == [[], []]


def votes_by_hand(candidates, drafts):
    """The oracle: who of the newest candidates begins with the word that the newest begins with, each once."""
    ballots = [tuple(draft[0]) for draft in candidates[:drafts] if draft]
    return ballots.count(ballots[0]) if candidates[0] else 0


def test_a_share_of_the_drafts_is_enough_and_each_votes_once():
    draw = random.Random(3)
    decisions = set()
    for _ in range(500):
        candidates = [[[draw.choice([1, 2])] for _ in range(draw.randint(0, 2))] for _ in range(draw.randint(1, 6))]
        evidence = Evidence(Progress(4, 1), torch.zeros(1), 0, torch.zeros(1), candidates[0], candidates[1:])
        for drafts, share in ((2, 0.6), (3, 0.6), (4, 0.5), (5, 0.6), (5, 1.0)):
            votes = votes_by_hand(candidates, drafts)
            reads = RelaxedAgreementPolicy(share, drafts).reads_after(evidence)
            assert reads == (votes < math.ceil(share * drafts)), (candidates, drafts, share)
            decisions.add((share, reads))
            agree = LocalAgreementPolicy(drafts).reads_after(evidence)
            assert agree or not reads
            assert share < 1 or agree == reads
    assert len(decisions) == 6
    # Two votes of five are not three: the newest draft's own is not counted again for being the newest.
    evidence = Evidence(Progress(4, 1), torch.zeros(1), 0, torch.zeros(1), [[1], [2]], [[[1]], [[3]], [[3]], [[3]]])
    assert RelaxedAgreementPolicy(0.6, 5).reads_after(evidence)
    assert not RelaxedAgreementPolicy(0.4, 5).reads_after(evidence)


def test_a_share_of_all_drafts_is_local_agreement_and_less_waits_less(model, processor):
    sources = [" ".join(sentences(seed, 3)) for seed in range(5)]
    # Few words to choose from, so that drafts often agree.
    starts = [word[0] for word in processor.encode("a dog runs")]

    def few_words(ids, scores):
        kept = torch.full_like(scores, -torch.inf)
        kept[:, starts] = scores[:, starts]
        return kept

    def decode(policy):
        return run(model, processor, sources, policy, logits_processor=LogitsProcessorList([few_words]))

    agree, whole = decode(LocalAgreementPolicy(4, 1, 9)), decode(RelaxedAgreementPolicy(1.0, 4, 1, 9))
    assert (whole.words, whole.delays) == (agree.words, agree.delays)
    less = decode(RelaxedAgreementPolicy(0.5, 4, 1, 9))
    # After the first word the two may go different ways.
    firsts = [(a[0], b[0]) for a, b in zip(less.delays, agree.delays, strict=True)]
    assert all(a <= b for a, b in firsts)
    assert any(a < b for a, b in firsts), firsts
    assert any(b < 10 for _, b in firsts), firsts


def test_tokens_of_a_draft_that_are_not_given_up_break_the_invariant(model, processor, monkeypatch):
    compose = Questions.compose

    def keeps_drafts(self, *args, **kwargs):
        self._drafted = self._drafted[: kwargs.get("drafted", 0)]
        return compose(self, *args, **kwargs)

    monkeypatch.setattr(Questions, "compose", keeps_drafts)
    source = sentences(4, 1)[0]
    output = run(model, processor, [source], HoldPolicy(2, 1, 5))
    words, delays, queries = output.words[0], output.delays[0], output.queries[0]
    expected = masked_training_logits(model, processor, processor.encode(source), words, delays, queries)
    assert (output.logits[0] - expected).abs().max().item() > 100 * TOLERANCE


@pytest.mark.parametrize("policy", ADAPTIVE, ids=repr)
def test_streams_of_the_engine_get_what_they_get_alone(model, processor, policy):
    sources = sentences(7, 5)
    alone = [run(model, processor, [source], policy, logits_processor=LogitsProcessorList()) for source in sources]
    with StreamEngine(model, processor, max_streams=3, max_tokens=300) as engine:
        streams = []
        for source in sources:
            stream = engine.open(policy, wait_s=60, max_new_tokens=40)
            stream.source.put(source)
            stream.source.end()
            streams.append(stream)
        found = [[(word.text, word.delay) for word in stream.words] for stream in streams]
    expected = [[*zip(processor.words(output.words[0]), output.delays[0], strict=True)] for output in alone]
    assert found == expected


def test_a_draft_without_room_ends_and_the_row_goes_on(model, processor):
    source = sentences(3, 1)[0]
    free = run(model, processor, [source], HoldPolicy(2, 1, 5), max_new_tokens=8)
    rows = len(processor.head_ids) + sum(map(len, processor.encode(source))) + len(processor.tail_ids)
    for spare in range(2, 12):
        tight = run(
            model, processor, [source], HoldPolicy(2, 1, 5), max_new_tokens=8,
            past_key_values=SimulCache(1, max_tokens=rows + spare),
        )  # fmt: skip
        assert tight.stop_reasons[0] in (free.stop_reasons[0], "max_tokens")
        assert all(delay <= 5 + index for index, delay in enumerate(tight.delays[0]))


@pytest.mark.parametrize("policy", ADAPTIVE[:3], ids=repr)
@pytest.mark.parametrize("decoder", [RecomputingDecoder, ConverseDecoder])
def test_baselines_decode_under_policies_that_look(model, processor, policy, decoder):
    sources = sentences(4, 4)
    together = run(model, processor, sources, policy, row_decoder=decoder)
    alone = [run(model, processor, [source], policy, row_decoder=decoder).words[0] for source in sources]
    assert together.words == alone
    assert len({tuple(delays) for delays in together.delays}) > 1


def test_a_conversation_cannot_take_a_draft_back(model, processor):
    with pytest.raises(ValueError, match="ConverseDecoder, whose cache is only appended to, got HoldPolicy"):
        run(model, processor, ["a dog"], HoldPolicy(2), row_decoder=ConverseDecoder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearnedReadPolicy(1.2), r"threshold must lie in \[0, 1\], got 1.2"),
        (lambda: LearnedReadPolicy(float("nan")), "threshold must lie in"),
        (lambda: ConfidencePolicy(-0.1), "alpha must lie in"),
        (lambda: ConfidencePolicy(0.5, delta=0), "delta must be above 0, got 0"),
        (lambda: HoldPolicy(0), "words must be a whole number of at least 1"),
        (lambda: LocalAgreementPolicy(1), "drafts must be a whole number of at least 2, got 1"),
        (lambda: RelaxedAgreementPolicy(1.1), r"share must lie in \[0, 1\], got 1.1"),
        (lambda: RelaxedAgreementPolicy(0.25), r"share must be above 0.25, one of 4 drafts, got 0.25"),
        (lambda: RelaxedAgreementPolicy(0.6, 1), "drafts must be a whole number of at least 2, got 1"),
        (lambda: ConfidencePolicy(0.5, least_lag=0), "least_lag must be a whole number of at least 1"),
        (lambda: ConfidencePolicy(0.5, greatest_lag=0), "greatest_lag must be a whole number"),
        (lambda: ConfidencePolicy().delays(3, 3), "no schedule to train on: train with RandomPathPolicy"),
        (lambda: LearnedReadPolicy("0.5"), r"threshold must lie in \[0, 1\], got '0.5'"),
        (lambda: LearnedReadPolicy(None), r"threshold must lie in \[0, 1\], got None"),
        (lambda: ConfidencePolicy(0.5, delta="2"), "delta must be above 0, got '2'"),
        (lambda: policy_from_name("learned:-0.1"), r"threshold must lie in \[0, 1\], got -0.1"),
        (lambda: policy_from_name("confidence:0.5,delta=-1"), "delta must be above 0, got -1.0"),
        (lambda: policy_from_name("wait--1"), "k must be a whole number of at least 1, got -1.0"),
        (lambda: policy_from_name("weit-3"), "one of wait-K.* got 'weit-3'"),
        (lambda: policy_from_name("wait"), "must say its k"),
        (lambda: policy_from_name("wait-0"), "k must be .* at least 1, got 0"),
        (lambda: policy_from_name("wait-3-4"), "with '4' in it"),
        (lambda: policy_from_name("confidence:0.6,mid=3"), "with 'mid=3' in it"),
        (lambda: policy_from_name("confidence:high"), "must be a number, got 'high'"),
        (
            lambda: policy_from_name("confidence:0.5,max=nan"),
            "greatest_lag must be a whole number of at least 1, got nan",
        ),
        (lambda: policy_from_name("chunk-1-inf"), "write must be a whole number of at least 1, got inf"),
        (lambda: policy_from_name("hold-2:min=0"), "least_lag must be a whole number of at least 1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("wait-3", WaitKPolicy(3)),
        ("wait-3:catchup=0.1", WaitKPolicy(3, 0.1)),
        ("chunk-2-3", FixedChunkPolicy(2, 3)),
        ("full", OfflinePolicy()),
        ("learned", LearnedReadPolicy()),
        ("learned:0.3,max=5", LearnedReadPolicy(0.3, greatest_lag=5)),
        ("confidence:0.6,delta=2,min=2,max=7", ConfidencePolicy(0.6, 2, 2, 7)),
        ("hold-3", HoldPolicy(3)),
        ("agree-2:min=2", LocalAgreementPolicy(2, 2)),
        ("ralcp:0.7", RelaxedAgreementPolicy(0.7)),
        ("ralcp:0.5,drafts=5,min=2,max=7", RelaxedAgreementPolicy(0.5, 5, 2, 7)),
        ("alignatt-3:max=6", AlignAttPolicy(3, 1, 6)),
    ],
)
def test_policies_by_name(name, policy):
    assert repr(policy_from_name(name)) == repr(policy)


@pytest.mark.parametrize(
    ("names", "policy"),
    [
        (["3"], "WaitKPolicy(k=3)"),
        (["random-1-9"], "RandomPathPolicy(least_lag=1, greatest_lag=9)"),
        (["aligned-1"], "AlignedPolicy(margin=(1, 1), least_lag=1, greatest_lag=None)"),
        (
            ["aligned-0-2-untaught"],
            "AlignedPolicy(margin=(0, 2), least_lag=1, greatest_lag=None, teaches_reads=False)",
        ),
        (["aligned-0-2", "full"], None),
    ],
)
def test_training_policies_by_name(names, policy):
    found = training_policy(names)
    assert repr(found) == policy if policy else isinstance(found, MixturePolicy)


@pytest.mark.parametrize(
    "name", ["aligned-a", "random-1", "full-3", "random-1-2-3", "x", "-1", "random--1-2", "full-untaught", "-untaught"]
)
def test_wrong_training_policies(name):
    with pytest.raises(ValueError, match="must be"):
        training_policy([name])


def test_alignments_reach_the_collator_and_what_is_missing_is_said_before_training(tmp_path):
    for name in ("en", "de"):
        (tmp_path / name).write_text("a dog runs\nthe cat sees him\n" * 4)
    (tmp_path / "links").write_text("0-0 1-1 2-2\n0-0 1-1 2-2 3-3\n" * 4)
    flags = (
        f"--train_file {tmp_path / 'en'} {tmp_path / 'de'} --output_dir {tmp_path / 'out'} --do_train --wait_k aligned "
        "--num_hidden_layers 1 --hidden_size 16 --num_attention_heads 2 --vocab_size 280 --max_steps 1 --report_to none "
        "--stream_sentences 0 --disable_tqdm true --use_cpu"
    ).split()
    with pytest.raises(ValueError, match="train_alignment must be given with --wait_k aligned"):
        train_program(flags)
    (tmp_path / "short").write_text("0-0\n")
    with pytest.raises(ValueError, match="a line for each of the 8 pairs, got 1"):
        train_program([*flags, "--train_alignment", str(tmp_path / "short")])
    (tmp_path / "wrong").write_text("0-0\n" * 7 + "0:0\n")
    with pytest.raises(ValueError, match="line 8 of .*links such as 0-0 1-2, got '0:0'"):
        train_program([*flags, "--train_alignment", str(tmp_path / "wrong")])
    train_program([*flags, "--train_alignment", str(tmp_path / "links")])
    assert (tmp_path / "out" / "model.safetensors").is_file()
    with pytest.raises(ValueError, match="need --wait_k aligned"):
        train_program([*flags, "--train_alignment", str(tmp_path / "links"), "--wait_k", "3"])


@pytest.mark.parametrize(
    ("settings", "threshold"),
    [("--wait_k aligned 3", 0.5), ("--wait_k aligned-untaught 3", None), ("--wait_k aligned --peek_rows 0", None)],
)
def test_a_model_that_learned_to_read_ends_by_half(tmp_path, settings, threshold):
    for name, line in (("en", "a dog runs"), ("de", "ein Hund rennt"), ("links", "0-0 1-1 2-2")):
        (tmp_path / name).write_text(f"{line}\n" * 8)
    train_program(
        (
            f"--train_file {tmp_path / 'en'} {tmp_path / 'de'} --train_alignment {tmp_path / 'links'} --output_dir "
            f"{tmp_path / 'out'} --do_train {settings} --num_hidden_layers 1 --hidden_size 16 --num_attention_heads 2 "
            "--vocab_size 270 --max_steps 1 --report_to none --stream_sentences 0 --disable_tqdm true --use_cpu"
        ).split()
    )
    saved = AutoSimulModel.from_pretrained(tmp_path / "out").generation_config
    assert SimulGenerationConfig.of(saved).eos_threshold == threshold


def test_generate_and_engine_take_names(model, processor):
    sources = sentences(2, 2)
    named = run(model, processor, sources, "learned:0.3,max=4", logits_processor=LogitsProcessorList())
    policy = LearnedReadPolicy(0.3, greatest_lag=4)
    assert named.words == run(model, processor, sources, policy, logits_processor=LogitsProcessorList()).words
    each = run(model, processor, sources, ["wait-2", policy], logits_processor=LogitsProcessorList())
    assert each.words[1] == named.words[1]
    with StreamEngine(model, processor, max_streams=1, max_tokens=300) as engine:
        stream = engine.open("learned:0.3,max=4", max_new_tokens=40)
        stream.source.put(sources[0])
        stream.source.end()
        assert [word.text for word in stream.words] == processor.words(named.words[0])
        with pytest.raises(ValueError, match="policy must be one of"):
            engine.open("weit-3")


def test_the_collator_lays_a_row_for_each_read_of_an_alignment(processor):
    source, target, links = "a dog runs over the meadow", "a dog over runs", "0-0 1-1 3-2 2-3"
    plain = SimulMaskDataCollator(processor, AlignedPolicy(), peek_rows=0)
    taught = SimulMaskDataCollator(processor, AlignedPolicy())
    example = {"source": source, "target": target, "alignment": links}
    rows, base = taught([example]), plain([example])["input_ids"].shape[1]
    delays = [1, 2, 4, 4, 6]
    assert not (rows["pair_ids"] > 1).any()
    lengths = [len(word) for word in processor.encode(target)]
    expected = questions_of_a_walk(len(processor.tail_ids), lengths, delays)
    kinds = {"the word ends, READ": TARGET_ENDS, "READ": READS}
    assert rows["peeks"][0, base:].tolist() == [kinds[answer] for *_, answer in expected]
    assert rows["offsets"][0, base:].tolist() == [offset for offset, *_ in expected]
    ends = list(itertools.accumulate(map(len, processor.encode(source)), initial=len(processor.head_ids)))
    assert rows["visible_source"][0, base:].tolist() == [ends[words] for _, words, _ in expected]


def test_a_mixture_teaches_the_reads_of_its_aligned_paths_alone(processor):
    mixture = MixturePolicy([AlignedPolicy(), WaitKPolicy(2)])
    collator = SimulMaskDataCollator(processor, mixture)
    found = set()
    for epoch in range(20):
        collator.set_epoch(epoch)
        batch = collator([{"source": "a dog runs", "target": "a dog runs", "alignment": "2-0 1-1 0-2"}])
        found.add((int(batch["peeks"].max()), int(batch["pair_ids"].max())))
    # Aligned: two READs before the first word, prompts of their own. wait-2: one READ after it, which is not taught.
    assert found == {(0, 3), (WORD_ENDS, 1)}


def test_aligned_paths_that_teach_no_reads_are_trained_as_any_schedule_is(processor):
    example = {"source": "a dog runs over", "target": "a dog", "alignment": "1-0 3-1"}
    taught = SimulMaskDataCollator(processor, AlignedPolicy())([example])
    quiet = SimulMaskDataCollator(processor, AlignedPolicy(teaches_reads=False))([example])
    assert int(taught["pair_ids"].max()) > 1
    assert READS in taught["peeks"]
    assert int(quiet["pair_ids"].max()) == 1
    assert set(quiet["peeks"].flatten().tolist()) == {0, WORD_ENDS}
    # The same schedule: what the words of the pair see.
    length = (quiet["peeks"] == 0).sum()
    assert torch.equal(taught["visible_source"][:, :length], quiet["visible_source"][:, :length])


@pytest.mark.parametrize("packing", [False, True])
def test_early_reads_are_the_prompts_that_a_decoder_asks(model, processor, packing):
    """What streaming asks before the first word, and what it is taught to answer there, are one forward's logits."""
    source, target = "a dog runs over", "a dog"
    collator = SimulMaskDataCollator(processor, AlignedPolicy(), packing=packing, max_length=400)
    example = {"source": source, "target": target, "alignment": "2-0 3-1"}
    batch = collator([example, example] if packing else [example])
    labels = batch["labels"][0].tolist()
    with torch.no_grad():
        columns = Schedule.fields_in(batch)
        logits = model(batch["input_ids"], **columns, use_cache=False).logits[0]
    output = run(model, processor, [source], Never(True, 1, 3), logits_processor=LogitsProcessorList())
    early = [index for index, query in enumerate(output.queries[0]) if query.visible_words < 3]
    assert [output.queries[0][index].visible_words for index in early] == [1, 2]
    asked = [
        index
        for index in range(len(labels) - 1)
        if batch["pair_ids"][0, index] in (2, 3) and labels[index + 1] == processor.eos_token_id
    ]
    assert len(asked) == 2
    assert (logits[asked] - output.logits[0][early]).abs().max().item() <= TOLERANCE
