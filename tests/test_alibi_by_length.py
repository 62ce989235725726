# SPDX-License-Identifier: Apache-2.0
"""benchmarks/alibi_by_length.py: its losses are the model's own, and confusion is where, and only where, it must be."""

import runpy
import sys
from pathlib import Path

import numpy
import pytest

from helpers import make_model, make_processor
from transformers_simul import SimulMaskDataCollator, WaitKPolicy
from transformers_simul.corpora import Pair

PROGRAM = str(Path(__file__).parents[1] / "benchmarks" / "alibi_by_length.py")
TEXTS = [("a dog runs home now", "ein Hund rennt jetzt heim"), ("the cat sleeps", "die Katze schläft")]


@pytest.fixture(scope="module")
def program():
    return runpy.run_path(PROGRAM, run_name="alibi_by_length")


@pytest.fixture(scope="module")
def loaded(program):
    processor = make_processor()
    models = {name: make_model(processor, positions=name).eval() for name in program["FOLDERS"]}
    return {name: (model, processor) for name, model in models.items()}


def test_the_losses_are_the_models_own(program, loaded):
    model, processor = loaded["modified"]
    rows = [Pair(*text) for text in TEXTS]
    losses = program["measure"](model, processor, rows, 3)
    for row, (total, tokens) in zip(rows, losses, strict=True):
        batch = SimulMaskDataCollator(processor, WaitKPolicy(3), peek_rows=0)([row._asdict()])
        assert tokens == (batch["labels"] != -100).sum()
        assert total / tokens == pytest.approx(model(**batch).loss.item(), abs=1e-5)


def test_confusion_is_what_the_hidden_words_cost(program, loaded):
    # k hides nothing of three words, so training and decoding agree; of five words it hides some.
    for k, is_confused in ((9, False), (1, True)):
        losses = program["row_losses"](loaded, [Pair(*text) for text in TEXTS], k)
        trained, decoded = losses["plain, as trained"], losses["plain, as decoded"]
        assert numpy.allclose(trained, decoded, atol=1e-5) is not is_confused
        # The same weights under modified positions from the start: decoding is what training would have been.
        plain, processor = loaded["plain"]
        plain.config.positions = "modified"
        modified = program["measure"](plain, processor, [Pair(*text) for text in TEXTS], k)
        plain.config.positions = "plain"
        assert numpy.allclose(modified, decoded, atol=1e-4)
        # Some heads alone are something else than all or none.
        steep, flat = losses["steep heads as decoded"], losses["flat heads as decoded"]
        assert all(numpy.allclose(some, decoded, atol=1e-6) is not is_confused for some in (steep, flat))


def test_page_and_picture(loaded, tmp_path, monkeypatch, capsys):
    for name, (model, processor) in loaded.items():
        folder = {"modified": "simulmask", "plain": "simulmask-plain-alibi", "none": "simulmask-no-alibi"}[name]
        model.save_pretrained(tmp_path / f"{folder}-k3")
        processor.save_pretrained(tmp_path / f"{folder}-k3")
    for name, side in (("source", 0), ("target", 1)):
        (tmp_path / name).write_text("".join(f"{text[side]}\n" for text in TEXTS * 2), encoding="utf-8")
    flags = [tmp_path, tmp_path / "source", tmp_path / "target", tmp_path / "page", "--lengths", 1, 2]
    monkeypatch.setattr(sys, "argv", ["alibi_by_length.py", *map(str, [*flags, "--translate_sentences", 2])])
    runpy.run_path(PROGRAM, run_name="alibi_by_length")["main"]()
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.strip() == capsys.readouterr().out.strip()
    for row in ("| 1 (4) | 4 |", "| 2 (8) | 2 |", "| 1 to 10 | 4 |"):
        assert row in page
    assert (tmp_path / "page.png").stat().st_size > 1000
