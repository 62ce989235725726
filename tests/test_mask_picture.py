# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from families import WINDOW, make_family
from helpers import make_model, make_processor, random_sentence
from transformers_simul import FixedChunkPolicy, OfflinePolicy, WaitKPolicy
from transformers_simul.evaluation.mask_picture import draw_mask
from transformers_simul.evaluation.plots import plot_path
from transformers_simul.models import decoding


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


@pytest.mark.parametrize(
    ("name", "positions"),
    [("Llama", "own_frame"), ("Gemma3", "group"), ("Bloom", "modified"), ("Mistral", "own_frame")],
)
def test_every_family_can_be_drawn(parts, tmp_path, name, positions):
    # Mistral has sliding windows only, shorter than these rows; Gemma's full layers see everything.
    model = make_family(name, parts[1], positions, "eager")
    picture = draw_mask(tmp_path / "mask.png", model, parts[1], "a dog runs over", "two children", WaitKPolicy(1))
    assert (picture.trained[-1].sum() <= WINDOW < len(picture.keys)) == (name == "Mistral")
    same, cells = picture.agreement
    assert same == cells
    assert picture.logit_difference < 1e-5


@pytest.mark.parametrize(("layer", "head"), [(0, 1), (1, 3)])
def test_a_heads_attention_is_the_same_in_training_and_decoding(parts, tmp_path, layer, head):
    picture = draw_mask(
        tmp_path / "a.png", *parts, "a dog runs over the meadow", "two children", WaitKPolicy(2), layer, head
    )
    assert abs(picture.trained - picture.decoded).max() < 1e-5
    assert picture.trained.sum(1) == pytest.approx(1, abs=1e-5)
    other = draw_mask(
        tmp_path / "b.png", *parts, "a dog runs over the meadow", "two children", WaitKPolicy(2), layer, 0
    )
    assert abs(other.decoded - picture.decoded).max() > 1e-3
    for wrong in ((layer, None), (9, 0), (0, -1)):
        with pytest.raises(ValueError, match="must lie in 0"):
            draw_mask(tmp_path / "c.png", *parts, "a", "b", WaitKPolicy(1), *wrong)


def test_path_of_a_sentence(tmp_path):
    plot_path(tmp_path / "path.png", "a dog runs today".split(), "ein Hund läuft".split(), [1, 3, 3])
    assert (tmp_path / "path.png").stat().st_size > 3000


def test_a_decoder_that_breaks_the_law_shows(parts, tmp_path, monkeypatch):
    columns = decoding._columns
    monkeypatch.setattr(decoding, "_columns", lambda ask: columns(ask._replace(visible_source=99)))
    same, cells = draw_mask(tmp_path / "m.png", *parts, "a dog runs over", "two children", WaitKPolicy(1)).agreement
    assert same < cells


def test_attention_must_be_eager(tmp_path):
    processor = make_processor()
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        draw_mask(tmp_path / "m.png", make_model(processor), processor, "a", "b", WaitKPolicy(1))
