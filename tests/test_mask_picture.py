# SPDX-License-Identifier: Apache-2.0
import itertools
import random
import re

import numpy
import pytest
import torch

from families import WINDOW, make_family
from helpers import make_model, make_processor, random_sentence
from transformers_simul import (
    AlignAttPolicy,
    ConfidencePolicy,
    FixedChunkPolicy,
    HoldPolicy,
    LearnedReadPolicy,
    OfflinePolicy,
    WaitKPolicy,
)
from transformers_simul.evaluation.mask_picture import draw_mask
from transformers_simul.evaluation.plots import curves_figure, path_corners, plot_masks, plot_path, plot_paths
from transformers_simul.evaluation.quality import Quality
from transformers_simul.evaluation.report import ReportLine


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


@pytest.mark.parametrize(
    "policy",
    [
        LearnedReadPolicy(0.01, 1, 4),
        ConfidencePolicy(0.05, None, 1, 3),
        AlignAttPolicy(1, 1, 4, heads=[(1, 2), (0, 1)]),
    ],
    ids=repr,
)
def test_policies_that_look_see_what_the_model_says_though_the_target_is_given(parts, policy, tmp_path):
    draw, looks = random.Random(1), 0
    for _ in range(2):
        source = random_sentence(draw, 5, 7)
        picture = draw_mask(tmp_path / "mask.png", *parts, source, random_sentence(draw, 3, 4), policy)
        same, cells = picture.agreement
        assert same == cells
        assert picture.logit_difference < 1e-5
        looks += picture.peek_rows
    assert looks > 1
    with pytest.raises(ValueError, match="must ask for no drafts"):
        draw_mask(tmp_path / "mask.png", *parts, "a", "b", HoldPolicy(2))


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


def test_a_path_turns_where_it_reads_and_writes():
    """Against a walk of single steps, of which the corners are those where the direction changes."""
    draw = random.Random(0)
    for _ in range(100):
        source = draw.randint(1, 6)
        delays = sorted(draw.randint(1, source) for _ in range(draw.randint(0, 5)))
        walk, read = [(0, 0)], 0
        for row, delay in enumerate([*delays, source]):
            walk += [(right, row) for right in range(read + 1, delay + 1)]
            read = delay
            walk += [(read, row + 1)] if row < len(delays) else []
        corners = [*zip(*path_corners(source, delays), strict=True)]
        steps = [corners[0]]
        for (x, y), (to_x, to_y) in itertools.pairwise(corners):
            assert x == to_x or y == to_y
            steps += [(right, y) for right in range(x + 1, to_x + 1)] + [(x, down) for down in range(y + 1, to_y + 1)]
        assert steps == walk


def test_several_paths_stand_side_by_side(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, title, **options: titles.append(title))
    source = "a dog runs today".split()
    paths = {"wait-1": (["ein", "Hund"], [1, 2]), "full": (["ein"], [4]), "nothing": ([], [])}
    plot_paths(tmp_path / "paths.png", source, paths)
    assert titles == list(paths)
    with pytest.raises(ValueError, match="paths must hold at least one path"):
        plot_paths(tmp_path / "none.png", source, {})
    assert not (tmp_path / "none.png").exists()


def test_a_decoder_that_breaks_the_law_shows(tmp_path):
    processor = make_processor()
    model = type(make_model())._from_config(make_model(processor).config, attn_implementation="eager").eval()

    def show_all(module, args, kwargs):
        if kwargs.get("past_key_values") is not None:
            return args, kwargs | {"visible_source": torch.full_like(kwargs["visible_source"], 99)}

    model.register_forward_pre_hook(show_all, with_kwargs=True)
    picture = draw_mask(tmp_path / "m.png", model, processor, "a dog runs over", "two children", WaitKPolicy(1))
    same, cells = picture.agreement
    assert same < cells


def test_the_caption_explains_peek_rows_which_can_be_left_out(parts, tmp_path):
    pictures = {}
    for peek_rows in (True, False):
        path = tmp_path / f"{peek_rows}.svg"
        picture = draw_mask(path, *parts, "a dog runs over", "two children", WaitKPolicy(1), peek_rows=peek_rows)
        # Matplotlib draws text as shapes and writes it into comments.
        pictures[peek_rows] = " ".join(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8")))
        assert picture.peek_rows == sum(label.endswith("?") for label in picture.queries) > 0
        assert picture.agreement[1] == len(picture.queries) * len(picture.keys)
    first = picture.queries[-picture.peek_rows]
    assert "are peek rows" in pictures[True]
    assert f"“{first}”" in pictures[True]
    assert "?" not in pictures[False]
    assert "peek" not in pictures[False]
    assert "Rows are queries" in pictures[False]


def inside(inner, outer):
    return inner.x0 >= outer.x0 and inner.x1 <= outer.x1 and inner.y0 >= outer.y0 and inner.y1 <= outer.y1


def line(name, laal, score):
    quality = [Quality("BLEU", score, score - 0.1, score + 0.1, "")]
    return ReportLine(name, quality, {"LAAL": laal}, sentences=1, empty=0, short=0, signature="")


def test_the_legend_names_the_levels_that_are_drawn():
    points, level = [line("k = 1", 1, 10), line("k = 3", 3, 12)], line("full source", 9, 12)
    for curves, named in (
        ({"one": points}, ["one"]),
        ({"one": [*points, level]}, ["full source, whatever its lagging", "one"]),
        ({"one": points, "offline": [level]}, ["offline, full source", "one"]),
    ):
        (legend,) = curves_figure(curves).legends
        assert [text.get_text() for text in legend.get_texts()] == named


@pytest.mark.parametrize("systems", [1, 2, 8])
def test_legends_cover_no_data_and_labels_stay_inside_the_axes(systems):
    # The lowest point first, or last.
    for scores in ((10.0, 14.0, 13.5, 14.5), (14.5, 14.0, 13.5, 10.0)):
        lines = [line(f"k = {k}", k + 0.1, score) for k, score in zip((1, 3, 5, 7), scores, strict=True)]
        curves = {f"a system with a name {index}": [*lines, line("full source", 9, 12)] for index in range(systems)}
        figure = curves_figure(curves, "en-de")
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        axes, (legend,) = figure.axes[0], figure.legends
        labels = [text for text in axes.texts if text.get_text()]
        assert len(labels) == 4
        assert all(inside(label.get_window_extent(renderer), axes.bbox) for label in labels)
        assert not legend.get_window_extent(renderer).overlaps(axes.bbox)
        assert inside(legend.get_window_extent(renderer), figure.bbox)


@pytest.mark.filterwarnings("error:.*(collapsed|missing from font)")
def test_words_of_every_kind_are_drawn(tmp_path):
    """What is no mathematics, cannot be printed, or is longer than the picture would be."""
    odd = ["$\\x$", "$_$", "\x1b", "Donaudampfschifffahrtsgesellschaftskapitän" * 3]
    plot_paths(tmp_path / "paths.svg", odd, {"wait-1": (odd, [1, 2, 3, 4]), "nothing": ([], [])})
    plot_masks(tmp_path / "mask.svg", {"mask": numpy.ones((4, 4))}, odd, odd)
    for name in ("paths", "mask"):
        drawn = re.findall(r"<!-- (.*?) -->", (tmp_path / f"{name}.svg").read_text(encoding="utf-8"))
        assert {"$\\x$", "$_$", "\N{REPLACEMENT CHARACTER}", f"{odd[-1][:31]}…"} <= set(drawn)


def test_attention_must_be_eager(tmp_path):
    processor = make_processor()
    with pytest.raises(ValueError, match="attn_implementation='eager'"):
        draw_mask(tmp_path / "m.png", make_model(processor), processor, "a", "b", WaitKPolicy(1))
