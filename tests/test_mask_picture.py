import random

import pytest

from helpers import make_model, make_processor, random_sentence
from transformers_simul import FixedChunkPolicy, OfflinePolicy, WaitKPolicy, decoding_simul
from transformers_simul.mask_picture import draw_mask


@pytest.fixture(scope="module")
def parts():
    processor = make_processor()
    model = make_model(processor)
    return type(model)._from_config(model.config, attn_implementation="eager").eval(), processor


@pytest.mark.parametrize("policy", [WaitKPolicy(1), WaitKPolicy(3), FixedChunkPolicy(2, 2), OfflinePolicy()], ids=repr)
def test_training_mask_and_decoding_agree_in_every_cell(parts, policy, tmp_path):
    draw = random.Random(0)
    for _ in range(3):
        picture = draw_mask(
            tmp_path / "mask.png", *parts, random_sentence(draw, 5, 8), random_sentence(draw, 2, 6), policy
        )
        same, cells = picture.agreement
        assert same == cells
        assert picture.logit_difference < 1e-5
        assert (tmp_path / "mask.png").stat().st_size > 1000
        assert any(label.endswith("?") for label in picture.queries) != isinstance(policy, OfflinePolicy)


def test_a_decoder_that_breaks_the_law_shows(parts, tmp_path, monkeypatch):
    columns = decoding_simul._columns
    monkeypatch.setattr(
        decoding_simul, "_columns", lambda ask, length: columns(ask and ask._replace(visible_source=99), length)
    )
    same, cells = draw_mask(tmp_path / "m.png", *parts, "a dog runs over", "two children", WaitKPolicy(1)).agreement
    assert same < cells


def test_attention_must_be_eager(tmp_path):
    processor = make_processor()
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        draw_mask(tmp_path / "m.png", make_model(processor), processor, "a", "b", WaitKPolicy(1))
