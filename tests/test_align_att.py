# SPDX-License-Identifier: Apache-2.0
"""AlignAtt: what heads look at is what they looked at in training, and looking changes nothing."""

import copy
import statistics

import pytest
import torch
from transformers import LogitsProcessorList

from families import make_family
from helpers import make_model
from test_engine import finish, options
from test_generation import TOLERANCE, feed_later, run, sentences
from transformers_simul import (
    AdaptivePolicy,
    AlignAttPolicy,
    AutoSimulModel,
    Evidence,
    HoldPolicy,
    Progress,
    SimulGenerationConfig,
    StreamEngine,
    WaitKPolicy,
    policy_from_name,
)
from transformers_simul.models.schedule import training_row
from transformers_simul.research.baselines import ConverseDecoder, RecomputingDecoder
from transformers_simul.training.fine_tuning import save_trained

HEADS = ((1, 2), (0, 1), (1, 0))


class Watcher(AdaptivePolicy):
    """Looks at heads, notes what it sees, and READs in a pattern that depends on it."""

    def __init__(self, heads=HEADS, *lags):
        super().__init__(*lags)
        self.heads, self.seen = heads, []

    def reads_after(self, evidence):
        self.seen.append((evidence.progress, evidence.attention))
        return bool(evidence.attention[0, -1] > evidence.attention[0].mean())


def attention_in_training(model, processor, source, progress, words, delays, heads):
    """The oracle: one plain forward over what had been read and written, which returns all weights; sums by word."""
    encoded = processor.encode(source)[: progress.source_words]
    written = words[: progress.target_words]
    schedule = [*delays[: progress.target_words], progress.source_words]
    row = training_row(processor.head_ids, encoded, processor.tail_ids, written, processor.eos_token_id, schedule)
    columns = {name: torch.tensor([values]) for name, values in row.items() if name != "labels"}
    with torch.no_grad():
        weights = model(**columns, use_cache=False, output_attentions=True).attentions
    newest = len(row["input_ids"]) - 2
    found = []
    for layer, head in heads:
        sums, start = [], len(processor.head_ids)
        for word in encoded:
            sums.append(sum(weights[layer][0, head, newest, start + index].item() for index in range(len(word))))
            start += len(word)
        found.append(sums)
    return torch.tensor(found)


def twin_of(model, backend):
    twin = type(model)._from_config(copy.deepcopy(model.config), attn_implementation=backend).eval()
    twin.load_state_dict(model.state_dict())
    return twin


CASES = [
    ("Falcon", "modified"),
    ("Falcon-rotary", "own_frame"),
    ("Llama", "own_frame"),
    ("Llama", "group"),
    ("Llama", "reserved"),
    ("Mistral", "own_frame"),
    ("Gemma3", "group"),
    ("Bloom", "modified"),
    ("Mpt", "modified"),
]


@pytest.mark.parametrize(("name", "positions"), CASES)
def test_heads_attend_while_streaming_as_in_training(processor, name, positions):
    """On every backend, known and live, alone and in a batch."""
    model = make_model(processor) if name == "Falcon" else make_family(name, processor, positions)
    eager, sources = twin_of(model, "eager"), sentences(3, 3)
    looks, cases = 0, [(model, 3, 20), (eager, 1, 12)]
    if (name, positions) in (CASES[0], CASES[2]):
        cases.append((twin_of(model, "flex_attention"), 1, 8))
    for streaming, batch, most in cases:
        watchers = [Watcher(HEADS, 1, 5) for _ in range(batch)]
        known = run(streaming, processor, sources[:batch], watchers, max_new_tokens=most)
        count = [len(watcher.seen) for watcher in watchers]
        live = run(streaming, processor, feed_later(sources[:batch]), watchers, max_new_tokens=most)
        assert (live.words, live.delays) == (known.words, known.delays)
        for row, watcher in enumerate(watchers):
            assert [each for each, _ in watcher.seen[: count[row]]] == [each for each, _ in watcher.seen[count[row] :]]
            for progress, attention in watcher.seen:
                expected = attention_in_training(
                    eager, processor, sources[row], progress, known.words[row], known.delays[row], HEADS
                )
                assert (attention - expected).abs().max().item() <= TOLERANCE
                looks += 1
    assert looks > 5


def test_looking_at_heads_changes_no_logit_by_a_bit(processor):
    """Rows that look stand among rows that do not; the same policy decides with and without."""

    class Blind(WaitKPolicy):
        heads = ()

    class Looking(WaitKPolicy):
        heads = HEADS

    for name in ("Falcon", "Llama"):
        model = make_model(processor) if name == "Falcon" else make_family(name, processor)
        for backend in ("sdpa", "eager"):
            streaming, sources = twin_of(model, backend), sentences(5, 4)
            plain = run(streaming, processor, sources, Blind(2))
            mixed = run(streaming, processor, sources, [Looking(2), Blind(2), Looking(2), Blind(2)])
            assert mixed.words == plain.words
            assert all(torch.equal(a, b) for a, b in zip(mixed.logits, plain.logits, strict=True))


def test_each_row_gets_the_heads_that_it_wished_for(model, processor):
    sources = sentences(5, 3)
    wishes = [((0, 3),), HEADS, ((0, 3),)]
    together = [Watcher(heads, 1, 5) for heads in wishes]
    run(model, processor, sources, together)
    for source, heads, watcher in zip(sources, wishes, together, strict=True):
        alone = Watcher(heads, 1, 5)
        run(model, processor, [source], alone)
        assert [each for each, _ in alone.seen] == [each for each, _ in watcher.seen]
        for (_, here), (_, there) in zip(alone.seen, watcher.seen, strict=True):
            assert here.shape[0] == len(heads)
            assert (here - there).abs().max().item() <= TOLERANCE


def test_what_is_looked_at_by_hand():
    weights = [[0.1, 0.5, 0.2, 0.0], [0.0, 0.1, 0.2, 0.3], [0.3, 0.0, 0.2, 0.0]]
    evidence = Evidence(Progress(4, 1), torch.zeros(2), 0, torch.zeros(2), [], [], torch.tensor(weights))
    assert evidence.looked_at == statistics.median_low([1, 3, 0])
    assert not AlignAttPolicy(2).reads_after(evidence)
    assert AlignAttPolicy(3).reads_after(evidence)
    assert evidence._replace(attention=torch.tensor(weights[:2])).looked_at == 1
    with pytest.raises(ValueError, match="needs a policy with heads"):
        _ = evidence._replace(attention=None).looked_at


def test_heads_of_the_saved_generation_configuration(model, processor, tmp_path):
    sources = sentences(3, 3)
    folder = type(model)._from_config(model.config).eval()
    folder.load_state_dict(model.state_dict())
    folder.generation_config.alignment_heads = [[1, 2], [0, 1], [1, 0]]
    folder.generation_config.default_policy = "alignatt-1:max=5"
    folder.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert loaded.generation_config.alignment_heads == [[1, 2], [0, 1], [1, 0]]
    given = run(model, processor, sources, AlignAttPolicy(1, 1, 5, HEADS))
    for found in (run(loaded, processor, sources, "alignatt-1:max=5"), run(loaded, processor, sources, None)):
        assert (found.words, found.delays) == (given.words, given.delays)
    assert len({*map(tuple, given.delays)}) > 1
    # A policy of the call comes first.
    assert run(loaded, processor, sources, None, wait_k=2).words == run(model, processor, sources, "wait-2").words
    with StreamEngine(loaded, processor, max_streams=1, max_tokens=300) as engine:
        stream = engine.open("alignatt-1:max=5", **options(processor))
        stream.source.put(sources[0])
        stream.source.end()
        assert [word.text for word in stream.words] == processor.words(given.words[0])


def test_recomputing_baselines_look_and_conversations_do_not(model, processor):
    sources = sentences(4, 3)
    policy = AlignAttPolicy(1, 1, 5, HEADS)
    together = run(model, processor, sources, policy, row_decoder=RecomputingDecoder)
    alone = [run(model, processor, [source], policy, row_decoder=RecomputingDecoder).words[0] for source in sources]
    assert together.words == alone
    with pytest.raises(ValueError, match="no attention heads with ConverseDecoder"):
        run(model, processor, sources, policy, row_decoder=ConverseDecoder)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([(2, 0)], "among the model's 2 layers of 4 heads, counted from 0, got layer 2, head 0"),
        ([(0, 1), (1, 4)], "got layer 1, head 4"),
        ([(-1, 0)], "got layer -1, head 0"),
        ([], "alignment_heads of the model's generation configuration, which transformers-simul heads writes"),
    ],
)
def test_heads_that_the_model_lacks(model, processor, heads, message):
    with pytest.raises(ValueError, match=message):
        run(model, processor, ["a dog runs"], AlignAttPolicy(2, heads=heads))
    engine = StreamEngine(model, processor, max_streams=1, max_tokens=300)
    with pytest.raises(ValueError, match=message):
        engine.open(AlignAttPolicy(2, heads=heads))
    # The engine is not blocked by it.
    stream = engine.open(HoldPolicy(1, 1, 4), **options(processor))
    stream.source.put("a dog runs")
    stream.source.end()
    finish(engine)
    assert [word.text for word in stream.words]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"default_policy": "weit-3"}, "policy must be one of wait-K"),
        ({"default_policy": 3}, "policy must be a name"),
        ({"default_policy": "wait-3", "wait_k": 3}, "default_policy must not stand beside wait_k"),
        ({"wait_k": 0}, "k must be a whole number of at least 1"),
        ({"eos_threshold": 1}, "eos_threshold must be at least 0 and below 1, got 1"),
        ({"eos_threshold": "0.5"}, "got '0.5'"),
        ({"alignment_heads": []}, r"must be pairs of a layer and a head, such as \[\[2, 3\]\], got \[\]"),
        ({"alignment_heads": [[1]]}, r"got \[1\]"),
        ({"alignment_heads": [[1, -1]]}, r"got \[1, -1\]"),
        ({"alignment_heads": "1-2"}, "got '1-2'"),
    ],
)
def test_generation_configurations_that_are_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        SimulGenerationConfig(**settings)


def test_a_model_with_a_default_policy_is_trained_further(processor, tmp_path):
    model = make_model(processor)
    model.generation_config.default_policy = "confidence:0.6,max=5"
    model.generation_config.eos_threshold = 0.5
    save_trained(model, None, processor, tmp_path, wait_k=3)
    saved = AutoSimulModel.from_pretrained(tmp_path).generation_config
    assert (saved.wait_k, saved.default_policy, saved.eos_threshold) == (3, None, 0.5)


def test_a_configuration_without_ours_stays_stock():
    assert not {"wait_k", "default_policy", "alignment_heads"} & {*SimulGenerationConfig().to_dict()}
    kept = SimulGenerationConfig.from_dict(SimulGenerationConfig(alignment_heads=[[1, 2]], wait_k=2).to_dict())
    assert (kept.alignment_heads, kept.wait_k) == ([[1, 2]], 2)


@pytest.mark.parametrize("heads", [[(1,)], [1], [(0.5, 1)], [("a", 1)], "x", 5, [(True, 0)]])
def test_heads_that_are_no_pairs_of_numbers(heads):
    with pytest.raises(ValueError, match="heads must be pairs of whole numbers, layer and head"):
        AlignAttPolicy(2, heads=heads)


def test_heads_of_a_users_policy_are_looked_up_before_they_can_fail_for_all_streams(model, processor):
    class Looks(AdaptivePolicy):
        heads = ((9, 9),)

        def reads_after(self, evidence):
            return evidence.looked_at > 1

    with pytest.raises(ValueError, match="heads must be among the model's 2 layers of 4 heads, .* got layer 9, head 9"):
        run(model, processor, ["a dog runs"], Looks())
    engine = StreamEngine(model, processor, max_streams=1, max_tokens=100)
    with pytest.raises(ValueError, match="heads must be among"):
        engine.open(Looks())
    assert engine.active_streams == 0


def test_words_out_of_range():
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="words must be a whole number of at least 1"):
            AlignAttPolicy(wrong)
    assert repr(policy_from_name("alignatt-2:min=2")) == "AlignAttPolicy(words=2, least_lag=2, greatest_lag=9)"


def test_a_source_without_a_look_needs_none(model, processor):
    """No words, one word, or all of them read before the first decision."""
    policy = AlignAttPolicy(1, 1, 5, HEADS)
    for source in ("dog", "a"):
        output = run(model, processor, [source], policy, logits_processor=LogitsProcessorList())
        assert output.stop_reasons[0] in ("eos", "max_new_tokens")
