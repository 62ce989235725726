# SPDX-License-Identifier: Apache-2.0
"""Every family and position strategy keeps the law; with nothing hidden it is the family's own model."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

import test_baselines
from families import FAMILIES, WINDOW, make_family, stock_of
from helpers import make_processor, random_sentence, teach
from test_generation import assert_streamed_equals_trained, feed_later, run, sentences
from transformers_simul import (
    AutoSimulModel,
    OfflinePolicy,
    SimulCache,
    SimulMaskDataCollator,
    SourceStream,
    StreamEngine,
    WaitKPolicy,
)
from transformers_simul.auto import simul_class
from transformers_simul.models import attention
from transformers_simul.models import modeling_simul_rotary as rotary
from transformers_simul.models.linear import SimulLinear
from transformers_simul.models.schedule import Schedule, training_row

CASES = [(name, positions) for name, (_, _, strategies) in FAMILIES.items() for positions in strategies]


def with_backends(cases):
    """Each with eager and SDPA. FlexAttention, slow where it is not compiled, with each family once: of positions it
    sees only whether frames are one or two, which Llama shows."""
    for name, positions in cases:
        yield from ((name, positions, backend) for backend in ("sdpa", "eager"))
        if name == "Llama" or positions == FAMILIES[name][2][0]:
            yield name, positions, "flex_attention"


@pytest.mark.parametrize(("name", "positions", "backend"), with_backends(CASES))
def test_streamed_logits_equal_one_masked_training_forward(processor, name, positions, backend):
    """The first invariant, known and live, with rows long enough to outgrow the sliding windows."""
    model = make_family(name, processor, positions, backend)
    exact = deepcopy(model).double()
    totals = {"multi-token words": 0, "replacements": 0, "EOS-READs": 0}
    # One policy and a known source where it is slow.
    is_flex = backend == "flex_attention"
    for policy, seed in ((WaitKPolicy(1), 5),) if is_flex else ((WaitKPolicy(1), 5), (WaitKPolicy(3), 6)):
        sources = sentences(seed, 4)
        known = run(model, processor, sources, policy)
        live = known
        if not is_flex:
            live = run(model, processor, feed_later(sources), policy, past_key_values=SimulCache(4, max_tokens=400))
        for output in (known, live):
            counts = assert_streamed_equals_trained(model, processor, sources, [policy] * 4, output, exact=exact)
            totals = {key: totals[key] + counts[key] for key in totals}
        assert known.words == live.words
        assert max(len(ids) for ids in known.sequences) > WINDOW
    assert all(totals.values()), totals


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cache_has_both_names_that_releases_of_transformers_have_for_it(processor, name):
    model = make_family(name, processor)
    ids = torch.tensor([[5, 6]])
    names = ("past_key_values", "cache")
    for forward in (model, model.base_model):
        for each in names:
            # The error of this very object: it has come to where keys are stored.
            with pytest.raises(ValueError, match="got the SimulCache itself"):
                forward(ids, **{each: SimulCache(1)})
        with pytest.raises(ValueError, match="cache must not stand beside past_key_values, its former name"):
            forward(ids, **dict.fromkeys(names, SimulCache(1)))


@pytest.mark.parametrize(("name", "positions"), CASES)
def test_packed_rows_equal_rows_alone(processor, name, positions):
    model = make_family(name, processor, positions)
    pairs = [{"source": "a dog runs over", "target": "two children watch"}, {"source": "a dog", "target": "today him"}]
    packed = SimulMaskDataCollator(processor, WaitKPolicy(1), packing=True, max_length=200)(pairs)
    with torch.no_grad():
        both = model(**packed).logits[0]
        alone = [model(**SimulMaskDataCollator(processor, WaitKPolicy(1))([pair])).logits[0] for pair in pairs]
    alone.sort(key=len, reverse=True)
    assert packed["input_ids"].shape[0] == 1
    assert (both - torch.cat(alone)).abs().max() < 1e-5


def offline_row(processor):
    source, target = processor.encode("a dog runs over the meadow"), processor.encode("two children watch him")
    return training_row(
        processor.head_ids,
        source,
        processor.tail_ids,
        target,
        processor.eos_token_id,
        [len(source)] * (len(target) + 1),
    )


EXACT = [case for case in CASES if case[1] in ("own_frame", "modified")]


@pytest.mark.parametrize(("name", "positions", "backend"), with_backends(EXACT))
def test_with_nothing_hidden_it_is_the_familys_own_model(processor, name, positions, backend):
    """Own-frame positions and the modified ALiBi are exact: distances are those of plain text."""
    model = make_family(name, processor, positions, backend)
    row = offline_row(processor)
    fields = {field: torch.tensor([row[field]]) for field in ("input_ids", *Schedule.fields_in(row))}
    ids = fields["input_ids"]
    assert ids.shape[1] > 2 * WINDOW
    with torch.no_grad():
        expected = stock_of(model)(ids).logits
        assert (model(**fields, use_cache=False).logits - expected).abs().max() < 1e-5
        if backend == "flex_attention":
            return  # without a schedule it is Transformers' own, which compiles
        # Without a schedule too, also left-padded.
        assert (model(ids).logits - expected).abs().max() < 1e-5
        padded = torch.nn.functional.pad(ids, (3, 0), value=1)
        seen = torch.tensor([[0] * 3 + [1] * ids.shape[1]])
        places = (seen.cumsum(-1) - 1).clamp(min=0)
        left = model(padded, attention_mask=seen, position_ids=places).logits
        assert (left[:, 3:] - expected).abs().max() < 2e-5


@pytest.mark.parametrize("positions", ["group", "reserved"])
def test_other_strategies_change_distances(processor, positions):
    row = offline_row(processor)
    fields = {field: torch.tensor([row[field]]) for field in ("input_ids", *Schedule.fields_in(row))}
    with torch.no_grad():
        exact, other = (
            make_family("Llama", processor, each)(**fields, use_cache=False).logits for each in ("own_frame", positions)
        )
    assert (exact - other).abs().max() > 1e-2


def angle(position, pair, size):
    return position * 10000.0 ** (-2 * pair / size)


def turned(vector, position):
    """RoPE by the book, one pair of numbers at a time."""
    half = len(vector) // 2
    result = [0.0] * len(vector)
    for pair in range(half):
        cos, sin = math.cos(angle(position, pair, len(vector))), math.sin(angle(position, pair, len(vector)))
        result[pair] = vector[pair] * cos - vector[half + pair] * sin
        result[half + pair] = vector[half + pair] * cos + vector[pair] * sin
    return result


def test_scores_have_their_true_distances(processor):
    """An oracle of plain loops: each query of a wait-1 row, and the keys that it sees, turned by their ranks."""
    model = make_family("Llama", processor)
    layer = model.model.layers[0]
    seen = {}
    layer.self_attn.q_proj.register_forward_hook(lambda _, __, output: seen.update(q=output))
    layer.self_attn.k_proj.register_forward_hook(lambda _, __, output: seen.update(k=output))
    model.set_attn_implementation("eager")
    source, target = processor.encode("a dog runs over"), processor.encode("two children watch him")
    delays = [1, 2, 3, 4, 4]
    row = training_row(processor.head_ids, source, processor.tail_ids, target, processor.eos_token_id, delays)
    fields = {field: torch.tensor([row[field]]) for field in ("input_ids", *Schedule.fields_in(row))}
    with torch.no_grad():
        weights = model(**fields, use_cache=False, output_attentions=True).attentions[0][0]
    length, compared = len(row["input_ids"]), 0
    for query in range(length):
        keys = [key for key in range(query + 1) if row["in_target"][key] or key < row["visible_source"][query]]
        # The rank of a key is its place among what the query sees, and the query comes last.
        own = len(keys) - 1
        for head in range(4):
            queried = turned(seen["q"][0, query, 8 * head : 8 * head + 8].tolist(), own)
            scores = []
            for rank, key in enumerate(keys):
                first = 8 * (head // 2)
                stored = turned(seen["k"][0, key, first : first + 8].tolist(), rank)
                scores.append(sum(a * b for a, b in zip(queried, stored, strict=True)) / math.sqrt(8))
            most = max(scores)
            total = sum(math.exp(score - most) for score in scores)
            for score, key in zip(scores, keys, strict=True):
                assert weights[head, query, key].item() == pytest.approx(math.exp(score - most) / total, abs=1e-5)
                compared += 1
    assert compared > 500


def test_a_window_counts_what_the_query_sees(processor):
    """Mistral, plain loops: of the visible keys, the newest `WINDOW` ones."""
    model = make_family("Mistral", processor, backend="eager")
    source, target = processor.encode("a dog runs over the green meadow"), processor.encode("two children watch him")
    delays = [1, 1, 4, 4, 7]
    row = training_row(processor.head_ids, source, processor.tail_ids, target, processor.eos_token_id, delays)
    fields = {field: torch.tensor([row[field]]) for field in ("input_ids", *Schedule.fields_in(row))}
    with torch.no_grad():
        weights = model(**fields, use_cache=False, output_attentions=True).attentions[0][0].amax(0)
    cut = 0
    for query in range(len(row["input_ids"])):
        keys = [key for key in range(query + 1) if row["in_target"][key] or key < row["visible_source"][query]]
        assert (weights[query] > 0).nonzero().flatten().tolist() == keys[-WINDOW:]
        cut += len(keys) > WINDOW and keys != list(range(query + 1))
    assert cut > 5


def wrong_distance(monkeypatch):
    monkeypatch.setattr(rotary, "source_distances", lambda queries: queries.visible_source * queries.in_target // 2 * 2)


def keys_mixed_up(monkeypatch):
    context = attention.AttentionContext
    monkeypatch.setattr(rotary, "AttentionContext", lambda step, far, target: context(step, far, target.roll(1, -1)))


def farther_while_streaming(monkeypatch):
    """Off by one, in the batch that streams and not in the single row of the training forward."""
    distances = rotary.source_distances
    monkeypatch.setattr(rotary, "source_distances", lambda row: distances(row) + row.in_target * (len(row.offsets) > 1))


def shifted_while_streaming(monkeypatch):
    position_ids = rotary.rotary_position_ids
    monkeypatch.setattr(
        rotary,
        "rotary_position_ids",
        lambda row, *args: position_ids(row, *args) + row.in_target * (len(row.offsets) > 1),
    )


@pytest.mark.parametrize(
    ("mutate", "positions"),
    [
        (keys_mixed_up, "own_frame"),
        (farther_while_streaming, "own_frame"),
        (shifted_while_streaming, "group"),
        (shifted_while_streaming, "reserved"),
    ],
)
def test_mutations_break_the_invariant(processor, monkeypatch, mutate, positions):
    mutate(monkeypatch)
    model = make_family("Llama", processor, positions)
    sources = sentences(8, 8)
    output = run(model, processor, sources, WaitKPolicy(1))
    with pytest.raises(AssertionError):
        assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(1)] * 8, output)


def test_a_wrong_distance_is_not_the_familys_model(processor, monkeypatch):
    """Streaming and training would agree on it; the stock model does not."""
    wrong_distance(monkeypatch)
    with pytest.raises(AssertionError):
        test_with_nothing_hidden_it_is_the_familys_own_model(processor, "Llama", "own_frame", "sdpa")


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("name", ["Llama", "Gemma3", "Falcon-rotary", "Bloom", "Mpt"])
def test_baselines_equal_the_familys_own_model(processor, name, live):
    """Falcon's oracles, asked of the other families: recomputation and conversation."""
    model = make_family(name, processor)
    network = stock_of(model)

    def last_logits(ids):
        with torch.no_grad():
            return network(torch.tensor([ids]), use_cache=False).logits[0, -1]

    for oracle in (
        test_baselines.test_recomputing_equals_a_causal_model_over_what_was_read,
        test_baselines.test_conversation_equals_one_causal_forward_over_its_turns,
    ):
        oracle(model, processor, last_logits, WaitKPolicy(1), live)


@pytest.mark.parametrize("name", ["Qwen3", "Gemma3", "Mpt"])
def test_engine_and_offline(processor, name):
    model = make_family(name, processor)
    sources = sentences(21, 5)
    alone = [run(model, processor, [source], WaitKPolicy(2), logits_processor=None) for source in sources]
    engine = StreamEngine(model, processor, max_streams=3, max_tokens=300)
    found = []
    with engine:
        for source in sources:
            stream = SourceStream(source)
            stream.end()
            found.append(
                [word.text for word in engine.open(WaitKPolicy(2), stream, wait_s=60, max_new_tokens=40).words]
            )
    assert found == [processor.words(output.words[0]) for output in alone]
    inputs = processor(source=sources)
    stock = model.generate(**inputs, max_new_tokens=5)
    assert stock.shape[0] == 5


@pytest.mark.parametrize(("name", "positions"), [case for case in CASES if case[1] != "none"])
def test_it_learns_to_copy(name, positions):
    """Gradients flow through every strategy: the loss of a copying task falls."""
    processor = make_processor()
    model = make_family(name, processor, positions, initializer_range=0.05)
    import random

    draw = random.Random(0)
    collator = SimulMaskDataCollator(processor, WaitKPolicy(2))
    held_out = collator([{"source": text, "target": text} for text in [random_sentence(draw, 3, 5) for _ in range(8)]])
    with torch.no_grad():
        before = model(**held_out).loss
    teach(model, processor, draw, steps=30)
    with torch.no_grad():
        assert model(**held_out).loss < 0.7 * before


@pytest.mark.parametrize("name", ["Gemma3", "Mpt"])
def test_gradient_checkpointing_changes_nothing(processor, name):
    batch = SimulMaskDataCollator(processor, WaitKPolicy(2))([{"source": "a dog runs", "target": "two children watch"}])
    gradients = []
    for checkpointing in (False, True):
        model = make_family(name, processor).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**batch).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "positions"),
    [("Llama", "own_frame"), ("Gemma3", "group"), ("Falcon-rotary", "reserved"), ("Mpt", "modified")],
)
def test_invariant_in_bfloat16_within_its_precision(processor, name, positions):
    model = make_family(name, processor, positions).to(torch.bfloat16)
    sources = sentences(5, 4)
    output = run(model, processor, sources, WaitKPolicy(2))
    assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(2)] * 4, output, tolerance=0.15)


@pytest.mark.parametrize(("name", "positions"), [("Llama", "own_frame"), ("Gemma3", "group"), ("Mpt", "modified")])
def test_mixed_precision_training(processor, name, positions):
    """As the Trainer's `bf16=True`: float32 weights, bfloat16 products."""
    model = make_family(name, processor, positions).train()
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))([{"source": "a dog runs", "target": "two children watch"}])
    exact = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert abs(loss - exact) < 0.05 * exact
    assert all(torch.isfinite(each.grad).all() for each in model.parameters() if each.grad is not None)


@pytest.mark.slow
def test_lora_trains_resumes_and_merges(processor, tmp_path):
    from transformers_simul.training import ModelArguments, fine_tune, make_model
    from transformers_simul.training.data import Pair, encode

    base = make_family("Gemma3", processor)
    base.save_pretrained(tmp_path / "base")
    args = ModelArguments(model_name_or_path=str(tmp_path / "base"), use_lora=True, positions="group", dropout=0.1)
    model = make_model(args, processor)
    assert type(model).__name__ == "PeftModelForCausalLM"
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    data = encode(processor, [Pair(text, text) for text in sentences(1, 20)])
    training = {"learning_rate": 1e-2, "save_steps": 3, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
    for steps in (3, 6):
        fine_tune(
            make_model(args, processor),
            processor,
            SimulMaskDataCollator(processor, WaitKPolicy(1)),
            data,
            None,
            TrainingArguments(str(tmp_path / "out"), remove_unused_columns=False, max_steps=steps, **training),
            {},
        )
    merged = AutoSimulModel.from_pretrained(str(tmp_path / "out")).eval()
    assert type(merged).__name__ == "SimulGemma3ForCausalLM"
    assert merged.config.positions == "group"
    assert any(not torch.equal(a, b) for a, b in zip(base.parameters(), merged.parameters(), strict=True))
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert type(merged.model.layers[0].mlp.up_proj) is SimulLinear
    # Adapters in place, not merged, say the same.
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(make_family("Gemma3", processor, "group"), tmp_path / "out" / "checkpoint-6")
    sources = sentences(3, 2)
    outputs = [run(each.eval(), processor, sources, WaitKPolicy(1)) for each in (merged, adapted)]
    assert outputs[0].words == outputs[1].words
    assert_streamed_equals_trained(adapted, processor, sources, [WaitKPolicy(1)] * 2, outputs[1])


def test_the_stock_trainer_takes_every_kind(processor, tmp_path):
    from transformers_simul.training.data import Pair, encode

    data = encode(processor, [Pair(text, text) for text in sentences(1, 8)])
    for name in ("Llama", "Bloom"):
        model = make_family(name, processor)
        args = TrainingArguments(
            str(tmp_path / name), remove_unused_columns=False, max_steps=2, report_to="none", use_cpu=True,
            disable_tqdm=True, per_device_train_batch_size=4,
        )  # fmt: skip
        collator = SimulMaskDataCollator(processor, WaitKPolicy(1))
        assert Trainer(model, args, data_collator=collator, train_dataset=data).train().training_loss > 0


def test_stock_checkpoints_load_as_ours(processor, tmp_path):
    for name in FAMILIES:
        model = make_family(name, processor)
        stock_of(model).save_pretrained(tmp_path / name)
        positions = FAMILIES[name][2][-1]
        loaded = AutoSimulModel.from_pretrained(str(tmp_path / name), positions=positions).eval()
        assert type(loaded) is type(model)
        assert loaded.config.positions == positions
        loaded.save_pretrained(tmp_path / f"{name}-ours")
        again = AutoSimulModel.from_pretrained(str(tmp_path / f"{name}-ours"))
        assert again.config.positions == positions
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("name", ["Llama", "Bloom"])
def test_loading_takes_the_stock_arguments(processor, tmp_path, name):
    make_family(name, processor).save_pretrained(tmp_path)
    for dtype in (torch.bfloat16, "bfloat16"):
        model = AutoSimulModel.from_pretrained(str(tmp_path), dtype=dtype, attn_implementation="eager")
        assert model.dtype == torch.bfloat16
        assert model.config._attn_implementation.removeprefix("simul_") == "eager"
    assert AutoSimulModel.from_pretrained(str(tmp_path)).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Llama", {"positions": "modified"}, "positions must be one of \\('own_frame', 'group', 'reserved'\\)"),
        ("Bloom", {"positions": "group"}, "positions must be one of \\('modified', 'plain', 'none'\\)"),
        ("Llama", {"target_start": 5}, "target_start must not be negative and needs positions='group'"),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type must not",
        ),
        ("Llama", {"backend": "flash_attention_2"}, "attn_implementation must be one of"),
        ("Gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping must be unset"),
    ],
)
def test_what_cannot_be_says_so(processor, name, settings, message):
    with pytest.raises(ValueError, match=message):
        make_family(name, processor, **settings)


def test_too_long_rows_and_too_few_slots(processor):
    pair = {"source": "a dog runs over the green meadow", "target": "two children watch him"}
    batch = SimulMaskDataCollator(processor, OfflinePolicy())([pair])
    with pytest.raises(ValueError, match="max_position_embeddings, 16, but reaches position"):
        make_family("Llama", processor, max_position_embeddings=16)(**batch)
    model = make_family("Llama", processor, "reserved", target_start=16)
    with pytest.raises(ValueError, match="target_start must be at least as large as prompt and source .* 16 and they"):
        model(**batch)
    assert run(model, processor, ["a"], OfflinePolicy()).words


def test_unknown_families_are_named():
    with pytest.raises(ValueError, match="model_type must be one of .*'llama'.*, got 'gpt2'"):
        simul_class("gpt2")


def test_linear_layers_are_ours_and_names_the_familys(processor):
    model = make_family("Qwen2", processor)
    assert {type(module) for module in model.modules() if isinstance(module, nn.Linear)} == {SimulLinear}
    assert set(model.state_dict()) == set(stock_of(model).state_dict())


@pytest.mark.slow
def test_trls_sft_trainer_takes_our_collator(processor, tmp_path):
    """TRL prepares text and computes the loss of labels itself; told to leave rows alone, it trains on ours, without peek
    rows, whose loss it does not know."""
    trl = pytest.importorskip("trl")
    from transformers_simul.training.data import Pair, encode

    data = encode(processor, [Pair(text, text) for text in sentences(1, 8)])
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1), peek_rows=0)
    losses = []

    def collate(examples):
        batch = collator(examples)
        return batch | {"attention_mask": (batch["pair_ids"] > 0).long()}

    for kind in ("trl", "stock"):
        options = {
            "output_dir": str(tmp_path / kind), "remove_unused_columns": False, "max_steps": 2, "report_to": "none",
            "use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 4, "logging_steps": 1,
            "learning_rate": 1e-2, "bf16": False, "gradient_checkpointing": False, "max_grad_norm": 1.0,
        }  # fmt: skip
        model = make_family("Llama", processor)
        if kind == "trl":
            args = trl.SFTConfig(**options, dataset_kwargs={"skip_prepare_dataset": True}, loss_type="nll")
            trainer = trl.SFTTrainer(
                model, args, data_collator=collate, train_dataset=data, processing_class=processor.tokenizer
            )
        else:
            trainer = Trainer(model, TrainingArguments(**options), data_collator=collator, train_dataset=data)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
