# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch
from transformers.models.falcon.modeling_falcon import FalconForCausalLM

from helpers import make_model, make_processor
from transformers_simul import SimulFalconConfig, SimulFalconForCausalLM, SimulMaskDataCollator, WaitKPolicy
from transformers_simul.models.schedule import Schedule

VARIANTS = [
    {},
    {"multi_query": True},
    {"new_decoder_architecture": True, "num_kv_heads": 2, "parallel_attn": True},
    {"parallel_attn": True},
    {"num_attention_heads": 6, "hidden_size": 48},
]
PAIRS = [
    {"source": "a dog runs over the meadow", "target": "two children watch him"},
    {"source": "the dog", "target": "jumping remarkably high today"},
    {"source": "two", "target": "a"},
]


def rebuilt(model, backend):
    """The same weights under another attention backend."""
    other = SimulFalconForCausalLM._from_config(copy.deepcopy(model.config), attn_implementation=backend)
    other.load_state_dict(model.state_dict())
    return other.eval()


def stock(model):
    """Stock Falcon with the same weights."""
    falcon = FalconForCausalLM._from_config(copy.deepcopy(model.config), attn_implementation="sdpa")
    falcon.load_state_dict(model.state_dict())
    return falcon.eval()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_with_nothing_hidden_logits_equal_stock_falcon_exactly(variant, dtype):
    model = make_model(**variant).to(dtype)
    falcon = stock(model).to(dtype)
    ids = torch.randint(2, 300, (3, 300), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, :7] = mask[2, :20] = 0
    with torch.no_grad():
        assert torch.equal(model(ids).logits, falcon(ids).logits)
        ours, theirs = model(ids, attention_mask=mask).logits, falcon(ids, attention_mask=mask).logits
        assert torch.equal(ours[mask > 0], theirs[mask > 0])
        # The first token of a padded row would be predicted by padding.
        labels = ids.masked_fill(mask.cumsum(-1) < 2, -100)
        loss = model(ids, attention_mask=mask, labels=labels).loss
        assert torch.allclose(loss, falcon(ids, attention_mask=mask, labels=labels).loss, rtol=1e-5)


def test_stock_cache_and_generate_equal_stock_falcon():
    model = make_model()
    ids = torch.randint(2, 300, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    options = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False}
    assert torch.equal(model.generate(ids, **options), stock(model).generate(ids, **options))


@pytest.mark.parametrize("backend", ["eager", "flex_attention"])
@pytest.mark.parametrize("variant", VARIANTS[:4], ids=str)
@pytest.mark.parametrize("positions", ["modified", "plain", "none"])
def test_backends_agree_on_a_schedule(backend, variant, positions):
    processor = make_processor()
    model = make_model(processor, positions=positions, **variant)
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))(PAIRS)
    real = batch["pair_ids"] > 0
    with torch.no_grad():
        difference = (
            (rebuilt(model, "sdpa")(**batch).logits - rebuilt(model, backend)(**batch).logits)[real].abs().max()
        )
    assert difference < 1e-5


def test_positions_and_roundings_differ_where_they_should():
    processor = make_processor()
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))(PAIRS)
    logits = {}
    for positions in ("modified", "plain", "none"):
        with torch.no_grad():
            logits[positions] = make_model(processor, positions=positions)(**batch).logits
    assert not torch.allclose(logits["modified"], logits["plain"], atol=1e-4)
    assert not torch.allclose(logits["modified"], logits["none"], atol=1e-4)
    with torch.no_grad():
        # Short ranks lose little in bfloat16; with 6 heads the slopes themselves are rounded.
        exact = make_model(processor, alibi_rounding="exact")(**batch).logits
    assert torch.allclose(logits["modified"], exact, atol=1e-4)


def test_plain_alibi_equals_falcon_under_the_same_mask():
    """The ablation has an oracle of its own: stock ALiBi by index, hidden keys masked."""
    from transformers_simul.models.masking import Alibi, Pattern, additive_mask, alibi_slopes

    processor = make_processor()
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1), peek_rows=0)(PAIRS[:1])
    schedule = Schedule(**Schedule.fields_in(batch))
    length = batch["input_ids"].shape[1]
    alibi = Alibi(alibi_slopes(4, torch.device("cpu")), "exact", counts_hidden=True)
    mask = additive_mask(Pattern.of(schedule), torch.float32, alibi=alibi)
    slopes = [0.25, 0.0625, 0.015625, 0.00390625]
    for head in range(4):
        for query in range(length):
            for key in range(length):
                if mask[0, head, query, key] > -1e30:
                    assert mask[0, head, query, key] == pytest.approx(slopes[head] * (key - query))


def test_gradient_checkpointing_and_bfloat16_training():
    processor = make_processor()
    batch = SimulMaskDataCollator(processor, WaitKPolicy(2))(PAIRS)
    gradients = []
    for checkpointing in (False, True):
        model = make_model(processor).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**batch).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    model = make_model(processor).to(torch.bfloat16).train()
    model(**batch).loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_resize_save_and_load(tmp_path):
    processor = make_processor()
    model = make_model(processor, label_smoothing=0.1)
    model.resize_token_embeddings(320)
    assert model.lm_head.weight is model.transformer.word_embeddings.weight
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded = SimulFalconForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.config.label_smoothing == 0.1
    batch = SimulMaskDataCollator(processor, WaitKPolicy(2))(PAIRS)
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, loaded(**batch).logits)
    # The padded ids count as no token: the peek rows' loss does not know them.
    assert torch.isfinite(loaded.train()(**batch).loss)


def test_a_stock_falcon_checkpoint_loads_with_its_names(tmp_path):
    falcon = stock(make_model())
    falcon.config.model_type = "falcon"
    # The published folders name remote code of their own, which must not be asked for.
    falcon.config.auto_map = {"AutoConfig": "configuration_falcon.FalconConfig"}
    falcon.save_pretrained(tmp_path)
    loaded, report = SimulFalconForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    ids = torch.arange(2, 30)[None]
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, falcon(ids).logits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SimulFalconConfig(alibi=False, positions="modified"), "positions must be one of"),
        (lambda: SimulFalconConfig(positions="rotary"), "positions must be one of"),
        (lambda: SimulFalconConfig(alibi_rounding="up"), "alibi_rounding must be one of"),
        (lambda: SimulFalconConfig(label_smoothing=1.0), "label_smoothing must lie in"),
        (lambda: SimulFalconConfig(peek_weight=-1.0), "peek_weight must not be negative"),
    ],
)
def test_bad_configurations(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_model_without_head_takes_the_collators_tensors_too():
    processor = make_processor()
    model = make_model(processor).transformer
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))(PAIRS)
    fields = Schedule.fields_in(batch)
    with torch.no_grad():
        ours = model(batch["input_ids"], schedule=Schedule(**fields), use_cache=False).last_hidden_state
        theirs = model(batch["input_ids"], **fields, use_cache=False).last_hidden_state
        causal = model(batch["input_ids"], use_cache=False).last_hidden_state
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, causal)


def test_bad_forward_arguments():
    processor = make_processor()
    model = make_model(processor).train()
    batch = SimulMaskDataCollator(processor, WaitKPolicy(1))(PAIRS)
    without = {name: value for name, value in batch.items() if name != "labels"}
    with pytest.raises(ValueError, match="label_smoothing_factor"):
        model(**without)
    with pytest.raises(ValueError, match="token_kinds must have shape"):
        model(**batch | {"token_kinds": None})
    with pytest.raises(ValueError, match="must have all of its five fields"):
        model(batch["input_ids"], peeks=batch["peeks"])
    with pytest.raises(ValueError, match="input_ids or inputs_embeds must be given, and not both"):
        model()
    fields = Schedule.fields_in(batch)
    with pytest.raises(ValueError, match="schedule must not stand beside its fields"):
        model.transformer(batch["input_ids"], schedule=Schedule(**fields), **fields)
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="loss is NaN"):
        model(**batch)
